"""The DNA alphabet: complement, case, and one policy for every character that is not A, C, G or T.

A base is one ASCII byte (uint8). The policy holds for every source of sequence, FASTA or table:

- `A C G T N` and the IUPAC codes `R Y S W K M B D H V`, in either case, are kept;
- `U` is RNA's `T`, and becomes `T`; `X` (masked) and the gaps `-` and `.` become `N`; case is kept;
- `*` and anything else is refused with its file and line: it is protein, or not a sequence.

Case carries one meaning: lower case is soft-masked (a repeat). Whether a character is a base, and which, never depends
on case. Only `A C G T` are ever predicted; everything else carries no loss.
"""

from collections.abc import Callable

import numpy as np

BASES = b"ACGT"
AMBIGUOUS = b"NRYSWKMBDHV"
IUPAC = BASES + AMBIGUOUS

_COMPLEMENT_OF = dict(zip(b"ACGTNRYSWKMBDHV", b"TGCANYRSWMKVHDB", strict=True))
_REPLACED_BY = {ord("U"): ord("T"), ord("X"): ord("N"), ord("-"): ord("N"), ord("."): ord("N")}
_REPLACEMENTS = {"IUPAC codes read as N": b"RYSWKMBDHV", "U read as T": b"U", "X and gaps read as N": b"X-."}
_HINTS = {
    " \t": "are these k-mers? give the sequence itself",
    "*EFIJLOPQZ": "this looks like protein",
    "0123456789": "is this the right column?",
}
_SEPARATOR = ord("\n")

REFUSED = 0


def _complement_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint8)
    for base, complement in _COMPLEMENT_OF.items():
        table[base] = complement
        table[base | 0x20] = complement | 0x20
    return table


def _policy_table() -> np.ndarray:
    table = np.zeros(256, dtype=np.uint8)
    for base, stored in [*zip(IUPAC, IUPAC, strict=True), *_REPLACED_BY.items()]:
        table[base] = stored
        if chr(base).isalpha():
            table[base | 0x20] = stored | 0x20
    return table


COMPLEMENT = _complement_table()
"""(256,) uint8: base → complementary base, IUPAC codes included, case kept; other bytes map to themselves."""

POLICY = _policy_table()
"""(256,) uint8: character in a file → base as stored, or `REFUSED`."""

BASE_INDEX = np.full(256, 4, dtype=np.uint8)
"""(256,) uint8: A, C, G, T of either case → 0, 1, 2, 3; everything else → 4."""
for _index, _base in enumerate(BASES):
    BASE_INDEX[_base] = BASE_INDEX[_base | 0x20] = _index

IS_SOFT_MASKED = np.zeros(256, dtype=bool)
"""(256,) bool: True for lower-case letters."""
IS_SOFT_MASKED[ord("a") : ord("z") + 1] = True

_UPPER = np.where(BASE_INDEX[POLICY] < 4, POLICY & 0xDF, np.where(POLICY == REFUSED, REFUSED, ord("N")))
_UPPER = _UPPER.astype(np.uint8)
"""(256,) uint8: character in a file → upper-case A, C, G, T or N, or `REFUSED`."""


def translate(array: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return `table[array]` for uint8 arrays and tables of 256 one-byte entries, in half the time of indexing."""
    translated = bytearray(array.tobytes()).translate(table.tobytes())
    return np.frombuffer(translated, dtype=table.dtype).reshape(array.shape)


def to_array(sequence: str | bytes) -> np.ndarray:
    """Convert a sequence to an array of ASCII codes, shape (length,), dtype uint8."""
    data = sequence.encode("ascii") if isinstance(sequence, str) else sequence
    return np.frombuffer(data, dtype=np.uint8)


def to_text(array: np.ndarray) -> str:
    """Convert an array of ASCII codes, shape (length,), dtype uint8, to a string."""
    return array.tobytes().decode("ascii")


def reverse_complement(array: np.ndarray) -> np.ndarray:
    """Reverse-complement sequences along the last axis.

    Args:
        array: bases, shape (..., length), dtype uint8.

    Returns:
        A new array of the same shape and dtype. Applied twice it is the identity; case is kept.
    """
    return COMPLEMENT[array[..., ::-1]]


def clean_sequences(sequences: list[str], where: Callable[[int], str]) -> tuple[list[str], tuple[str, ...]]:
    """Convert sequences to upper-case A, C, G, T and N by the policy, and note what was replaced.

    Args:
        sequences: n texts, none of them empty.
        where: number of a sequence → file and line, for messages.

    Returns:
        n sequences, and notes such as "U read as T: 2 bases".

    Raises:
        ValueError: a character that the policy refuses, or a space.
    """
    codes = to_array("\n".join(sequences).encode("latin-1", "replace"))
    clean = _UPPER[codes]
    # A line end within a sequence, where it was quoted, would split it in two.
    separators = codes == _SEPARATOR
    if np.count_nonzero(clean == REFUSED) > np.count_nonzero(separators) or separators.sum() != len(sequences) - 1:
        raise _refusal(sequences, where)
    clean[separators] = _SEPARATOR
    counts = np.bincount(to_array(to_text(codes).upper()), minlength=256)
    totals = {what: counts[list(replaced)].sum() for what, replaced in _REPLACEMENTS.items()}
    notes = (f"{what}: {total:,} base{'' if total == 1 else 's'}" for what, total in totals.items() if total)
    return to_text(clean).split("\n"), tuple(notes)


def _refusal(sequences: list[str], where: Callable[[int], str]) -> ValueError:
    """Return the error for the first refused character."""
    row, position = next(
        (row, refused[0])
        for row, sequence in enumerate(sequences)
        if len(refused := np.flatnonzero(_UPPER[to_array(sequence.encode("latin-1", "replace"))] == REFUSED))
    )
    character = sequences[row][position]
    hint = next((f"; {hint}" for characters, hint in _HINTS.items() if character.upper() in characters), "")
    return ValueError(
        f"{where(row)}: {character!r} at position {position + 1} of the sequence is no nucleotide; allowed are "
        f"{IUPAC.decode()}, U, X, '-' and '.' in either case{hint}"
    )
