"""What holds for every mixer: how far it sees, causality, padding, checkpointing, precision, depth, compilation."""

import math

import pytest
import tiny
import torch

from genolm.models.genolm.blocks import split_row
from genolm.models.genolm.configuration import MIXERS
from genolm.models.genolm.modeling import GenoLMForCausalLM, GenoLMForMaskedLM, GenoLMModel

FAR = 10**6
# Tokens back and ahead, of the tiny sizes: a convolution of 5, a short filter of 3 before one of 7 or of 12.
CAUSAL_REACH = {"attention": FAR, "local_attention": 3, "convolution": 4, "fir": 8, "fir_medium": 13, "hyena": FAR}
CAUSAL_REACH["ssm"] = FAR
REACH = {"attention": (FAR, FAR), "local_attention": (3, 3), "convolution": (2, 2), "fir": (4, 4)}
REACH |= {"fir_medium": (7, 6), "hyena": (FAR, FAR), "ssm": (FAR, FAR)}
NOTHING = {"hyena": 1e-11}
"""FFTs mix all places, and rounding takes them apart again; every other mixer is exact."""


def influence(mixer: str, length: int, causal: bool) -> torch.Tensor:
    """Return (L, L): how much output s moves with input t, the largest over channels, of one layer without an MLP."""
    backbone = tiny.model(mixer, causal=causal, head=False, intermediate_size=0)
    hidden = torch.randn(1, length, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    jacobian = torch.autograd.functional.jacobian(lambda x: tiny.states(backbone, x)[0], hidden)
    return jacobian.abs().amax((1, 2, 4))


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [1, 17, 22])
def test_a_mixer_sees_as_far_as_it_should_and_no_further(mixer, causal, length):
    seen = influence(mixer, length, causal)
    back, ahead = (CAUSAL_REACH[mixer], 0) if causal else REACH[mixer]
    place = torch.arange(length)
    distance = place[:, None] - place
    within = (distance <= back) & (distance >= -ahead)
    assert seen[within].min() > 1e-9
    assert (seen[~within] <= NOTHING.get(mixer, 0)).all()


@pytest.mark.parametrize(
    "pattern", [*([mixer] for mixer in MIXERS), MIXERS], ids=lambda p: p[0] if len(p) == 1 else "all"
)
def test_a_causal_model_never_sees_what_comes(pattern):
    """Token by token, through k-mers, every layer and the head: earlier logits keep their bits, and the loss its."""
    model = tiny.model(*pattern, causal=True, kmer_embeddings=[1, 3], dtype=torch.float32)
    ids = tiny.letters(1, 21)
    with torch.no_grad():
        before = model(ids).logits
        for t in range(21):
            changed = ids.clone()
            changed[0, t] = 7 + (ids[0, t] - 6) % 4
            after = model(changed).logits
            if "hyena" in pattern:
                torch.testing.assert_close(after[:, :t], before[:, :t], atol=2e-3, rtol=0)  # FFTs of float32
                assert (after - before)[:, t].abs().max() > 0.05
            else:
                assert torch.equal(after[:, :t], before[:, :t])
            assert ((after - before)[0, t].abs().max() > 1e-4).item()


def test_gradients_of_a_causal_model_never_come_from_what_comes():
    model = tiny.model(causal=True)
    hidden = torch.randn(1, 14, 16, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: tiny.states(model.model, x)[0], hidden)
    seen = jacobian.abs().amax((1, 2, 4))
    assert seen.triu(1).max() <= 1e-9 and seen.tril().min() <= 1e-9 < seen[:, 0].min()


@pytest.mark.parametrize("mixer", [*MIXERS, "all"])
@pytest.mark.parametrize("causal", [True, False])
def test_padding_on_either_side_changes_nothing(mixer, causal):
    pattern = MIXERS if mixer == "all" else [mixer]
    model = tiny.model(*pattern, causal=causal, kmer_embeddings=[2, 3])
    for length in (1, 2, 7, 16, 17):
        ids = tiny.letters(2, length)
        alone = model(ids).logits
        for before, after in ((5, 0), (0, 5), (1, 2), (17, 16)):
            padded = torch.nn.functional.pad(ids, (before, after), value=tiny.PAD)
            mask = torch.nn.functional.pad(torch.ones_like(ids), (before, after))
            logits = model(padded, mask).logits
            # Rotary angles and decays are float32, and other places round otherwise.
            torch.testing.assert_close(logits[:, before : before + length], alone, atol=2e-5, rtol=1e-5)
            # Whatever letters stand there.
            padded = torch.where(mask == 1, padded, 9)
            torch.testing.assert_close(model(padded, mask).logits[mask == 1], logits[mask == 1], atol=1e-9, rtol=0)


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("causal", [True, False])
def test_padding_has_no_gradient_and_gives_none(mixer, causal):
    backbone = tiny.model(mixer, causal=causal, head=False, intermediate_size=0)
    hidden = torch.randn(2, 12, 16, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(2, 12, dtype=torch.int64)
    mask[0, :5], mask[1, 8:] = 0, 0
    out = tiny.states(backbone, hidden, mask)
    (gradient,) = torch.autograd.grad((out * torch.randn_like(out))[mask == 1].sum(), hidden, retain_graph=True)
    assert gradient[mask == 0].abs().max() <= NOTHING.get(mixer, 0) and gradient[mask == 1].abs().max() > 0
    everywhere = torch.autograd.grad(out.sum(), [hidden, *(p for p in backbone.layers.parameters())])
    assert out.isfinite().all() and all(g.isfinite().all() for g in everywhere)


@pytest.mark.parametrize("mixer", MIXERS)
def test_rows_of_a_batch_do_not_meet(mixer):
    for causal in (True, False):
        model, ids = tiny.model(mixer, causal=causal), tiny.letters(3, 19)
        together = model(ids).logits
        for i in range(3):
            torch.testing.assert_close(model(ids[i : i + 1]).logits[0], together[i], atol=1e-6, rtol=0)


def loss_and_gradients(model, ids, seed=0):
    torch.manual_seed(seed)
    model.zero_grad()
    loss = model(ids, labels=ids).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


def assert_same_learning(one, other, atol=1e-9):
    torch.testing.assert_close(one[0], other[0], atol=atol, rtol=0)
    assert one[1].keys() == other[1].keys()
    for name, gradient in one[1].items():
        torch.testing.assert_close(gradient, other[1][name], atol=atol, rtol=atol, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_checkpointing_changes_memory_and_nothing_else(mixer, dropout):
    model = tiny.model(mixer, mixer, dropout=dropout, kmer_embeddings=[2], kmer_dropout=dropout).train()
    ids = tiny.letters(2, 13)
    without = loss_and_gradients(model, ids)
    model.gradient_checkpointing_enable()  # what Trainer calls
    calls = []
    mixing = model.model.layers[0].mixer.register_forward_hook(lambda *_: calls.append(1))
    assert_same_learning(loss_and_gradients(model, ids), without)
    assert len(calls) == 2  # once more in backward
    mixing.remove()
    if dropout:
        assert loss_and_gradients(model, ids, seed=1)[0] != without[0]


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
@pytest.mark.parametrize("mixer", [*MIXERS, "all"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [40, 47, 64])
def test_a_checkpointed_row_in_pieces_learns_as_the_row_whole(mixer, causal, length, monkeypatch):
    pattern = MIXERS if mixer == "all" else [mixer, mixer]
    model = tiny.model(*pattern, causal=causal, kmer_embeddings=[2]).train()
    ids = tiny.letters(2, length)
    mask = torch.ones_like(ids)
    mask[0, :18], mask[1, -3:] = 0, 0

    def learn():
        model.zero_grad()
        output = model(ids, mask, labels=ids.where(mask == 1, -100), output_hidden_states=True)
        output.loss.backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        return output.loss.detach(), gradients, output.hidden_states

    *whole, states = learn()
    model.gradient_checkpointing_enable()
    monkeypatch.setattr("genolm.models.genolm.blocks.PIECE", 16)
    longest = []
    for layer in model.model.layers:
        layer.mlp.register_forward_pre_hook(lambda _, hidden: longest.append(hidden[0].shape[1]))
    *pieces, states_of_pieces = learn()
    assert_same_learning(pieces, whole, atol=2e-6 if mixer in ("hyena", "ssm", "all") else 1e-9)
    for one, other in zip(states_of_pieces, states, strict=True):
        torch.testing.assert_close(one[mask == 1], other[mask == 1], atol=1e-5, rtol=0)
    whole_row = mixer in ("attention", "hyena") or (mixer == "ssm" and not causal)
    assert (max(longest) == length) if whole_row or mixer == "all" else (max(longest) < 40)


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("causal", [True, False])
def test_bfloat16_is_near_float32(mixer, causal):
    """Of fresh weights, autocast and pure: loss within 0.01 nats, gradients within 10 % of their length."""
    torch.manual_seed(0)
    kind = GenoLMForCausalLM if causal else GenoLMForMaskedLM
    model = kind(tiny.config(mixer, mixer, causal=causal, initializer_range=0.1))
    ids = tiny.letters(4, 50)
    loss, gradients = loss_and_gradients(model, ids)
    length = math.sqrt(sum(float(g.square().sum()) for g in gradients.values()))
    with torch.autocast("cpu", torch.bfloat16):
        autocast = loss_and_gradients(model, ids)
    pure = loss_and_gradients(model.bfloat16(), ids)
    for found, others in (autocast, pure):
        assert abs(found - loss) < 0.01
        off = math.sqrt(sum(float((others[n].float() - g).square().sum()) for n, g in gradients.items()))
        assert off < 0.1 * length


PATTERNS = [[mixer] for mixer in MIXERS] + [list(MIXERS)]


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: p[0] if len(p) == 1 else "all")
@pytest.mark.parametrize("kind", ["causal", "masked", "equivariant"])
def test_a_fresh_deep_model_says_all_tokens_are_alike(pattern, kind):
    """48 layers: the loss is ln V to a tenth, and every parameter has a finite gradient that is not zero."""
    changes = {"causal": kind == "causal", "reverse_complement": "equivariant" if kind == "equivariant" else "augment"}
    torch.manual_seed(0)
    settings = tiny.config(*pattern, kmer_embeddings=[2], **changes)
    settings.num_hidden_layers = 48
    model = (GenoLMForCausalLM if kind == "causal" else GenoLMForMaskedLM)(settings)
    loss, gradients = loss_and_gradients(model, tiny.letters(2, 33))
    assert abs(loss - math.log(16)) < 0.1
    assert all(g.isfinite().all() and g.abs().max() > 0 for g in gradients.values())


@pytest.mark.parametrize("mixer", MIXERS)
def test_fresh_maps_into_the_residual_stream_are_scaled_by_depth(mixer):
    torch.manual_seed(0)
    model = GenoLMModel(tiny.config(*[mixer] * 8, hidden_size=64, head_dim=16, intermediate_size=64))
    expected = 0.02 / math.sqrt(2 * 8)
    for layer in model.layers:
        for linear in (layer.mixer.out_proj, layer.mlp.out_proj):
            assert linear.weight.std().item() == pytest.approx(expected, rel=0.1)
    assert model.layers[0].mlp.up_proj.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_weights_that_are_elsewhere_are_left_alone():
    """Under ZeRO-3 a rank may hold parameters of no elements."""
    for causal in (True, False):
        model = tiny.model(causal=causal, kmer_embeddings=[2], kmer_embedding_size=8, bias=True)
        for parameter in model.parameters():
            parameter.data = torch.empty(0)
        for module in model.modules():
            model._init_weights(module)
        assert all(parameter.numel() == 0 for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # of torch's own compiler
@pytest.mark.parametrize("kind", ["causal", "masked", "equivariant"])
def test_torch_compile_takes_it_whole(kind):
    changes = {"causal": kind == "causal", "reverse_complement": "equivariant" if kind == "equivariant" else "augment"}
    model = tiny.model(kmer_embeddings=[2], dtype=torch.float32, **changes)
    with torch.no_grad():  # near fresh weights: lively ones amplify what float32 rounds
        for parameter in model.parameters():
            parameter.mul_(0.5)
    ids = tiny.letters(2, 37)
    expected = loss_and_gradients(model, ids)
    compiled = torch.compile(model, fullgraph=True)
    model.zero_grad()
    loss = compiled(ids, labels=ids).loss
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected[0], atol=1e-5, rtol=0)
    for name, parameter in model.named_parameters():
        scale = expected[1][name].abs().max()
        assert (parameter.grad - expected[1][name]).abs().max() < 1e-3 * scale + 1e-6, name


@pytest.mark.parametrize(
    ("batch", "width", "length"), [(1, 256, 65_536), (4, 1024, 4096), (64, 1024, 1024), (1, 768, 16_384)]
)
def test_pieces_of_a_row_on_a_gpu_are_large_enough_to_keep_it_busy(batch, width, length):
    row = torch.empty(batch, 200_000, width, device="meta")
    assert {piece.shape[1] for piece in split_row(row)[:-1]} == {length}
    assert split_row(torch.empty(1, 9000, 2))[0].shape[1] == 4096  # on a CPU, for its cache
