"""A bidirectional GRU over embedded k-mers, KEGRU-like.

    k-mer around each base → 64 → BiGRU 64 + 64 → maximum over the row, dropout 0.2 → linear
    per base: the same without the maximum

KEGRU embeds k-mers by word2vec on unlabelled sequences; here a linear map of the k bases is learned with the rest,
and the maximum over the row replaces the last state. Sizes are chosen. Any
length does, and neither GRU nor maximum sees padding. Weights are drawn as torch does by default.

Source: Shen, Bao & Huang 2018, doi:10.1038/s41598-018-33321-1; the unit: Cho et al. 2014, arXiv:1406.1078.
"""

import torch
from torch import nn

from genolm.models.baseline_configuration import BaselineConfig
from genolm.models.baselines.baseline import Baseline
from genolm.models.baselines.layers import Convolution, run_recurrent


class GRU(Baseline):
    """Options: `k`, bases of a k-mer, odd; `num_layers` of the GRU."""

    OPTIONS = {"k": 5, "num_layers": 1}
    CAN_PER_BASE = True
    ONE_LENGTH = False

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        k, units = self.odd("k"), self.wide(64)
        self.embed = Convolution(4, units, k, padding=k // 2)
        self.gru = nn.GRU(units, units, self.options["num_layers"], batch_first=True, bidirectional=True)
        self.dropout = self.drop(0.2)
        self.score = nn.Linear(2 * units, self.num_labels)
        self.post_init()

    def logits(self, one_hot: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Map (B, 4, L) to (B, num_labels), or per base to (B, num_labels, L)."""
        states = run_recurrent(self.gru, self.embed(one_hot).transpose(1, 2), keep)
        if self.config.per_base:
            return self.score(self.dropout(states)).transpose(1, 2)
        # States lie above -1, so that padding, moved to -1, is never the maximum.
        best = states.masked_fill(~keep.unsqueeze(-1), -1.0).amax(1)
        return self.score(self.dropout(best))
