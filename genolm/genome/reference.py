"""A reference genome to fetch bases from: a prepared genome, or a FASTA with its faidx index.

An indexed FASTA is read where it lies: nothing is copied, and only the bases that are asked for are read. A FASTA
without an index is prepared into a folder first, which reads all of it and checks every letter.
"""

import hashlib
import json
import shutil
import weakref
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

from genolm.config.console import did_you_mean
from genolm.config.files import file_sha256
from genolm.genome.alphabet import POLICY, to_array, to_text, translate
from genolm.genome.interval import CONTIG_END, parse_region
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


class Genome:
    """A genome to take bases from: a FASTA, best with its index (`samtools faidx`), or a folder of `genolm prepare`.

    `genome["chr1", 999:1200]` is a part, `genome["chr1:1000-1200"]` the same, `genome["chr1"]` a whole contig; as they
    stand in the file, upper or lower case.

    Args:
        path: a FASTA, plain, gzip or bgzip, or a prepared genome. A FASTA without an index is prepared first, in a
            temporary folder: for a large one run `samtools faidx` or `genolm prepare` once.

    Attributes:
        lengths: contig → its length in bases, in the order of the file.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._folder = Path(mkdtemp(prefix="genolm-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self.reference = open_reference(path, self._folder / "genome")
        self._numbers = {contig.name: number for number, contig in enumerate(self.reference.contigs)}
        self.lengths = {contig.name: contig.length for contig in self.reference.contigs}

    @cached_property
    def store(self) -> Any:
        """The prepared genome (`genolm.genome.store.Store`); a FASTA is prepared in a temporary folder first."""
        if isinstance(self.reference, Store):
            return self.reference
        return prepare_store({"reference": [self.path]}, self._folder / "genome")

    def __getitem__(self, where: str | tuple[str, slice]) -> str:
        if isinstance(where, str):
            interval = parse_region(where, self._numbers)
            name, start, end = interval.contig, interval.start, interval.end
        else:
            name, part = where
            if not isinstance(part, slice):
                raise ValueError(f"{name}: give a slice, such as genome[{name!r}, 999:1200]; got {part!r}")
            if part.step not in (None, 1) or (part.start or 0) < 0 or (part.stop or 0) < 0:
                raise ValueError(f"{name}: a slice has 0 <= start <= end and no step; got {part}")
            start, end = part.start or 0, CONTIG_END if part.stop is None else part.stop
        length = self.lengths[self._check_contig(name)]
        end = length if end == CONTIG_END else end
        if not start <= end <= length:
            raise IndexError(f"{name}:{start}-{end} (0-based) lies outside {name}, which has {length:,} bases")
        return to_text(self.reference.fetch(self._numbers[name], start, end))

    def _check_contig(self, name: str) -> str:
        if name not in self.lengths:
            others = f"contigs: {', '.join([*self.lengths][:8])}{', …' * (len(self.lengths) > 8)}"
            raise KeyError(f"{self.path} has no contig {name!r}; {did_you_mean(name, self.lengths, others)}")
        return name

    def __repr__(self) -> str:
        return f"Genome({str(self.path)!r}: {len(self.lengths):,} contigs, {sum(self.lengths.values()):,} bp)"
