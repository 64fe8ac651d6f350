"""One value per base of a genome → bigWig, bedGraph or wiggle.

Runs come sorted by name of the contig, byte by byte, and by base, as UCSC's tools ask. A bigWig also names every contig
of the genome with its length. What is not known is left out, never written as 0.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SUFFIXES = {".bw": "bigwig", ".bigwig": "bigwig", ".bedgraph": "bedgraph", ".bdg": "bedgraph", ".wig": "wig"}


class Run(NamedTuple):
    """Values of neighbouring bases: name of the contig, first base (0-based), and (n,) values, all finite."""

    chrom: str
    start: int
    values: np.ndarray


def runs_of(chrom: str, start: int, values: np.ndarray) -> Iterator[Run]:
    """Cut values, NaN where there is none, into runs without gaps."""
    known = np.flatnonzero(np.isfinite(values))
    for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
        if len(run):
            yield Run(chrom, start + int(run[0]), values[run[0] : run[-1] + 1])


def check_track(path: Path) -> str:
    """Return the format that a name asks for.

    Raises:
        ValueError: another ending, or a bigWig where pyBigWig is not installed.
    """
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"--out {path}: its name must end in .bw, .bigwig, .bedgraph, .bdg or .wig")
    if kind == "bigwig":
        _bigwig()
    return kind


def write_track(path: Path, lengths: Mapping[str, int], runs: Iterable[Run]) -> int:
    """Write a track, whole or not at all.

    Args:
        path: .bw or .bigwig, .bedgraph or .bdg, .wig.
        lengths: name of a contig → bases; all of the genome.
        runs: sorted by name and base, none overlapping.

    Returns:
        How many bases have a value.

    Raises:
        ValueError: see `check_track`.
    """
    kind = check_track(path)
    aside = path.with_name(f"{path.name}.partial")
    opened = _bigwig_writer if kind == "bigwig" else _text_writer
    number = 0
    with opened(aside, lengths, kind) as put:
        for run in runs:
            put(run)
            number += len(run.values)
    aside.replace(path)
    return number


@contextmanager
def _text_writer(path: Path, lengths: Mapping[str, int], kind: str):
    # What a run goes on from is its last end: neighbouring runs share one wiggle line.
    after: tuple[str, int] | None = None

    def put(run: Run) -> None:
        nonlocal after
        words = [f"{value:.6g}" for value in run.values.tolist()]
        if kind == "bedgraph":
            file.writelines(
                f"{run.chrom}\t{place}\t{place + 1}\t{word}\n" for place, word in enumerate(words, run.start)
            )
            return
        if after != (run.chrom, run.start):
            file.write(f"fixedStep chrom={run.chrom} start={run.start + 1} step=1\n")
        file.writelines(f"{word}\n" for word in words)
        after = run.chrom, run.start + len(words)

    with path.open("w") as file:
        yield put


@contextmanager
def _bigwig_writer(path: Path, lengths: Mapping[str, int], kind: str):
    file = _bigwig().open(str(path), "w")
    try:
        file.addHeader([(name, lengths[name]) for name in sorted(lengths, key=str.encode)])

        def put(run: Run) -> None:
            file.addEntries(run.chrom, run.start, values=run.values.astype(np.float64).tolist(), span=1, step=1)

        yield put
    finally:
        file.close()


def _bigwig() -> Any:
    try:
        import pyBigWig
    except ImportError:
        raise ValueError(
            "a bigWig is written by pyBigWig, which is not installed: pip install 'genolm[bigwig]', or let the name of "
            "--out end in .bedgraph or .wig"
        ) from None
    return pyBigWig
