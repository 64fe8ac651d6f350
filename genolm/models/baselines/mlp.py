"""A multilayer perceptron, DECRES-like.

    features → 256 → 64 → 16 → linear, tanh between

DECRES reads measurements of a region, such as histone marks. Here the features are k-mer counts (`features: kmers`),
which ignore positions as those do, or one-hot bases (`features: one-hot`), for rows that are aligned, such as those
around a methylated base or a transcription start.

Padding and k-mers with N are not counted; one-hot padding is zeros. Weights are drawn as torch does by default.

Source: Li, Shi & Wasserman 2018, doi:10.1186/s12859-018-2187-1; layers as main_mlp_new.py of
github.com/yifeng-li/DECRES.
"""

import torch
from torch import nn

from genolm.models.baseline_configuration import BaselineConfig
from genolm.models.baselines.baseline import Baseline
from genolm.models.baselines.kmers import kmer_features, num_kmers


class MLP(Baseline):
    """Options: `features`, and of k-mers `k_min` and `k_max`, the shortest and the longest k-mer."""

    OPTIONS = {"features": ("kmers", "one-hot"), "k_min": 1, "k_max": 6}

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        kmers = self.options["features"] == "kmers"
        size = num_kmers(self.options["k_min"], self.options["k_max"]) if kmers else 4 * config.length
        layers: list[nn.Module] = []
        for units in (self.wide(256), self.wide(64), self.wide(16)):
            layers += [nn.Linear(size, units), nn.Tanh(), self.drop(0.0)]
            size = units
        self.layers = nn.Sequential(*layers, nn.Linear(size, self.num_labels))
        self.post_init()

    def logits(self, one_hot: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Map (B, 4, config.length) to (B, num_labels)."""
        if self.options["features"] == "kmers":
            return self.layers(kmer_features(one_hot, self.options["k_min"], self.options["k_max"]))
        return self.layers(one_hot.flatten(1))
