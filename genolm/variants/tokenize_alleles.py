"""Windows of REF and ALT → rows of tokens, and the tokens that an allele touches.

Touched are the tokens that hold a changed base and, where the length changes, one base on each side. With BPE, whose
cuts move, all tokens from the first to the last that differ belong to them.
"""

from dataclasses import dataclass

import numpy as np

from genolm.tokenizers.encode import Encoded, Encoder
from genolm.variants.haplotypes import Windows


@dataclass(frozen=True)
class Side:
    """Tokens of one haplotype of n alleles.

    Attributes:
        ids: n rows, special tokens included, without padding.
        first: (n,) first touched token.
        last: (n,) one past the last.
        bases: (n,) pairs: the first token that is not special, and one past the last.
    """

    ids: list[np.ndarray]
    first: np.ndarray
    last: np.ndarray
    bases: list[tuple[int, int]]


@dataclass(frozen=True)
class Pair:
    """REF and ALT of n alleles on one strand.

    Attributes:
        ref: tokens of REF.
        alt: tokens of ALT.
        differ: (n,) first token that differs between them; all before it are shared.
        substitution: (n,) bool, whether both haplotypes have as many changed bases and touched tokens.
    """

    ref: Side
    alt: Side
    differ: np.ndarray
    substitution: np.ndarray


def tokenize_pair(encoder: Encoder, ref: Windows, alt: Windows) -> Pair:
    """Encode both haplotypes, and find what an allele touches."""
    longer = (ref.end - ref.start) != (alt.end - alt.start)
    one, two = _side(encoder, ref, longer), _side(encoder, alt, longer)
    differ = np.zeros(len(one.ids), dtype=np.int64)
    for row, (left, right) in enumerate(zip(one.ids, two.ids, strict=True)):
        common = min(len(left), len(right))
        unequal = left[:common] != right[:common]
        differ[row] = unequal.argmax() if unequal.any() else common
        if encoder.kind in ("bpe", "other"):
            ending = (left[::-1][:common] != right[::-1][:common]).argmax() if unequal.any() else 0
            for side, ids in ((one, left), (two, right)):
                side.first[row] = min(side.first[row], differ[row])
                side.last[row] = max(side.last[row], len(ids) - ending)
    return Pair(one, two, differ, ~longer & (one.last - one.first == two.last - two.first))


def _side(encoder: Encoder, windows: Windows, longer: np.ndarray) -> Side:
    encoded: Encoded = encoder.encode_batch(windows.letters, lengths=windows.length)
    holds = encoded.end > encoded.start
    begin = np.maximum(windows.start - longer, 0)[:, None]
    end = np.minimum(windows.end + longer, windows.length)[:, None]
    touched = holds & (encoded.start < end) & (encoded.end > begin)
    first = touched.argmax(1)
    counts = holds.sum(1)
    prefix, suffix = len(encoder.prefix_ids), len(encoder.suffix_ids)
    return Side(
        [row[: prefix + count + suffix] for row, count in zip(encoded.ids, counts, strict=True)],
        first,
        first + touched.sum(1),
        [(prefix, prefix + count) for count in counts.tolist()],
    )
