"""Prepared genomes on disk: memory-mapped sequence, a contig table and a manifest.

    letters.arrow     Arrow IPC file, one uint8 column; record batches of 2**24 letters, contigs end to end
    contigs.parquet   genome, contig, length, offset of its first letter
    manifest.json     sha256 and letter counts of every input; depends on content only
    sources.json      paths, sizes and times of the inputs, to see at a glance that nothing changed

The same inputs give the same bytes. Memory: one record batch while writing, what the system caches while reading.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genolm.config.console import progress_bar
from genolm.config.files import file_sha256
from genolm.genome.alphabet import COMPLEMENT, IS_SOFT_MASKED, POLICY, reverse_complement
from genolm.genome.fasta import local_path, read_fasta
from genolm.genome.sniff import check_file

BATCH_BITS = 24
BATCH = 1 << BATCH_BITS
FORMAT = 1
_FILES = {"letters.arrow", "contigs.parquet", "manifest.json", "sources.json"}
_SCHEMA = pa.schema([pa.field("letters", pa.uint8(), nullable=False)])


class Contig(NamedTuple):
    """One contig: its genome, name, length in bases, and the offset of its first letter in the store."""

    genome: str
    name: str
    length: int
    offset: int


class Store:
    """Prepared genomes, opened for reading. Picklable: a copy opens the same folder."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not (self.folder / "manifest.json").is_file():
            raise ValueError(f"{folder} holds no prepared genome (no manifest.json); run `genolm prepare` first")
        self.manifest: dict = json.loads((self.folder / "manifest.json").read_text())
        with pq.ParquetFile(self.folder / "contigs.parquet") as file:
            self._table = file.read()
        # By dlpack, since pyarrow imports pandas, half a second, for read_table and for to_numpy.
        columns = (np.from_dlpack(self._table[x].combine_chunks()) for x in ("length", "offset"))
        self.lengths, self.offsets = (np.asarray(column, dtype=np.int64) for column in columns)
        reader = pa.ipc.open_file(pa.memory_map(str(self.folder / "letters.arrow")))
        self._batches = [np.from_dlpack(reader.get_batch(i).column(0)) for i in range(reader.num_record_batches)]

    @classmethod
    def open(cls, folder: str | Path) -> "Store":
        """Open a folder that `prepare` wrote."""
        return cls(folder)

    def __reduce__(self):
        return type(self), (self.folder,)

    @cached_property
    def contigs(self) -> list[Contig]:
        """All contigs, in the order of the inputs."""
        columns = (self._table[name].to_pylist() for name in ("genome", "contig", "length", "offset"))
        return [Contig(*row) for row in zip(*columns, strict=True)]

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        """`name` and `genome/name` → indices of contigs."""
        table: dict[str, list[int]] = {}
        for i, contig in enumerate(self.contigs):
            table.setdefault(contig.name, []).append(i)
            table.setdefault(f"{contig.genome}/{contig.name}", []).append(i)
        return table

    def contig_index(self, name: str) -> int:
        """Return the index of a contig given as `name` or `genome/name`.

        Raises:
            ValueError: no such contig, or several; the message lists some.
        """
        matches = self._by_name.get(name, [])
        if len(matches) == 1:
            return matches[0]
        if matches:
            some = ", ".join(f"{self.contigs[i].genome}/{name}" for i in matches[:4])
            raise ValueError(f"contig {name!r} is in {len(matches)} genomes; write one of {some}")
        some = ", ".join(contig.name for contig in self.contigs[:8])
        more = f", … ({len(self.contigs)} in all)" if len(self.contigs) > 8 else ""
        raise ValueError(f"no contig is named {name!r}; the genomes have {some}{more}. Names end at the first space.")

    @property
    def num_bases(self) -> int:
        """Bases in all contigs."""
        return int(self.lengths.sum())

    @property
    def fingerprint(self) -> str:
        """sha256 of the manifest: equal for equal inputs, wherever they lie."""
        return hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode()).hexdigest()

    def fetch(self, contig: int, start: int, end: int) -> np.ndarray:
        """Return bases [start, end) of a contig, 0-based, (end - start,) uint8; a view of the map where possible."""
        if not 0 <= start <= end <= self.lengths[contig]:
            raise IndexError(f"[{start}, {end}) lies outside contig {contig} of {self.lengths[contig]} bases")
        first = int(self.offsets[contig]) + start
        last = first + end - start
        i, at = first >> BATCH_BITS, first & (BATCH - 1)
        if last <= (i + 1) << BATCH_BITS:
            return self._batches[i][at : at + end - start] if i < len(self._batches) else np.zeros(0, np.uint8)
        parts = [self._batches[i][at:]]
        for j in range(i + 1, (last - 1 >> BATCH_BITS) + 1):
            parts.append(self._batches[j][: last - (j << BATCH_BITS)])
        return np.concatenate(parts)

    def fetch_rows(self, contig: np.ndarray, start: np.ndarray, width: int) -> np.ndarray:
        """Return `width` bases of contigs from these starts, (B, width) uint8, copied once."""
        if ((start < 0) | (start + width > self.lengths[contig])).any():
            raise IndexError(f"some of {len(start)} stretches of {width} bases lie outside their contig")
        first = self.offsets[contig] + start
        batch, at = first >> BATCH_BITS, first & (BATCH - 1)
        across = at + width > BATCH
        rows = np.empty((len(start), width), dtype=np.uint8)
        for i in np.unique(batch[~across]).tolist() if width else ():
            here = (batch == i) & ~across
            rows[here] = np.lib.stride_tricks.sliding_window_view(self._batches[i], width)[at[here]]
        for row in np.flatnonzero(across).tolist():
            rows[row] = Store.fetch(self, int(contig[row]), int(start[row]), int(start[row]) + width)
        return rows


class OtherStrand(Store):
    """The same genomes read from the other strand: base p of a contig is the complement of base length - 1 - p."""

    def fetch(self, contig: int, start: int, end: int) -> np.ndarray:
        """Return bases [start, end) of a contig's other strand, 0-based, (end - start,) uint8."""
        length = int(self.lengths[contig])
        return reverse_complement(super().fetch(contig, length - end, length - start))

    def fetch_rows(self, contig: np.ndarray, start: np.ndarray, width: int) -> np.ndarray:
        """Return `width` bases of contigs' other strands, (B, width) uint8."""
        return COMPLEMENT[super().fetch_rows(contig, self.lengths[contig] - start - width, width)[:, ::-1]]


def prepare_store(
    genomes: Mapping[str, Sequence[str | Path]],
    out: str | Path,
    on_progress: Callable[[str, int], object] | None = None,
    rename_duplicates: bool = False,
) -> Store:
    """Write genomes to a folder, unless it holds them already.

    Args:
        genomes: genome name → its FASTA files.
        out: the folder; replaced whole, never half-written. Only a prepared genome is ever replaced.
        on_progress: called with a file's name and the number of bases just stored.
        rename_duplicates: number the records of a file that share a name, instead of refusing them.

    Raises:
        ValueError: a file cannot be read right, two files of a genome share a contig name, or the folder holds
            something else.
    """
    out = Path(out)
    sources = [_source(name, Path(path)) for name, paths in genomes.items() for path in paths]
    if not sources:
        raise ValueError("no FASTA file was given")
    if _unchanged(out, sources):
        return Store(out)
    _check_replaceable(out)
    aside = out.with_name(f"{out.name}.partial-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    made = [folder for folder in out.parents if not folder.exists()]
    aside.mkdir(parents=True)
    try:
        _write(aside, sources, on_progress, rename_duplicates)
        (aside / "sources.json").write_text(json.dumps(sources, indent=1))
        if out.exists():
            shutil.rmtree(out)
        os.replace(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if not out.exists():
            _remove_empty(made)
    return Store(out)


def _check_replaceable(out: Path) -> None:
    """Refuse a folder that holds anything but a prepared genome: it would be deleted."""
    if not out.name:
        raise ValueError(f"{out} cannot be written; name a folder in it, that does not exist yet")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder to write the genome to")
    others = sorted(path.name for path in out.iterdir() if path.name not in _FILES) if out.exists() else []
    if others:
        raise ValueError(f"{out} holds other files ({', '.join(others[:3])}); name a folder that does not exist yet")


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders, innermost first, up to one that something else was put into."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _source(genome: str, path: Path) -> dict:
    if not genome or not genome.isprintable():
        raise ValueError(f"{genome!a} cannot name the genome of {str(path)!a}; name it: NAME=FILE")
    check_file(path, "FASTA file")
    stat = path.stat()
    return {"genome": genome, "path": str(path.resolve()), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _unchanged(out: Path, sources: list[dict]) -> bool:
    """Return whether the folder holds just these inputs: by size and time, and where those differ by sha256."""
    try:
        manifest = json.loads((out / "manifest.json").read_text())
        recorded = json.loads((out / "sources.json").read_text())
    except (OSError, ValueError):
        return False
    if recorded == sources:
        return manifest.get("format") == FORMAT
    recorded_inputs = [(row["genome"], row["sha256"]) for row in manifest.get("inputs", [])]
    if manifest.get("format") != FORMAT or len(recorded_inputs) != len(sources):
        return False
    if recorded_inputs != [(row["genome"], file_sha256(Path(row["path"]))) for row in sources]:
        return False
    (out / "sources.json").write_text(json.dumps(sources, indent=1))
    return True


def _write(folder: Path, sources: list[dict], on_progress, rename: bool) -> None:
    """Write sequence, contigs and manifest."""
    names: dict[str, list] = {"genome": [], "contig": [], "length": []}
    seen: dict[tuple[str, str], str] = {}
    inputs = []
    with pa.OSFile(str(folder / "letters.arrow"), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        buffer, used = np.empty(BATCH, dtype=np.uint8), 0
        for source in sources:
            path, counts = Path(source["path"]), np.zeros(256, dtype=np.int64)
            for block in read_fasta(path, rename=rename):
                if block.opens:
                    key = (source["genome"], block.name)
                    if key in seen:
                        raise ValueError(
                            f"{path}:{block.line}: contig {block.name!r} of genome {key[0]!r} is also in {seen[key]}"
                        )
                    seen[key] = path.name
                    for column, value in zip(names.values(), (*key, 0), strict=True):
                        column.append(value)
                    continue
                counts += block.counts
                names["length"][-1] += len(block.letters)
                letters = block.letters
                while len(letters):
                    part = letters[: BATCH - used]
                    buffer[used : used + len(part)] = part
                    used, letters = used + len(part), letters[len(part) :]
                    if used == BATCH:
                        writer.write_batch(pa.record_batch([pa.array(buffer)], schema=_SCHEMA))
                        used = 0
                if on_progress is not None:
                    on_progress(path.name, len(block.letters))
            digest = file_sha256(path)
            inputs.append(
                {"genome": source["genome"], "name": path.name, "sha256": digest, "size": source["size"]}
                | {"num_bases": int(counts.sum()), "letters": _count_report(counts)}
            )
        if used:
            writer.write_batch(pa.record_batch([pa.array(buffer[:used])], schema=_SCHEMA))
    lengths = np.array(names["length"], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    table = pa.table({**names, "length": lengths, "offset": offsets.astype(np.int64)})
    pq.write_table(table, folder / "contigs.parquet")
    manifest = {"format": FORMAT, "num_bases": int(lengths.sum()), "num_contigs": len(lengths), "inputs": inputs}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))


def _count_report(counts: np.ndarray) -> dict[str, int]:
    """Summarise counts of characters by what the policy does with them, and soft-masked bases."""
    upper = counts.copy()
    upper[ord("A") : ord("Z") + 1] += counts[ord("a") : ord("z") + 1]
    upper[ord("a") : ord("z") + 1] = 0
    stored = np.bincount(POLICY, weights=counts, minlength=256).astype(np.int64)
    report = {letter: int(upper[ord(letter)]) for letter in "ACGTN"}
    report["IUPAC"] = int(sum(upper[ord(letter)] for letter in "RYSWKMBDHV"))
    report["U as T"] = int(upper[ord("U")])
    report["X - . as N"] = int(upper[ord("X")] + upper[ord("-")] + upper[ord(".")])
    report["soft_masked"] = int(stored[IS_SOFT_MASKED].sum())
    return report


Fasta = str | Sequence[str] | Mapping[str, str | Sequence[str]]


def by_genome(sources: Sequence[str]) -> dict[str, list[str]]:
    """Group sources, each `NAME=FILE` or `FILE`, by genome."""
    genomes: dict[str, list[str]] = {}
    for source in sources:
        name, equals, path = source.partition("=")
        given = equals and "/" not in name and ":" not in name
        if given and not (name and path):
            raise ValueError(f"{source!r} names no {'file' if name else 'genome'}; write NAME=FILE, or the file alone")
        if given:
            genomes.setdefault(name, []).append(path)
        else:
            _add_unnamed(genomes, source)
    return genomes


def _add_unnamed(genomes: dict[str, list[str]], source: str) -> None:
    """Add a file as a genome of its own; refuse two that would share a name."""
    name = genome_name(source)
    if name in genomes:
        raise ValueError(
            f"{genomes[name][0]} and {source} would both be genome {name!r}; name them: NAME=FILE on the command line, "
            "data.fasta: {NAME: FILE} in a recipe"
        )
    genomes[name] = [source]


def genome_name(source: str) -> str:
    """Return a file's name without folder and suffixes, which names its genome where nothing else does."""
    name = source.split("?")[0].rstrip("/").rsplit("/", 1)[-1]
    for suffix in (".gz", ".bgz", ".fa", ".fna", ".fasta", ".ffn"):
        name = name.removesuffix(suffix)
    return name


def prepare_genomes(
    fasta: Fasta,
    out: Path,
    sha256: Mapping[str, str] | None = None,
    quiet: bool = False,
    rename_duplicates: bool = False,
) -> Store:
    """Download URLs, then prepare all genomes into a store, with a progress bar.

    Args:
        fasta: one file, several (a genome each), or genome name → file or files.
        out: the store's folder.
        sha256: URL → hash.
        quiet: show no progress bar.
        rename_duplicates: number the records of a file that share a name.

    Raises:
        ValueError: a file cannot be read right, or is not what its hash says.
    """
    if isinstance(fasta, str):
        fasta = [fasta]
    if not isinstance(fasta, Mapping):
        genomes: dict[str, list[str]] = {}
        for source in fasta:
            _add_unnamed(genomes, source)
        fasta = genomes
    listed = {name: [files] if isinstance(files, str) else list(files) for name, files in fasta.items()}
    hashes = sha256 or {}
    local = {
        name: [local_path(source, hashes.get(source), progress=not quiet) for source in sources]
        for name, sources in listed.items()
    }
    with progress_bar(desc="preparing", unit="bp", unit_scale=True, disable=quiet, delay=1) as bar:
        return prepare_store(
            local, out, on_progress=lambda _, num: bar.update(num), rename_duplicates=rename_duplicates
        )
