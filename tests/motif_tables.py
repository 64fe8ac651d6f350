"""Small labelled tables whose positive rows hold a planted motif: for tests of what learns from them."""

import numpy as np

MOTIF = "TGACTCATTGC"


def motif_table(path, num_rows=240, length=60, seed=0):
    """Write sequence, label, split: half of the rows hold MOTIF somewhere."""
    rng = np.random.default_rng(seed)
    lines = ["sequence,label,split"]
    for row in range(num_rows):
        letters = rng.choice(list("ACGT"), length)
        if row % 2:
            start = rng.integers(0, length - len(MOTIF))
            letters[start : start + len(MOTIF)] = list(MOTIF)
        split = ("train", "train", "train", "valid", "test")[row // 2 % 5]
        lines.append(f"{''.join(letters)},{row % 2},{split}")
    path.write_text("\n".join(lines) + "\n")
    return path
