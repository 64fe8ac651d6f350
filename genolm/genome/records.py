"""The records of a FASTA file as rows: names, letters, places."""

from pathlib import Path

from genolm.genome.alphabet import clean_sequences, to_text
from genolm.genome.fasta import read_fasta

FASTA = tuple(f"{name}{packed}" for name in (".fa", ".fasta", ".fna") for packed in ("", ".gz", ".bgz"))
"""How the names of FASTA files end."""


def read_records(path: str | Path) -> tuple[list[str], list[str], list[str]]:
    """Return names, letters and places of the records of a FASTA; all are in memory.

    Returns:
        n names, unique; n texts of upper-case A, C, G, T and N; n times file and line.

    Raises:
        ValueError: a file that cannot be read, or a letter that is no nucleotide, named by its line.
    """
    names: list[str] = []
    source: list[str] = []
    held: list[list[str]] = []
    for block in read_fasta(path):
        if block.opens:
            names.append(block.name)
            source.append(f"{path}:{block.line}")
            held.append([])
        else:
            held[-1].append(to_text(block.letters))
    letters, _ = clean_sequences(["".join(parts) for parts in held], lambda row: source[row])
    return names, letters, source
