import pytest
import torch
from torch import nn

from genolm.models.baselines.layers import BatchNorm, Conv, Pool, masked_max, masked_mean, positions, run_recurrent


@pytest.mark.parametrize("floor", [False, True])
def test_positions_are_those_that_are_left(floor):
    layers = [Conv(4, 2, 8), nn.ReLU(), Pool(4, floor), Conv(2, 2, 8), Pool(3, floor)]
    stack = nn.Sequential(*layers)
    for length in range(1, 120):
        assert stack(torch.zeros(1, 4, length)).shape[-1] == positions(layers, length) >= 1


def test_a_row_as_long_as_the_kernel_is_convolved_as_torch_does():
    layer = Conv(4, 3, 8)
    row = torch.randn(2, 4, 20)
    torch.testing.assert_close(layer(row), nn.functional.conv1d(row, layer.weight, layer.bias))
    short = torch.randn(2, 4, 5)
    padded = nn.functional.pad(short, (1, 2))
    torch.testing.assert_close(layer(short), nn.functional.conv1d(padded, layer.weight, layer.bias))


def test_pool_by_hand():
    row = torch.tensor([[[3.0, 1, 2, 9, 5]]])
    assert Pool(2)(row).tolist() == [[[3, 9, 5]]]
    assert Pool(2, floor=True)(row).tolist() == [[[3, 9]]]
    assert Pool(9)(row).tolist() == Pool(9, floor=True)(row).tolist() == [[[9]]]


def test_masks_by_hand():
    hidden = torch.tensor([[[1.0, 2, 9]], [[4.0, 8, 0]]])
    keep = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(hidden, keep).tolist() == [[1.5], [0]]
    assert masked_max(hidden, keep).tolist() == [[2], [0]]


def test_a_batch_of_one_value_is_normalised_by_running_statistics():
    norm = BatchNorm(3).train()
    norm(torch.randn(8, 3) + 5)
    before = norm.running_mean.clone()
    row = torch.randn(1, 3)
    torch.testing.assert_close(norm(row), norm.eval()(row))
    assert torch.equal(norm.running_mean, before)
    norm.train()
    assert norm(torch.randn(1, 3, 2)).shape == (1, 3, 2)  # two values have a variance
    assert not torch.equal(norm.running_mean, before)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_recurrent_layer_reads_each_row_alone(kind):
    torch.manual_seed(0)
    layer = kind(4, 3, batch_first=True, bidirectional=True)
    hidden = torch.randn(3, 9, 4)
    keep = torch.arange(9) < torch.tensor([[9], [5], [1]])
    found = run_recurrent(layer, hidden, keep)
    for row, length in enumerate((9, 5, 1)):
        torch.testing.assert_close(found[row, :length], layer(hidden[row : row + 1, :length])[0][0])
        assert not found[row, length:].any()
    torch.testing.assert_close(run_recurrent(layer, hidden, torch.ones(3, 9, dtype=torch.bool)), layer(hidden)[0])
