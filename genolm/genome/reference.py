"""A reference genome to fetch bases from: a prepared genome, or a FASTA with its faidx index.

An indexed FASTA is read where it lies: nothing is copied, and only the bases that are asked for are read. A FASTA
without an index is prepared into a folder first, which reads all of it and checks every letter.
"""

import hashlib
import json
from functools import cached_property
from pathlib import Path

import numpy as np

from genolm.config.files import file_sha256
from genolm.genome.alphabet import POLICY, to_array, translate
from genolm.genome.store import Contig, Store, prepare_store


class IndexedFasta:
    """A FASTA file, plain or bgzip, read through its `.fai` index (and `.gzi`). Fetches bases as a `Store` does.

    Cost: a seek and a read for each fetch; memory for the contig table alone.

    Attributes:
        path: the FASTA file.
        contigs: all contigs, in the order of the file.
        lengths: shape (num_contigs,), int64, in bases.
    """

    def __init__(self, path: str | Path):
        import pysam

        self.path = Path(path)
        try:
            self._file = pysam.FastaFile(str(path))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{path}: could not be opened with its index ({error}); make it anew: samtools faidx"
            ) from None
        self.lengths = np.array(self._file.lengths, dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(self.lengths)[:-1]]).tolist() if len(self.lengths) else []
        rows = zip(self._file.references, self.lengths.tolist(), offsets, strict=True)
        self.contigs = [Contig("reference", *row) for row in rows]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the index, and of the file's size and time: its bases are not read, which takes minutes."""
        stat = self.path.stat()
        index = index_of(self.path).read_text()
        return hashlib.sha256(json.dumps([index, stat.st_size, stat.st_mtime_ns]).encode()).hexdigest()

    def fetch(self, contig: int, start: int, end: int) -> np.ndarray:
        """Return bases [start, end) of a contig, 0-based half-open: shape (end - start,), uint8, case kept.

        Raises:
            IndexError: the interval lies outside the contig.
            ValueError: the file breaks off, or holds a letter that is not a nucleotide.
        """
        if not 0 <= start <= end <= self.lengths[contig]:
            raise IndexError(f"[{start}, {end}) lies outside contig {contig} of {self.lengths[contig]} bases")
        if start == end:
            return np.zeros(0, dtype=np.uint8)
        name = self.contigs[contig].name
        try:
            sequence = to_array(self._file.fetch(name, start, end))
        except (OSError, ValueError, UnicodeError) as error:
            raise ValueError(f"{self.path}: {name}:{start + 1}-{end} could not be read ({error})") from None
        if len(sequence) != end - start:
            raise ValueError(
                f"{self.path}: {name}:{start + 1}-{end} ends early; the index is of another file, make it anew: "
                "samtools faidx"
            )
        bases = translate(sequence, POLICY)
        if not bases.all():
            at = int(np.flatnonzero(bases == 0)[0])
            raise ValueError(f"{self.path}: {chr(sequence[at])!r} at {name}:{start + at + 1} is not a nucleotide code")
        return bases

    def input_sha256(self, sizes: set[int]) -> str | None:
        """Return the sha256 of the file, or None where its size is none of these: then it need not be read."""
        return file_sha256(self.path) if self.path.stat().st_size in sizes else None


Reference = Store | IndexedFasta
"""What bases are fetched from; both have `contigs`, `lengths`, `fingerprint` and `fetch`."""


def open_reference(path: str | Path, folder: Path) -> Reference:
    """Open a prepared genome, an indexed FASTA, or a FASTA that is first prepared into a folder.

    Args:
        path: a FASTA file, or a folder that `genolm prepare` wrote.
        folder: where a FASTA without an index is prepared.

    Raises:
        ValueError: no such file, or one that cannot be read.
    """
    path = Path(path)
    if (path / "manifest.json").is_file():
        return Store.open(path)
    if is_indexed(path):
        return IndexedFasta(path)
    return prepare_store({"reference": [path]}, folder)


def is_indexed(path: Path) -> bool:
    """Say whether a FASTA has an index that is not older than itself; a bgzip one needs its `.gzi` too."""
    indexes = [index_of(path)]
    if path.suffix in (".gz", ".bgz"):
        indexes.append(path.with_name(f"{path.name}.gzi"))
    return path.is_file() and all(
        index.is_file() and index.stat().st_mtime_ns >= path.stat().st_mtime_ns for index in indexes
    )


def index_of(path: Path) -> Path:
    """Return the path of a FASTA's index."""
    return path.with_name(f"{path.name}.fai")


def files_in_common(reference: Reference, inputs: list[dict]) -> list[str]:
    """Return which files of a reference are among the inputs of a prepared genome, compared by their bytes.

    Args:
        reference: an opened reference.
        inputs: `inputs` of a manifest: `sha256` and `size` of each.
    """
    hashes = {one["sha256"] for one in inputs}
    if isinstance(reference, Store):
        return [one["name"] for one in reference.manifest["inputs"] if one["sha256"] in hashes]
    return [reference.path.name] if reference.input_sha256({one["size"] for one in inputs}) in hashes else []
