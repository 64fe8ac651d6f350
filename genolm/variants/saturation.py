"""Saturation mutagenesis: scores of every change of every base of a region, in a grid.

A grid of n bases has shape (n, 5): the score of A, C, G, T in place of the base, and of its deletion. NaN at the
reference base, and in the whole row where the reference is not A, C, G or T.

Cost, in rows of tokens a base and strand: 1 for a masked model with a token for each base, whose hidden base answers
for all three ALTs; 4 for a causal one; 1 more for a deletion, except in a repeat of one letter, where deletions are the
same.
"""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genolm.config.console import progress_bar
from genolm.genome.alphabet import BASE_INDEX, BASES
from genolm.genome.interval import CONTIG_END, parse_region, read_intervals
from genolm.genome.reference import Reference
from genolm.genome.regions import Regions
from genolm.variants.alleles import Allele, Contigs, left_shift
from genolm.variants.job import ScoringJob
from genolm.variants.likelihood import columns_of_estimators

PIECE = 128
"""Bases whose scores share a file."""
DELETION = 4
"""Column of the deletion in a grid."""


class Span(NamedTuple):
    """An interval of a reference, 0-based half-open; `contig` is the number of the contig."""

    contig: int
    start: int
    end: int


def locate_regions(
    store: Reference, contigs: Contigs, regions: Sequence[str] = (), path: Path | None = None
) -> list[Span]:
    """Locate regions in a reference.

    Args:
        store: the reference.
        contigs: its names.
        regions: `chrom:start-end`, 1-based, both ends in it, or a whole contig by its name.
        path: BED or GFF file of more.

    Returns:
        A span for each, those of the file last; one that was named before is left out.

    Raises:
        ValueError: no such file, a line or text that is no region, or one that is not in the genome.
    """
    names = [contig.name for contig in store.contigs]
    named = [(parse_region(text, names), f"--region {text}") for text in regions]
    if path is not None:
        named += [(interval, f"{path}: {interval.region} (1-based)") for interval in read_intervals(path)]
    if not named:
        raise ValueError(f"{path}: no regions in it" if path else "no region was given")
    spans = {}
    for region, where in named:
        number = contigs.number(region.contig)
        if number is None:
            there = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
            raise ValueError(f"{where}: the FASTA has no contig {region.contig!r}; it has {there}")
        length = int(store.lengths[number])
        end = length if region.end == CONTIG_END else region.end
        if not region.start < end <= length:
            raise ValueError(
                f"{where} ends beyond {names[number]}, which has {length:,} bp; is this the right assembly?"
            )
        spans[Span(number, region.start, end)] = None
    return list(spans)


def pieces_of(spans: Iterable[tuple[int, int, int]], size: int = PIECE) -> list[Span]:
    """Merge spans that touch or overlap, and cut them into pieces of at most `size` bases, in order."""
    tiles = Regions.from_rows(spans).tile(size).tolist()
    return [Span(contig, first, end) for contig, _, end, first in tiles]


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
    job: ScoringJob, pieces: list[Span], estimators: Sequence[str], substitutions: int = 3, deletions: bool = False
) -> float:
    """Score this process's pieces that have no results yet; wait for the other processes; return bases per second.

    Saved of each piece: grids of each column, of its strand differences, and of windows cut by a contig's end.

    Args:
        job: an opened job.
        pieces: of at most `PIECE` bases.
        estimators: see `genolm.variants.likelihood`.
        substitutions: see `changes_of`.
        deletions: see `changes_of`.
    """
    sizes = [piece.end - piece.start for piece in pieces]
    began, todo = time.perf_counter(), job.shards.num_left(sizes)
    mine = range(job.state.process_index, len(pieces), job.state.num_processes)
    left = [number for number in mine if not job.shards.path(number).is_file()]
    total = sum(sizes[number] for number in mine)
    done = total - sum(sizes[number] for number in left)
    hidden = not job.state.is_main_process or not left
    columns = columns_of_estimators(estimators)
    names = [*columns, *(f"{column}_strands" for column in columns), "cut"]
    # Few enough bases at a time that the bar moves, enough that batches are full.
    step = max(8, job.batch_size // 2)
    with progress_bar(total=total, initial=done, desc="scoring", unit="base", disable=hidden) as bar:
        for number in left:
            contig, start, end = pieces[number]
            grids = {name: np.full((end - start, 5), np.nan) for name in names}
            for first in range(start, end, step):
                span = Span(contig, first, min(first + step, end))
                alleles, at = changes_of(job.store, span, substitutions, deletions)
                scores = job.score(alleles, estimators)
                where = (at[:, 0] + first - start, at[:, 1])
                for column in columns:
                    grids[column][where] = scores.values[column]
                    grids[f"{column}_strands"][where] = scores.strand_difference[column]
                grids["cut"][where] = scores.cut
                bar.update(span.end - span.start)
            job.shards.save(number, grids)
    job.state.wait_for_everyone()
    return todo / max(time.perf_counter() - began, 1e-9)


def log_probabilities(llr: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return log p of A, C, G and T at each base, p ∝ exp(llr) with 0 for the base that is there.

    Args:
        llr: (n, 4 or more), the columns A, C, G, T of a grid.
        codes: (n,) 0 to 3 of A, C, G, T; 4 for any other letter.

    Returns:
        (n, 4) float64, nats; NaN where the reference is no base, or a score is missing.
    """
    logs = np.array(llr[:, :4], dtype=np.float64)
    is_base = np.flatnonzero(codes < 4)
    logs[is_base, codes[is_base]] = 0
    logs -= logs.max(1, keepdims=True)
    return logs - np.log(np.exp(logs).sum(1, keepdims=True))


def entropy(log_p: np.ndarray) -> np.ndarray:
    """Return the entropy of distributions in nats: (n, 4) log p → (n,)."""
    return -(np.exp(log_p) * log_p).sum(1)


def information(log_p: np.ndarray) -> np.ndarray:
    """Return heights of the letters of a sequence logo, in bits: (n, 4) log p → (n, 4), p · (2 − entropy)."""
    return np.exp(log_p) * (2 - entropy(log_p) / np.log(2))[:, None]
