"""What all baselines promise: any length, padding unseen, rows that do not meet, errors that say what to do."""

import pytest
import torch

from genolm.models.baseline_configuration import BaselineConfig
from genolm.models.baselines import BASELINES, build_baseline
from genolm.models.baselines.baseline import Baseline
from genolm.models.baselines.layers import Convolution

BASES = [5, 6, 7, 8]
N, PAD = 9, 0
PER_BASE = ["resnet", "deepsite", "gru"]


def build(name, length=60, num_outputs=2, width=0.1, seed=0, **more) -> Baseline:
    torch.manual_seed(seed)
    width = 1.0 if name == "kmer-logistic" else width
    return build_baseline(name, length, num_outputs, width, base_token_ids=BASES, **more).eval()


def lively(model: Baseline) -> Baseline:
    """Give every weight a value, so that nothing that starts at 0 hides what follows it."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for name, buffer in model.named_buffers():
            if "running_mean" in name:
                buffer.normal_(std=0.1)
    return model


def letters(rows, length, seed=0):
    return torch.randint(5, 9, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", BASELINES)
def test_rows_of_any_length(name):
    for length in (1, 20, 41, 57, 70, 200, 1000):
        model = build(name, length, num_outputs=3, width=0.05)
        for used in {length, max(1, length // 2), 1}:
            logits = model(letters(2, used)).logits
            assert logits.shape == (2, 3)
            assert logits.isfinite().all()


@pytest.mark.parametrize("name", BASELINES)
def test_a_training_step_reaches_every_weight(name):
    model = lively(build(name)).train()
    model(letters(4, 60)).logits.square().sum().backward()
    still = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
    assert model(letters(1, 60)).logits.isfinite().all()  # the last batch of an epoch may be one row


@pytest.mark.parametrize("name", BASELINES)
def test_padding_is_not_seen(name):
    model = lively(build(name))
    ids = letters(3, 60)
    mask = torch.ones_like(ids)
    for row, length in enumerate((60, 41, 7)):
        mask[row, length:] = 0
    together = model(ids, mask).logits
    for row, length in enumerate((60, 41, 7)):
        alone = model(ids[row : row + 1, :length]).logits
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)
    padded = torch.where(mask.bool(), ids, PAD)
    torch.testing.assert_close(model(padded, mask).logits, together, rtol=0, atol=0)


@pytest.mark.parametrize("name", BASELINES)
def test_rows_do_not_meet(name):
    model = lively(build(name))
    ids = letters(4, 60)
    other = ids.clone()
    other[0] = letters(1, 60, seed=1)
    before, after = model(ids).logits, model(other).logits
    torch.testing.assert_close(before[1:], after[1:], rtol=1e-4, atol=1e-5)
    assert (before[0] - after[0]).abs().max() > 1e-4


@pytest.mark.parametrize("name", BASELINES)
def test_what_is_no_base_is_a_column_of_zeros(name):
    model = lively(build(name))
    ids = letters(2, 60)
    ids[:, 20:23] = N
    one = model(ids).logits
    ids[:, 20:23] = 1234567
    torch.testing.assert_close(model(ids).logits, one, rtol=0, atol=0)
    ids[:, 20:23] = BASES[0]
    assert not torch.equal(model(ids).logits, one)


@pytest.mark.parametrize("name", BASELINES)
def test_every_letter_counts(name):
    """At every place, the last one too: no pooling drops the end of a row of 41."""
    model = lively(build(name, 41, width=0.5))
    ids = letters(1, 41)
    rows = ids.repeat(41, 1)
    place = torch.arange(41)
    rows[place, place] = 5 + (rows[place, place] - 5 + 1) % 4
    changed = (model(rows).logits - model(ids).logits).abs().amax(1) > 1e-7
    dropped = 3 if name in ("deepsea", "deepcpg") else 0  # they floor, as published
    assert changed[: 41 - dropped].all()


@pytest.mark.parametrize("name", BASELINES)
def test_bfloat16_autocast_is_near(name):
    model = lively(build(name))
    ids, mask = letters(3, 60), torch.ones(3, 60, dtype=torch.long)
    mask[1, 30:] = 0
    exact = model(ids, mask).logits
    with torch.autocast("cpu", torch.bfloat16):
        near = model(ids, mask).logits
    assert (near.float() - exact).abs().max() < 0.05 * exact.abs().max() + 0.05
    assert model.to(torch.bfloat16)(ids, mask).logits.dtype == torch.bfloat16


@pytest.mark.parametrize(("channels", "kernel"), [(4, 16), (4, 24), (8, 12), (6, 16), (4, 15), (16, 8)])
def test_bfloat16_convolutions_of_few_channels(channels, kernel):
    """Products in multiples of 32: oneDNN's own are wrong where the CPU has AMX."""
    torch.manual_seed(0)
    for options in ({}, {"padding": kernel // 2}, {"stride": 3}, {"dilation": 2}):
        made, x = Convolution(channels, 5, kernel, **options), torch.randn(2, channels, 90, requires_grad=True)
        exact = made(x)
        with torch.autocast("cpu", torch.bfloat16):
            near = made(x)
        assert near.dtype == torch.bfloat16
        torch.testing.assert_close(near.float(), exact, rtol=0, atol=0.02 * float(exact.detach().abs().max()))
        grads = [torch.autograd.grad(y.float().square().sum(), (x, made.weight)) for y in (exact, near)]
        for one, other in zip(*grads, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0.05 * float(one.abs().max()))


@pytest.mark.parametrize("name", PER_BASE)
def test_per_base(name):
    model = lively(build(name, 60, num_outputs=3, per_base=True))
    ids, mask = letters(3, 50), torch.ones(3, 50, dtype=torch.long)
    mask[1, 41:] = 0
    logits = model(ids, mask).logits
    assert logits.shape == (3, 50, 3)
    alone = model(ids[1:2, :41]).logits
    torch.testing.assert_close(logits[1:2, :41], alone, rtol=1e-4, atol=1e-5)
    other = ids.clone()
    other[0] = letters(1, 50, seed=1)
    torch.testing.assert_close(model(other, mask).logits[1:], logits[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PER_BASE)
def test_an_output_stands_at_its_own_base(name):
    """Trained to say which letter stands at each base, it does."""
    model = build(name, 40, num_outputs=4, per_base=True, width=0.25).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for step in range(60):
        ids = letters(16, 40, seed=step)
        loss = torch.nn.functional.cross_entropy(model(ids).logits.flatten(0, 1), (ids - 5).flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ids = letters(16, 40, seed=100)
    assert (model.eval()(ids).logits.argmax(-1) == ids - 5).float().mean() > 0.98


def test_the_residual_network_per_base_sees_93_bases_each_side():
    # 5 of the first kernel of 11, then one step of each unit's dilated kernel of 3: 2 · (4 + 8 + 16) + 32.
    model = lively(build("resnet", 300, per_base=True, width=0.5)).double()
    ids = letters(1, 300)
    other = ids.clone()
    other[0, 150] = 5 + (other[0, 150] - 5 + 1) % 4
    changed = (model(ids).logits != model(other).logits).any(-1)[0].nonzero().flatten()
    assert (changed.min(), changed.max()) == (150 - 93, 150 + 93)


def test_per_base_has_the_weights_of_the_strided_network():
    strided = build("resnet", 64).state_dict()
    dilated = build("resnet", 64, per_base=True).state_dict()
    # The keys differ: the pooling that is left out has a number in the stack.
    assert [value.shape for value in strided.values()] == [value.shape for value in dilated.values()]


@pytest.mark.parametrize("name", BASELINES)
def test_weights_follow_the_seed(name):
    one, same, other = (dict(build(name, seed=seed).named_parameters()) for seed in (0, 0, 1))
    assert all(torch.equal(value, same[key]) for key, value in one.items())
    if name != "kmer-logistic":  # it starts at 0
        assert any(not torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("name", sorted(set(BASELINES) - {"kmer-logistic"}))
def test_width_and_dropout(name):
    narrow, wide = build(name, width=0.1), build(name, width=0.3)
    assert wide.num_parameters() > 2 * narrow.num_parameters()
    rates = {module.p for module in build(name, dropout=0.125).modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.125}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "deepse"}, "baseline 'deepse' is unknown; did you mean 'deepsea'"),
        ({"name": "DanQ"}, "did you mean 'danq'"),
        ({"name": "xyz"}, "there are kmer-logistic, mlp, .*, enformer"),
        ({"name": "danq", "per_base": True}, "not per base; those that can: resnet, deepsite, gru"),
        ({"name": "danq", "kernal": 8}, "danq has no option 'kernal'; did you mean 'kernel'"),
        ({"name": "danq", "kernel": 0}, "kernel of danq is 0; give a whole number from 1 on, such as 26"),
        ({"name": "danq", "kernel": 2.5}, "kernel of danq is 2.5"),
        ({"name": "danq", "kernel": True}, "kernel of danq is True"),
        ({"name": "gru", "k": 4}, "k of gru is 4; an even one has no middle base"),
        ({"name": "mlp", "features": "letters"}, "features of mlp is 'letters'; allowed: kmers, one-hot"),
        ({"name": "kmer-logistic", "k_min": 7}, "k_min is 7 and k_max 6"),
        ({"name": "kmer-logistic", "k_max": 11}, "k_max 11"),
        ({"name": "kmer-logistic", "width": 0.5}, "no channels to multiply"),
        ({"width": 0}, "width is 0; it multiplies channels"),
        ({"length": 0}, "length is 0"),
        ({"num_outputs": 0}, "num_outputs is 0"),
        ({"dropout": 1.0}, "dropout is 1.0; it must be at least 0 and below 1"),
        ({"base_token_ids": [1, 2, 3]}, r"base_token_ids is \[1, 2, 3\]; give the ids of A, C, G, T"),
        ({"base_token_ids": [1, 2, 3, 3]}, "four that differ"),
    ],
)
def test_mistakes_are_refused(change, message):
    arguments = {"name": "basset", "length": 60, "num_outputs": 2, "width": 1.0, "base_token_ids": BASES} | change
    if change.get("name") == "kmer-logistic":
        arguments.setdefault("width", 1.0)
    with pytest.raises(ValueError, match=message):
        build_baseline(**arguments)


def test_a_configuration_by_hand_is_checked_too():
    with pytest.raises(ValueError, match="unknown; did you mean 'danq'"):
        Baseline(BaselineConfig(baseline="dang"))
    with pytest.raises(ValueError, match="one output per row"):
        Baseline(BaselineConfig(baseline="danq", per_base=True))
    with pytest.raises(ValueError, match="has no option 'kernal'"):
        Baseline(BaselineConfig(baseline="danq", options={"kernal": 3}))


def test_a_row_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="a row has 61 bp and this basset was built for at most 60"):
        build("basset")(letters(1, 61))
