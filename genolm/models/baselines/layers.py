"""Layers of the baselines that take rows of any length.

A published stack of convolutions without padding and of poolings leaves nothing of a row shorter than it was made for.
Here a convolution pads a row shorter than its kernel with zeros to one window, and a pooling wider than its row takes
all of it: at least one position is left, and at the published length nothing changes.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import initialization as init


class Convolution(nn.Conv1d):
    """torch's Conv1d, with a way around a fault of oneDNN.

    In bfloat16 on a CPU with AMX, with fewer than 16 channels and channels times kernel a multiple of 32, such as 24
    one-hot bases, outputs are wrong (seen with torch 2.13). With one more tap, a zero, they are right.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (B, C, P) to (B, D, positions)."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        products = self.in_channels * self.kernel_size[0]
        if input.device.type != "cpu" or dtype != torch.bfloat16 or self.in_channels >= 16 or products % 32:
            return super().forward(input)
        input = F.pad(input, (0, self.dilation[0]))
        return self._conv_forward(input, F.pad(self.weight, (0, 1)), self.bias)


class Conv(Convolution):
    """A convolution without padding, (B, C, P) to (B, D, max(P - kernel + 1, 1))."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (B, C, P)."""
        missing = self.kernel_size[0] - input.shape[-1]
        if missing > 0:
            input = F.pad(input, (missing // 2, missing - missing // 2))
        return super().forward(input)

    def positions(self, length: int) -> int:
        """Return the number of outputs for `length` inputs."""
        return max(length - self.kernel_size[0] + 1, 1)


class Pool(nn.Module):
    """The maximum of every `size` positions; of what is left at the end too, or with `floor` dropped as Keras does."""

    def __init__(self, size: int, floor: bool = False):
        super().__init__()
        self.size, self.floor = size, floor

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map (B, C, P) to (B, C, positions(P))."""
        return F.max_pool1d(hidden, min(self.size, hidden.shape[-1]), ceil_mode=not self.floor)

    def positions(self, length: int) -> int:
        """Return the number of outputs for `length` inputs."""
        return max(length // self.size, 1) if self.floor else -(-length // self.size)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that takes its running statistics for a batch of one value, which has no variance."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (B, C) or (B, C, P)."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)


def starts_at_zero(layer: nn.Module) -> nn.Module:
    """Mark a layer whose weight starts at 0. On the layer itself, as transformers initialises none without weights."""
    layer.starts_at_zero = True  # type: ignore[assignment]
    return layer


def draw_glorot(layer: nn.Linear | nn.Conv1d | nn.RNNBase) -> None:
    """Draw weights as Glorot and Bengio do, biases 0: what Keras does by default."""
    for name, parameter in layer.named_parameters(recurse=False):
        init.zeros_(parameter) if "bias" in name else init.xavier_uniform_(parameter)


def draw_he(layer: nn.Linear | nn.Conv1d | nn.RNNBase) -> None:
    """Draw weights as He et al. do before a ReLU, biases 0."""
    for name, parameter in layer.named_parameters(recurse=False):
        init.zeros_(parameter) if "bias" in name else init.kaiming_normal_(parameter, nonlinearity="relu")


def positions(layers: Iterable[nn.Module], length: int) -> int:
    """Return the number of outputs of a stack of layers for a row of `length`."""
    for layer in layers:
        if isinstance(layer, Conv | Pool):
            length = layer.positions(length)
    return length


def masked_mean(hidden: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Return the mean (B, C) of hidden (B, C, P) over the positions that keep (B, P) marks; 0 where it marks none."""
    weight = keep.unsqueeze(1).to(hidden.dtype)
    return (hidden * weight).sum(-1) / weight.sum(-1).clamp(min=1)


def masked_max(hidden: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Return the maximum (B, C) of hidden (B, C, P), 0 or above, over the positions that keep (B, P) marks."""
    return (hidden * keep.unsqueeze(1).to(hidden.dtype)).amax(-1)


def run_recurrent(layer: nn.RNNBase, hidden: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Run a recurrent layer over the first keep.sum() positions of each row, so that padding on the right is not seen.

    Args:
        layer: an LSTM or GRU with `batch_first`.
        hidden: (B, L, C).
        keep: (B, L), true for what is no padding; all of it on the right.

    Returns:
        (B, L, D), 0 at padding.
    """
    if keep.all():
        return layer(hidden)[0]  # as packed, and a GRU three times as fast on a CPU
    lengths = keep.sum(1).clamp(min=1).cpu()
    packed = pack_padded_sequence(hidden, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=hidden.shape[1])[0]
