"""What a file holds, told by its bytes and not by its name, and its lines, be it plain, gzip or bgzip.

Memory: one line.
"""

import contextlib
import gzip
import io
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

_BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_BOM = b"\xef\xbb\xbf"
_FOREIGN = {
    b"PK": "a zip archive or an Excel file; unpack it, or save the sheet as TSV",
    b"BZh": "bzip2; unpack it, or compress with bgzip",
    b"\xfd7zXZ": "xz; unpack it, or compress with bgzip",
    b"\x28\xb5\x2f\xfd": "zstandard; unpack it, or compress with bgzip",
    b"\x1f\x8b": "gzip within gzip; unpack it once",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    b"BCF\4": "BCF version 1; convert it with an old bcftools",
    b"BAM\1": "BAM; variants are needed, not reads",
    b"CRAM": "CRAM; variants are needed, not reads",
    b"PAR1": "Parquet; save it as TSV with columns chrom, pos, ref, alt",
    b"@HD\t": "SAM; variants are needed, not reads",
    b"@SQ\t": "SAM; variants are needed, not reads",
    b">": "FASTA; the genome goes into --fasta",
    b"##gff": "GFF; variants are needed, not features",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; run git lfs pull",
    b"<": "HTML or XML, perhaps the error page of a download; download it again",
}
_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)


def is_zipped(path: Path) -> bool:
    """Say whether a file is gzip or bgzip.

    Raises:
        ValueError: there is no such file, or it is a folder, a pipe or a device.
    """
    if path.is_dir():
        raise ValueError(f"{path}: this is a folder; name the VCF in it")
    if not path.exists():
        raise ValueError(f"{path}: no such file; check the path and the folder the command is run in")
    if not path.is_file():
        raise ValueError(f"{path}: this is a pipe or a device; write it to a file first, because it is read twice")
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def lacks_end(path: Path) -> bool:
    """Say whether a file is bgzip, and cut off: its last block, which is empty, is not there."""
    with path.open("rb") as file:
        start = file.read(16)
        file.seek(-min(len(_BGZF_EOF), path.stat().st_size), io.SEEK_END)
        return len(start) == 16 and start[12:14] == b"BC" and bool(start[3] & 4) and file.read() != _BGZF_EOF


def first_bytes(path: Path) -> bytes:
    """Return the first bytes, decompressed, of a BCF or of a text that may hold variants.

    Raises:
        ValueError: the file is empty, broken, or of another kind, which is named.
    """
    try:
        with _opened(path) as file:
            start = file.read(1 << 16)
    except _BROKEN as error:
        raise ValueError(f"{path}: broken or truncated gzip ({error}); copy the file again") from None
    start = start.removeprefix(_BOM)
    if not start.strip():
        raise ValueError(f"{path}: the file is empty; an empty VCF has at least its #CHROM line")
    if start.startswith(b"BCF\2"):
        return start
    for magic, what in _FOREIGN.items():
        if start.startswith(magic):
            raise ValueError(f"{path}: this is {what}")
    if b"\0" in start:
        raise ValueError(f"{path}: not text, and not BCF; a VCF, a BCF or a table of variants is needed")
    return start


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number, from 1, and text of every line that is not empty, without its end, be it LF or CRLF.

    Bytes that are no UTF-8 become surrogates, which written back are the same bytes.

    Raises:
        ValueError: the file breaks off; the last line that could be read is named.
    """
    number = 0
    with _opened(path) as raw, io.TextIOWrapper(raw, "utf-8", "surrogateescape", newline="\n") as file:
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
        except _BROKEN as error:
            raise truncated(path, number, str(error)) from None


def truncated(path: Path, line: int, reason: str) -> ValueError:
    """Return the error of a file that breaks off after a line."""
    return ValueError(f"{path}: broken or truncated after line {line} ({reason}); copy the file again")


@contextlib.contextmanager
def quiet():
    """Keep htslib and pysam from printing."""
    import pysam

    said = pysam.set_verbosity(0)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        pysam.set_verbosity(said)


def _opened(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path) if is_zipped(path) else path.open("rb"))
