"""Regions that a user names → stretches of contigs in a store."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from genolm.genome.interval import CONTIG_END, Interval, parse_region, read_intervals
from genolm.genome.reference import Reference
from genolm.variants.alleles import Contigs


class Span(NamedTuple):
    """A stretch of a contig of a store, 0-based half-open; `contig` is its number."""

    contig: int
    start: int
    end: int


def spans_of(store: Reference, contigs: Contigs, regions: Sequence[str] = (), path: Path | None = None) -> list[Span]:
    """Find regions in a genome.

    Args:
        store: the genome.
        contigs: its names.
        regions: `chrom:start-end`, 1-based, both ends in it, or a whole contig by its name.
        path: BED or GFF file of more.

    Returns:
        A span for each, those of the file last; one that was named before is left out.

    Raises:
        ValueError: no such file, a line or text that is no region, or one that is not in the genome.
    """
    names = [contig.name for contig in store.contigs]
    found = [_located(store, contigs, parse_region(text, names), f"--region {text}") for text in regions]
    for interval in read_intervals(path) if path else ():
        found.append(_located(store, contigs, interval, f"{path}: {interval.region} (1-based)"))
    if not found:
        raise ValueError(f"{path}: no regions in it" if path else "no region was given")
    return list(dict.fromkeys(found))


def _located(store: Reference, contigs: Contigs, region: Interval, where: str) -> Span:
    number = contigs.number(region.contig)
    if number is None:
        names = ", ".join(contig.name for contig in store.contigs[:5]) + (", …" if len(store.contigs) > 5 else "")
        raise ValueError(f"{where}: the FASTA has no contig {region.contig!r}; it has {names}")
    length = int(store.lengths[number])
    end = length if region.end == CONTIG_END else region.end
    if not region.start < end <= length:
        raise ValueError(
            f"{where} ends beyond {store.contigs[number].name}, which has {length:,} bp; is this the right assembly?"
        )
    return Span(number, region.start, end)


def merged(spans: Sequence[Span]) -> list[Span]:
    """Return spans that hold the same bases, each once, in the order of contigs and bases."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and found[-1].contig == span.contig and span.start <= found[-1].end:
            found[-1] = found[-1]._replace(end=max(found[-1].end, span.end))
        else:
            found.append(span)
    return found


def pieces_of(spans: Sequence[Span], size: int) -> Iterator[Span]:
    """Cut spans into pieces of at most so many bases."""
    for contig, start, end in spans:
        for first in range(start, end, size):
            yield Span(contig, first, min(first + size, end))
