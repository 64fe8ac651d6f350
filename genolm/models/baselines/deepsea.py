"""DeepSEA: three convolutions that count.

    conv 320 × 8, ReLU, pool 4, dropout 0.2 → conv 480 × 8, ReLU, pool 4, dropout 0.2 → conv 960 × 8, ReLU, dropout 0.5
    → flatten → 925, ReLU → linear

Made for 1,000 bp and 919 outputs. Rows are padded with zeros to `length`; short ones keep at least one position
(`layers.py`). Weights are drawn as torch does by default.

Source: Zhou & Troyanskaya 2015, doi:10.1038/nmeth.3547, with the layers of its supplementary note.
"""

import torch
from torch import nn

from genolm.models.baseline_configuration import BaselineConfig
from genolm.models.baselines.baseline import Baseline
from genolm.models.baselines.layers import Conv, Pool, positions


class DeepSEA(Baseline):
    """Options: `kernel` and `pool`, of all convolutions."""

    OPTIONS = {"kernel": 8, "pool": 4}

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        one, two, three, dense = (self.wide(units) for units in (320, 480, 960, 925))
        kernel, pool = self.options["kernel"], self.options["pool"]
        self.convolutions = nn.Sequential(
            *(Conv(4, one, kernel), nn.ReLU(), Pool(pool, floor=True), self.drop(0.2)),
            *(Conv(one, two, kernel), nn.ReLU(), Pool(pool, floor=True), self.drop(0.2)),
            *(Conv(two, three, kernel), nn.ReLU(), self.drop(0.5)),
        )
        size = three * positions(self.convolutions, config.length)
        self.dense = nn.Sequential(nn.Linear(size, dense), nn.ReLU(), nn.Linear(dense, self.num_labels))
        self.post_init()

    def logits(self, one_hot: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Map (B, 4, config.length) to (B, num_labels)."""
        return self.dense(self.convolutions(one_hot).flatten(1))
