"""The reference that a user names → its letters."""

from pathlib import Path

from genolm.genome.store import Store, prepare


def open_genome(fasta: str, folder: Path) -> Store:
    """Return the store of a reference: a prepared one, or one prepared into `folder`.

    Raises:
        ValueError: no such file, or one that cannot be read.
    """
    if (Path(fasta) / "manifest.json").is_file():
        return Store.open(fasta)
    return prepare({"reference": [Path(fasta)]}, folder)
