"""Recognise file formats by content, and read text that may be plain, gzip or bgzip.

Memory: one line.
"""

import contextlib
import gzip
import io
import warnings
import zlib
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, cast

BOM = b"\xef\xbb\xbf"
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)
"""Errors of a gzip file that is damaged or truncated."""

_BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_UNPACK = "unpack it, or compress with gzip or bgzip"
_UTF16 = ("UTF-16 text", "save it as UTF-8")
_FORMATS = {
    **dict.fromkeys((b"\xff\xfe", b"\xfe\xff", b"\0>", b">\0"), _UTF16),
    b"PK\3\4": ("a zip archive or an Excel file", "unpack it, or save the sheet as text"),
    b"BZh": ("bzip2", _UNPACK),
    b"\xfd7zXZ": ("xz", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("zstandard", _UNPACK),
    b"\x1f\x8b": ("gzip within gzip", "unpack it once"),
    b"<": ("HTML or XML", "this may be the error page of a download; download it again"),
    b"version https://git-lfs": ("a Git LFS pointer, not the file itself", "run git lfs pull"),
    b"BCF\4": ("BCF version 1", "convert it with an old bcftools"),
    b"BCF\2": ("BCF", ""),
    b"BAM\1": ("BAM", ""),
    b"CRAM": ("CRAM", ""),
    b"PAR1": ("Parquet", ""),
    **dict.fromkeys((b"@HD\t", b"@SQ\t", b"@RG\t", b"@PG\t", b"@CO\t"), ("SAM", "")),
    b"@": ("FASTQ", ""),
    b">": ("FASTA", ""),
    b"##gff": ("GFF", ""),
    b"##fileformat=VCF": ("VCF", ""),
    b"LOCUS       ": ("GenBank", ""),
    b"ID   ": ("EMBL", ""),
    **dict.fromkeys((b"\x43\x27\x41\x1a", b"\x1a\x41\x27\x43"), ("2bit", "")),
}
"""First bytes → format, and what to do about it where that does not depend on what is needed."""


def foreign_format(
    start: bytes, needed: str, accepted: Container[str], advice: Mapping[str, str] = MappingProxyType({})
) -> str | None:
    """Describe a format that is not accepted, with advice: "bzip2; unpack it, or compress with gzip or bgzip".

    Args:
        start: first bytes of the file, 262 or more where there are as many, decompressed.
        needed: the format expected, as a message names it: "a FASTA file".
        accepted: names of formats, as in this module's table, which are not refused.
        advice: format → what to do about it, where more can be said than what is needed.

    Returns:
        The description, or None for an accepted or unrecognised format.
    """
    if start[257:262] == b"ustar":
        return "a tar archive; unpack it"
    start = start.removeprefix(BOM)
    for magic, (name, general) in _FORMATS.items():
        if start.startswith(magic) and name not in accepted:
            return f"{name}; {advice.get(name) or general or f'{needed} is needed'}"
    return None


def check_file(path: Path, needed: str) -> None:
    """Refuse a path that is not a regular file, since inputs are read more than once.

    Raises:
        ValueError: there is no such file, or it is a folder, a pipe or a device.
    """
    if path.is_dir():
        raise ValueError(f"{path}: this is a folder; name the {needed} in it")
    if not path.exists():
        raise ValueError(f"{path}: no such file; check the path and the folder the command is run in")
    if not path.is_file():
        raise ValueError(f"{path}: this is a pipe or a device; write it to a file first, because it is read twice")


def is_gzip(path: Path) -> bool:
    """Return whether a file is gzip or bgzip."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def is_truncated_bgzip(path: Path) -> bool:
    """Return whether a file is bgzip without its last, empty block."""
    with path.open("rb") as file:
        start = file.read(16)
        file.seek(-min(len(_BGZF_EOF), path.stat().st_size), io.SEEK_END)
        return len(start) == 16 and start[12:14] == b"BC" and bool(start[3] & 4) and file.read() != _BGZF_EOF


def open_decompressed(path: Path) -> IO[bytes]:
    """Open a plain, gzip or bgzip file for reading bytes."""
    return cast(IO[bytes], gzip.open(path) if is_gzip(path) else path.open("rb"))


def first_bytes(
    path: Path, needed: str, accepted: Container[str], advice: Mapping[str, str] = MappingProxyType({})
) -> bytes:
    """Return the first 64 KiB of a file, decompressed, without a byte order mark; arguments as `foreign_format`.

    Raises:
        ValueError: the file is no regular file, is broken, or has a format that is not accepted.
    """
    check_file(path, needed.removeprefix("a "))
    try:
        with open_decompressed(path) as file:
            start = file.read(1 << 16)
    except BROKEN as error:
        raise ValueError(f"{path}: broken or truncated gzip ({error}); copy or download the file again") from None
    if foreign := foreign_format(start, needed, accepted, advice):
        raise ValueError(f"{path}: this is {foreign}")
    return start.removeprefix(BOM)


def read_lines(path: Path, errors: str = "strict") -> Iterator[tuple[int, str]]:
    """Yield number, from 1, and text of every line that is not empty, without its LF or CRLF.

    Args:
        path: plain, gzip or bgzip.
        errors: how bytes that are not UTF-8 are read; with "surrogateescape" they can be written back unchanged.

    Raises:
        ValueError: the file is truncated or not text; the last line that could be read is named.
    """
    number = 0
    with open_decompressed(path) as raw, io.TextIOWrapper(raw, "utf-8", errors, newline="\n") as file:
        try:
            for number, line in enumerate(file, 1):
                line = line.rstrip("\r\n")
                if number == 1:
                    line = line.removeprefix("\ufeff")
                    if "\r" in line:
                        raise ValueError(f"{path}: lines end in CR alone; save the file with LF or CRLF")
                if "\0" in line:
                    raise ValueError(f"{path}:{number}: zero bytes; the file is damaged, copy it again")
                if line:
                    yield number, line
        except BROKEN as error:
            raise truncated(path, number, str(error)) from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not UTF-8 after line {number} ({error.reason}); save it as UTF-8") from None


def truncated(path: Path, line: int, reason: str) -> ValueError:
    """Return the error for a file that ends early, after a line."""
    return ValueError(f"{path}: broken or truncated after line {line} ({reason}); copy the file again")


@contextlib.contextmanager
def quiet():
    """Silence messages of htslib and pysam."""
    import pysam

    verbosity = pysam.set_verbosity(0)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        pysam.set_verbosity(verbosity)
