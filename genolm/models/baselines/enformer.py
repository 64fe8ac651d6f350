"""Enformer at small size: a convolution tower, then a transformer with relative positions.

    stem: conv 128 × 15 → + pointwise block → pool 2
    tower: 3 × [block × 5 → + pointwise block → pool 2], 128 … 256 channels; block: norm → GELU → conv
    4 × [layer norm → 4 heads of 64 → +, layer norm → 512, ReLU → 256 → +]
    → block 512, GELU → mean over the row → linear

Published are seven poolings to bins of 128 bp, 11 layers of 1,536 channels and 8 heads, for 196,608 bp;
four poolings leave short rows something to attend to. Left out: pooling by attention (maxima here), cropped
ends, heads for two species, and of relative positions the terms that depend on content and two of three kinds of basis
functions: each head here adds a learned mixture of exponential decays, with and without direction, to its attention.

Rows are padded with zeros to `length`; bins of padding alone are neither attended to nor averaged. Weights
of convolutions are LeCun's, as published; those of pointwise blocks and of distances start at 0, so that each is the
identity or nothing at first; the rest are drawn as torch does by default.

Source: Avsec et al. 2021, doi:10.1038/s41592-021-01252-x; manuscripts/enformer/params_enformer.json of
github.com/calico/basenji.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from genolm.models.baseline_configuration import BaselineConfig
from genolm.models.baselines.baseline import Baseline
from genolm.models.baselines.layers import BatchNorm, Convolution, Pool, masked_mean, starts_at_zero

HEADS = 4
DECAYS = 16


class Residual(nn.Module):
    """Adds a pointwise block, (B, C, P) to (B, C, P)."""

    def __init__(self, channels: int):
        super().__init__()
        self.block = nn.Sequential(*block(channels, channels, 1))
        starts_at_zero(self.block[-1])

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map (B, C, P)."""
        return hidden + self.block(hidden)


def block(channels: int, out: int, kernel: int) -> list[nn.Module]:
    """Return norm, GELU and a convolution that keeps the length."""
    return [BatchNorm(channels), nn.GELU(), Convolution(channels, out, kernel, padding=kernel // 2)]


def distances(length: int, like: torch.Tensor) -> torch.Tensor:
    """Return decays of the distance from query to key, (P, P, 2 · DECAYS): half-lives 3 … P, plain and signed."""
    position = torch.arange(length, device=like.device, dtype=torch.float32)
    offset = position[None, :] - position[:, None]
    half_life = 2 ** torch.linspace(math.log2(3), math.log2(max(length, 6)), DECAYS, device=like.device)
    decay = torch.exp2(-offset.abs().unsqueeze(-1) / half_life)
    return torch.cat([decay, offset.sign().unsqueeze(-1) * decay], -1).to(like.dtype)


class DistanceBiasedAttention(nn.Module):
    """Self-attention over bins, with a learned bias by distance."""

    def __init__(self, channels: int):
        super().__init__()
        self.into, self.out = nn.Linear(channels, 3 * channels, bias=False), nn.Linear(channels, channels)
        self.by_distance = starts_at_zero(nn.Linear(2 * DECAYS, HEADS, bias=False))

    def forward(self, hidden: torch.Tensor, keep: torch.Tensor, distance: torch.Tensor) -> torch.Tensor:
        """Map (B, P, C); keep (B, P) marks what may be attended to."""
        rows, length, channels = hidden.shape
        heads = self.into(hidden).view(rows, length, 3, HEADS, channels // HEADS).permute(2, 0, 3, 1, 4)
        bias = self.by_distance(distance).permute(2, 0, 1)
        bias = bias.masked_fill(~keep[:, None, None, :], torch.finfo(bias.dtype).min)
        mixed = F.scaled_dot_product_attention(*heads.unbind(0), attn_mask=bias.to(heads.dtype))
        return self.out(mixed.transpose(1, 2).flatten(2))


class Enformer(Baseline):
    """Options: `num_pools`, halvings of the row, the stem's among them; `num_layers` of the transformer."""

    OPTIONS = {"num_pools": 4, "num_layers": 4}

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        channels = HEADS * self.wide(64)
        size, growth = channels // 2, 2 ** (1 / max(1, self.options["num_pools"] - 1))
        layers: list[nn.Module] = [Convolution(4, size, 15, padding=7), Residual(size), Pool(2)]
        for step in range(1, self.options["num_pools"]):
            wider = round(channels / 2 * growth**step)
            layers += [*block(size, wider, 5), Residual(wider), Pool(2)]
            size = wider
        self.tower = nn.Sequential(*layers)
        self.widen = nn.Linear(size, channels) if size != channels else nn.Identity()
        self.attention = nn.ModuleList(DistanceBiasedAttention(channels) for _ in range(self.options["num_layers"]))
        self.perceptrons = nn.ModuleList(
            nn.Sequential(
                *(nn.LayerNorm(channels), nn.Linear(channels, 2 * channels), self.drop(0.4), nn.ReLU()),
                *(nn.Linear(2 * channels, channels), self.drop(0.4)),
            )
            for _ in self.attention
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in self.attention)
        self.dropout = self.drop(0.4)
        self.last = nn.Sequential(*block(channels, 2 * channels, 1), self.drop(0.05), nn.GELU())
        self.score = nn.Linear(2 * channels, self.num_labels)
        self.post_init()

    def logits(self, one_hot: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Map (B, 4, config.length) to (B, num_labels)."""
        hidden = self.widen(self.tower(one_hot).transpose(1, 2))
        keep = keep[:, :: 2 ** self.options["num_pools"]]
        distance = distances(hidden.shape[1], hidden)
        for norm, attention, perceptron in zip(self.norms, self.attention, self.perceptrons, strict=True):
            hidden = hidden + self.dropout(attention(norm(hidden), keep, distance))
            hidden = hidden + perceptron(hidden)
        return self.score(masked_mean(self.last(hidden.transpose(1, 2)), keep))

    def draw(self, layer: nn.Linear | nn.Conv1d | nn.RNNBase) -> None:
        """Draw convolutions as published."""
        if isinstance(layer, nn.Conv1d):
            init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
            init.zeros_(layer.bias)  # type: ignore[arg-type]
        else:
            super().draw(layer)
