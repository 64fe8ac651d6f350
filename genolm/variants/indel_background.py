"""Background of indels: random ones of the same length, so that scores of different lengths can be compared.

The magnitude of an LLR grows with the length of an indel. A z-score compares an indel with random ones of its kind and
length at random places: deletions of the bases there, insertions of bases from elsewhere in the genome.
"""

from collections.abc import Iterable

import numpy as np

from genolm.genome.alphabet import BASE_INDEX, to_text
from genolm.genome.reference import Reference
from genolm.variants.alleles import Allele

TRIES = 1000


def draw_indels(store: Reference, length: int, number: int, seed: int) -> list[Allele]:
    """Draw random indels of one length.

    Args:
        store: the genome.
        length: above 0 of insertions, below 0 of deletions, in bases.
        number: of indels; fewer where the genome has hardly a place for them.
        seed: of the places.
    """
    size = abs(length)
    random = np.random.default_rng([seed, size, int(length > 0)])
    room = np.maximum(store.lengths - size, 0).astype(np.float64)
    indels: list[Allele] = []
    if not room.any():
        return indels
    for _ in range(TRIES * number):
        contig, other = random.choice(len(room), 2, p=room / room.sum())
        start, there = (int(random.integers(0, int(room[c]) + 1)) for c in (contig, other))
        sequence = store.fetch(*((other, there, there + size) if length > 0 else (contig, start, start + size)))
        if (BASE_INDEX[sequence] < 4).all():
            bases = to_text(sequence).upper()
            ref, alt = ("", bases) if length > 0 else (bases, "")
            indels.append(Allele(int(contig), start, ref, alt))
            if len(indels) == number:
                break
    return indels


def z_scores(values: np.ndarray, lengths: np.ndarray, backgrounds: Iterable[tuple[int, float, float]]) -> np.ndarray:
    """Return z-scores, shape (n,); NaN for substitutions and lengths without a background.

    Args:
        values: scores, shape (n,).
        lengths: signed lengths, shape (n,), as in `draw_indels`; 0 for a substitution.
        backgrounds: length, mean and standard deviation of each background.
    """
    scores = np.full(len(values), np.nan)
    for length, mean, deviation in backgrounds:
        rows = lengths == length
        scores[rows] = (values[rows] - mean) / deviation if deviation > 0 else np.nan
    return scores
