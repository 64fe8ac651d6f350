import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from genolm.models.loss import weighted_token_loss


def test_the_sum_is_what_a_hand_count_gives():
    # Logits of log p: the loss of a label is -ln p exactly.
    p = torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]]])
    labels, weight = torch.tensor([[1, 2, -100]]), torch.tensor([[1.0, 0.5, 0.0]])
    nats, total = weighted_token_loss(p.log(), labels, weight, causal=False)
    assert nats.item() == pytest.approx(-math.log(0.25) - 0.5 * math.log(0.3))
    assert total.item() == 1.5
    nats, total = weighted_token_loss(p.log(), labels, weight, causal=True)
    assert nats.item() == pytest.approx(-0.5 * math.log(0.25))  # place 0 predicts label 2 of place 1
    assert total.item() == 0.5


def test_unlabelled_places_get_no_gradient():
    logits = torch.randn(2, 5, 4, requires_grad=True)
    labels = torch.tensor([[-100, 1, -100, 2, -100], [0, -100, -100, -100, 3]])
    weight = (labels >= 0).float()
    weighted_token_loss(logits, labels, weight, causal=False)[0].backward()
    assert (logits.grad.abs().sum(-1) > 0).equal(labels >= 0)


def test_low_precision_logits_are_summed_in_float32():
    logits = torch.zeros(1, 4096, 4, dtype=torch.bfloat16)
    labels = torch.zeros(1, 4096, dtype=torch.long)
    nats, _ = weighted_token_loss(logits, labels, torch.ones(1, 4096), causal=False)
    assert nats.item() == pytest.approx(4096 * math.log(4), rel=1e-5)


def drawn(rows: int = 5, length: int = 7, vocabulary: int = 11, seed: int = 0):
    """Logits, labels of which a third are -100, and weights of 0, 0.1 or 1, 0 where there is no label."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(vocabulary, (rows, length), generator=g)
    labels[torch.rand(rows, length, generator=g) < 1 / 3] = -100
    weight = torch.tensor([0.0, 0.1, 1.0])[torch.randint(3, (rows, length), generator=g)] * (labels >= 0)
    return 3 * torch.randn(rows, length, vocabulary, generator=g), labels, weight


@pytest.mark.parametrize("causal", [False, True])
def test_it_is_torchs_cross_entropy_token_by_token(causal):
    logits, labels, weight = drawn()
    expected = total = 0.0
    for row in range(5):
        for place in range(1 if causal else 0, 7):
            if labels[row, place] >= 0:
                nats = cross_entropy(logits[row, place - causal].double(), labels[row, place]).item()
                expected += weight[row, place].item() * nats
                total += weight[row, place].item()
    found, weights = weighted_token_loss(logits, labels, weight, causal)
    assert found.item() == pytest.approx(expected, rel=1e-5) and weights.item() == pytest.approx(total)
    assert found.shape == weights.shape == () and found.dtype == weights.dtype == torch.float32


def test_weights_of_one_give_torchs_mean():
    logits, labels, _ = drawn()
    nats, total = weighted_token_loss(logits, labels, (labels >= 0).float(), causal=False)
    torch.testing.assert_close(nats / total, cross_entropy(logits.flatten(0, 1), labels.flatten()))


@pytest.mark.parametrize("causal", [False, True])
def test_the_gradient_is_weight_times_softmax_less_one(causal):
    logits, labels, weight = drawn()
    logits.requires_grad_()
    weighted_token_loss(logits, labels, weight, causal)[0].backward()
    shift = int(causal)
    expected = torch.zeros_like(logits)
    for row, place in (labels >= 0).nonzero().tolist():
        if place >= shift:
            p = logits[row, place - shift].detach().softmax(0)
            p[labels[row, place]] -= 1
            expected[row, place - shift] = weight[row, place] * p
    torch.testing.assert_close(logits.grad, expected)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("parts", [(1, 1, 1, 1, 1), (2, 3), (4, 1)])
def test_a_batch_is_the_sum_of_its_parts(causal, parts):
    everything = weighted_token_loss(*drawn(), causal)
    pieces = zip(*(x.split(parts) for x in drawn()), strict=True)
    for whole, in_parts in zip(
        everything, zip(*(weighted_token_loss(*piece, causal) for piece in pieces), strict=True), strict=True
    ):
        torch.testing.assert_close(sum(in_parts), whole)


@pytest.mark.parametrize("causal", [False, True])
def test_nothing_to_predict_is_zero_of_zero(causal):
    logits = torch.randn(2, 3, 4, requires_grad=True)
    nats, total = weighted_token_loss(logits, torch.full((2, 3), -100), torch.zeros(2, 3), causal)
    assert (nats.item(), total.item()) == (0, 0)
    nats.backward()
    assert not logits.grad.any()


def test_a_single_token_has_no_successor():
    logits, labels, weight = torch.zeros(3, 1, 4), torch.ones(3, 1, dtype=torch.long), torch.ones(3, 1)
    nats, total = weighted_token_loss(logits, labels, weight, causal=True)
    assert (nats.item(), total.item()) == (0, 0)
    assert weighted_token_loss(logits, labels, weight, causal=False)[0].item() == pytest.approx(3 * math.log(4))


def test_the_first_label_and_the_last_logits_of_a_causal_row_do_not_count():
    logits, labels, weight = drawn()
    before = weighted_token_loss(logits, labels, weight, causal=True)
    logits[:, -1], labels[:, 0], weight[:, 0] = 99.0, 3, 7.0
    assert weighted_token_loss(logits, labels, weight, causal=True) == before
