"""DanQ: convolution for motifs, a bidirectional LSTM for their grammar.

    conv 320 × 26, ReLU, pool 13, dropout 0.2 → BiLSTM 320 + 320, dropout 0.5 → flatten → 925, ReLU → linear

Made for 1,000 bp and 919 outputs. Rows are padded with zeros to `length`, and the LSTM reads those too, as the layer
after it has one weight for every position; short ones keep at least one position (`layers.py`). Weights are drawn
evenly from -0.05 to 0.05 and biases are 0, as published; torch's LSTM has a second bias, 4 × 320 a direction.

Source: Quang & Xie 2016, doi:10.1093/nar/gkw226; layers as DanQ_train.py of github.com/uci-cbcl/DanQ.
"""

import torch
from torch import nn
from transformers import initialization as init

from genolm.models.baseline_configuration import BaselineConfig
from genolm.models.baselines.baseline import Baseline
from genolm.models.baselines.layers import Conv, Pool, positions


class DanQ(Baseline):
    """Options: `kernel` and `pool` of the convolution."""

    OPTIONS = {"kernel": 26, "pool": 13}

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        wide, dense = self.wide(320), self.wide(925)
        self.convolution = nn.Sequential(
            Conv(4, wide, self.options["kernel"]), nn.ReLU(), Pool(self.options["pool"]), self.drop(0.2)
        )
        self.lstm = nn.LSTM(wide, wide, batch_first=True, bidirectional=True)
        size = 2 * wide * positions(self.convolution, config.length)
        self.dense = nn.Sequential(self.drop(0.5), nn.Linear(size, dense), nn.ReLU(), nn.Linear(dense, self.num_labels))
        self.post_init()

    def logits(self, one_hot: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Map (B, 4, config.length) to (B, num_labels)."""
        hidden, _ = self.lstm(self.convolution(one_hot).transpose(1, 2))
        return self.dense(hidden.flatten(1))

    def draw(self, layer: nn.Linear | nn.Conv1d | nn.RNNBase) -> None:
        """Draw as published."""
        for name, parameter in layer.named_parameters(recurse=False):
            init.zeros_(parameter) if "bias" in name else init.uniform_(parameter, -0.05, 0.05)
