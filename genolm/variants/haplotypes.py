"""Alleles → windows of letters, one of REF and one of ALT, on either strand → rows of tokens.

A window of W bases starts W // 2 bases before the first changed base of the forward strand, so that a single base
stands at index W // 2; on the other strand, where the same windows are read as reverse complements, it stands at
W - 1 - W // 2, which is W // 2 - 1 for even W. Where the allele changes the length, both windows keep their left edge
and both have W bases: the shorter haplotype shows more of its right flank. With a step above 1 windows start at
multiples of it only, up to step - 1 bases earlier, so that neighbours share the window of REF. At the ends of a contig
windows are shorter, as in training.

Touched are the tokens that hold a changed base and, where the length changes, one base on each side. With BPE, whose
cuts move, all tokens from the first to the last that differ belong to them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genolm.genome.alphabet import reverse_complement, to_array
from genolm.genome.reference import Reference
from genolm.tokenizers.encode import Encoder
from genolm.variants.alleles import Allele


@dataclass(frozen=True)
class Windows:
    """Windows of one haplotype of n alleles.

    Attributes:
        letters: (n, W) uint8; what lies beyond a row's length has no meaning.
        length: (n,) int64, letters of each row.
        start: (n,) int64, index of the first changed base.
        end: (n,) int64, one past the last; equal to `start` where the haplotype lacks what the other has.
    """

    letters: np.ndarray
    length: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def on_other_strand(self) -> "Windows":
        """Return the reverse complements, in which the changed bases are the same ones."""
        turned = np.zeros_like(self.letters)
        for length in np.unique(self.length):  # nearly always one
            rows = self.length == length
            turned[rows, :length] = reverse_complement(self.letters[rows, :length])
        return Windows(turned, self.length, self.length - self.end, self.length - self.start)


def windows_of(
    store: Reference, alleles: Sequence[Allele], window_bp: int, shift: int = 0, step: int = 1
) -> tuple[Windows, Windows, np.ndarray]:
    """Cut the windows of alleles out of a genome.

    Args:
        store: the genome.
        alleles: n of them; none longer than window_bp // 2.
        window_bp: W.
        shift: bases by which windows start earlier, so that the changed base stands at W // 2 + shift: the phase of a
            k-mer.
        step: windows start at multiples of it, counted from W // 2 bases before the contig.

    Returns:
        Windows of REF; windows of ALT; and (n,) bool, which of them an end of the contig has cut short.
    """
    num = len(alleles)
    ref, alt = (np.zeros((num, window_bp), dtype=np.uint8) for _ in range(2))
    full = np.array([window_bp // 2 + shift + allele.start % step for allele in alleles], dtype=np.int64)
    before = np.minimum(full, [allele.start for allele in alleles]).astype(np.int64)
    lengths = np.zeros((2, num), dtype=np.int64)
    changed = np.array([(len(allele.ref), len(allele.alt)) for allele in alleles], dtype=np.int64).reshape(num, 2)
    for row, allele in enumerate(alleles):
        first = allele.start - int(before[row])
        contig_end = int(store.lengths[allele.contig])
        reach = store.fetch(allele.contig, first, min(contig_end, first + window_bp + len(allele.ref)))
        at = int(before[row])
        shown = reach[:window_bp]
        ref[row, : len(shown)] = shown
        whole = np.concatenate([reach[:at], to_array(allele.alt), reach[at + len(allele.ref) :]])[:window_bp]
        alt[row, : len(whole)] = whole
        lengths[:, row] = len(shown), len(whole)
    cut = (before < full) | (lengths < window_bp).any(axis=0)
    return (
        Windows(ref, lengths[0], before, np.minimum(before + changed[:, 0], lengths[0])),
        Windows(alt, lengths[1], before, np.minimum(before + changed[:, 1], lengths[1])),
        cut,
    )


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
    encoded = encoder.encode_batch(windows.letters, lengths=windows.length)
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
