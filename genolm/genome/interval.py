"""Intervals of contigs, 0-based half-open everywhere: from BED and GFF files, and typed as `chrom:start-end`."""

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from genolm.genome.sniff import first_bytes, read_lines

CONTIG_END = 1 << 60
"""`end` of an interval that reaches to the end of its contig, whose length is not known where it is typed."""

_REGION = re.compile(r"(.+?):([\d,]+)(-?)([\d,]*)")


class IntervalError(ValueError):
    """Coordinates or a strand that make no interval."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A part of a contig, 0-based half-open: `Interval("chr1", 0, 3)` is its first three bases, `chr1:1-3` typed.

    Attributes:
        contig: name of the contig.
        start: first base.
        end: one past the last base, above `start`; `CONTIG_END` for an interval to the end of the contig.
        strand: `+`, `-`, or `.` for neither.
        name: name column of a BED file, or feature type of a GFF file.
    """

    contig: str
    start: int
    end: int
    strand: str = "+"
    name: str = ""

    def __post_init__(self):
        if not 0 <= self.start < self.end:
            raise IntervalError(f"{self.contig}:{self.start}-{self.end} is no interval: 0 <= start < end must hold")
        if self.strand not in ("+", "-", "."):
            raise IntervalError(f"strand {self.strand!r} of {self.contig}:{self.start}-{self.end}; allowed: + - .")

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def region(self) -> str:
        """The interval as a user types it, 1-based and closed: `chr1:1-3`."""
        return f"{self.contig}:{self.start + 1}-{'' if self.end == CONTIG_END else self.end}"


def parse_region(region: str, contigs: Container[str] = ()) -> Interval:
    """Convert a region as a user types it, 1-based and closed, to an interval.

    `chr1:1-3` is `Interval("chr1", 0, 3)`; `chr1:5` one base; `chr1:5-` and `chr1` end at `CONTIG_END`.

    Args:
        region: the text; commas within numbers are ignored.
        contigs: names of contigs that may contain colons.

    Raises:
        ValueError: it has none of these forms, or start is below 1 or above end.
    """
    if region in contigs or ":" not in region:
        return Interval(region, 0, CONTIG_END)
    match = _REGION.fullmatch(region)
    if match is None or (match[4] and not match[3]):
        raise ValueError(f"region {region!r}; it must be chrom:start-end, 1-based, both ends included")
    start = int(match[2].replace(",", "") or 0)
    end = int(match[4].replace(",", "") or 0) if match[4] else (CONTIG_END if match[3] else start)
    if not 1 <= start <= end:
        raise ValueError(f"region {region!r}: 1 <= start <= end must hold")
    return Interval(match[1], start - 1, end)


def read_intervals(path: str | Path) -> list[Interval]:
    """Read a BED or GFF file, chosen by its name: .bed, .gff, .gff3 or .gtf, each also .gz or .bgz.

    Raises:
        ValueError: another name, no such file, or a bad line, named by number.
    """
    path = Path(path)
    suffix = Path(path.name.removesuffix(".gz").removesuffix(".bgz")).suffix.lower()
    if suffix == ".bed":
        return read_bed(path)
    if suffix in (".gff", ".gff3", ".gtf"):
        return read_gff(path)
    raise ValueError(f"{path}: unknown format; the name must end in .bed, .gff, .gff3 or .gtf (or + .gz)")


def read_bed(path: str | Path) -> list[Interval]:
    """Read a BED file: contig, start, end, and where present name and strand."""
    intervals = []
    for number, columns in bed_rows(path):
        name = columns[3] if len(columns) > 3 else ""
        strand = columns[5] if len(columns) > 5 else ""
        intervals.append(_interval(path, number, columns[0], columns[1], columns[2], strand or "+", name, 0))
    return intervals


def bed_rows(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and columns, three or more and all of them text, of every record of a BED file.

    Columns are separated by tabs, or by spaces in a line without tabs.

    Raises:
        ValueError: no such file, another format, or a line of fewer columns.
    """
    for number, line in _data_lines(Path(path)):
        columns = bed_columns(line)
        if 0 < len(columns) < 3:
            raise ValueError(f"{path}:{number}: BED needs contig, start and end, got {line[:60]!r}")
        if columns:
            yield number, columns


def bed_columns(line: str) -> list[str]:
    """Split a line of a BED file by tabs, or by spaces where it has none; no column of what is not a record."""
    if not line.strip() or line.startswith("#") or line.split(None, 1)[0] in ("track", "browser"):
        return []
    return line.split("\t") if "\t" in line else line.split()


def read_gff(path: str | Path) -> list[Interval]:
    """Read a GFF3 or GTF file, 1-based and closed, as intervals named by their feature type."""
    intervals = []
    for number, line in _data_lines(Path(path)):
        if line.startswith(">"):
            break  # GFF3 may carry its FASTA after the features, below a ##FASTA line
        columns = line.split("\t")
        if len(columns) < 8:
            raise ValueError(f"{path}:{number}: GFF has nine columns separated by tabs, got {line[:60]!r}")
        strand = columns[6] if columns[6] in ("+", "-") else "."
        intervals.append(_interval(path, number, columns[0], columns[3], columns[4], strand, columns[2], 1))
    return intervals


def _interval(path, number: int, contig: str, start: str, end: str, strand: str, name: str, base: int) -> Interval:
    try:
        return Interval(contig, int(start) - base, int(end), strand, name)
    except ValueError as error:
        reason = str(error) if isinstance(error, IntervalError) else f"{start!r} and {end!r} must be whole numbers"
        raise IntervalError(f"{path}:{number}: {reason}") from None


def _data_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield numbered lines that are neither blank nor comments."""
    first_bytes(path, "a BED or GFF file", accepted=("GFF",))
    for number, line in read_lines(path):
        if line.strip() and not line.startswith("#"):
            yield number, line
