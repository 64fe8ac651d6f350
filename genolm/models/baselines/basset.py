"""Basset: three normalised convolutions and two dense layers.

    conv 300 × 19, norm, ReLU, pool 3 → conv 200 × 11, norm, ReLU, pool 4 → conv 200 × 7, norm, ReLU, pool 4 → flatten
    → 1000, norm, ReLU, dropout 0.3 → 1000, norm, ReLU, dropout 0.3 → linear

Made for 600 bp and 164 outputs. Rows are padded with zeros to `length`; short ones keep at least one position
(`layers.py`). Weights are drawn as torch does by default.

Source: Kelley, Snoek & Rinn 2016, doi:10.1101/gr.200535.115; layers as its pretrained model in Kipoi, kipoi.org.
"""

import torch
from torch import nn

from genolm.models.baseline_configuration import BaselineConfig
from genolm.models.baselines.baseline import Baseline
from genolm.models.baselines.layers import BatchNorm, Conv, Pool, positions


class Basset(Baseline):
    """Options: `first_kernel`, bases that the first convolution sees."""

    OPTIONS = {"first_kernel": 19}

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        layers: list[nn.Module] = []
        size = 4
        for channels, kernel, pool in ((300, self.options["first_kernel"], 3), (200, 11, 4), (200, 7, 4)):
            wide = self.wide(channels)
            layers += [Conv(size, wide, kernel), BatchNorm(wide), nn.ReLU(), Pool(pool)]
            size = wide
        self.convolutions = nn.Sequential(*layers)
        size *= positions(layers, config.length)
        dense: list[nn.Module] = []
        for units in (self.wide(1000), self.wide(1000)):
            dense += [nn.Linear(size, units), BatchNorm(units), nn.ReLU(), self.drop(0.3)]
            size = units
        self.dense = nn.Sequential(*dense, nn.Linear(size, self.num_labels))
        self.post_init()

    def logits(self, one_hot: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Map (B, 4, config.length) to (B, num_labels)."""
        return self.dense(self.convolutions(one_hot).flatten(1))
