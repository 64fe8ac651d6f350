"""Find leakage between splits: copies, reverse complements, overlaps and near-duplicates.

What counts as a near-duplicate: two sequences that share at least a quarter of the distinct 11-mers of the one that has
fewer, strands ignored. A copy in which a fraction d of the bases is changed keeps about (1 - d)^11 of them: 57 % at
5 %, 31 % at 10 %; two changes in 41 bp leave 29 % even where they do most harm. Unrelated sequences of 300 bp share
0.01 %. Windows of 300 bp that overlap by 83 bp or more count too. Above 10 kb, k grows.

They are found without comparing all pairs:

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

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from genolm.genome.alphabet import BASE_INDEX, to_array
from genolm.genome.interval import Interval
from genolm.labels.dataset import SPLITS, Labelled
from genolm.labels.split import canonical_strand

THRESHOLD = 0.25
MIN_SHARED = 9
"""Distinct k-mers that near-duplicates share at least: a poly-A or a (CA)n has one or two, and is like any other."""
NUM_EXAMPLES = 20
SIDES = ((0, 1), (0, 2), (1, 2))
"""Pairs of splits, by their place in `SPLITS`."""
_PLAIN = {
    "identical": "copies",
    "reverse_complement": "reverse complements",
    "overlapping": "overlapping intervals",
    "near_duplicate": "near-duplicates",
}


@dataclass(frozen=True)
class Shared:
    """Rows of two splits that are alike in one way.

    Attributes:
        first: (a,) int64, rows of the first split with a like row in the second, ascending.
        second: (b,) int64, rows of the second split with a like row in the first, ascending.
        partner: (b,) int64, for each of `second` one row of the first split that it is like.
    """

    first: np.ndarray
    second: np.ndarray
    partner: np.ndarray


@dataclass(frozen=True)
class Leakage:
    """Rows that splits share.

    Attributes:
        shared: (first split, second split) → kind → rows. Kinds: identical; reverse_complement, of a row that differs;
            overlapping, where there are intervals; near_duplicate, of another sequence.
        contradicting: (first split, second split) → rows of the second whose copy, of either strand, has another label.
        num_contradicting: rows of all splits, and of one and the same split, whose copy has another label.
        sizes: split → rows.
        ids: (n,) str, of the rows.
        k: letters of the k-mers compared.
    """

    shared: dict[tuple[str, str], dict[str, Shared]]
    contradicting: dict[tuple[str, str], np.ndarray]
    num_contradicting: int
    sizes: dict[str, int]
    ids: np.ndarray = field(repr=False)
    k: int

    def rows(self, first: str, second: str) -> np.ndarray:
        """Return (b,) int64, rows of the second split that are like any of the first."""
        return _union([rows.second for rows in self.shared.get((first, second), {}).values()])

    def rows_to_drop(self) -> np.ndarray:
        """Return (m,) int64, rows of train that are like rows of valid or test, and rows of valid like rows of test.

        Test is left as it was published. Without these rows nothing is shared.
        """
        return _union([rows.first for by_kind in self.shared.values() for rows in by_kind.values()])

    def __bool__(self) -> bool:
        return bool(len(self.rows_to_drop()))

    def to_dict(self) -> dict[str, Any]:
        """Return numbers, and up to `NUM_EXAMPLES` pairs of ids each, for JSON."""
        report: dict[str, Any] = {"k": self.k, "threshold": THRESHOLD, "contradicting": self.num_contradicting}
        for (first, second), kinds in self.shared.items():
            pair: dict[str, Any] = {"of": self.sizes[second], "any": len(self.rows(first, second))}
            pair["contradicting"] = len(self.contradicting[first, second])
            for kind, rows in kinds.items():
                examples = zip(rows.partner[:NUM_EXAMPLES], rows.second[:NUM_EXAMPLES], strict=True)
                pair[kind] = {
                    second: len(rows.second),
                    first: len(rows.first),
                    "examples": [[str(self.ids[a]), str(self.ids[b])] for a, b in examples],
                }
            report[f"{first}/{second}"] = pair
        return report

    def describe(self) -> list[str]:
        """Return lines for the terminal: one for each pair of splits that share rows, or one that says none do."""
        lines = []
        for (first, second), kinds in self.shared.items():
            parts = [f"{_PLAIN[kind]} {len(rows.second):,}" for kind, rows in kinds.items() if len(rows.second)]
            if not parts:
                continue
            if len(self.contradicting[first, second]):
                parts.append(f"with another label there {len(self.contradicting[first, second]):,}")
            count, size = len(self.rows(first, second)), self.sizes[second]
            lines.append(f"leakage: {count:,} of {size:,} {second} rows are like {first} rows ({', '.join(parts)})")
        if not lines:
            compared = ", ".join(f"{first} and {second}" for first, second in self.shared)
            lines.append(
                f"leakage: none between {compared}" if compared else "leakage: one split only, nothing to find"
            )
        if self.num_contradicting:
            lines.append(f"labels: {self.num_contradicting:,} of {sum(self.sizes.values()):,} rows contradict a copy")
        return lines


def find_leakage(labelled: Labelled, split: np.ndarray | None = None) -> Leakage:
    """Find rows of valid and test that are like rows of train, and rows of test that are like rows of valid.

    Args:
        labelled: the rows.
        split: (n,) str, train, valid or test, other rows being left out; None for the table's own.

    Returns:
        Rows that splits share. Sequences of fewer than `k + MIN_SHARED - 1` bases are never near-duplicates.
    """
    split = labelled.split if split is None else split
    k = choose_k(max((len(sequence) for sequence in labelled.sequences), default=0))
    side = np.full(len(split), -1, dtype=np.int64)
    for i, name in enumerate(SPLITS):
        side[split == name] = i
    names = [canonical_strand(sequence) for sequence in labelled.sequences]
    seen: dict[str, int] = {}
    group = np.array([seen.setdefault(name, len(seen)) for name in names], dtype=np.int64)
    # The strand a row is of, 0 or 1; a sequence that is its own reverse complement has but one.
    strand = np.array([name != sequence for name, sequence in zip(names, labelled.sequences, strict=True)], dtype=int)
    exact = group * 2 + strand
    near = _near_groups(labelled.sequences, group, side, k)
    shared, contradicting = {}, {}
    for low, high in SIDES:
        a, b = np.flatnonzero(side == low), np.flatnonzero(side == high)
        if not len(a) or not len(b):
            continue
        pair = (SPLITS[low], SPLITS[high])
        shared[pair] = {
            "identical": _alike(a, b, exact[a], exact[b]),
            "reverse_complement": _alike(a, b, exact[a], exact[b] ^ 1),
            "near_duplicate": _near_rows(a, b, group, near.get((low, high), np.zeros((0, 2), dtype=np.int64))),
        }
        if labelled.intervals is not None:
            shared[pair]["overlapping"] = _overlapping(a, b, labelled.intervals)
        contradicting[pair] = _contradicting(a, b, group, labelled)
    used = np.flatnonzero(side >= 0)
    sizes = {name: int(np.count_nonzero(side == i)) for i, name in enumerate(SPLITS)}
    num_contradicting = len(_contradicting(used, used, group, labelled))
    return Leakage(shared, contradicting, num_contradicting, sizes, labelled.ids, k)


def choose_k(longest: int) -> int:
    """Return 11, 13 or 15: the first of which a sequence of this many bases, unlike another, has at most 1 in 200."""
    return next((k for k in (11, 13) if 200 * longest <= 4**k // 2), 15)


def _union(parts: list[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *parts]))


def _alike(a: np.ndarray, b: np.ndarray, key_a: np.ndarray, key_b: np.ndarray) -> Shared:
    """Return rows a and b whose keys occur on the other side."""
    keys, at = np.unique(key_a, return_index=True)
    there = np.isin(key_b, keys)
    return Shared(a[np.isin(key_a, key_b)], b[there], a[at[np.searchsorted(keys, key_b[there])]])


def _near_groups(sequences, group: np.ndarray, side: np.ndarray, k: int):
    """Return (low side, high side) → (m, 2) int64, groups of near-duplicates; one row stands for those of its group."""
    used = np.flatnonzero(side >= 0)
    if not len(used):
        return {}
    _, at = np.unique(side[used] * (int(group.max()) + 1) + group[used], return_index=True)
    rows = used[at]  # by side, as `candidates` needs
    texts = [sequences[row] for row in rows]
    pairs = candidate_pairs(texts, side[rows])
    pairs = pairs[group[rows[pairs[:, 0]]] != group[rows[pairs[:, 1]]]]
    pairs = pairs[shared_fraction(texts, pairs, k) >= THRESHOLD]
    members = rows[pairs]
    sides, groups = side[members], group[members]
    return {(low, high): groups[(sides[:, 0] == low) & (sides[:, 1] == high)] for low, high in SIDES}


def _near_rows(a: np.ndarray, b: np.ndarray, group: np.ndarray, pairs: np.ndarray) -> Shared:
    """Return the rows of groups that are near-duplicates."""
    groups_b, at = np.unique(pairs[:, 1], return_index=True)
    groups_a, first_row = np.unique(group[a], return_index=True)
    second = b[np.isin(group[b], groups_b)]
    partner = pairs[at[np.searchsorted(groups_b, group[second])], 0]
    return Shared(a[np.isin(group[a], pairs[:, 0])], second, a[first_row[np.searchsorted(groups_a, partner)]])


def _overlapping(a: np.ndarray, b: np.ndarray, intervals: list[Interval]) -> Shared:
    """Return rows whose intervals share a base, of whichever strand."""
    contigs: dict[str, int] = {}
    longest = max(interval.end for interval in intervals) + 1
    # Contigs laid end to end, so that one sorted axis serves for all.
    offset = np.array([contigs.setdefault(interval.contig, len(contigs)) for interval in intervals]) * longest
    start = offset + np.array([interval.start for interval in intervals])
    end = offset + np.array([interval.end for interval in intervals])
    hit, partner = _first_overlap(start[b], end[b], start[a], end[a])
    back, _ = _first_overlap(start[a], end[a], start[b], end[b])
    return Shared(a[back], b[hit], a[partner[hit]])


def _first_overlap(start, end, other_start, other_end) -> tuple[np.ndarray, np.ndarray]:
    """Return for each interval whether any other overlaps, (n,) bool, and one that does, (n,) int64."""
    order = np.argsort(other_start, kind="stable")
    reach = np.maximum.accumulate(other_end[order])
    # Of those that begin before this one ends, does the one that reaches furthest pass its start?
    before = np.searchsorted(other_start[order], end, side="left")
    hit = (before > 0) & (reach[np.maximum(before - 1, 0)] > start)
    furthest = np.searchsorted(reach, reach[np.maximum(before - 1, 0)], side="left")
    return hit, order[furthest]


def _contradicting(a: np.ndarray, b: np.ndarray, group: np.ndarray, labelled: Labelled) -> np.ndarray:
    """Return rows of b with another class or label than some row of a of the same sequence; NaN contradicts none."""
    if labelled.task.kind not in ("binary", "multiclass", "multilabel") or not len(a):
        return np.zeros(0, dtype=np.int64)
    labels = labelled.labels.reshape(len(labelled), -1).astype(np.float64)
    shape = (int(group.max()) + 1, labels.shape[1])
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    np.fmin.at(low, group[a], labels[a])
    np.fmax.at(high, group[a], labels[a])
    return b[((low[group[b]] < labels[b]) | (high[group[b]] > labels[b])).any(axis=1)]


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
    for low, high in itertools.combinations(np.unique(side).tolist(), 2):
        both = [
            *_partners(owner, bucket, len(sizes), side, low, high, most),
            *_partners(owner, bucket, len(sizes), side, high, low, most),
        ]
        pairs_of_sides.append(_best(*np.unique(np.concatenate(both), return_counts=True)))
    pairs = np.concatenate(pairs_of_sides)
    return np.stack([pairs >> np.uint64(32), pairs & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int64)


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


def shared_fraction(sequences: list[str], pairs: np.ndarray, k: int) -> np.ndarray:
    """Return distinct canonical k-mers, k at most 16, that pairs (m, 2) share, divided by those of the one with fewer.

    (m,) float64; 0 for a pair that shares fewer than `MIN_SHARED`.
    """
    involved, position = np.unique(pairs, return_inverse=True)
    sets = kmer_sets([sequences[i] for i in involved], k)
    fractions = np.zeros(len(pairs))
    for at, (first, second) in enumerate(position.reshape(-1, 2).tolist()):
        a, b = sets[first], sets[second]
        few, many = (a, b) if len(a) <= len(b) else (b, a)
        if len(few) >= MIN_SHARED:
            place = np.searchsorted(many, few)
            shared = np.count_nonzero(many[np.minimum(place, len(many) - 1)] == few)
            fractions[at] = shared / len(few) if shared >= MIN_SHARED else 0.0
    return fractions
