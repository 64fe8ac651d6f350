import itertools
import math

import pytest
import torch

from genolm.models.baselines.kmers import kmer_features, num_kmers


def one_hot(rows):
    """(B, 4, L) of strings; anything but A, C, G, T is zeros."""
    return torch.stack([torch.tensor([[float(a == b) for b in row] for a in "ACGT"]) for row in rows])


def by_hand(row, k):
    words = [row[i : i + k] for i in range(len(row) - k + 1)]
    words = [word for word in words if set(word) <= set("ACGT")]
    expected = len(words) / 4**k
    scale = math.sqrt(max(expected * (1 - 4.0**-k), 1e-6))
    return [(words.count("".join(word)) - expected) / scale for word in itertools.product("ACGT", repeat=k)]


@pytest.mark.parametrize(("k_min", "k_max"), [(1, 1), (1, 3), (2, 4), (3, 3)])
def test_counts_by_hand(k_min, k_max):
    rows = ["ACGTACGTTTGA", "AAAAAAAAAAAA", "ACGNNACGTACG", "NNNNNNNNNNNN", "ACNNNNNNNNNN", "NACGTACGTACN"]
    found = kmer_features(one_hot(rows), k_min, k_max)
    assert found.shape == (6, num_kmers(k_min, k_max))
    for row, features in zip(rows, found, strict=True):
        assert features.tolist() == pytest.approx(sum((by_hand(row, k) for k in range(k_min, k_max + 1)), []), abs=1e-5)


def test_a_row_shorter_than_a_word_has_none():
    found = kmer_features(one_hot(["AC"]), 1, 4)
    assert found[0, 4 + 16 :].eq(0).all()
    assert found[0, 4 : 4 + 16].any()


def test_random_bases_have_mean_0_and_deviation_1():
    torch.manual_seed(0)
    rows = torch.nn.functional.one_hot(torch.randint(4, (4000, 150)), 4).transpose(1, 2).float()
    found = kmer_features(rows, 1, 3)
    assert found.mean(0).abs().max() < 0.1
    assert found[:, 4:].std(0).mean().item() == pytest.approx(1, abs=0.05)
