"""How indels of one length score where nothing selects: drawn from the genome itself, so that lengths can be compared.

A longer indel loses or wins more nats than a shorter one, whatever it does. Its z-score says how it stands among indels
of the same kind and length at random places: deletions of what stands there, insertions of letters from elsewhere.
"""

from collections.abc import Iterable

import numpy as np

from genolm.genome.alphabet import BASE_INDEX, to_text
from genolm.genome.reference import Reference
from genolm.variants.alleles import Allele

TRIES = 1000


def draw(store: Reference, length: int, number: int, seed: int) -> list[Allele]:
    """Draw indels of one length.

    Args:
        store: the genome.
        length: above 0 of insertions, below 0 of deletions, in bases.
        number: how many; fewer where the genome has hardly a place for them.
        seed: of the places.
    """
    size = abs(length)
    random = np.random.default_rng([seed, size, int(length > 0)])
    room = np.maximum(store.lengths - size, 0).astype(np.float64)
    found: list[Allele] = []
    if not room.any():
        return found
    for _ in range(TRIES * number):
        contig, other = random.choice(len(room), 2, p=room / room.sum())
        start, there = (int(random.integers(0, int(room[c]) + 1)) for c in (contig, other))
        letters = store.fetch(*((other, there, there + size) if length > 0 else (contig, start, start + size)))
        if (BASE_INDEX[letters] < 4).all():
            bases = to_text(letters).upper()
            found.append(Allele(int(contig), start, "", bases) if length > 0 else Allele(int(contig), start, bases, ""))
            if len(found) == number:
                break
    return found


def z_scores(values: np.ndarray, lengths: np.ndarray, known: Iterable[tuple[int, float, float]]) -> np.ndarray:
    """Return (n,) z-scores, NaN for what is no indel or has no background.

    Args:
        values: (n,) scores.
        lengths: (n,) as `draw` counts them; 0 for what is no indel.
        known: length, mean and standard deviation of its background.
    """
    found = np.full(len(values), np.nan)
    for length, mean, deviation in known:
        rows = lengths == length
        found[rows] = (values[rows] - mean) / deviation if deviation > 0 else np.nan
    return found
