"""DeepBind: motif detectors, the best match of each, and a small network.

    16 convolutions over 24 bases → ReLU → maximum over the row → 32, ReLU, dropout 0.5 → linear

Motifs may hang over the ends by 23 bases, as published; there those read zeros, not the published 0.25. The published
calibration tries no hidden layer, other dropout rates and, for RNA, means as well as maxima: not here. Any length does,
and padding is left out. Weights are drawn as torch does by default.

Source: Alipanahi et al. 2015, doi:10.1038/nbt.3300, with the sizes of its supplement for DNA.
"""

import torch
import torch.nn.functional as F
from torch import nn

from genolm.models.baseline_configuration import BaselineConfig
from genolm.models.baselines.baseline import Baseline
from genolm.models.baselines.layers import Convolution, masked_max


class DeepBind(Baseline):
    """Options: `kernel`, bases that a motif detector sees."""

    OPTIONS = {"kernel": 24}
    ONE_LENGTH = False

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        self.overhang = self.options["kernel"] - 1
        self.detect = Convolution(4, self.wide(16), self.options["kernel"], padding=self.overhang)
        self.hidden = nn.Linear(self.wide(16), self.wide(32))
        self.dropout = self.drop(0.5)
        self.score = nn.Linear(self.wide(32), self.num_labels)
        self.post_init()

    def logits(self, one_hot: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Map (B, 4, L) to (B, num_labels)."""
        best = masked_max(F.relu(self.detect(one_hot)), F.pad(keep, (self.overhang, 0), value=True))
        return self.score(self.dropout(F.relu(self.hidden(best))))
