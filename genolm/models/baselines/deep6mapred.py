"""Deep6mAPred: convolutions parallel to a bidirectional LSTM, and attention over both.

    (conv 64 × 7, ReLU → conv 64 × 7, ReLU) ∥ BiLSTM 32 + 32 → attention over the row → 64, ReLU, dropout 0.5 → linear

Made for 41 bp around a possibly methylated adenine. The parallel branches and the attention after them
are as published; the sizes are behind a paywall, and these are chosen. Any length does; LSTM and attention see no
padding, and the convolutions read zeros there as beyond any end. Weights are drawn as torch does by default.

Source: Tang et al. 2022, "Deep6mAPred: a CNN and Bi-LSTM-based deep learning method for predicting DNA
N6-methyladenosine sites across plant species", doi:10.1016/j.ymeth.2022.04.011; attention as Bahdanau et al. 2015,
arXiv:1409.0473.
"""

import torch
import torch.nn.functional as F
from torch import nn

from genolm.models.baseline_configuration import BaselineConfig
from genolm.models.baselines.baseline import Baseline
from genolm.models.baselines.layers import Convolution, run_recurrent


class Deep6mAPred(Baseline):
    """Options: `kernel` of both convolutions, odd."""

    OPTIONS = {"kernel": 7}
    ONE_LENGTH = False

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        kernel, channels, units = self.odd("kernel"), self.wide(64), self.wide(32)
        self.first = Convolution(4, channels, kernel, padding=kernel // 2)
        self.second = Convolution(channels, channels, kernel, padding=kernel // 2)
        self.lstm = nn.LSTM(4, units, batch_first=True, bidirectional=True)
        self.look = nn.Linear(channels + 2 * units, self.wide(64))
        self.weigh = nn.Linear(self.wide(64), 1, bias=False)
        self.hidden = nn.Linear(channels + 2 * units, self.wide(64))
        self.dropout = self.drop(0.5)
        self.score = nn.Linear(self.wide(64), self.num_labels)
        self.post_init()

    def logits(self, one_hot: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Map (B, 4, L) to (B, num_labels)."""
        near = F.relu(self.first(one_hot)) * keep.unsqueeze(1)  # zeros again, which the second convolution reads
        near = F.relu(self.second(near)).transpose(1, 2)
        features = torch.cat([near, run_recurrent(self.lstm, one_hot.transpose(1, 2), keep)], -1)
        weights = self.weigh(torch.tanh(self.look(features))).squeeze(-1)
        weights = weights.masked_fill(~keep, torch.finfo(weights.dtype).min).softmax(-1)
        pooled = (weights.unsqueeze(-1) * features).sum(1)
        return self.score(self.dropout(F.relu(self.hidden(pooled))))
