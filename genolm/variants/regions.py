"""Regions that a user names, located in a reference."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from genolm.genome.interval import CONTIG_END, Interval, parse_region, read_intervals
from genolm.genome.reference import Reference
from genolm.variants.alleles import Contigs


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
    spans = [_located(store, contigs, parse_region(text, names), f"--region {text}") for text in regions]
    for interval in read_intervals(path) if path else ():
        spans.append(_located(store, contigs, interval, f"{path}: {interval.region} (1-based)"))
    if not spans:
        raise ValueError(f"{path}: no regions in it" if path else "no region was given")
    return list(dict.fromkeys(spans))


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


def merge_spans(spans: Sequence[Span]) -> list[Span]:
    """Merge spans that touch or overlap; sorted by contig and start."""
    merged: list[Span] = []
    for span in sorted(spans):
        if merged and merged[-1].contig == span.contig and span.start <= merged[-1].end:
            merged[-1] = merged[-1]._replace(end=max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged


def pieces_of(spans: Sequence[Span], size: int) -> Iterator[Span]:
    """Cut spans into pieces of at most `size` bases."""
    for contig, start, end in spans:
        for first in range(start, end, size):
            yield Span(contig, first, min(first + size, end))
