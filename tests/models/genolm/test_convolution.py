"""The mixer `convolution` against a sum by hand, and a block of it against GPN's layer."""

import pytest
import tiny
import torch
from torch import nn

from genolm.models.genolm.blocks import GenoLMBlock
from genolm.models.genolm.convolution import DilatedConvolution


def made(size, dilation, causal=False, length=11, **changes):
    config = tiny.config(
        "convolution", convolution_size=size, convolution_dilations=[dilation], causal=causal, **changes
    )
    torch.manual_seed(size)
    return tiny.lively(DilatedConvolution(config, number=0)).double(), torch.randn(2, length, 16, dtype=torch.float64)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("size", "dilation"), [(1, 1), (3, 1), (5, 3), (4, 1), (2, 4)])
def test_a_convolution_is_the_sum_over_its_taps(size, dilation, causal):
    mixer, hidden = made(size, dilation, causal, bias=True)
    reach = (size - 1) * dilation
    back = reach if causal else reach // 2
    y = torch.zeros_like(hidden) + mixer.conv.bias
    for t in range(hidden.shape[1]):
        for tap in range(size):
            s = t - back + tap * dilation
            if 0 <= s < hidden.shape[1]:
                y[:, t] = y[:, t] + hidden[:, s] @ mixer.conv.weight[:, :, tap].T
    expected = mixer.out_proj(nn.functional.gelu(y))
    torch.testing.assert_close(mixer(hidden), expected, atol=1e-12, rtol=0)


def test_the_first_size_and_the_dilations_go_by_layers_of_this_mixer():
    model = tiny.model(
        *("convolution", "fir", "convolution", "convolution", "attention", "convolution"),
        **{"convolution_first_size": 9, "convolution_size": 3, "convolution_dilations": [1, 2, 4]},
    )
    convolutions = [layer.mixer.conv for layer in model.model.layers if isinstance(layer.mixer, DilatedConvolution)]
    assert [conv.kernel_size[0] for conv in convolutions] == [9, 3, 3, 3]
    assert [conv.dilation[0] for conv in convolutions] == [1, 2, 4, 1]


class Transpose(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("size", "dilation"), [(9, 1), (9, 4), (3, 32), (4, 1), (4, 2), (2, 1), (6, 3)])
def test_a_block_is_gpns_layer(size, dilation, bias):
    """x + Linear(GELU(Conv1d(LayerNorm(x), padding="same"))), then x + Linear(GELU(Linear(LayerNorm(x))))."""
    config = tiny.config(
        *("convolution",),
        **{"convolution_size": size, "convolution_dilations": [dilation], "norm": "layernorm", "mlp": "gelu"},
        **{"bias": bias},
    )
    block = tiny.lively(GenoLMBlock(config, 0)).double()
    conv = nn.Conv1d(16, 16, size, padding="same", dilation=dilation, bias=bias).double()
    conv.load_state_dict(block.mixer.conv.state_dict())
    first = nn.Sequential(block.mixer_norm, Transpose(), conv, Transpose(), nn.GELU(), block.mixer.out_proj)
    second = nn.Sequential(block.mlp_norm, block.mlp.up_proj, nn.GELU(), block.mlp.out_proj)
    x = torch.randn(2, 50, 16, dtype=torch.float64)
    expected = x + first(x)
    expected = expected + second(expected)
    torch.testing.assert_close(block(x), expected, atol=1e-12, rtol=0)


def test_padding_is_as_the_end_of_the_row():
    mixer, hidden = made(5, 2)
    keep = torch.ones(2, 11, 1)
    keep[:, :3] = 0
    torch.testing.assert_close(mixer(hidden, keep)[:, 3:], mixer(hidden[:, 3:]), atol=1e-12, rtol=0)
