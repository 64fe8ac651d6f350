"""`genolm prepare`: FASTA files to a prepared genome on disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

Fasta = str | Sequence[str] | Mapping[str, str | Sequence[str]]


def prepare(
    fasta: Annotated[list[str], typer.Argument(help="FASTA files or URLs; NAME=FILE names the genome.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    sha256: Annotated[list[str] | None, typer.Option(help="URL=HEX for each URL.")] = None,
    rename_duplicates: Annotated[bool, typer.Option(help="Number contigs that share a name.")] = False,
) -> None:
    """Write genomes to disk, ready to be trained on; a second run with the same files does no work.

    Example: genolm prepare ecoli=ecoli.fna.gz salmonella=lt2.fa --out genomes/enterics
    """
    genomes: dict[str, list[str]] = {}
    for source in fasta:
        name, equals, path = source.partition("=")
        given = equals and "/" not in name and ":" not in name
        genomes.setdefault(name if given else genome_name(source), []).append(path if given else source)
    hashes = dict(pair.rsplit("=", 1) for pair in sha256 or [])
    store = prepare_genomes(genomes, out, hashes, rename_duplicates=rename_duplicates)
    for entry in store.manifest["inputs"]:
        counts = ", ".join(f"{letter} {count:,}" for letter, count in entry["letters"].items() if count)
        print(f"{entry['genome']}: {entry['name']}, {entry['num_bases']:,} bp: {counts}")
    print(f"{out}: {store.num_bases:,} bp in {len(store.lengths):,} contigs")


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
):
    """Download what are URLs, then prepare all; a bar shows the letters stored.

    Args:
        fasta: one file, several (a genome each), or genome name → file or files.
        out: the store's folder.
        sha256: URL → hash.
        quiet: show nothing.
        rename_duplicates: number the records of a file that share a name.

    Returns:
        The opened Store.
    """
    from tqdm.auto import tqdm

    from genolm.genome.fasta import resolve
    from genolm.genome.store import prepare as write_store

    if isinstance(fasta, str):
        fasta = [fasta]
    if not isinstance(fasta, Mapping):
        fasta = {genome_name(source): [source] for source in fasta}
    listed = {name: [files] if isinstance(files, str) else list(files) for name, files in fasta.items()}
    hashes = sha256 or {}
    local = {
        name: [resolve(source, hashes.get(source), progress=not quiet) for source in sources]
        for name, sources in listed.items()
    }
    with tqdm(unit="bp", unit_scale=True, desc="preparing", disable=quiet, delay=1) as bar:
        return write_store(local, out, on_progress=lambda _, num: bar.update(num), rename_duplicates=rename_duplicates)
