"""Logistic regression on k-mer counts.

    counts of k-mers, k = 1 … 6 → linear

One strand, as read; each count in standard deviations from even composition (`kmer_features`), so that one learning
rate fits all k and lengths. It ignores where in the sequence a k-mer lies. `k_min: 6` counts 6-mers alone, as
kmer-SVM does (Lee, Karchin & Beer 2011, doi:10.1101/gr.121905.111). Regularise it by weight decay.

Weights start at 0. Padding and k-mers with N are not counted. There are no channels for `width` to multiply.

Source: as the logistic regression in Quang & Xie 2016, doi:10.1093/nar/gkw226, of k = 1 … 5.
"""

import torch
from torch import nn
from transformers import initialization as init

from genolm.models.baseline_configuration import BaselineConfig
from genolm.models.baselines.baseline import Baseline
from genolm.models.baselines.kmers import kmer_features, num_kmers


class KmerLogistic(Baseline):
    """Options: `k_min` and `k_max`, the shortest and the longest k-mer."""

    OPTIONS = {"k_min": 1, "k_max": 6}
    ONE_LENGTH = False

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        if config.width != 1:
            raise ValueError(f"width is {config.width}; kmer-logistic has no channels to multiply: leave width out")
        self.score = nn.Linear(num_kmers(self.options["k_min"], self.options["k_max"]), self.num_labels)
        self.post_init()

    def logits(self, one_hot: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Map (B, 4, L) to (B, num_labels)."""
        return self.score(kmer_features(one_hot, self.options["k_min"], self.options["k_max"]))

    def draw(self, layer: nn.Linear | nn.Conv1d | nn.RNNBase) -> None:
        """Set weights and biases to 0."""
        init.zeros_(layer.weight)  # type: ignore[arg-type]
        init.zeros_(layer.bias)  # type: ignore[arg-type]
