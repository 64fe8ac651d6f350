"""DeepCpG's DNA module, the recommended `CnnL2h128`.

    conv 128 × 11, ReLU, pool 4 → conv 256 × 3, ReLU, pool 2 → flatten → 128, ReLU, dropout 0 → linear

Made for 1,001 bp around a CpG; the other module, which reads methylation of neighbouring sites in the same cells, has
no part here. Rows are padded with zeros to `length`; short ones keep at least one position (`layers.py`). Weights are
Glorot's and biases 0, as in Keras.

Source: Angermueller et al. 2017, doi:10.1186/s13059-017-1189-z; layers as its documentation and
deepcpg/models/dna.py of github.com/cangermueller/deepcpg.
"""

import torch
from torch import nn

from genolm.models.baseline_configuration import BaselineConfig
from genolm.models.baselines.baseline import Baseline
from genolm.models.baselines.layers import Conv, Pool, draw_glorot, positions


class DeepCpG(Baseline):
    """Options: `kernel`, bases that the first convolution sees."""

    OPTIONS = {"kernel": 11}

    def draw(self, layer: nn.Linear | nn.Conv1d | nn.RNNBase) -> None:
        """Draw the weights of a layer as the published code does."""
        draw_glorot(layer)

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        one, two, dense = self.wide(128), self.wide(256), self.wide(128)
        self.convolutions = nn.Sequential(
            *(Conv(4, one, self.options["kernel"]), nn.ReLU(), Pool(4, floor=True)),
            *(Conv(one, two, 3), nn.ReLU(), Pool(2, floor=True)),
        )
        size = two * positions(self.convolutions, config.length)
        self.dense = nn.Sequential(nn.Linear(size, dense), nn.ReLU(), self.drop(0.0), nn.Linear(dense, self.num_labels))
        self.post_init()

    def logits(self, one_hot: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Map (B, 4, config.length) to (B, num_labels)."""
        return self.dense(self.convolutions(one_hot).flatten(1))
