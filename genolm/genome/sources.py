"""Genomes as a user gives them: FASTA files and URLs, grouped by genome, prepared into a store."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from genolm.config.console import progress_bar
from genolm.genome.fasta import local_path
from genolm.genome.store import Store, prepare_store

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
