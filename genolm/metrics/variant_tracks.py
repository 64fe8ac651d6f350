"""Values of a genome-wide track at a few places: wig, bedGraph, plain or gzip, and bigWig.

    fixedStep chrom=chrM start=1 step=1        wig: 1-based, a value a line
    variableStep chrom=chr1 span=5             wig: 1-based position and value a line
    chr1  99  104  0.25                        bedGraph: 0-based, half-open

Text is streamed once, some four million lines a second, and only the values that were asked for are kept. A place with
two values keeps the later one. bigWig is read by pyBigWig, where that is installed.

Source: the UCSC formats, genome.ucsc.edu/goldenPath/help/wiggle.html and bedgraph.html.
"""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from genolm.genome.chromosomes import canonical

_BIGWIG = (bytes.fromhex("26fc8f88"), bytes.fromhex("888ffc26"))
_LINES_AT_ONCE = 1 << 17
_SKIPPED = (b"#", b"track", b"browser")


def track_name(path: str | Path) -> str:
    """Return what a track is called in a table: its file without .gz and the suffix of its kind."""
    name = Path(path).name.removesuffix(".gz")
    return name.rsplit(".", 1)[0] or name


def track_values(path: str | Path, chrom: Iterable[str], start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Average a track over the bases of each interval.

    Args:
        path: wig, bedGraph or bigWig, told apart by content.
        chrom: n names; chr1 finds 1, and MT finds chrM.
        start: shape (n,), 0-based.
        length: shape (n,), bases, 1 or more.

    Returns:
        Shape (n,), float64, the mean over those bases that have a value; NaN where none has.

    Raises:
        ValueError: naming file and line: no such file, another format, a line that cannot be read, or a bigWig without
            pyBigWig.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: {'a folder, not a track' if path.is_dir() else 'no such file'}")
    names = np.array([canonical(name) for name in chrom], dtype=object)
    row = np.repeat(np.arange(len(start)), length)
    place = np.repeat(start - np.append(0, np.cumsum(length)[:-1]), length) + np.arange(len(row))
    with path.open("rb") as file:
        magic = file.read(4)
    wanted = {name: np.unique(place[names[row] == name]) for name in dict.fromkeys(names)}
    held = {name: np.full(len(places), np.nan) for name, places in wanted.items()}
    if magic in _BIGWIG:
        _read_bigwig(path, wanted, held)
    else:
        for name, first, step, span, values in _spans(path, magic[:2] == b"\x1f\x8b"):
            key = canonical(name)
            if key in wanted:
                _fill(wanted[key], held[key], first, step, span, values)
    found = np.full(len(row), np.nan)
    for name, places in wanted.items():
        here = names[row] == name
        found[here] = held[name][np.searchsorted(places, place[here])]
    known = ~np.isnan(found)
    total = np.bincount(row[known], weights=found[known], minlength=len(start))
    count = np.bincount(row[known], minlength=len(start))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _fill(
    places: np.ndarray, held: np.ndarray, first: np.ndarray, step: int, span: np.ndarray, values: np.ndarray
) -> None:
    """Write the values whose spans [first, first + span) hold a place; step is 0 where first is an array of starts."""
    if step and step >= span[0]:  # a ladder of equal steps: the rung of a place is a division
        low, high = np.searchsorted(places, [first[0], first[0] + step * len(values)])
        offset = places[low:high] - first[0]
        inside = offset % step < span[0]
        held[low:high][inside] = values[offset[inside] // step]
        return
    if step:
        first, span = first[0] + step * np.arange(len(values)), np.full(len(values), span[0])
    low, high = np.searchsorted(places, first), np.searchsorted(places, first + span)
    for k in np.flatnonzero(high > low):
        held[low[k] : high[k]] = values[k]


def _spans(path: Path, is_gzip: bool) -> Iterator[tuple[str, np.ndarray, int, np.ndarray, np.ndarray]]:
    """Yield chrom, 0-based starts, step, spans and values: of fixedStep one start and one span, else one a value."""
    declared: dict[str, str] = {}
    kind, first, number, block_line = "", 0, 0, 1
    block: list[bytes] = []

    def flush() -> Iterator[tuple[str, np.ndarray, int, np.ndarray, np.ndarray]]:
        nonlocal first, block
        if block:
            yield from _parsed(path, kind, declared, first, block, block_line)
            if kind == "fixedStep":
                first += _whole(path, block_line, declared, "step", 1) * len(block)
        block = []

    try:
        with gzip.open(path) if is_gzip else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                # Values are by far the most lines: one look at the first byte tells them from all others.
                if line[0] in b"0123456789-+." and kind in ("fixedStep", "variableStep"):
                    if not block:
                        block_line = number
                    block.append(line)
                    if len(block) >= _LINES_AT_ONCE:
                        yield from flush()
                    continue
                words = line.split()
                if not words or words[0].startswith(_SKIPPED):
                    yield from flush()  # lines of a block follow one another, so that errors can number them
                    continue
                word = words[0].decode(errors="replace")
                if word in ("fixedStep", "variableStep"):
                    yield from flush()
                    kind, declared = word, _declared(path, number, words[1:])
                    first = _whole(path, number, declared, "start", None) - 1 if word == "fixedStep" else 0
                    continue
                if len(words) != 4 or (kind not in ("", "bedGraph")):
                    raise ValueError(
                        f"{path}:{number}: {line[:40].decode(errors='replace').strip()!r} is neither wig nor bedGraph; "
                        "give such a track, plain or gzip, or a bigWig"
                    )
                kind = "bedGraph"
                if not block:
                    block_line = number
                block.append(line)
                if len(block) >= _LINES_AT_ONCE:
                    yield from flush()
            yield from flush()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}:{number}: broken or truncated gzip ({error}); copy the file again") from None
    if not kind:
        raise ValueError(f"{path}: holds no track; wig, bedGraph or bigWig is needed")


def _declared(path: Path, line: int, words: list[bytes]) -> dict[str, str]:
    pairs = [word.decode(errors="replace").partition("=") for word in words]
    found = {key: value for key, sign, value in pairs if sign}
    if "chrom" not in found:
        raise ValueError(f"{path}:{line}: the declaration names no chrom=")
    return found


def _whole(path: Path, line: int, declared: dict[str, str], key: str, default: int | None) -> int:
    text = declared.get(key, default)
    try:
        value = int(text)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        value = 0
    if value < 1:
        raise ValueError(f"{path}:{line}: {key} is {text!r}; allowed: whole numbers from 1")
    return value


def _parsed(
    path: Path, kind: str, declared: dict[str, str], first: int, block: list[bytes], line: int
) -> Iterator[tuple[str, np.ndarray, int, np.ndarray, np.ndarray]]:
    if kind == "bedGraph":
        rows = [text.split() for text in block]
        numbers = _table(path, line, [b" ".join(row[1:]) for row in rows], 3)
        names = np.array([row[0] for row in rows])
        for name in np.unique(names):
            start, end, values = numbers[names == name].T
            if (end <= start).any():
                at = line + int(np.flatnonzero(names == name)[np.argmax(end <= start)])
                raise ValueError(f"{path}:{at}: the end is not behind the start; bedGraph is 0-based and half-open")
            yield name.decode(errors="replace"), start.astype(np.int64), 0, (end - start).astype(np.int64), values
        return
    span = _whole(path, line, declared, "span", 1)
    if kind == "fixedStep":
        step = _whole(path, line, declared, "step", 1)
        values = _table(path, line, block, 1)[:, 0]
        yield declared["chrom"], np.array([first]), step, np.array([span]), values
    else:
        start, values = _table(path, line, block, 2).T
        yield declared["chrom"], start.astype(np.int64) - 1, 0, np.full(len(values), span), values


def _table(path: Path, line: int, block: list[bytes], width: int) -> np.ndarray:
    """Return lines of `width` numbers as (n, width)."""
    try:
        if width == 1:
            return np.array(block, dtype=np.float64)[:, None]
        return np.array(b" ".join(block).split(), dtype=np.float64).reshape(len(block), width)
    except ValueError:
        for number, text in enumerate(block, line):
            try:
                if len([float(word) for word in text.split()]) == width:
                    continue
            except ValueError:
                pass
            got = text.decode(errors="replace").strip()
            due = "a number" if width == 1 else f"{width} numbers"
            raise ValueError(f"{path}:{number}: got {got!r} where {due} should be") from None
        raise


def _read_bigwig(path: Path, wanted: dict[str, np.ndarray], held: dict[str, np.ndarray]) -> None:
    try:
        import pyBigWig  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(
            f"{path}: a bigWig is read by pyBigWig, which is not installed: pip install pyBigWig"
        ) from None
    try:
        file = pyBigWig.open(str(path))
    except RuntimeError:
        raise ValueError(f"{path}: not a bigWig, or damaged; copy the file again") from None
    lengths = file.chroms()
    for name, places in wanted.items():
        for key in (key for key in lengths if canonical(key) == name):
            inside = places[(places >= 0) & (places < lengths[key])]
            breaks = np.flatnonzero(np.diff(inside) > 1) + 1
            runs = [run for run in np.split(inside, breaks) if len(run)]
            values = [file.values(key, int(run[0]), int(run[-1]) + 1) for run in runs]
            if values:
                held[name][np.searchsorted(places, inside)] = np.concatenate(values)
    file.close()
