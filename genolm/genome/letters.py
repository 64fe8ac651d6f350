"""Letters of sequences as models read them: upper-case A, C, G, T and N."""

from collections.abc import Callable

import numpy as np

from genolm.genome.alphabet import AMBIGUOUS, BASES, to_array, to_text

_HINTS = {
    " \t": "are these k-mers? give the sequence itself",
    "-.": "gaps are no bases; remove them",
    "*EFIJLOPQZ": "this looks like protein",
    "0123456789": "is this the right column?",
}
_SEPARATOR = ord("\n")


def _table() -> np.ndarray:
    """(256,) uint8: letter as found → as kept, upper case; 0 where refused. Ambiguous letters become N, U becomes T."""
    kept = np.zeros(256, dtype=np.uint8)
    for found, letter in [*zip(BASES, BASES, strict=True), *((code, ord("N")) for code in AMBIGUOUS), (ord("U"), 84)]:
        kept[found] = kept[found | 0x20] = letter
    kept[_SEPARATOR] = _SEPARATOR
    return kept


_KEPT = _table()
_IS_CODE = np.isin(np.arange(256), [c | case for c in AMBIGUOUS if c != ord("N") for case in (0, 0x20)])
_IS_U = np.isin(np.arange(256), [ord("U"), ord("u")])


def clean(sequences: list[str], where: Callable[[int], str]) -> tuple[list[str], tuple[str, ...]]:
    """Return sequences in upper-case A, C, G, T and N, and notes for the user on what was replaced.

    U becomes T; the other IUPAC codes become N.

    Args:
        sequences: n texts, none of them empty.
        where: number of a sequence → file and line.

    Raises:
        ValueError: another letter, a gap or a space among them.
    """
    found = to_array("\n".join(sequences).encode("latin-1", "replace"))
    kept = _KEPT[found]
    # A line end within a sequence, where it was quoted, would part it in two.
    if (kept == 0).any() or np.count_nonzero(found == _SEPARATOR) != len(sequences) - 1:
        raise _first_refused(sequences, where)
    counts = np.bincount(found, minlength=256)
    notes = [
        f"{what}: {count:,} letter{'' if count == 1 else 's'}"
        for what, count in (("IUPAC codes read as N", counts[_IS_CODE].sum()), ("U read as T", counts[_IS_U].sum()))
        if count
    ]
    return to_text(kept).split("\n"), tuple(notes)


def _first_refused(sequences: list[str], where: Callable[[int], str]) -> ValueError:
    for row, sequence in enumerate(sequences):
        found = to_array(sequence.encode("latin-1", "replace"))
        bad = np.flatnonzero((_KEPT[found] == 0) | (found == _SEPARATOR))
        if len(bad):
            letter = sequence[bad[0]]
            hint = next((f"; {hint}" for marks, hint in _HINTS.items() if letter.upper() in marks), "")
            return ValueError(
                f"{where(row)}: {letter!r} at letter {bad[0] + 1} of the sequence is no nucleotide; allowed are A, C, "
                f"G, T, N, U and IUPAC codes{hint}"
            )
    raise AssertionError("a letter was refused, but none is wrong")
