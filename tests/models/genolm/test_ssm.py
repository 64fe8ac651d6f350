"""The state space in chunks against its plain recurrence, and against transformers' Mamba-2."""

import pytest
import tiny
import torch
from transformers import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from genolm.models.genolm.configuration import GenoLMConfig
from genolm.models.genolm.modeling import GenoLMForCausalLM
from genolm.models.genolm.ssm import StateSpace, state_space


def recurrence(x, step, rate, b, c):
    """state[t] = exp(Δ A) · state[t - 1] + Δ · b xᵀ, y = cᵀ state, token by token."""
    batch, length, heads, channels = x.shape
    b, c = (tensor.repeat_interleave(heads // b.shape[2], dim=2) for tensor in (b, c))
    state = torch.zeros(batch, heads, b.shape[3], channels, dtype=x.dtype)
    y = []
    for t in range(length):
        decay = torch.exp(step[:, t] * rate)[..., None, None]
        state = decay * state + step[:, t, :, None, None] * b[:, t, :, :, None] * x[:, t, :, None, :]
        y.append((c[:, t, :, :, None] * state).sum(2))
    return torch.stack(y, 1)


def numbers(length, heads=4, channels=3, groups=2, states=5):
    torch.manual_seed(length)
    x = torch.randn(2, length, heads, channels, dtype=torch.float64)
    step = torch.rand(2, length, heads, dtype=torch.float64)
    rate = -3 * torch.rand(heads, dtype=torch.float64)
    b, c = torch.randn(2, 2, length, groups, states, dtype=torch.float64)
    return [tensor.detach().requires_grad_() for tensor in (x, step, rate, b, c)]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 31, 37])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_chunks_are_the_recurrence(length, groups):
    inputs = numbers(length, groups=groups)
    expected = recurrence(*inputs)
    weight = torch.randn_like(expected)
    gradients = torch.autograd.grad(expected, inputs, weight)
    for chunk in (1, 2, 4, 16, 64):
        y = state_space(*inputs, chunk)
        torch.testing.assert_close(y, expected, atol=1e-11, rtol=0)
        for one, other in zip(torch.autograd.grad(y, inputs, weight), gradients, strict=True):
            torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("length", "chunk"), [(33, 1), (64, 2), (1024, 1), (1025, 1), (1100, 1), (2049, 2)])
def test_states_pass_between_many_chunks(length, chunk):
    """More chunks than one product takes, and more groups of chunks than the next."""
    inputs = numbers(length, heads=2, channels=2, groups=1, states=2)
    with torch.no_grad():
        inputs[1].mul_(0.05)  # so slow a decay that the first token is still seen at the end
    expected = recurrence(*inputs)
    y = state_space(*inputs, chunk)
    torch.testing.assert_close(y, expected, atol=1e-10, rtol=0)
    (one,), (other,) = (torch.autograd.grad(out[:, -1].sum(), inputs[0]) for out in (y, expected))
    assert other[:, 0].abs().max() > 0
    torch.testing.assert_close(one, other, atol=1e-11, rtol=0)


@pytest.mark.parametrize("rate", [-1e4, -16.0, -1e-8])
def test_no_decay_overflows(rate):
    """Sums of decays of thousands: their exponentials, and the gradients of those, are 0 and not NaN."""
    inputs = [tensor.detach().float().requires_grad_() for tensor in numbers(100)]
    with torch.no_grad():
        inputs[1].mul_(50)
        inputs[2].fill_(rate)
    y = state_space(*inputs, 64)
    gradients = torch.autograd.grad(y.sum(), inputs)
    assert all(tensor.isfinite().all() for tensor in (y, *gradients))


def test_a_step_of_nothing_leaves_the_state():
    x, step, rate, b, c = numbers(12)
    with torch.no_grad():
        step[:, 4:9] = 0
        c[:, 4:] = c[:, 3:4]
        y = state_space(x, step, rate, b, c, 4)
    torch.testing.assert_close(y[:, 4:9], y[:, 3:4].expand(-1, 5, -1, -1), atol=1e-13, rtol=0)


def both_mixers(groups, causal=True, **changes):
    """Our mixer and transformers' with the same weights, in float64."""
    torch.manual_seed(0)
    config = tiny.config("ssm", causal=causal, ssm_num_groups=groups, **changes)
    ours = StateSpace(config)
    ours.initialize()
    ours = tiny.lively(ours).double()
    theirs = Mamba2Config(
        **{"hidden_size": 16, "num_heads": 4, "head_dim": 8, "state_size": 4, "n_groups": groups, "expand": 2},
        **{"conv_kernel": config.ssm_convolution_size, "chunk_size": 8, "use_conv_bias": True, "num_hidden_layers": 1},
        **{"layer_norm_epsilon": config.norm_eps, "use_bias": config.bias, "time_step_limit": (0.0, float("inf"))},
    )
    mamba = Mamba2Mixer(theirs, 0).double().eval()
    weights = {
        "in_proj.weight": ours.in_proj.weight,
        "conv1d.weight": ours.short_filter.flip(1).unsqueeze(1),  # torch's taps run from the oldest to the newest
        "conv1d.bias": ours.short_filter_bias,
        "dt_bias": ours.step_bias,
        "A_log": ours.log_rate,
        "D": ours.skip,
        "norm.weight": ours.norm_weight,
        "out_proj.weight": ours.out_proj.weight,
    }
    mamba.load_state_dict(weights)
    return ours, mamba


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("length", [1, 7, 8, 9, 29])
def test_the_mixer_is_transformers_mamba2(groups, length):
    ours, mamba = both_mixers(groups)
    hidden = torch.randn(2, length, 16, dtype=torch.float64, requires_grad=True)
    one, other = ours(hidden), mamba(hidden)
    torch.testing.assert_close(one, other, atol=2e-6, rtol=0)  # theirs computes the recurrence in float32
    weight = torch.randn_like(one)
    (to_one,), (to_other,) = (torch.autograd.grad(y, hidden, weight) for y in (one, other))
    torch.testing.assert_close(to_one, to_other, atol=2e-5, rtol=0)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_leaves_the_state_as_it_is(side):
    ours, mamba = both_mixers(2)
    hidden = torch.randn(2, 12, 16, dtype=torch.float64)
    keep = torch.ones(2, 12)
    keep[1, slice(0, 5) if side == "left" else slice(7, 12)] = 0
    real = keep.bool()
    one, other = ours(hidden, keep.unsqueeze(-1)), mamba(hidden, attention_mask=keep)
    torch.testing.assert_close(one[real], other[real], atol=2e-6, rtol=0)
    alone = ours(hidden[1:, real[1]])
    torch.testing.assert_close(one[1, real[1]], alone[0], atol=1e-7, rtol=0)  # decays are summed in float32


def test_a_bidirectional_mixer_adds_both_ways_before_the_last_map():
    causal, _ = both_mixers(2)
    both, _ = both_mixers(2, causal=False)
    hidden = torch.randn(2, 21, 16, dtype=torch.float64)
    expected = causal(hidden) + causal(hidden.flip(1)).flip(1)  # out_proj has no bias: it may be added after
    torch.testing.assert_close(both(hidden), expected, atol=1e-12, rtol=0)


def test_fresh_time_steps_and_rates_are_those_of_mamba2():
    torch.manual_seed(0)
    mixer = StateSpace(tiny.config("ssm", hidden_size=512, ssm_head_dim=1))
    mixer.initialize()
    step = torch.nn.functional.softplus(mixer.step_bias)
    assert 0.001 <= step.min() < 0.002 and 0.05 < step.max() <= 0.1001
    assert step.log().mean().exp().item() == pytest.approx(0.01, rel=0.15)  # uniform in the logarithm
    rate = mixer.log_rate.exp()
    assert 1 <= rate.min() < 1.2 and 15.5 < rate.max() <= 16
    assert rate.mean().item() == pytest.approx(8.5, rel=0.1)


def test_gradients_of_the_decays_are_as_exact_in_bf16_as_others():
    """Sums with the diagonal in them would cancel: an error of 61 % of the step's bias here, instead of 7 %."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "num_attention_heads": 4}
    exact = GenoLMForCausalLM(GenoLMConfig(**sizes, mixers=["ssm"], causal=True)).float().double()
    ids = torch.randint(5, 9, (4, 512), generator=torch.Generator().manual_seed(1))
    wide = loss_gradients(exact, ids, False)
    half = loss_gradients(exact.float(), ids, True)
    for name in wide:
        if name.endswith(("step_bias", "log_rate")):
            error = (half[name].double() - wide[name].double()).norm() / wide[name].double().norm()
            assert error < 0.15, name


def loss_gradients(model, ids, autocast):
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        model(input_ids=ids, labels=ids).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}
