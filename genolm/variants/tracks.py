"""One value per base of a genome to bigWig or bedGraph.

Runs come sorted by name of the contig, byte by byte, and by base, as UCSC's tools ask. A bigWig also names every contig
of the genome with its length. Bases without a value are left out, never written as 0.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genolm.config.files import atomic_path
from genolm.genome.alphabet import BASE_INDEX
from genolm.variants.job import ScoringJob
from genolm.variants.saturation import Span, entropy, log_probabilities

SUFFIXES = {".bw": "bigwig", ".bigwig": "bigwig", ".bedgraph": "bedgraph", ".bdg": "bedgraph"}


class TrackRun(NamedTuple):
    """Values of neighbouring bases: name of the contig, first base (0-based), and (n,) values, all finite."""

    chrom: str
    start: int
    values: np.ndarray


def runs_of(chrom: str, start: int, values: np.ndarray) -> Iterator[TrackRun]:
    """Cut values, NaN where there is none, into runs without gaps."""
    finite = np.flatnonzero(np.isfinite(values))
    for run in np.split(finite, np.flatnonzero(np.diff(finite) > 1) + 1):
        if len(run):
            yield TrackRun(chrom, start + int(run[0]), values[run[0] : run[-1] + 1])


def track_runs(job: ScoringJob, pieces: Sequence[Span], estimator: str, value: str) -> Iterator[TrackRun]:
    """Yield the values of scored pieces, sorted by contig and base.

    Args:
        job: its shards hold the grids of the pieces, see `saturation`.
        pieces: spans of the reference.
        estimator: column of the grids.
        value: "entropy" in nats, or "max_llr", the greatest LLR of a change.
    """
    names = [contig.name for contig in job.store.contigs]
    for number in sorted(range(len(pieces)), key=lambda i: (names[pieces[i].contig].encode(), pieces[i].start)):
        piece, grid = pieces[number], job.shards.load(number)[estimator][:, :4]
        scored = np.isfinite(grid)
        if value == "max_llr":
            values = np.where(scored.any(1), np.where(scored, grid, -np.inf).max(1), np.nan)
        elif estimator == "entropy":
            values = np.where(scored.any(1), np.nansum(grid, axis=1), np.nan)
        else:
            values = entropy(log_probabilities(grid, BASE_INDEX[job.store.fetch(*piece)]))
        yield from runs_of(names[piece.contig], piece.start, values)


def check_track(path: Path) -> str:
    """Return the format of a file by its name.

    Raises:
        ValueError: another ending, or a bigWig where pyBigWig is not installed.
    """
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"--out {path}: its name must end in .bw, .bigwig, .bedgraph or .bdg")
    if kind == "bigwig":
        _bigwig()
    return kind


def write_track(path: Path, lengths: Mapping[str, int], runs: Iterable[TrackRun]) -> int:
    """Write a track, whole or not at all.

    Args:
        path: .bw or .bigwig, .bedgraph or .bdg.
        lengths: name of a contig → bases; all of the genome.
        runs: sorted by name and base, none overlapping.

    Returns:
        The number of bases with a value.

    Raises:
        ValueError: see `check_track`.
    """
    bigwig, number = check_track(path) == "bigwig", 0
    with atomic_path(path) as aside:
        opened: Any = _bigwig().open(str(aside), "w") if bigwig else aside.open("w")
        with closing(opened) as file:
            if bigwig:
                file.addHeader([(name, lengths[name]) for name in sorted(lengths, key=str.encode)])
            for chrom, start, values in runs:
                if bigwig:
                    file.addEntries(chrom, start, values=values.astype(np.float64).tolist(), span=1, step=1)
                else:
                    words = (f"{value:.6g}" for value in values.tolist())
                    file.writelines(f"{chrom}\t{at}\t{at + 1}\t{word}\n" for at, word in enumerate(words, start))
                number += len(values)
    return number


def _bigwig() -> Any:
    try:
        import pyBigWig
    except ImportError:
        raise ValueError(
            "a bigWig is written by pyBigWig, which is not installed: pip install 'genolm[bigwig]', or let the name of "
            "--out end in .bedgraph"
        ) from None
    return pyBigWig
