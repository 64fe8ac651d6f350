"""Every baseline finds a planted motif, and a model finds nothing where there is nothing to find."""

import pytest
import torch
import torch.nn.functional as F

from genolm.models.baselines import BASELINES, build_baseline

LENGTH, MOTIF = 100, [0, 2, 1, 3, 3, 0, 2, 1]
ROWS = {"basset": 6000}
LEARNING_RATE = {"deepsea": 1e-3, "kmer-logistic": 1e-3, "deepbind": 1e-2, "gru": 1e-2, "deepsite": 5e-3}
WIDTH = {"kmer-logistic": 1.0, "basenji": 0.15}
EPOCHS = 15
SLOW = ("basenji", "basset", "deepsea", "deepsite", "enformer", "gru", "resnet")


def simulate(rows, seed):
    """Random rows, half of which hold the motif somewhere."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, (rows, LENGTH), generator=generator)
    labels = torch.arange(rows) % 2
    start = torch.randint(LENGTH - len(MOTIF) + 1, (rows, 1), generator=generator)
    at = start + torch.arange(len(MOTIF))
    ids[labels == 1] = ids[labels == 1].scatter(1, at[labels == 1], torch.tensor(MOTIF).expand(int(labels.sum()), -1))
    return ids, labels


def auroc(scores, labels):
    """The fraction of pairs of a row of each class that are in order; ties count half."""
    difference = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    return float((difference > 0).float().mean() + (difference == 0).float().mean() / 2)


def train(name, ids, labels, epochs, until=2.0, **options):
    """Return the AUROC on 1,000 fresh rows after so many epochs, or once it is above `until`."""
    torch.manual_seed(0)
    model = build_baseline(name, LENGTH, 1, WIDTH.get(name, 0.25), base_token_ids=[0, 1, 2, 3], **options)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE.get(name, 3e-3))
    test, truth = simulate(1000, seed=1)
    found = float("nan")
    for _ in range(epochs):
        model.train()
        for batch in torch.randperm(len(ids)).split(64):
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(model(ids[batch]).logits[:, 0], labels[batch].float()).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            found = auroc(model(test).logits[:, 0], truth)
        if found > until:
            break
    return found


NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in BASELINES]


@pytest.mark.parametrize("name", NAMES)
def test_a_planted_motif_is_found(name):
    ids, labels = simulate(ROWS.get(name, 2000), seed=0)
    assert train(name, ids, labels, EPOCHS, until=0.96) > 0.95


@pytest.mark.parametrize("name", ["kmer-logistic", "deepbind"])
def test_nothing_is_found_where_labels_are_shuffled(name):
    """The rows themselves give nothing away: one model of counts and one of motifs stand for all."""
    ids, labels = simulate(2000, seed=0)
    # Within each class, so that not even by chance does the motif go with a label.
    shuffled = torch.empty_like(labels)
    for label in (0, 1):
        rows = (labels == label).nonzero().flatten()
        shuffled[rows] = (torch.randperm(len(rows), generator=torch.Generator().manual_seed(2)) % 2).to(labels.dtype)
    assert abs(train(name, ids, shuffled, epochs=3) - 0.5) < 0.1


def test_an_mlp_on_one_hot_bases_learns_by_position():
    """A letter that decides at one place is found, which counts of k-mers cannot show."""
    ids = torch.randint(4, (2000, LENGTH), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = build_baseline("mlp", LENGTH, 1, base_token_ids=[0, 1, 2, 3], features="one-hot")
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for step in range(200):
        rows = ids[step * 7 % 1000 : step * 7 % 1000 + 64]
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(rows).logits[:, 0], (rows[:, 50] == 2).float()).backward()
        optimizer.step()
    with torch.no_grad():
        assert auroc(model.eval()(ids[1500:]).logits[:, 0], (ids[1500:, 50] == 2).long()) > 0.95
