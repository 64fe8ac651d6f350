"""Data of the GPU check: a simulated genome and a table of sequences with a planted motif."""

import random
from pathlib import Path

from genolm.genome.simulate import simulate, write_fasta

MOTIF = "TATAAAGGCC"


def write_data(folder: Path, tiny: bool) -> None:
    """Write genome.fa, and labels.csv: rows of its first contig, half of them with a motif planted.

    Args:
        folder: where to write; made if absent.
        tiny: 200 kb and 60 rows of 128 bases, instead of 4.6 Mb and 2,000 rows of 512.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "genome.fa"
    write_fasta(path, simulate(200_000 if tiny else 4_600_000, num_contigs=4).records)
    first = path.read_text().split(">")[1]
    sequence = "".join(first.split("\n")[1:]).upper()
    num, width = (60, 128) if tiny else (2000, 512)
    draw = random.Random(0)
    rows = ["sequence,label"]
    for number in range(num):
        start = draw.randrange(len(sequence) - width)
        row = sequence[start : start + width]
        if number % 2:
            place = draw.randrange(width - len(MOTIF))
            row = row[:place] + MOTIF + row[place + len(MOTIF) :]
        rows.append(f"{row},{number % 2}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
