"""Gated filters: `fir` and `fir_medium` (explicit taps), `hyena` (an implicit filter as long as the row).

    q, k, v = short filters of linear maps of x;    y = q · filter(k · v);    out = linear map of y

Source: Hyena-SE, -MR and -LI of StripedHyena 2, arXiv:2503.01868; the implicit filter is HyenaDNA's, arXiv:2306.15794.

Cost a token and channel, forward: explicit taps as blocked Toeplitz products 4 · block FLOP, all of it matrix products;
the implicit filter three real FFTs of twice the row, about 15 · log2(2L) FLOP, bound by memory.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight
from transformers import initialization as init

from .cache import concat_and_keep_tail
from .configuration import GenoLMConfig

_as_on_gpu = False


def takes_gpu_form(x: torch.Tensor) -> bool:
    """Return whether an operation that differs between CPUs and GPUs takes its form for GPUs."""
    return x.device.type != "cpu" or _as_on_gpu


@contextmanager
def emulate_gpu_forms(emulated: bool = True) -> Iterator[None]:
    """Let operations take their form for GPUs on a CPU too, so that a trace counts its memory."""
    global _as_on_gpu
    before, _as_on_gpu = _as_on_gpu, emulated
    try:
        yield
    finally:
        _as_on_gpu = before


def lookahead_of(size: int, causal: bool) -> int:
    """Return the number of later tokens that a filter of `size` taps sees: 0, or half of it to centre it."""
    return 0 if causal else (size - 1) // 2


def depthwise(u: torch.Tensor, taps: torch.Tensor, before: int) -> torch.Tensor:
    """Return y[t] = Σ_i taps[:, i] · u[t + i - before] for (B, L, C) on a CPU, by the convolution of images."""
    size, length = taps.shape[1], u.shape[1]
    # Rows of one pixel in height, channels last: oneDNN reads and writes (B, L, C) as it lies.
    y = F.conv2d(u.transpose(1, 2).unsqueeze(2), taps[:, None, None], padding=(0, size - 1), groups=u.shape[2])
    return y.squeeze(2).transpose(1, 2).narrow(1, size - 1 - before, length)


class ChannelFilter(torch.autograd.Function):
    """`per_channel_filter` on a CPU. The gradient of taps is oneDNN's for three at a time: for others it is slow."""

    @staticmethod
    def forward(ctx, u: torch.Tensor, taps: torch.Tensor, lookahead: int) -> torch.Tensor:
        """Return (B, L, C)."""
        ctx.save_for_backward(u, taps)
        ctx.lookahead = lookahead
        return depthwise(u, taps.flip(1), taps.shape[1] - 1 - lookahead)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """Return the gradients of input and taps."""
        u, taps = ctx.saved_tensors
        (channels, size), length = taps.shape, u.shape[1]
        pieces = range(0, size, 3)
        padded = F.pad(u, (0, 0, size - 1 - ctx.lookahead, ctx.lookahead + len(pieces) * 3 - size))
        padded, image = (x.transpose(1, 2).unsqueeze(2) for x in (padded, grad))
        to_taps = [
            conv2d_weight(padded[..., i : i + length + 2], (channels, 1, 1, 3), image, groups=channels) for i in pieces
        ]
        to_taps = torch.cat(to_taps, dim=-1)[:, 0, 0, :size].flip(1)
        return depthwise(grad, taps, ctx.lookahead), to_taps, None


def per_channel_filter(u: torch.Tensor, taps: torch.Tensor, lookahead: int) -> torch.Tensor:
    """Filter every channel by its own few taps: y[t] = Σ_i taps[i] · u[t + lookahead - i].

    Args:
        u: (B, L, C); zero before the start and after the end.
        taps: (C, K).
        lookahead: later tokens seen, 0 ≤ lookahead < K.

    Returns:
        (B, L, C).
    """
    size, length = taps.shape[1], u.shape[1]
    taps = taps.to(u.dtype)
    if not takes_gpu_form(u):
        with torch.autocast("cpu", enabled=False):
            return ChannelFilter.apply(u, taps, lookahead)
    padded = F.pad(u, (0, 0, size - 1 - lookahead, lookahead))
    y = padded[:, :length] * taps[:, size - 1]
    for i in range(size - 2, -1, -1):
        start = size - 1 - i
        y = torch.addcmul(y, padded[:, start : start + length], taps[:, i])
    return y


def toeplitz(taps: torch.Tensor, block: int) -> torch.Tensor:
    """Lay taps out as the matrices that take two neighbouring blocks of input to one block of output.

    Args:
        taps: (G, K), K ≤ block + 1.
        block: tokens N of a block.

    Returns:
        (G, N, 2N): entry (r, s) is taps[r + N - s], and 0 outside them.
    """
    groups, size = taps.shape
    width = 3 * block + 1
    # Row r is this vector moved right by r: entry m is taps[N - m].
    row = F.pad(taps.flip(1), (block - size + 1, width - block - 1))
    skewed = row.unsqueeze(1).expand(groups, block, width).reshape(groups, block * width)
    return skewed[:, : block * (width - 1)].view(groups, block, width - 1)[:, :, : 2 * block]


def grouped_filter(u: torch.Tensor, taps: torch.Tensor, lookahead: int = 0) -> torch.Tensor:
    """Filter groups of channels by shared taps, as products with blocks of a Toeplitz matrix.

    y[t, c] = Σ_i taps[group of c, i] · u[t + lookahead - i, c]

    Args:
        u: (B, L, D); zero before the start and after the end.
        taps: (G, K); G divides D, and neighbouring channels form a group.
        lookahead: later tokens seen.

    Returns:
        (B, L, D).
    """
    batch, length, width = u.shape
    groups, size = taps.shape
    block = max(16, 1 << (size - 2).bit_length()) if size > 1 else 16
    num = -(-length // block)
    # One block of the past first; moved left by the lookahead.
    padded = F.pad(u, (0, 0, block - lookahead, num * block - length + lookahead))
    blocks = padded.view(batch, num + 1, block, groups, width // groups).permute(0, 3, 2, 1, 4)  # (B, G, N, num + 1, C)
    blocks = blocks.contiguous()
    matrix = toeplitz(taps.to(u.dtype), block)
    y = torch.matmul(matrix[:, :, :block], blocks[:, :, :, :-1].flatten(3))
    y = y + torch.matmul(matrix[:, :, block:], blocks[:, :, :, 1:].flatten(3))
    y = y.view(batch, groups, block, num, width // groups).permute(0, 3, 2, 1, 4)
    return y.reshape(batch, num * block, width)[:, :length]


FEW = 32
"""Up to this number of outputs at the end of a row are computed as one product with their taps."""


def last_outputs(u: torch.Tensor, taps: torch.Tensor, num: int) -> torch.Tensor:
    """Return the last `num` outputs (B, num, D) of `grouped_filter(u, taps)` or `long_filter(u, taps)`, by one product.

    Cost a token and channel: 2 · L FLOP.
    """
    (batch, length, width), groups = u.shape, taps.shape[0]
    taps = F.pad(taps, (0, max(0, length - taps.shape[1])))[:, :length]
    # Entry (r, s) is taps[length - num + r - s], and 0 where there is none.
    rows = F.pad(taps.flip(1), (0, num - 1)).unfold(1, length, 1).flip(1).to(u.dtype)
    y = rows @ u.view(batch, length, groups, width // groups).transpose(1, 2)
    return y.transpose(1, 2).reshape(batch, num, width)


def fft_size(length: int) -> int:
    """Return the smallest 2^a · 3^b · 5^c, b and c at most 1, that is at least `length`: FFTs of it are fast."""
    return min(factor << max(0, math.ceil(math.log2(length / factor))) for factor in (1, 3, 5, 15))


class LongFilter(torch.autograd.Function):
    """Convolution of (B, G, C, L) with a filter (G, K) by real FFTs, in float32; K is at least L.

    Its backward takes three FFTs; autograd's own, through complex transforms of the whole circle, takes about twice
    the time and memory.
    """

    @staticmethod
    def forward(ctx, u: torch.Tensor, taps: torch.Tensor, lookahead: int) -> torch.Tensor:
        """Return y[t] = Σ_i taps[i] · u[t + lookahead - i], (B, G, C, L)."""
        length = u.shape[-1]
        size = fft_size(max(taps.shape[-1], length + max(lookahead, taps.shape[-1] - 1 - lookahead)))
        signal = torch.fft.rfft(u, n=size)
        # The taps that look ahead stand at the end of the circle.
        response = torch.fft.rfft(F.pad(taps, (0, size - taps.shape[-1])).roll(-lookahead, -1)).unsqueeze(-2)
        ctx.save_for_backward(signal, response)
        ctx.sizes = (size, taps.shape[-1], lookahead)
        return torch.fft.irfft(signal * response, n=size)[..., :length]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """Return the gradients of input and taps."""
        signal, response = ctx.saved_tensors
        size, num_taps, lookahead = ctx.sizes
        length = grad.shape[-1]
        grad = torch.fft.rfft(grad, n=size)
        to_input = torch.fft.irfft(grad * response.conj(), n=size)[..., :length]
        # In real numbers: torch.compile sums complex gradients wrongly where others are fused with them.
        at, by = torch.view_as_real(grad), torch.view_as_real(signal)
        real = (at * by).sum(-1).sum((0, 2))
        imaginary = (at[..., 1] * by[..., 0] - at[..., 0] * by[..., 1]).sum((0, 2))
        to_taps = torch.fft.irfft(torch.complex(real, imaginary), n=size).roll(lookahead, -1)[..., :num_taps]
        return to_input, to_taps, None


def long_filter(u: torch.Tensor, taps: torch.Tensor, lookahead: int = 0) -> torch.Tensor:
    """As `grouped_filter`, for filters as long as the row.

    Args:
        u: (B, L, D); computed in float32 at least.
        taps: (G, K), K ≥ L.
        lookahead: later tokens seen.

    Returns:
        (B, L, D), of u's type.
    """
    batch, length, width = u.shape
    groups = taps.shape[0]
    with torch.autocast(u.device.type, enabled=False):
        dtype = torch.promote_types(u.dtype, torch.float32)
        channels = u.to(dtype).transpose(1, 2).reshape(batch, groups, width // groups, length)
        y = LongFilter.apply(channels, taps.to(dtype), lookahead)
    return y.reshape(batch, width, length).transpose(1, 2).to(u.dtype)


class ExplicitFilter(nn.Module):
    """Learnt taps, and a weight for the token itself."""

    def __init__(self, config: GenoLMConfig, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.filter_groups, size))
        self.lookahead = lookahead_of(size, config.causal)

    @property
    def memory(self) -> int:
        """Number of earlier tokens that a causal output depends on."""
        return self.weight.shape[1] - 1

    def forward(self, u: torch.Tensor, num: int | None = None) -> torch.Tensor:
        """Filter (B, L, D); with `num`, return the last `num` outputs only, for a causal filter."""
        if num is None:
            return grouped_filter(u, self.weight, self.lookahead)
        return last_outputs(u, self.weight, num) if num <= FEW else grouped_filter(u, self.weight)[:, -num:]

    @torch.no_grad()
    def initialize(self) -> None:
        """Draw taps of the same expected power whatever their number."""
        init.normal_(self.weight, std=self.weight.shape[-1] ** -0.5 if self.weight.numel() else 1.0)


class ImplicitFilter(nn.Module):
    """A filter whose taps a small network computes from the distance, times an exponential decay.

    Distances are fractions of `max_position_embeddings`, so a longer row asks for more taps and changes none. A
    bidirectional filter has outputs of its own for the distances to later tokens.
    """

    def __init__(self, config: GenoLMConfig):
        super().__init__()
        groups, width = config.filter_groups, config.hyena_filter_size
        self.span, self.causal = config.max_position_embeddings, config.causal
        self.num_bands = (config.hyena_position_size - 1) // 2
        self.frequency = nn.Parameter(torch.empty(width))
        self.initial_frequency = config.hyena_frequency
        sizes = [config.hyena_position_size, width, width, width]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip(sizes, sizes[1:], strict=False))
        self.output = nn.Linear(width, groups if self.causal else 2 * groups, bias=False)
        self.skip = nn.Parameter(torch.empty(config.hidden_size))

    def taps(self, length: int) -> torch.Tensor:
        """Return (outputs, length) in float32 at least: the taps at distances 0 … length - 1."""
        device, dtype = self.output.weight.device, torch.promote_types(self.output.weight.dtype, torch.float32)
        position = torch.arange(length, device=device, dtype=dtype)
        band = torch.linspace(1e-4, self.num_bands - 1, self.num_bands, device=device, dtype=dtype)
        angle = position[:, None] * (2 * math.pi / self.span) * band
        time = (position / max(1, self.span - 1))[:, None]
        x = torch.cat([time, angle.cos(), -angle.sin()], dim=-1)
        for layer in self.layers:
            weight, bias = cast(nn.Linear, layer).weight.to(dtype), cast(nn.Linear, layer).bias.to(dtype)
            x = torch.sin(self.frequency.to(dtype) * F.linear(x, weight, bias))
        x = F.linear(x, self.output.weight.to(dtype))
        # Down to 1 % over 30 % of the span in the fastest group, over 150 % in the slowest.
        groups = x.shape[-1] if self.causal else x.shape[-1] // 2
        rate = -math.log(1e-2) * torch.linspace(1 / 1.5, 1 / 0.3, groups, device=device, dtype=dtype)
        decay = torch.exp(-time * (rate if self.causal else rate.repeat(2)))
        return (x * decay).transpose(0, 1)

    memory = None

    def forward(self, u: torch.Tensor, num: int | None = None) -> torch.Tensor:
        """Filter (B, L, D) by taps over the whole row; `num` as `ExplicitFilter`."""
        length = u.shape[1]
        with torch.autocast(u.device.type, enabled=False):
            taps, lookahead = self.taps(length), 0
            if not self.causal:
                past, future = taps.chunk(2)
                taps, lookahead = torch.cat([future[:, 1:].flip(1), past], dim=1), length - 1
            if num is not None and num <= FEW:
                wide = u.to(torch.promote_types(u.dtype, torch.float32))
                return last_outputs(wide, taps, num).to(u.dtype) + u[:, -num:] * self.skip.to(u.dtype)
        y = long_filter(u, taps, lookahead) + u * self.skip.to(u.dtype)
        return y if num is None else y[:, -num:]

    @torch.no_grad()
    def initialize(self) -> None:
        """Draw as HyenaDNA does: linear layers as torch's own, frequencies and skips as its paper."""
        init.constant_(self.frequency, self.initial_frequency)
        init.normal_(self.skip)
        for layer in [*self.layers, self.output]:
            bound = layer.in_features**-0.5
            init.uniform_(layer.weight, -bound, bound)
            if layer.bias is not None:
                init.uniform_(layer.bias, -bound, bound)


class GatedFilter(nn.Module):
    """The mixers `fir`, `fir_medium` and `hyena`."""

    def __init__(self, config: GenoLMConfig, inner: nn.Module):
        super().__init__()
        width = config.hidden_size
        self.in_proj = nn.Linear(width, 3 * width, bias=config.bias)
        self.short_filter = nn.Parameter(torch.empty(3 * width, config.short_filter_size))
        self.lookahead = lookahead_of(config.short_filter_size, config.causal)
        self.filter: Any = inner
        self.out_proj = nn.Linear(width, width, bias=config.bias)

    @property
    def reach(self) -> tuple[int, int] | None:
        """Tokens before and after that an output sees; None for the whole row."""
        if not isinstance(self.filter, ExplicitFilter):
            return None
        others = self.short_filter.shape[1] + self.filter.weight.shape[1] - 2
        after = self.lookahead + self.filter.lookahead
        return others - after, after

    def initial_state(self, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return both filters' inputs before the first token of rows (B, L, D): zeros."""
        batch, _, width = hidden.shape
        return (
            hidden.new_zeros(batch, self.short_filter.shape[1] - 1, 3 * width),
            hidden.new_zeros(batch, self.filter.memory or 0, width),
        )

    def forward(
        self, hidden: torch.Tensor, keep: torch.Tensor | None = None, state: tuple[torch.Tensor, ...] = (), **_
    ) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Mix (B, L, D); `keep` (B, L, 1) is 0 at padding, which then adds nothing.

        With a `state` (causal), the earlier inputs of both filters (for `hyena` all of them), also return the next one.
        """
        projected, num = self.in_proj(hidden), hidden.shape[1]
        if keep is not None:
            projected = projected * keep.to(projected.dtype)
        if state:
            projected, projected_after = concat_and_keep_tail(state[0], projected)
        filtered = per_channel_filter(projected, self.short_filter, self.lookahead)
        query, key, value = filtered[:, filtered.shape[1] - num :].chunk(3, dim=-1)
        signal = key * value
        if keep is not None:
            signal = signal * keep.to(signal.dtype)
        if not state:
            return self.out_proj(query * self.filter(signal))
        signal, signal_after = concat_and_keep_tail(state[1], signal)
        mixed = self.out_proj(query * self.filter(signal, num))
        return mixed, projected_after, signal if self.filter.memory is None else signal_after

    @torch.no_grad()
    def initialize(self) -> None:
        """Start the short filters as HyenaDNA's convolutions do."""
        bound = max(1, self.short_filter.shape[-1]) ** -0.5
        init.uniform_(self.short_filter, -bound, bound)
