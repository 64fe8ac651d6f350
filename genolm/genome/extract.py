"""Sequences out of FASTA files in one pass, without an index: of intervals, or of whole records.

Cost: that of reading the files once, see `fasta.py`; one contig is in memory at a time.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from genolm.genome.alphabet import clean_sequences, reverse_complement, to_text
from genolm.genome.fasta import read_contigs
from genolm.genome.interval import Interval

FASTA_SUFFIXES = tuple(f"{name}{packed}" for name in (".fa", ".fasta", ".fna") for packed in ("", ".gz", ".bgz"))


def extract_intervals(
    paths: Sequence[str | Path], intervals: Sequence[Interval], where: Callable[[int], str]
) -> list[str]:
    """Return the sequence of each interval, case kept; of strand `-` the reverse complement.

    Args:
        paths: FASTA files; a contig is read from the first that has it.
        intervals: n intervals, in any order, which may overlap.
        where: number of an interval → its name in messages, such as its file and line.

    Raises:
        ValueError: a file that cannot be read, a contig that is in none of them, or an interval that ends beyond its
            contig.
    """
    waiting: dict[str, list[int]] = {}
    for row, interval in enumerate(intervals):
        waiting.setdefault(interval.contig, []).append(row)
    sequences, names = [""] * len(intervals), []
    for path in paths:
        for name, contig, _ in read_contigs(path):
            names.append(name)
            for row in waiting.pop(name, ()):
                interval = intervals[row]
                if interval.end > len(contig):
                    raise ValueError(
                        f"{where(row)}: {name}:{interval.start}-{interval.end} (0-based, half-open) ends beyond "
                        f"{name}, which has {len(contig):,} bp in {path}; is this the right assembly?"
                    )
                bases = contig[interval.start : interval.end]
                sequences[row] = to_text(reverse_complement(bases) if interval.strand == "-" else bases)
    if waiting:
        contig, (row, *_) = next(iter(waiting.items()))
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        other = contig.removeprefix("chr") if contig.startswith("chr") else f"chr{contig}"
        hint = f"; there it is named {other!r}" if other in names else ""
        files = ", ".join(str(path) for path in paths)
        raise ValueError(f"{where(row)}: no contig {contig!r} in {files}, which has {shown}{hint}")
    return sequences


def read_records(path: str | Path) -> tuple[list[str], list[str], list[str]]:
    """Read all records of a FASTA file into memory.

    Returns:
        n names, unique; n sequences of upper-case A, C, G, T and N; n times file and line of the header.

    Raises:
        ValueError: a file that cannot be read, or a character that is no nucleotide, named by its line.
    """
    records = [(name, to_text(sequence), f"{path}:{line}") for name, sequence, line in read_contigs(path)]
    names, sequences, places = (list(column) for column in zip(*records, strict=True))
    return names, clean_sequences(sequences, lambda row: places[row])[0], places
