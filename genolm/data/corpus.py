"""Turn sample numbers into training examples: window and strand → bases → token ids and loss weights.

An epoch covers each region once, except for less than a window: it is tiled from a start drawn anew each epoch, and
the tile that would run over its end is moved back. Tiles are visited in a shuffled order that needs no table
(`rng.permute`). With sampling weights other than `base` windows are drawn with replacement. Either way the window and
its strand are functions of (seed, sample).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from genolm.data import rng
from genolm.genome.alphabet import BASE_INDEX, COMPLEMENT, IS_SOFT_MASKED, reverse_complement, translate
from genolm.genome.regions import Regions
from genolm.genome.store import Store
from genolm.tokenizers.encode import Encoder

STREAM_ORDER, STREAM_ROTATION, STREAM_STRAND, STREAM_UNIT, STREAM_START = range(5)


@dataclass(frozen=True)
class Examples:
    """Token ids with their loss weights.

    Attributes:
        ids: (B, L) int64, padded on the right.
        weight: (B, L) float32: mean weight of the token's bases (1, or less where soft-masked); 0 for tokens with
            anything but A, C, G and T, for special tokens and for padding.
        length: (B,) int64, tokens before the padding.
    """

    ids: np.ndarray
    weight: np.ndarray
    length: np.ndarray


def base_weights(soft_masked_weight: float) -> np.ndarray:
    """Return (256,) float32: 1 for A, C, G, T; `soft_masked_weight` for a, c, g, t; 0 for everything else."""
    return np.where(BASE_INDEX < 4, np.where(IS_SOFT_MASKED, soft_masked_weight, 1.0), 0.0).astype(np.float32)


def encode_rows(
    encoder: Encoder, letters: np.ndarray, lengths: np.ndarray, weights: np.ndarray, max_tokens: int | None = None
) -> Examples:
    """Encode sequences and compute the loss weights of their tokens.

    Args:
        encoder: sequence → ids.
        letters: (B, W) uint8, the sequences.
        lengths: (B,) bases in each row.
        weights: (256,) float32, as `base_weights` returns.
        max_tokens: tokens in each row; None for as many as the longest has.
    """
    encoded = encoder.encode_batch(letters, lengths=lengths, max_tokens=max_tokens)
    ids, start, end = encoded.ids, encoded.start, encoded.end
    weight = (end > start).astype(np.float32)
    # Rows whose bases all weigh 1 are done.
    rest = np.flatnonzero(translate(letters, weights != 1.0).any(axis=1))
    if len(rest):
        weight[rest] = _mean_weights(letters[rest], weights, start[rest], end[rest])
    return Examples(ids, weight, encoded.length)


def _mean_weights(letters: np.ndarray, weights: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return (B, L) float32: mean weight of the bases [start, end) of each token; 0 with anything but A, C, G, T."""
    if letters.shape == start.shape and (end - start <= 1).all():
        return weights[letters] * (end > start)
    rows = np.arange(len(letters))[:, None]
    sums = np.zeros((len(letters), letters.shape[1] + 1), dtype=np.float32)
    np.cumsum(weights[letters], axis=1, out=sums[:, 1:])
    others = np.zeros((len(letters), letters.shape[1] + 1), dtype=np.int32)
    np.cumsum(BASE_INDEX[letters] == 4, axis=1, out=others[:, 1:])
    width = end - start
    whole = (width > 0) & (others[rows, end] == others[rows, start])
    return np.where(whole, (sums[rows, end] - sums[rows, start]) / np.maximum(width, 1), 0.0).astype(np.float32)


class Corpus:
    """Training examples of one split of a store, addressed by sample number.

    Args:
        store: the genomes.
        regions: where windows are sampled.
        encoder: sequence → ids.
        window_bp: window length in bp.
        seed: of everything random.
        reverse_complement: probability that a window is read from the other strand.
        soft_masked_weight: loss weight of lower-case letters.
        by: bases, contigs or genomes are equally likely.
        temperature: genomes are drawn with probability ∝ bases^(1/temperature); 1 leaves `by` as it is.
        pack: concatenate contigs shorter than a window, instead of padding each.
        eos: end each packed contig with EOS; a part of a longer contig has none.
    """

    def __init__(
        self,
        store: Store,
        regions: Regions,
        encoder: Encoder,
        window_bp: int,
        *,
        seed: int = 0,
        reverse_complement: float = 0.5,
        soft_masked_weight: float = 1.0,
        by: Literal["base", "contig", "genome"] = "base",
        temperature: float = 1.0,
        pack: bool = False,
        eos: bool = True,
    ):
        if not len(regions):
            raise ValueError("there is no region to draw windows from; check data.include and the splits")
        self.store, self.encoder, self.window_bp, self.seed = store, encoder, window_bp, seed
        self.reverse_complement, self.eos = reverse_complement, eos
        self._weights = base_weights(soft_masked_weight)
        self._packs = _pack(store, regions, window_bp, eos_letters=1) if pack else []
        packed = {row for members in self._packs for row in members}
        alone = [row for row in range(len(regions)) if row not in packed]
        # A unit is a region on its own, or a pack; units are numbered regions first.
        self._contig, self._start = regions.contig[alone], regions.start[alone]
        self._length = regions.length[alone]
        self._regions = regions
        tiles = np.concatenate([-(-self._length // window_bp), np.ones(len(self._packs), dtype=np.int64)])
        self._first_tile = np.concatenate([[0], np.cumsum(tiles)])
        self._cdf = None
        if by != "base" or temperature != 1.0:
            members = [[row] for row in alone] + self._packs
            self._cdf = np.cumsum(_unit_probability(store, regions, members, by, temperature))
        self.windows_per_epoch = int(self._first_tile[-1])
        self.may_pad = bool((self._length < window_bp).any() or self._packs or encoder.kind in ("bpe", "other"))
        self.length_tokens = length_tokens(encoder, window_bp, lambda: self._letters(np.arange(512))[:2])

    def windows(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return unit, first base, length and strand (True = reverse complement) of samples, each (B,)."""
        if self._cdf is None:
            epoch, index = np.divmod(samples, self.windows_per_epoch)
            tile = rng.permute(self.seed, STREAM_ORDER, index, self.windows_per_epoch, epoch)
            unit = np.searchsorted(self._first_tile, tile, side="right") - 1
        else:
            unit = np.searchsorted(
                self._cdf, rng.uniform(self.seed, STREAM_UNIT, samples) * self._cdf[-1], side="right"
            )
            unit = np.minimum(unit, len(self._cdf) - 1)
        single = unit < len(self._length)
        region = np.where(single, unit, 0)
        size = self._length[region] if len(self._length) else np.ones_like(unit)
        length = np.minimum(size, self.window_bp)
        if self._cdf is None:
            turn = rng.integers(self.seed, STREAM_ROTATION, epoch * len(self._first_tile) + unit, size)
            offset = ((tile - self._first_tile[unit]) * self.window_bp + turn) % size
            offset = np.minimum(offset, size - length)
        else:
            offset = rng.integers(self.seed, STREAM_START, samples, size - length + 1)
        start = (self._start[region] if len(self._start) else 0) + offset
        strand = rng.uniform(self.seed, STREAM_STRAND, samples) < self.reverse_complement
        return unit, start, length, strand

    def _letters(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (B, W) bases, (B,) lengths and (B,) pack numbers (-1 for a window of one region)."""
        unit, start, length, flip = self.windows(samples)
        letters = np.zeros((len(samples), self.window_bp), dtype=np.uint8)
        pack = np.where(unit < len(self._length), -1, unit - len(self._length))
        for n in np.unique(length[pack < 0]).tolist():
            rows = np.flatnonzero((length == n) & (pack < 0))
            letters[rows, :n] = self.store.fetch_rows(self._contig[unit[rows]], start[rows], n)
        flip_rows(letters, length, flip & (pack < 0))
        return letters, length, pack

    def examples(self, samples: Sequence[int] | np.ndarray) -> Examples:
        """Return the examples of these sample numbers; each row depends on its own number only."""
        samples = np.asarray(samples, dtype=np.int64)
        letters, lengths, pack = self._letters(samples)
        examples = encode_rows(self.encoder, letters, lengths, self._weights, self.length_tokens)
        for row in np.flatnonzero(pack >= 0).tolist():
            flip = rng.uniform(self.seed, STREAM_STRAND, samples[row : row + 1])[0] < self.reverse_complement
            pieces = []
            for member in self._packs[pack[row]]:
                contig, start, end = (
                    int(x[member]) for x in (self._regions.contig, self._regions.start, self._regions.end)
                )
                pieces.append((self.store.fetch(contig, start, end), end - start == self.store.lengths[contig]))
            fill_packed(examples, row, pieces, flip, self.encoder, self._weights, self.eos)
        return examples


def flip_rows(letters: np.ndarray, lengths: np.ndarray, flip: np.ndarray) -> None:
    """Reverse-complement, in place, the first `lengths` bases of the rows (B, W) where `flip` (B,) is True."""
    full = flip & (lengths == letters.shape[1])
    if full.any():
        letters[full] = translate(letters[full], COMPLEMENT)[:, ::-1]
    for row in np.flatnonzero(flip & ~full):
        letters[row, : lengths[row]] = reverse_complement(letters[row, : lengths[row]])


def fill_packed(
    examples: Examples,
    row: int,
    pieces: Sequence[tuple[np.ndarray, bool]],
    flip: bool,
    encoder: Encoder,
    weights: np.ndarray,
    eos: bool,
) -> None:
    """Overwrite a row of examples with short pieces (bases, whether they are a whole sequence), read from one strand.

    A whole sequence ends with EOS, which is predicted with weight 1. Parts of sequences, and all pieces where `eos` is
    False or the tokenizer has no EOS, are separated by padding.
    """
    ids, weight = [], []
    for letters, whole in pieces:
        ends = eos and whole and encoder.eos_id is not None
        letters = reverse_complement(letters) if flip else letters
        one = encode_rows(encoder, letters[None], np.array([len(letters)]), weights)
        ids += [one.ids[0], [encoder.eos_id if ends else encoder.pad_id]]
        weight += [one.weight[0], [1.0 if ends else 0.0]]
    n = min(sum(map(len, ids)), examples.ids.shape[1])
    examples.ids[row], examples.weight[row], examples.length[row] = encoder.pad_id, 0.0, n
    examples.ids[row, :n], examples.weight[row, :n] = np.concatenate(ids)[:n], np.concatenate(weight)[:n]


def length_tokens(encoder: Encoder, window_bp: int, some: Callable[[], tuple[np.ndarray, np.ndarray]]) -> int:
    """Return the tokens in a row: exact for tokenizers of fixed width, else the 5th percentile of some windows.

    Rows are then almost never padded; the few bases beyond the last token come in another epoch's window.

    Args:
        encoder: sequence → ids.
        window_bp: window length in bp.
        some: returns bases (B, W) and lengths (B,) of a few windows.
    """
    if encoder.kind not in ("bpe", "other"):
        return encoder.encode_batch(np.full((1, window_bp), ord("A"), dtype=np.uint8)).ids.shape[1]
    letters, lengths = some()
    return max(8, int(np.percentile(encoder.encode_batch(letters, lengths).length, 5)))


def _pack(store: Store, regions: Regions, window_bp: int, eos_letters: int) -> list[list[int]]:
    """Group regions shorter than a window into packs, in order, never across genomes."""
    packs: list[list[int]] = []
    room, genome = 0, None
    for row, length in enumerate(regions.length.tolist()):
        if length >= window_bp:
            continue
        here = store.contigs[int(regions.contig[row])].genome
        if not packs or here != genome or length + eos_letters > room:
            packs.append([])
            room, genome = window_bp, here
        packs[-1].append(row)
        room -= length + eos_letters
    return packs


def _unit_probability(store, regions: Regions, members: list[list[int]], by: str, temperature: float) -> np.ndarray:
    """Return (U,) weights of units, by contig or genome, tempered across genomes."""
    genome_of = [store.contigs[int(c)].genome for c in regions.contig]
    length = regions.length.astype(np.float64)
    genomes = {name: i for i, name in enumerate(dict.fromkeys(genome_of))}
    genome = np.array([genomes[name] for name in genome_of])
    genome_bases = np.bincount(genome, weights=length)
    contig_bases = np.bincount(regions.contig, weights=length)
    weight = length / contig_bases[regions.contig] if by == "contig" else length.copy()
    if by == "genome":
        weight = weight / np.bincount(genome, weights=weight)[genome]
    if temperature != 1.0:
        weight = weight / np.bincount(genome, weights=weight)[genome] * genome_bases[genome] ** (1 / temperature)
    return np.array([weight[rows].sum() for rows in members])
