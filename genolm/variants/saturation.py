"""Every change of every base of a region: alleles, their scores in a grid, and what they say of each base.

A grid of n bases is (n, 5): the score of A, C, G, T in place of the base, and of its deletion. NaN stands at the base
that is there, and all along where the reference is not A, C, G or T.

Cost, in rows of tokens a base and strand: 1 for a masked model with a token for each base, whose hidden base answers
for all three ALTs; 4 for a causal one; 1 more for a deletion, except in a repeat of one letter, where deletions are the
same.
"""

import sys
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from genolm.genome.alphabet import BASE_INDEX, BASES
from genolm.genome.reference import Reference
from genolm.variants.alleles import Allele, left_shift
from genolm.variants.likelihood import columns_of, score_alleles
from genolm.variants.regions import Span
from genolm.variants.result_shards import Parts

PIECE = 128
"""Bases whose scores share a file."""
DELETION = 4
"""Column of the deletion in a grid."""


def changes_of(
    store: Reference, span: Span, substitutions: int = 3, deletions: bool = False
) -> tuple[list[Allele], np.ndarray]:
    """List the changes of single bases.

    Args:
        store: the genome.
        span: n bases of it.
        substitutions: how many of the three others of each base, in the order A C G T.
        deletions: also those; one in a repeat of a letter is moved to its start, as `genolm score` does.

    Returns:
        m alleles, and (m, 2) int64: base of the span, and column of a grid.
    """
    codes = BASE_INDEX[store.fetch(*span)].tolist()
    alleles, at = [], []
    start = 0
    for place, code in enumerate(codes):
        if code == 4:
            continue
        ref = chr(BASES[code])
        others = [other for other in range(4) if other != code][:substitutions]
        for other in others:
            alleles.append(Allele(span.contig, span.start + place, ref, chr(BASES[other])))
            at.append((place, other))
        if deletions:
            if place == 0 or codes[place - 1] != code:
                first = span.start + place
                start = first - left_shift(store, span.contig, first, ref)
            alleles.append(Allele(span.contig, start, ref, ""))
            at.append((place, DELETION))
    return alleles, np.array(at, dtype=np.int64).reshape(-1, 2)


def score_pieces(
    parts: Parts,
    pieces: list[Span],
    store: Reference,
    model: Any,
    encoder: Any,
    *,
    substitutions: int = 3,
    deletions: bool = False,
    shared: tuple[int, int] = (0, 1),
    show: bool = True,
    **options: Any,
) -> None:
    """Score what is left of pieces, each kept as it comes: grids of each column, of its strands, and of windows cut.

    Args:
        parts: where they are kept.
        pieces: of at most `PIECE` bases.
        store: the genome.
        model: see `likelihood.score_alleles`.
        encoder: letters → ids.
        substitutions: see `changes_of`.
        deletions: see `changes_of`.
        shared: number of this process, and how many share the work.
        show: a bar.
        options: of `likelihood.score_alleles`.
    """
    mine = range(shared[0], len(pieces), shared[1])
    left = [number for number in mine if not parts.path(number).is_file()]
    total = sum(pieces[number].end - pieces[number].start for number in mine)
    undone = sum(pieces[number].end - pieces[number].start for number in left)
    bar = tqdm(
        total=total,
        initial=total - undone,
        desc="scoring",
        unit="base",
        disable=not show or not left,
        mininterval=0.5 if sys.stderr.isatty() else 30,
    )
    # Few enough bases at a time that the bar moves, enough that batches are full.
    step = max(8, options.get("batch_size", 32) // 2)
    with bar:
        for number in left:
            contig, start, end = pieces[number]
            columns = columns_of(options["estimators"])
            names = [*columns, *(f"{column}_strands" for column in columns), "cut"]
            grids = {name: np.full((end - start, 5), np.nan) for name in names}
            for first in range(start, end, step):
                span = Span(contig, first, min(first + step, end))
                alleles, at = changes_of(store, span, substitutions, deletions)
                found = score_alleles(model, encoder, store, alleles, **options)
                where = (at[:, 0] + first - start, at[:, 1])
                for column in columns:
                    grids[column][where] = found.values[column]
                    grids[f"{column}_strands"][where] = found.strand_difference[column]
                grids["cut"][where] = found.cut
                bar.update(span.end - span.start)
            parts.save(number, grids)


def log_probabilities(llr: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return log p of A, C, G and T at each base, p ∝ exp(llr) with 0 for the base that is there.

    Args:
        llr: (n, 4 or more), the columns A, C, G, T of a grid.
        codes: (n,) 0 to 3 of A, C, G, T; 4 for any other letter.

    Returns:
        (n, 4) float64, nats; NaN where the reference is no base, or a score is missing.
    """
    logs = np.array(llr[:, :4], dtype=np.float64)
    known = np.flatnonzero(codes < 4)
    logs[known, codes[known]] = 0
    logs -= logs.max(1, keepdims=True)
    return logs - np.log(np.exp(logs).sum(1, keepdims=True))


def entropy(log_p: np.ndarray) -> np.ndarray:
    """Return the entropy of distributions in nats: (n, 4) log p → (n,)."""
    return -(np.exp(log_p) * log_p).sum(1)


def information(log_p: np.ndarray) -> np.ndarray:
    """Return heights of the letters of a sequence logo, in bits: (n, 4) log p → (n, 4), p · (2 − entropy)."""
    return np.exp(log_p) * (2 - entropy(log_p) / np.log(2))[:, None]
