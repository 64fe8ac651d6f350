"""Basenji2: convolutions that halve the row seven times, then dilated ones that add to it.

    block: GELU → conv → norm → dropout (→ pool 2)
    block 288 × 15, pool → 6 blocks 339 … 768 × 5, pool → 11 × [block 384 × 3 dilated 1, 2, 3, 4, 6 … → block 768, +]
    → block 1536 → GELU → mean over the row → linear

Made for 131,072 bp and 5,313 tracks in bins of 128 bp; here the bins of a row are averaged, and those at its ends are
not cropped. Rows are padded with zeros to `length`, and bins of padding alone are left out of the mean; a pooling
keeps what is left at the end, so that a row of any length keeps a bin. Weights are He's and the second norm of a
residual block starts at 0, as published; torch's GELU is exact.

Source: Kelley 2020, doi:10.1371/journal.pcbi.1008050; layers as manuscripts/cross2020/params_human.json of
github.com/calico/basenji. Basenji itself: Kelley et al. 2018, doi:10.1101/gr.227819.117.
"""

import torch
from torch import nn

from genolm.models.baseline_configuration import BaselineConfig
from genolm.models.baselines.baseline import Baseline
from genolm.models.baselines.layers import BatchNorm, Convolution, Pool, draw_he, masked_mean, starts_at_zero

TOWER = [339 * 1.1776**i for i in range(6)]


class Basenji(Baseline):
    """Options: `num_dilated`, dilated blocks."""

    OPTIONS = {"num_dilated": 11}

    def draw(self, layer: nn.Linear | nn.Conv1d | nn.RNNBase) -> None:
        """Draw the weights of a layer as the published code does."""
        draw_he(layer)

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        layers = [*self.block(4, self.wide(288), 15), Pool(2)]
        channels = self.wide(288)
        for filters in TOWER:
            layers += [*self.block(channels, self.wide(filters), 5), Pool(2)]
            channels = self.wide(filters)
        self.tower = nn.Sequential(*layers)
        self.dilated = nn.ModuleList()
        rate = 1
        for _ in range(self.options["num_dilated"]):
            inner = self.block(channels, self.wide(384), 3, dilation=rate)
            outer = self.block(self.wide(384), channels, dropout=0.3)
            starts_at_zero(outer[-2])
            self.dilated.append(nn.Sequential(*inner, *outer))
            rate = round(1.5 * rate)
        self.last = nn.Sequential(*self.block(channels, self.wide(1536), dropout=0.05), nn.GELU())
        self.score = nn.Linear(self.wide(1536), self.num_labels)
        self.post_init()

    def block(self, channels: int, out: int, kernel: int = 1, dilation: int = 1, dropout: float = 0.0):
        """Return the layers of a block; its length stays."""
        same = dilation * (kernel // 2)
        convolution = Convolution(channels, out, kernel, padding=same, dilation=dilation, bias=False)
        return [nn.GELU(), convolution, BatchNorm(out), self.drop(dropout)]

    def logits(self, one_hot: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Map (B, 4, config.length) to (B, num_labels)."""
        hidden = self.tower(one_hot)
        for block in self.dilated:
            hidden = hidden + block(hidden)
        return self.score(masked_mean(self.last(hidden), keep[:, :: 2 ** (1 + len(TOWER))]))
