"""Read FASTA, plain, gzip or bgzip, from a path or a URL, as a stream of blocks that never holds a whole contig.

Cost: one `bytes.translate` for each block, about 1 GB/s plain; decompression dominates the rest. Memory: a few blocks.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genolm.genome.alphabet import IUPAC, POLICY, REFUSED, clean_sequences, reverse_complement, to_text
from genolm.genome.interval import Interval
from genolm.genome.sniff import BOM, BROKEN, check_file, first_bytes, is_truncated_bgzip, open_decompressed

FASTA_SUFFIXES = tuple(f"{name}{packed}" for name in (".fa", ".fasta", ".fna") for packed in ("", ".gz", ".bgz"))

_SPACE = b"\n \t\v\f"
_TABLE = POLICY.tobytes()
_LONGEST_HEADER = 1 << 20
_ADVICE = {"2bit": "convert it with twoBitToFa"}
_ADVICE |= dict.fromkeys(("FASTQ", "SAM", "BAM", "CRAM", "GenBank", "EMBL"), "convert it to FASTA")
_HINTS = {
    b"EFIJLOPQZ*efijlopqz": "this looks like protein",
    b"0123456789": "these may be line numbers of GenBank, or qualities; keep the letters alone",
    b">": "a '>' inside a line: a line end is missing before it, or a space stands there",
    b";": "a comment, which FASTA no longer has; remove it",
    b"@+": "this looks like FASTQ; convert it to FASTA",
    b"\0": "zero bytes: a damaged file, or UTF-16 text",
}


@dataclass(frozen=True, slots=True)
class Block:
    """A part of one record.

    Attributes:
        name: the header up to its first space.
        letters: (n,) uint8, bases as stored (see `genolm.genome.alphabet`); empty for the block that opens a record.
        opens: True for the first block of a record.
        counts: (256,) int64, characters as they are in the file.
        line: line of the record's header, 1-based.
    """

    name: str
    letters: np.ndarray
    opens: bool
    counts: np.ndarray
    line: int


class FastaRecord(NamedTuple):
    """One record: its name, sequence (uint8, shape (length,), as stored), and the line of its header, 1-based."""

    name: str
    sequence: np.ndarray
    line: int


def local_path(source: str | Path, sha256: str | None = None, progress: bool = True) -> Path:
    """Return a local path: the source itself, or a URL's download, checked and cached.

    Downloads are kept in the folder that GENOLM_CACHE names, by default in the user's cache.

    Raises:
        ValueError: the file is absent, a URL has no sha256, or the download fails or does not match it.
    """
    if "://" not in str(source):
        try:
            path = Path(source).expanduser()
        except RuntimeError:
            raise ValueError(f"{source}: no such file; nobody of that name has a home folder here") from None
        check_file(path, "FASTA file")
        return path
    if sha256 is None:
        raise ValueError(f"{source}: a URL needs its sha256 in data.sha256, so that every run trains on the same bytes")
    import pooch

    folder = os.environ.get("GENOLM_CACHE") or pooch.os_cache("genolm")
    try:
        path = pooch.retrieve(
            str(source), known_hash=f"sha256:{sha256}", path=folder, fname=_cache_name(str(source), sha256),
            progressbar=progress,
        )  # fmt: skip
    except Exception as error:
        raise ValueError(f"{source}: could not be downloaded: {error}") from error
    return Path(path)


def _cache_name(url: str, sha256: str) -> str:
    """Return the file name of a download: its hash, and the name in the URL for its suffix."""
    return f"{sha256[:16]}-{url.split('?')[0].rstrip('/').rsplit('/', 1)[-1]}"


def _chunks(path: Path, block_bytes: int) -> Iterator[bytes]:
    """Yield the decompressed text with every line end a newline; a final one is added if missing."""
    check_file(path, "FASTA file")
    carriage_return, last = b"", b""
    try:
        if is_truncated_bgzip(path):
            raise ValueError(f"{path}: bgzip without its end-of-file block; the file is truncated, copy it again")
        if not first_bytes(path, "a FASTA file", ("FASTA",), _ADVICE):
            raise ValueError(f"{path}: the file is empty")
        with open_decompressed(path) as file:
            if file.read(len(BOM)) != BOM:
                file.seek(0)
            while read := file.read(block_bytes):
                data = carriage_return + read
                # A carriage return at the end may be half of a line end.
                carriage_return = b"\r" if data.endswith(b"\r") else b""
                data = data.removesuffix(b"\r")
                if b"\r" in data:
                    data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
                if data:
                    last = data[-1:]
                    yield data
    except BROKEN as error:
        raise ValueError(f"{path}: broken or truncated gzip ({error}); copy or download the file again") from error
    except OSError as error:
        raise ValueError(f"{path}: could not be read: {error}") from error
    if last not in (b"", b"\n") or carriage_return:
        yield b"\n"


def read_fasta(path: str | Path, block_bytes: int = 1 << 20, rename: bool = False) -> Iterator[Block]:
    """Stream the records of a FASTA file.

    Args:
        path: plain, gzip or bgzip, recognised by content.
        block_bytes: bytes read at a time.
        rename: give the second record named `x` the name `x#2`, and so on, instead of refusing it.

    Yields:
        For each record an opening block without bases, then its sequence in blocks.

    Raises:
        ValueError: anything that would lose or invent a base: text before the first `>`, a record without sequence
            or a printable name, a repeated name, a character that is no IUPAC nucleotide, a truncated archive.
    """
    path = Path(path)
    none = np.zeros(0, dtype=np.uint8), np.zeros(256, dtype=np.int64)
    seen: dict[str, int] = {}
    copies: dict[str, int] | None = {} if rename else None
    name, header_line, line, length = None, 0, 1, 0
    at_line_start, pending = True, b""
    for chunk in _chunks(path, block_bytes):
        data, pending = pending + chunk, b""
        at = 0
        while at < len(data):
            if at_line_start and data[at : at + 1] == b">":
                stop = data.find(b"\n", at)
                if (len(data) if stop < 0 else stop) - at > _LONGEST_HEADER:
                    raise ValueError(f"{path}:{line}: a header of over {_LONGEST_HEADER:,} bytes; are line ends lost?")
                if stop < 0:
                    pending = data[at:]  # the header goes on in the next chunk
                    break
                _check_filled(path, name, header_line, length)
                name, header_line, length = _header(path, data[at + 1 : stop], line, seen, copies), line, 0
                line, at = line + 1, stop + 1
                yield Block(name, *none[:1], True, none[1], header_line)
                continue
            stop = data.find(b"\n>", at)
            piece = data[at:] if stop < 0 else data[at : stop + 1]
            if name is None:
                if piece.strip():
                    raise _not_fasta(path, piece, line)
            else:
                block = _letters(path, name, header_line, piece, line)
                length += len(block.letters)
                if len(block.letters):
                    yield block
            line += piece.count(b"\n")
            at += len(piece)
            at_line_start = piece.endswith(b"\n")
    if name is None:
        raise ValueError(f"{path}:1: no record; a FASTA record starts with a line '>name'")
    _check_filled(path, name, header_line, length)


def read_contigs(path: str | Path, rename: bool = False) -> Iterator[FastaRecord]:
    """Read a FASTA file record by record, one sequence in memory at a time; arguments and errors as `read_fasta`."""
    name, line, parts = "", 0, []
    for block in read_fasta(path, rename=rename):
        if block.opens:
            if parts:
                yield FastaRecord(name, np.concatenate(parts), line)
            name, line, parts = block.name, block.line, []
        else:
            parts.append(block.letters)
    yield FastaRecord(name, np.concatenate(parts), line)


def _check_filled(path: Path, name: str | None, line: int, length: int) -> None:
    if name is not None and not length:
        raise ValueError(
            f"{path}:{line}: record {name!r} has no sequence; the file may be cut off, or remove the record"
        )


def _header(path: Path, text: bytes, line: int, seen: dict[str, int], copies: dict[str, int] | None) -> str:
    """Return a record's name; refuse an empty one, refuse or number a repeated one."""
    words = text.split(maxsplit=1)
    if not words or text[:1].isspace():
        raise ValueError(f"{path}:{line}: a header without a name; write '>name' with no space between")
    try:
        name = words[0].decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}:{line}: the name {words[0]!r} is not UTF-8 text") from None
    if not name.isprintable():
        raise ValueError(f"{path}:{line}: the name {name!a} holds what cannot be printed; the file may be damaged")
    if name in seen and copies is not None:
        first, copy = name, copies.get(name, 2)
        while f"{first}#{copy}" in seen:
            copy += 1
        name, copies[first] = f"{first}#{copy}", copy + 1
    if name in seen:
        raise ValueError(
            f"{path}:{line}: record {name!r} is already on line {seen[name]}; names must differ "
            "(--rename-duplicates or data.rename_duplicates=true numbers them)"
        )
    seen[name] = line
    return name


def _not_fasta(path: Path, piece: bytes, line: int) -> ValueError:
    before = len(piece) - len(piece.lstrip())
    line += piece.count(b"\n", 0, before)
    start = piece[piece.rfind(b"\n", 0, before) + 1 :].split(b"\n")[0][:40]
    hint = "remove the lines that start with ';'" if start.startswith(b";") else "is this a FASTA file?"
    return ValueError(f"{path}:{line}: expected '>name', got {start!r}; {hint}")


def _letters(path: Path, name: str, header_line: int, piece: bytes, line: int) -> Block:
    """Apply the letter policy to whole or part lines of one record."""
    codes = piece.translate(None, _SPACE)
    kept = codes.translate(_TABLE)
    if REFUSED in kept:
        position = kept.index(REFUSED)
        raise _bad_letter(path, name, piece, line, codes[position : position + 1])
    counts = np.bincount(np.frombuffer(codes, dtype=np.uint8), minlength=256)
    return Block(name, np.frombuffer(kept, dtype=np.uint8), False, counts, header_line)


def _bad_letter(path: Path, name: str, piece: bytes, line: int, letter: bytes) -> ValueError:
    line += piece.count(b"\n", 0, piece.index(letter))
    hint = next((hint for marks, hint in _HINTS.items() if letter in marks), "the file may be damaged or not FASTA")
    return ValueError(
        f"{path}:{line}: {repr(letter)[1:]} in record {name!r} is no nucleotide; allowed are "
        f"{IUPAC.decode()}, U, X, '-' and '.' in either case; {hint}"
    )


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
