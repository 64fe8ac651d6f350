"""DeepSite: a bidirectional LSTM over the bases, then convolution.

    BiLSTM 64 + 64 → conv 128 × 15, ReLU → maximum over the row → 64, ReLU, dropout 0.5 → linear
    per base: BiLSTM 64 + 64 → conv 128 × 15, ReLU, dropout 0.5 → linear at every base

The order of the layers is as published; their sizes are behind a paywall, and these are chosen. Any length does, and
neither LSTM nor maximum sees padding. Weights are drawn as torch does by default.

Source: Zhang, Shen & Huang 2020, "DeepSite: bidirectional LSTM and CNN models for predicting DNA-protein binding",
doi:10.1007/s13042-019-00990-x.
"""

import torch
import torch.nn.functional as F
from torch import nn

from genolm.models.baseline_configuration import BaselineConfig
from genolm.models.baselines.baseline import Baseline
from genolm.models.baselines.layers import Convolution, masked_max, run_recurrent


class DeepSite(Baseline):
    """Options: `kernel`, positions that the convolution sees, odd."""

    OPTIONS = {"kernel": 15}
    CAN_PER_BASE = True
    ONE_LENGTH = False

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        kernel, channels = self.odd("kernel"), self.wide(128)
        self.lstm = nn.LSTM(4, self.wide(64), batch_first=True, bidirectional=True)
        self.convolution = Convolution(2 * self.wide(64), channels, kernel, padding=kernel // 2)
        self.hidden = None if config.per_base else nn.Linear(channels, self.wide(64))
        self.dropout = self.drop(0.5)
        self.score = nn.Linear(channels if config.per_base else self.wide(64), self.num_labels)
        self.post_init()

    def logits(self, one_hot: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Map (B, 4, L) to (B, num_labels), or per base to (B, num_labels, L)."""
        states = run_recurrent(self.lstm, one_hot.transpose(1, 2), keep)
        features = F.relu(self.convolution(states.transpose(1, 2)))
        if self.hidden is None:
            return self.score(self.dropout(features.transpose(1, 2))).transpose(1, 2)
        return self.score(self.dropout(F.relu(self.hidden(masked_max(features, keep)))))
