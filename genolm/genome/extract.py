"""Letters of intervals, read from FASTA files in one pass: a whole contig is in memory, never a genome.

No index is needed, and none is written beside the file. Cost: that of reading the files once, see `fasta.py`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from genolm.genome.alphabet import reverse_complement, to_text
from genolm.genome.fasta import read_fasta
from genolm.genome.interval import Interval


def extract(paths: Sequence[str | Path], intervals: Sequence[Interval], where: Callable[[int], str]) -> list[str]:
    """Return the letters of intervals, case kept; of strand `-` the reverse complement.

    Args:
        paths: FASTA files; the first that has a contig is taken for it.
        intervals: n intervals, in any order, which may overlap.
        where: number of an interval → what messages call it, such as its file and line.

    Returns:
        n texts.

    Raises:
        ValueError: a file that cannot be read, a contig that is in none of them, or an interval that ends beyond its
            contig.
    """
    waiting: dict[str, list[int]] = {}
    for row, interval in enumerate(intervals):
        waiting.setdefault(interval.contig, []).append(row)
    found, names = [""] * len(intervals), []
    for path in paths:
        name, held = "", []
        for block in read_fasta(path):
            if block.opens:
                _cut(path, held, intervals, waiting.pop(name, ()), found, where)
                name, held = block.name, []
                names.append(name)
            elif name in waiting:
                held.append(block.letters)
        _cut(path, held, intervals, waiting.pop(name, ()), found, where)
    if waiting:
        contig, (row, *_) = next(iter(waiting.items()))
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        other = contig.removeprefix("chr") if contig.startswith("chr") else f"chr{contig}"
        hint = f"; there it is named {other!r}" if other in names else ""
        files = ", ".join(str(path) for path in paths)
        raise ValueError(f"{where(row)}: no contig {contig!r} in {files}, which has {shown}{hint}")
    return found


def _cut(path: str | Path, held: list[np.ndarray], intervals, rows: Sequence[int], found: list[str], where) -> None:
    """Cut the intervals of a contig out of its letters."""
    contig = np.concatenate(held) if rows else np.zeros(0, dtype=np.uint8)
    for row in rows:
        interval = intervals[row]
        if interval.end > len(contig):
            raise ValueError(
                f"{where(row)}: {interval.contig}:{interval.start}-{interval.end} (0-based, half-open) ends beyond "
                f"{interval.contig}, which has {len(contig):,} bp in {path}; is this the right assembly?"
            )
        letters = contig[interval.start : interval.end]
        found[row] = to_text(reverse_complement(letters) if interval.strand == "-" else letters)
