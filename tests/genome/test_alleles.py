"""Trimming of alleles."""

import pytest

from genolm.genome.alleles import trim


@pytest.mark.parametrize(
    ("ref", "alt", "trimmed"),
    [
        ("CAT", "CGT", (1, "A", "G")),
        ("ATTT", "AT", (1, "TT", "")),  # the end goes first, which is the left-most spelling
        ("A", "AA", (0, "", "A")),
        ("ACG", "ACG", (0, "", "")),
        ("AC", "GT", (0, "AC", "GT")),
    ],
)
def test_trimming_leaves_what_differs(ref, alt, trimmed):
    assert trim(ref, alt) == trimmed
