"""`genolm prepare`: FASTA files to a prepared genome on disk."""

from pathlib import Path
from typing import Annotated

import typer


def prepare(
    fasta: Annotated[list[str], typer.Argument(help="FASTA files or URLs; NAME=FILE names the genome.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    sha256: Annotated[list[str] | None, typer.Option(help="URL=HEX for each URL.")] = None,
    rename_duplicates: Annotated[bool, typer.Option(help="Number contigs that share a name.")] = False,
) -> None:
    """Write genomes to disk, ready for training; a second run with the same files does no work.

    Example: genolm prepare ecoli=ecoli.fna.gz salmonella=lt2.fa --out genomes/enterics
    """
    from genolm.genome.store import by_genome, prepare_genomes

    for pair in sha256 or []:
        if "=" not in pair:
            raise ValueError(f"--sha256 {pair}: write URL=HEX")
    hashes = dict(pair.rsplit("=", 1) for pair in sha256 or [])
    store = prepare_genomes(by_genome(fasta), out, hashes, rename_duplicates=rename_duplicates)
    for entry in store.manifest["inputs"]:
        counts = ", ".join(f"{letter} {count:,}" for letter, count in entry["letters"].items() if count)
        print(f"{entry['genome']}: {entry['name']}, {entry['num_bases']:,} bp: {counts}")
    print(f"{out}: {store.num_bases:,} bp in {len(store.lengths):,} contigs")
