"""Stretches of contigs from BED and GFF files, all 0-based half-open."""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


class IntervalError(ValueError):
    """A line that is no interval; the message names file and line."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch of a contig, 0-based half-open: `Interval("chr1", 0, 3)` is its first three bases.

    Attributes:
        contig: name of the contig.
        start: first base.
        end: one past the last base, above `start`.
        strand: `+`, `-`, or `.` for neither.
        name: BED's name column, or GFF's feature type.
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


def read_intervals(path: str | Path) -> list[Interval]:
    """Read a BED or GFF file, told apart by its name: .bed, .gff, .gff3 or .gtf, and .gz or .bgz of each.

    Raises:
        IntervalError: another name, no such file, or a bad line, named by number.
    """
    path = Path(path)
    suffix = Path(path.name.removesuffix(".gz").removesuffix(".bgz")).suffix.lower()
    if suffix == ".bed":
        return read_bed(path)
    if suffix in (".gff", ".gff3", ".gtf"):
        return read_gff(path)
    raise IntervalError(f"{path}: cannot tell what this is; the name must end in .bed, .gff, .gff3 or .gtf (or + .gz)")


def read_bed(path: str | Path) -> list[Interval]:
    """Read a BED file: contig, start, end, and where given name and strand, parted by tabs or spaces."""
    found = []
    for number, line in _lines(Path(path)):
        if line.split(None, 1)[0] in ("track", "browser"):
            continue
        columns = line.split("\t") if "\t" in line else line.split()
        if len(columns) < 3:
            raise IntervalError(f"{path}:{number}: BED needs contig, start and end, got {line[:60]!r}")
        name = columns[3] if len(columns) > 3 else ""
        strand = columns[5] if len(columns) > 5 else "+"
        found.append(_interval(path, number, columns[0], columns[1], columns[2], strand or "+", name, 0))
    return found


def read_gff(path: str | Path) -> list[Interval]:
    """Read a GFF3 or GTF file; its 1-based closed coordinates become 0-based half-open, its type becomes the name."""
    found = []
    for number, line in _lines(Path(path)):
        if line.startswith(">"):
            break  # GFF3 may carry its FASTA after the features
        columns = line.split("\t")
        if len(columns) < 8:
            raise IntervalError(f"{path}:{number}: GFF has nine columns parted by tabs, got {line[:60]!r}")
        strand = columns[6] if columns[6] in "+-" else "."
        found.append(_interval(path, number, columns[0], columns[3], columns[4], strand, columns[2], 1))
    return found


def _interval(path, number: int, contig: str, start: str, end: str, strand: str, name: str, base: int) -> Interval:
    try:
        return Interval(contig, int(start) - base, int(end), strand, name)
    except ValueError as error:
        reason = str(error) if isinstance(error, IntervalError) else f"{start!r} and {end!r} must be whole numbers"
        raise IntervalError(f"{path}:{number}: {reason}") from None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield numbered lines that are neither empty nor comments; stop at GFF's `##FASTA`."""
    if not path.is_file():
        raise IntervalError(f"{path}: no such file")
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path, "rt") if packed else path.open() as file:
            for number, line in enumerate(file, 1):
                if line.startswith("##FASTA"):
                    return
                if line.strip() and not line.startswith("#"):
                    yield number, line.rstrip("\r\n")
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        raise IntervalError(f"{path}: could not be read: {error}") from error
