"""Values of a genome-wide track, such as conservation, at variants: bigWig, read by pyBigWig.

Source: the UCSC format, genome.ucsc.edu/goldenPath/help/bigWig.html.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from genolm.genome.chromosomes import canonical

_BIGWIG = (bytes.fromhex("26fc8f88"), bytes.fromhex("888ffc26"))


def track_values(path: str | Path, chrom: Iterable[str], start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Average a track over the bases of each interval.

    Args:
        path: a bigWig file.
        chrom: n names; chr1 matches 1, and MT matches chrM.
        start: shape (n,), 0-based.
        length: shape (n,), bases, 1 or more.

    Returns:
        Shape (n,), float64, the mean over those bases that have a value; NaN where none has.

    Raises:
        ValueError: no such file, another format, a damaged file, or pyBigWig is not installed.
    """
    means = np.full(len(start), np.nan)
    file = _open(Path(path))
    try:
        contigs = {canonical(name): (name, size) for name, size in file.chroms().items()}
        for row, name in enumerate(chrom):
            contig, size = contigs.get(canonical(name), ("", 0))
            first, last = max(int(start[row]), 0), min(int(start[row] + length[row]), size)
            if first < last:
                values = np.array(file.values(contig, first, last), dtype=np.float64)
                covered = values[~np.isnan(values)]
                means[row] = covered.mean() if len(covered) else np.nan
    except RuntimeError as error:
        raise ValueError(f"{path}: damaged bigWig ({error}); copy the file again") from None
    finally:
        file.close()
    return means


def _open(path: Path):
    """Open a bigWig, or say in one sentence why not."""
    if not path.is_file():
        raise ValueError(f"{path}: {'a folder, not a track' if path.is_dir() else 'no such file'}")
    with path.open("rb") as file:
        if file.read(4) not in _BIGWIG:
            raise ValueError(
                f"{path}: not a bigWig; convert a wig with UCSC's wigToBigWig, a bedGraph with bedGraphToBigWig"
            )
    try:
        import pyBigWig  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(f"{path}: pyBigWig is not installed; pip install 'genolm[bigwig]'") from None
    try:
        return pyBigWig.open(str(path))
    except RuntimeError:
        raise ValueError(f"{path}: damaged bigWig; copy the file again") from None
