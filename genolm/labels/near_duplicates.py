"""Find pairs of sequences that share many k-mers, of either strand, without comparing all pairs.

1. Candidates share a seed: a canonical k-mer of 13 letters, or 16 where there is much sequence, in an inverted index.
   Two changes leave a run of 13 in 41 bp wherever they fall, 5 % of changes a run of 16 in 100 bp or more. Of rows
   below 100 bp in a table of over 8 Mb, a copy whose changes leave no run of 16 is missed.
2. Every candidate is then compared exactly, by the distinct canonical k-mers both have: no pair is invented.

Seeds that very many sequences share (a repeat) pair each with some of the others only, and a sequence is compared with
the candidates that share most seeds with it. So the cost stays linear in the letters; of a family of thousands nearly
every member is found, but not every pair. Cost: 100,000 sequences of 300 bp in about 10 s, a million of 200 bp in 50 s.

Source: containment of k-mer sets, Broder, "On the resemblance and containment of documents", SEQUENCES 1997; sampling
of seeds by hash, Irber et al., doi:10.1101/2022.01.11.475838.
"""

from collections.abc import Iterator

import numpy as np

from genolm.genome.alphabet import BASE_INDEX, to_array

_SHORT_SEED, _LONG_SEED = 13, 16
_MANY_LETTERS = 1 << 23
"""Above this, 13-mers are shared by chance too often: 2^23 letters may hold a quarter of all there are."""
_MAX_SEEDS = 1 << 25
"""Above this many letters, seeds are sampled by their hash, so that memory stays at 2 GB, or 4 GB among repeats."""
_MIN_PARTNERS, _MAX_PARTNERS = 4, 256
_MAX_PAIRS = 1 << 25
"""A seed pairs each sequence that has it with so many others, the more the fewer seeds there are in all."""
_MAX_COMPARED = 32
"""Candidates, those that share most seeds, that a sequence is compared with on another side."""
_BATCH = 1 << 21


def codes(sequences: list[str], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all canonical k-mers of sequences.

    Args:
        sequences: n texts of A, C, G, T and other letters; k-mers with another letter are left out.
        k: at most 16.

    Returns:
        (m,) uint64 codes, A, C, G, T being two bits each, the smaller of both strands; (m,) int64, whose they are.
    """
    joined = BASE_INDEX[to_array("N".join(sequences))]
    count = len(joined) - k + 1
    if count < 1:
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
    forward, backward = np.zeros(count, dtype=np.uint64), np.zeros(count, dtype=np.uint64)
    wide = joined.astype(np.uint64)
    for i in range(k):
        base = wide[i : i + count]
        forward <<= np.uint64(2)
        forward |= base & np.uint64(3)
        backward |= (np.uint64(3) - (base & np.uint64(3))) << np.uint64(2 * i)
    others = np.concatenate([[0], np.cumsum(joined > 3)])
    whole = others[k:] == others[:-k]
    ends = np.cumsum([len(sequence) + 1 for sequence in sequences])
    owner = np.repeat(np.arange(len(sequences)), np.diff(ends, prepend=0))[:count]
    return np.minimum(forward, backward)[whole], owner[whole]


def kmer_sets(sequences: list[str], k: int) -> list[np.ndarray]:
    """Return the distinct canonical k-mers of every sequence, each (m,) uint64 and ascending; k is at most 16."""
    sets = []
    for first, last in _batches(sequences):
        kmers, owner = codes(sequences[first:last], k)
        packed = _sorted_distinct(owner.astype(np.uint64) << np.uint64(32) | kmers)
        bounds = np.searchsorted(packed, np.arange(last - first + 1, dtype=np.uint64) << np.uint64(32))
        packed &= np.uint64(0xFFFFFFFF)
        sets += [packed[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]
    return sets


def _batches(sequences: list[str]) -> Iterator[tuple[int, int]]:
    """Yield runs of sequences, first and one past the last, of about `_BATCH` letters each."""
    batch = np.cumsum([len(sequence) for sequence in sequences]) // _BATCH
    cuts = [0, *(np.flatnonzero(np.diff(batch)) + 1).tolist(), len(sequences)]
    yield from zip(cuts, cuts[1:], strict=False)


def _sorted_distinct(values: np.ndarray) -> np.ndarray:
    values = np.sort(values)
    return values[np.append(True, values[1:] != values[:-1])] if len(values) else values


def candidate_pairs(sequences: list[str], side: np.ndarray) -> np.ndarray:
    """Return pairs of sequences on different sides that share a seed; for each sequence those that share most.

    Args:
        sequences: n texts.
        side: (n,) small integers, ascending; pairs within one side are not sought.

    Returns:
        (m, 2) int64, distinct, the first of each pair on the lower side.
    """
    entries = _index(sequences)
    if not len(entries):
        return np.zeros((0, 2), dtype=np.int64)
    seeds = entries >> np.uint64(32)
    starts = np.flatnonzero(np.append(True, seeds[1:] != seeds[:-1]))
    owner = (entries & np.uint64(0xFFFFFFFF)).astype(np.int64)
    ends = np.append(starts[1:], len(entries))
    # Within a bucket owners ascend, and so do sides: the first and last tell whether it holds more than one.
    mixed = side[owner[starts]] != side[owner[ends - 1]]
    sizes = (ends - starts)[mixed]
    owner = owner[np.repeat(mixed, ends - starts)]
    bucket = np.repeat(np.arange(len(sizes)), sizes)
    most = min(max(_MIN_PARTNERS, _MAX_PAIRS // len(entries)), _MAX_PARTNERS)
    pairs_of_sides = [np.zeros(0, dtype=np.uint64)]
    for low, high in _pairs_of_sides(side):
        both = [
            *_partners(owner, bucket, len(sizes), side, low, high, most),
            *_partners(owner, bucket, len(sizes), side, high, low, most),
        ]
        pairs_of_sides.append(_best(*np.unique(np.concatenate(both), return_counts=True)))
    pairs = np.concatenate(pairs_of_sides)
    return np.stack([pairs >> np.uint64(32), pairs & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int64)


def _pairs_of_sides(side: np.ndarray) -> list[tuple[int, int]]:
    sides = np.unique(side).tolist()
    return [(low, high) for i, low in enumerate(sides) for high in sides[i + 1 :]]


def _index(sequences: list[str]) -> np.ndarray:
    """Return seeds and owners, packed in 64 bits, seed first, sorted and distinct."""
    total = sum(len(sequence) for sequence in sequences)
    k = _SHORT_SEED if total <= _MANY_LETTERS else _LONG_SEED
    every = -(-total // _MAX_SEEDS)
    parts = []
    for first, last in _batches(sequences):
        seeds, owner = codes(sequences[first:last], k)
        if every > 1:
            kept = _hash(seeds) % np.uint64(every) == 0
            seeds, owner = seeds[kept], owner[kept]
        parts.append(seeds << np.uint64(32) | (owner + first).astype(np.uint64))
    return _sorted_distinct(np.concatenate(parts))


def _hash(seeds: np.ndarray) -> np.ndarray:
    mixed = (seeds + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    return mixed ^ (mixed >> np.uint64(29))


def _partners(owner, bucket, num_buckets: int, side, mine: int, other: int, most: int) -> Iterator[np.ndarray]:
    """Yield pairs of every entry of one side with some of the other side's in its bucket, packed in 64 bits.

    All of them up to `most`, else so many, another choice for every entry.
    """
    theirs = owner[side[owner] == other]
    counts = np.bincount(bucket[side[owner] == other], minlength=num_buckets)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    here = np.flatnonzero((side[owner] == mine) & (counts[bucket] > 0))
    for i in range(most):
        here = here[counts[bucket[here]] > i]
        count = counts[bucket[here]]
        spread = (_hash(here.astype(np.uint64)) >> np.uint64(33)).astype(np.int64)
        which = np.where(count <= most, i, (spread + i * (count // most)) % count)
        partner = theirs[first[bucket[here]] + which]
        low, high = (owner[here], partner) if mine < other else (partner, owner[here])
        yield low.astype(np.uint64) << np.uint64(32) | high.astype(np.uint64)


def _best(pairs: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the packed pairs that are among the `_MAX_COMPARED` of greatest count of either of their members."""
    kept = np.zeros(len(pairs), dtype=bool)
    for member in (pairs >> np.uint64(32), pairs & np.uint64(0xFFFFFFFF)):
        order = np.lexsort((-counts, member))
        begins = np.append(True, member[order][1:] != member[order][:-1])[: len(pairs)]
        rank = np.arange(len(pairs)) - np.maximum.accumulate(np.where(begins, np.arange(len(pairs)), 0))
        kept[order[rank < _MAX_COMPARED]] = True
    return pairs[kept]


def shared_fraction(sequences: list[str], pairs: np.ndarray, k: int, min_shared: int) -> np.ndarray:
    """Compare pairs exactly.

    Args:
        sequences: n texts.
        pairs: (m, 2) int64.
        k: letters of a k-mer, at most 16.
        min_shared: a pair that shares fewer distinct k-mers counts as sharing none.

    Returns:
        (m,) float64: distinct canonical k-mers that both have, divided by those of the one that has fewer.
    """
    involved, position = np.unique(pairs, return_inverse=True)
    sets = kmer_sets([sequences[i] for i in involved], k)
    fractions = np.zeros(len(pairs))
    for at, (first, second) in enumerate(position.reshape(-1, 2).tolist()):
        a, b = sets[first], sets[second]
        few, many = (a, b) if len(a) <= len(b) else (b, a)
        if len(few) >= min_shared:
            place = np.searchsorted(many, few)
            shared = np.count_nonzero(many[np.minimum(place, len(many) - 1)] == few)
            fractions[at] = shared / len(few) if shared >= min_shared else 0.0
    return fractions
