"""Token index ↔ base position, for every kind of tokenizer, from the offsets that an encoder gives.

Positions are 0-based in the window, intervals half-open. A special token covers nothing. With overlapping k-mers a base
lies in up to k tokens; with all other kinds in one.
"""

import numpy as np

from genolm.tokenizers.encode import Encoded


def tokens_of_base(encoded: Encoded, row: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the tokens that cover bases.

    Args:
        encoded: of rows of letters.
        row: (N,) which row.
        position: (N,) which base of it.

    Returns:
        (N,) first and (N,) last + 1 of the tokens that cover the base, int64; equal where none does.
    """
    start, end = encoded.start[row], encoded.end[row]
    covers = (start <= position[:, None]) & (position[:, None] < end)
    first = covers.argmax(axis=1)
    return first, first + covers.sum(axis=1)


def bases_of_token(encoded: Encoded, row: np.ndarray, token: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) first base and (N,) one past the last base of tokens, int64; equal for special tokens."""
    return encoded.start[row, token].astype(np.int64), encoded.end[row, token].astype(np.int64)
