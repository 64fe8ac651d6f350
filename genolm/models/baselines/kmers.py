"""K-mer counts of a row, on one scale for all k and lengths."""

import torch
import torch.nn.functional as F


def kmer_features(one_hot: torch.Tensor, k_min: int, k_max: int) -> torch.Tensor:
    """Count k-mers of one strand, each in standard deviations from its expectation under even base composition.

    A k-mer over anything but A, C, G, T is not counted. Of n counted k-mers, each of the 4^k is expected n / 4^k times
    with variance n / 4^k · (1 - 4^-k) for even, independent bases, neglecting overlaps.

    Args:
        one_hot: (B, 4, L).
        k_min: the shortest.
        k_max: the longest.

    Returns:
        (B, 4^k_min + … + 4^k_max), k rising, and of each k in alphabetic order; 0 for a k of which a row has none.
    """
    number, real = one_hot.argmax(1), one_hot.sum(1) > 0
    features = []
    for k in range(k_min, k_max + 1):
        num_windows = number.shape[1] - k + 1
        counts = one_hot.new_zeros(number.shape[0], 4**k + 1, dtype=torch.float32)
        if num_windows > 0:
            kmer = sum(number[:, i : i + num_windows] * 4 ** (k - 1 - i) for i in range(k))
            whole = F.max_pool1d((~real).float(), k, 1) == 0 if k > 1 else real
            kmer = torch.where(whole, kmer, 4**k)  # what is not to be counted goes to a column that is cut off
            counts.scatter_add_(1, kmer, torch.ones_like(kmer, dtype=torch.float32))
        counts = counts[:, :-1]
        expected = counts.sum(1, keepdim=True) / 4**k
        features.append((counts - expected) / (expected * (1 - 4.0**-k)).clamp(min=1e-6).sqrt())
    return torch.cat(features, 1).to(one_hot.dtype)


def num_kmers(k_min: int, k_max: int) -> int:
    """Return the width of `kmer_features`.

    Raises:
        ValueError: no k lies between them, or the longest has more than 4^10 words.
    """
    if not 1 <= k_min <= k_max <= 10:
        raise ValueError(f"k_min is {k_min} and k_max {k_max}; 1 <= k_min <= k_max <= 10 must hold")
    return sum(4**k for k in range(k_min, k_max + 1))
