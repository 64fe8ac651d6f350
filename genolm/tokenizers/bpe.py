"""Train BPE tokenizers: the sample of the genomes, and merges of the most frequent pair of adjacent tokens, by numpy.

The training regions are cut into N chunks of `CHUNK_BP`. Where only n of them fit into `sample_bp`, every (N / n)-th is
taken, evenly over the genomes. Every other chunk is read from the reverse strand, so that the vocabulary serves both.
Chunks are upper-cased and cut at everything but A, C, G and T. Nothing is drawn at random: the same regions give the
same vocabulary.

Three things make it fast on DNA, whose words are as long as chromosomes. No word is ever cut out: tokens lie on one
array of bases, each with its number at its first and at its last base, so that both neighbours are found by look-ups,
and a merge writes three numbers. Pairs are listed where they are born: (x, y) first stands somewhere at the merge that
makes the younger of the two, and nowhere new afterwards. So counts only fall, a count that was true once is a bound for
ever, and a pair is counted again only when its bound is the greatest of all.

Nowhere new, because each token is made by one merge: whether a stretch of letters ends up as one token depends on these
letters alone. Merges over its ends would leave no token there, and all others are what they were in that stretch alone.

Time and memory are linear in the bases, 0.3 s and 13 MB a Mb, for contigs of any length.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer, models

from genolm.genome.alphabet import BASE_INDEX, reverse_complement, to_text
from genolm.genome.store import Store

CHUNK_BP = 512


@dataclass
class _Born:
    """Pairs first made by one merge: (x, token) by x, then (token, y) by y.

    Attributes:
        left, right: (n,) tokens of the pairs.
        bound: (n,) int64, upper bound of the current count of each; 0 for pairs that are never merged.
        place, start: pair i was first at the bases place[start[i] : start[i + 1]], ascending.
        seen: pair → places, where they were counted again since.
    """

    left: np.ndarray
    right: np.ndarray
    bound: np.ndarray
    place: np.ndarray
    start: np.ndarray
    seen: dict[int, np.ndarray]

    def places(self, pair: int) -> np.ndarray:
        return self.seen[pair] if pair in self.seen else self.place[self.start[pair] : self.start[pair + 1]]


def learn_merges(codes: np.ndarray, num_merges: int, max_token_bp: int) -> list[tuple[int, int]]:
    """Learn byte pair merges of A, C, G and T.

    Overlapping pairs are all counted (AAA is twice AA) and merged from the left. Of equally frequent pairs, the one
    whose younger token is the oldest comes first; then those with the younger on the right, then the older token's age.

    Args:
        codes: (length,) uint8, 0 … 3 for A, C, G, T; any other number separates its two sides.
        num_merges: most merges to learn; fewer where no pair is left.
        max_token_bp: longest token to make.

    Returns:
        Pairs of tokens in the order they are merged. Tokens 0 … 3 are the letters, 4 + i is what merge i makes.
    """
    none = np.uint32(0xFFFFFFFF) if num_merges > 0xFFF0 else np.uint16(0xFFFF)
    # Read as `begins[i]`: the token whose first base is i - 1. One place more on either side saves every check of ends.
    begins = np.full(len(codes) + 2, none)
    begins[1:-1] = np.where(codes < 4, codes.astype(none.dtype), none)
    ends = begins.copy()
    widths = np.ones(4 + num_merges, dtype=np.int64)
    rows = [_letters(begins, max_token_bp)]
    best = np.zeros(1 + num_merges, dtype=np.int64)
    best[0] = rows[0].bound.max()
    merges: list[tuple[int, int]] = []
    while len(merges) < num_merges:
        row = int(best[: len(rows)].argmax())
        born = rows[row]
        pair = int(born.bound.argmax())
        bound = int(born.bound[pair])
        if bound == 0:
            break
        left, right = int(born.left[pair]), int(born.right[pair])
        at, middle = born.places(pair), int(widths[left])
        at = at[(begins[at] == left) & (begins[at + middle] == right)]
        is_exact = len(at) == bound
        born.bound[pair] = 0 if is_exact else len(at)
        best[row] = born.bound.max()
        if not is_exact:
            born.seen[pair] = at
            continue
        born.seen.pop(pair, None)
        token, width = 4 + len(merges), middle + int(widths[right])
        merges.append((left, right))
        widths[token] = width
        at = _from_the_left(at, middle) if left == right else at
        begins[at] = ends[at + width - 1] = token
        begins[at + middle] = none
        rows.append(_neighbours(token, at, ends[at - 1], begins[at + width], widths, max_token_bp, none))
        best[len(rows) - 1] = rows[-1].bound.max(initial=0)
    return merges


def _letters(begins: np.ndarray, max_token_bp: int) -> _Born:
    """List the sixteen pairs of letters."""
    left, right = np.divmod(np.arange(16, dtype=begins.dtype), 4)
    both = (begins[:-1] < 4) & (begins[1:] < 4)
    pairs = np.where(both, begins[:-1] * 4 + begins[1:], 16).astype(np.uint8)
    kind = np.int32 if len(begins) < 1 << 31 else np.int64
    seen = {pair: np.flatnonzero(pairs == pair).astype(kind) for pair in range(16)}
    bound = np.array([len(seen[pair]) if max_token_bp > 1 else 0 for pair in range(16)])
    return _Born(left, right, bound, np.zeros(0, dtype=kind), np.zeros(17, dtype=np.int64), seen)


def _from_the_left(at: np.ndarray, width: int) -> np.ndarray:
    """Of places of (x, x), ascending, drop those whose first x is the second of the one before."""
    number = np.arange(len(at))
    first = np.maximum.accumulate(np.where(np.diff(at, prepend=at[:1] - width - 1) == width, 0, number))
    return at[(number - first) % 2 == 0]


def _neighbours(
    token: int,
    at: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    widths: np.ndarray,
    max_token_bp: int,
    none: np.unsignedinteger,
) -> _Born:
    """List the pairs of a new token with the tokens before and after it, each (n,), at its places (n,)."""
    # A pair of two new tokens is met from both of them; it is listed as seen from the first.
    rows = np.flatnonzero((before != none) & (before != token))
    rows = rows[np.argsort(before[rows], kind="stable")]
    lefts, left_places = before[rows], (at[rows] - widths[before[rows]]).astype(at.dtype)
    rows = np.flatnonzero(after != none)
    rows = rows[np.argsort(after[rows], kind="stable")]
    rights, right_places = after[rows], at[rows]
    others = np.concatenate([lefts, rights])
    is_first = np.diff(others, prepend=none) != 0
    is_first[len(lefts) : len(lefts) + 1] = True
    start = np.append(np.flatnonzero(is_first), len(others))
    other, num_left = others[start[:-1]], int(np.searchsorted(start, len(lefts)))
    bound = np.where(widths[other] + widths[token] <= max_token_bp, np.diff(start), 0)
    left, right = other.copy(), other.copy()
    left[num_left:], right[:num_left] = token, token
    return _Born(left, right, bound, np.concatenate([left_places, right_places]), start, {})


def train_sample(store: Store, regions: Sequence[tuple[int, int, int]], sample_bp: int = 20_000_000) -> Iterator[str]:
    """Yield sequences of A, C, G and T to train on, sampled by the rule of this module.

    Args:
        store: the genomes.
        regions: (contig, start, end) of the training split, 0-based half-open.
        sample_bp: most bases to sample.
    """
    chunks = [
        (contig, at, min(end, at + CHUNK_BP)) for contig, start, end in regions for at in range(start, end, CHUNK_BP)
    ]
    num_sampled = min(len(chunks), max(1, sample_bp // CHUNK_BP))
    for number in range(num_sampled):
        contig, start, end = chunks[number * len(chunks) // num_sampled]
        letters = store.fetch(contig, start, end) & 0xDF  # ASCII letters without bit 5 are upper case
        letters = reverse_complement(letters) if number % 2 else letters
        is_base = np.concatenate([[False], BASE_INDEX[letters] < 4, [False]])
        edges = np.flatnonzero(is_base[1:] != is_base[:-1])
        for first, last in zip(edges[::2], edges[1::2], strict=True):
            yield to_text(letters[first:last])


def train(
    sequences: Iterable[str], special_tokens: Sequence[str], letters: str, vocab_size: int, max_token_bp: int
) -> Tokenizer:
    """Train a vocabulary: special tokens, single letters, then merges in the order they are learned."""
    first = [*special_tokens, *sorted(letters)]
    codes = BASE_INDEX[np.frombuffer("N".join(sequences).encode(), dtype=np.uint8)]
    tokens, merges = list("ACGT"), []
    for left, right in learn_merges(codes, vocab_size - len(first), max_token_bp):
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    vocabulary = {token: number for number, token in enumerate([*first, *tokens[4:]])}
    unknown = "[UNK]" if "[UNK]" in special_tokens else None
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=False))
    backend.add_special_tokens(list(special_tokens))
    return backend


def bases_per_token(backend: Tokenizer, sequences: Iterable[str]) -> float:
    """Return the mean number of bases per token of a tokenizer over sequences."""
    sequences = list(sequences)
    tokens = sum(len(encoding.ids) for encoding in backend.encode_batch_fast(sequences, add_special_tokens=False))
    return sum(map(len, sequences)) / max(1, tokens)
