"""A residual CNN, DeepCpG's `ResNet01`: seven bottleneck units in four stages.

    conv 128 × 11, norm, ReLU, pool 2 → 2 units 32 ∣ 128 → 2 units 64 ∣ 256 → 2 units 128 ∣ 512 → 1 unit 256 ∣ 1024
    → mean over the row, dropout 0 → linear
    unit: norm, ReLU, conv 1 → norm, ReLU, conv 3 → norm, ReLU, conv 1, + input

The first unit of a stage takes every second position, so that a position of the last stands for 32 bases. Per base, no
position is left out: what would have been skipped is stepped over by dilated convolutions of the same weights, at 32
times the cost of the last stage. All convolutions keep the length. Rows are padded with zeros to `length`, and
positions of padding alone are left out of the mean. Weights are Glorot's and biases 0, as in Keras.

Source: Angermueller et al. 2017, doi:10.1186/s13059-017-1189-z, deepcpg/models/dna.py of
github.com/cangermueller/deepcpg; the unit: He et al. 2016, arXiv:1603.05027. ExPecto's CNN for the same purpose, Zhou
et al. 2018, doi:10.1038/s41588-018-0160-6, is DeepSEA's with twice the layers and no shortcuts.
"""

import torch
from torch import nn

from genolm.models.baseline_configuration import BaselineConfig
from genolm.models.baselines.baseline import Baseline
from genolm.models.baselines.layers import BatchNorm, Convolution, Pool, draw_glorot, masked_mean

STAGES = ((32, 128, 2), (64, 256, 2), (128, 512, 2), (256, 1024, 1))


class Unit(nn.Module):
    """A bottleneck and a shortcut, which in the first unit of a stage is a map; (B, C, P) to (B, D, ⌈P / stride⌉)."""

    def __init__(self, channels: int, inner: int, out: int, first: bool, stride: int, dilation: int):
        super().__init__()
        self.residual = nn.Sequential(
            *(BatchNorm(channels), nn.ReLU(), Convolution(channels, inner, 1, stride)),
            *(BatchNorm(inner), nn.ReLU(), Convolution(inner, inner, 3, padding=dilation, dilation=dilation)),
            *(BatchNorm(inner), nn.ReLU(), Convolution(inner, out, 1)),
        )
        self.shortcut = Convolution(channels, out, 1, stride) if first else nn.Identity()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map (B, C, P)."""
        return self.shortcut(hidden) + self.residual(hidden)


class ResNet(Baseline):
    """Options: `kernel`, bases that the first convolution sees, odd."""

    OPTIONS = {"kernel": 11}
    CAN_PER_BASE = True

    def draw(self, layer: nn.Linear | nn.Conv1d | nn.RNNBase) -> None:
        """Draw the weights of a layer as the published code does."""
        draw_glorot(layer)

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        kernel, channels = self.odd("kernel"), self.wide(128)
        layers = [Convolution(4, channels, kernel, padding=kernel // 2), BatchNorm(channels), nn.ReLU()]
        layers += [] if config.per_base else [Pool(2)]
        self.bases = 2  # of a position
        for inner, out, units in STAGES:
            for unit in range(units):
                self.bases *= 2 if unit == 0 else 1
                stride = 2 if unit == 0 and not config.per_base else 1
                dilation = self.bases if config.per_base else 1
                layers.append(Unit(channels, self.wide(inner), self.wide(out), unit == 0, stride, dilation))
                channels = self.wide(out)
        self.layers = nn.Sequential(*layers)
        self.dropout = self.drop(0.0)
        self.score = nn.Linear(channels, self.num_labels)
        self.post_init()

    def logits(self, one_hot: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Map (B, 4, config.length) to (B, num_labels), or per base to (B, num_labels, config.length)."""
        hidden = self.layers(one_hot)
        if self.config.per_base:
            return self.score(self.dropout(hidden.transpose(1, 2))).transpose(1, 2)
        return self.score(self.dropout(masked_mean(hidden, keep[:, :: self.bases])))
