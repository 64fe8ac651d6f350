"""Encode byte arrays to token ids by numpy look-ups, without strings, equal to the tokenizer id for id.

Fixed-width vocabularies need no more than tables of 256 letters and 4^k k-mers. BPE, and any fast tokenizer that is
not ours, goes through the tokenizer's own Rust code. Every encoder also returns which bases each token covers.

Cost: about 0.5 ns a base for single nucleotides, 1 ns for k-mers, 5 ns for overlapping ones; for k-mers 4 to 7 times
that where rows have other letters than A, C, G, T, for overlapping ones 3 times.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from genolm.genome.alphabet import translate
from genolm.tokenizers.kmer import kmers

Cut = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""ids (B, M) int64; start and end (B, M) int32, 0-based half-open in the row; count (B,) of tokens in each row."""


@dataclass(frozen=True)
class Encoded:
    """Token ids and the bases under them.

    Attributes:
        ids: (B, L) int64, padded on the right.
        start: (B, L) int32, first base of the token, 0-based. Special tokens and padding have start == end.
        end: (B, L) int32, one past its last base.
        length: (B,) int64, tokens before the padding.
    """

    ids: np.ndarray
    start: np.ndarray
    end: np.ndarray
    length: np.ndarray


@dataclass(frozen=True)
class Encoder:
    """Encode rows of sequences; made by `make_encoder`.

    Attributes:
        kind: `char`, `kmer`, `kmer-overlapping`, `bpe`, or `other` for a tokenizer that is not ours.
        k: length of a k-mer, 1 for other kinds.
        vocab_size: number of ids, special tokens included.
        pad_id: and `mask_id`, `unk_id`, `eos_id`, `bos_id`: ids of special tokens, None where there is none. Padding
            without a padding token uses EOS.
        prefix_ids: put before every sequence.
        suffix_ids: put after every sequence.
        is_special: (V,) bool.
        num_bases: (V,) int64, bases that a token spells; 0 for special and unknown tokens.
        nucleotide_ids: (N,) int64, the tokens that spell A, C, G, T and nothing else.
    """

    kind: str
    k: int
    vocab_size: int
    pad_id: int
    mask_id: int | None
    unk_id: int | None
    eos_id: int | None
    bos_id: int | None
    prefix_ids: tuple[int, ...]
    suffix_ids: tuple[int, ...]
    is_special: np.ndarray
    num_bases: np.ndarray
    nucleotide_ids: np.ndarray
    _cut: Callable[[np.ndarray, np.ndarray], Cut]

    def encode_batch(
        self,
        letters: np.ndarray,
        lengths: np.ndarray | None = None,
        special_tokens: bool = True,
        max_tokens: int | None = None,
    ) -> Encoded:
        """Encode rows of sequences.

        Args:
            letters: (B, W) uint8.
            lengths: (B,) bases in each row; all W where None. The rest of a row is ignored.
            special_tokens: add those that the tokenizer adds.
            max_tokens: tokens in every row, by padding and by cutting the sequence, never its special tokens; None for
                as many as the longest row has.
        """
        lengths = np.full(len(letters), letters.shape[1], dtype=np.int64) if lengths is None else lengths
        ids, start, end, count = self._cut(letters, lengths)
        prefix, suffix = (self.prefix_ids, self.suffix_ids) if special_tokens else ((), ())
        num_special = len(prefix) + len(suffix)
        width = int(count.max(initial=0)) + num_special if max_tokens is None else max_tokens
        if not num_special and ids.shape[1] == width and (count == width).all():
            return Encoded(ids, start, end, count)
        count = np.minimum(count, max(0, width - num_special))
        first, kept = len(prefix), min(ids.shape[1], max(0, width - num_special))
        out = np.full((len(ids), width), self.pad_id, dtype=np.int64)
        starts = np.repeat(lengths.astype(np.int32)[:, None], width, axis=1)
        ends = starts.copy()
        inside = np.arange(kept) < count[:, None]
        for target, source in ((out, ids), (starts, start), (ends, end)):
            np.copyto(target[:, first : first + kept], source[:, :kept], where=inside)
            if target is not out:
                target[:, :first] = 0
        out[:, :first] = prefix
        for i, token in enumerate(suffix):
            out[np.arange(len(out)), first + count + i] = token
        return Encoded(out, starts, ends, count + num_special)


def make_encoder(tokenizer: PreTrainedTokenizerFast) -> Encoder:
    """Return the encoder of a tokenizer: by tables for our fixed-width vocabularies, else through the tokenizer."""
    settings = tokenizer.init_kwargs.get("genolm", {})
    kind, k = settings.get("kind", "other"), settings.get("k", 1)
    vocabulary = tokenizer.get_vocab()
    special = set(tokenizer.all_special_ids)
    num_bases = np.zeros(max(vocabulary.values()) + 1, dtype=np.int64)
    is_special = np.zeros(len(num_bases), dtype=bool)
    for token, i in vocabulary.items():
        if i in special:
            is_special[i] = True
        elif set(token) <= set("ACGT" if settings.get("case") != "lower" else "acgt"):
            num_bases[i] = len(token)
    if kind in ("char", "kmer", "kmer-overlapping"):
        cut = _table_cut(kind, k, settings, vocabulary, tokenizer.unk_token_id)
    else:
        widths = np.maximum(num_bases, 1) if kind == "bpe" else None
        cut = partial(_cut_text, backend=tokenizer.backend_tokenizer, widths=widths)
    plain = list(tokenizer("A" * k, add_special_tokens=False)["input_ids"])
    full = list(tokenizer("A" * k)["input_ids"])
    at = next(i for i in range(len(full)) if full[i : i + len(plain)] == plain)
    roles: Any = {role: getattr(tokenizer, f"{role}_token_id") for role in ("pad", "mask", "unk", "eos", "bos")}
    return Encoder(
        kind=kind,
        k=k,
        vocab_size=len(tokenizer),
        pad_id=roles["pad"] if roles["pad"] is not None else (roles["eos"] or 0),
        mask_id=roles["mask"],
        unk_id=roles["unk"],
        eos_id=roles["eos"],
        bos_id=roles["bos"],
        prefix_ids=tuple(full[:at]),
        suffix_ids=tuple(full[at + len(plain) :]),
        is_special=is_special,
        num_bases=num_bases,
        nucleotide_ids=np.flatnonzero(num_bases > 0),
        _cut=cut,
    )


def _table_cut(kind: str, k: int, settings: dict, vocabulary: dict[str, int], unk: Any):
    """Return the look-up function of a fixed-width vocabulary, with its tables."""
    folded = np.arange(256)
    for letter in range(ord("a"), ord("z") + 1):
        if settings["case"] != "kept":
            folded[letter if settings["case"] == "upper" else letter - 32] = (
                letter - 32 if settings["case"] == "upper" else letter
            )
    if settings["alphabet"] == "bytes":
        single = np.arange(256, dtype=np.int64)
    else:
        single = np.array([vocabulary.get(chr(folded[i]), unk) for i in range(256)], dtype=np.int64)
    if kind == "char":
        return partial(_cut_letters, single=single)
    digit_of = np.full(256, 4, dtype=np.uint8)
    for i, base in enumerate(settings["bases"]):
        digit_of[[i for i in range(256) if chr(folded[i]) == base]] = i
    table = np.array([vocabulary[kmer] for kmer in kmers(settings["bases"], k)], dtype=np.int64)
    if kind == "kmer-overlapping":
        return partial(_cut_overlapping, k=k, digit_of=digit_of, table=table, unk=unk)
    joins = single == unk if settings["unknown"] == "run" else np.zeros(256, dtype=bool)
    return partial(_cut_kmers, k=k, digit_of=digit_of, table=table, single=single, joins=joins)


def _cut_letters(letters: np.ndarray, lengths: np.ndarray, single: np.ndarray) -> Cut:
    place = np.broadcast_to(np.arange(letters.shape[1] + 1, dtype=np.int32), (len(letters), letters.shape[1] + 1))
    ids = translate(letters, single.astype(np.uint8)).astype(np.int64) if single.max() < 256 else single[letters]
    return ids, place[:, :-1], place[:, 1:], lengths


def _numbers(digits: np.ndarray) -> np.ndarray:
    """Return the numbers that base-4 digits spell along the last axis, int64."""
    code = digits[..., 0].astype(np.int64)
    for i in range(1, digits.shape[-1]):
        code *= 4
        code += digits[..., i]
    return code


def _cut_overlapping(letters, lengths, k: int, digit_of: np.ndarray, table: np.ndarray, unk: int) -> Cut:
    width = max(0, letters.shape[1] - k + 1)
    start = np.broadcast_to(np.arange(width, dtype=np.int32), (len(letters), width))
    if not width:
        return start.astype(np.int64), start, start, np.zeros_like(lengths)
    digits = translate(letters, digit_of)
    other = digits == 4
    ids = table[np.minimum(_numbers(np.lib.stride_tricks.sliding_window_view(digits, k, axis=1)), len(table) - 1)]
    if other.any():
        ids[np.lib.stride_tricks.sliding_window_view(other, k, axis=1).any(axis=2)] = unk
    return ids, start, start + np.int32(k), np.maximum(lengths - k + 1, 0)


def _cut_kmers(letters, lengths, k: int, digit_of, table: np.ndarray, single: np.ndarray, joins: np.ndarray) -> Cut:
    """Cut as NT does: pieces of A, C, G, T into k-mers from the left, all else letter by letter."""
    rows, width = letters.shape
    digits = translate(letters, digit_of)
    if width and (lengths == width).all() and (digits < 4).all():
        num, rest = divmod(width, k)
        ids = np.concatenate(
            [table[_numbers(digits[:, : num * k].reshape(rows, num, k))], single[letters[:, num * k :]]], axis=1
        )
        end = np.concatenate([np.arange(1, num + 1) * k, num * k + np.arange(1, rest + 1)]).astype(np.int32)
        start = np.concatenate([[0], end[:-1]]).astype(np.int32)
        return ids, np.broadcast_to(start, ids.shape), np.broadcast_to(end, ids.shape), np.full(rows, num + rest)
    # Rows end to end, each with one more column that is no base, so that pieces are found in all of them at once.
    across = width + 1
    flat = np.full((rows, across), 4, dtype=np.uint8)
    flat[:, :width] = digits
    valid = np.arange(across) < lengths[:, None]
    flat[~valid] = 4
    flat, valid = flat.ravel(), valid.ravel()
    base = np.zeros(len(flat) + 1, dtype=bool)
    np.less(flat, 4, out=base[1:])
    edges = np.flatnonzero(base[1:] != base[:-1])  # the last column is no base, so every piece has ended
    first, size = edges[::2], edges[1::2] - edges[::2]
    kmer_start = _spread(first, size // k, k)
    code = _numbers(flat[kmer_start[:, None] + np.arange(k)])
    rest = _spread(first + size // k * k, size % k, 1)
    other = np.flatnonzero(valid & ~base[1:])
    if joins.any() and len(other):
        joined = joins[letters.ravel()[other - other // across]]
        begins = np.concatenate([[True], ~(joined[1:] & joined[:-1] & (np.diff(other) == 1))])
        other = other[begins]
    alone = np.concatenate([rest, other])
    alone_ids = single[letters.ravel()[alone - alone // across]]
    start = np.concatenate([kmer_start, alone])
    order = np.argsort(start, kind="stable")
    row = start[order] // across
    count = np.bincount(row, minlength=rows)
    shape = (rows, int(count.max(initial=0)))
    place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count) + row * shape[1]
    ids, starts, ends = (
        np.zeros(shape, dtype=np.int64),
        np.zeros(shape, dtype=np.int32),
        np.zeros(shape, dtype=np.int32),
    )
    ids.ravel()[place] = np.concatenate([table[code], alone_ids])[order]
    starts.ravel()[place] = start[order] - row * across
    # A token ends where the next begins, and the last of a row at the row's end.
    ends[:, :-1] = starts[:, 1:]
    ends[np.flatnonzero(count), count[count > 0] - 1] = lengths[count > 0]
    return ids, starts, ends, count


def _spread(first: np.ndarray, num: np.ndarray, step: int) -> np.ndarray:
    """Return first, first + step, … of each piece, `num` of each, one after another."""
    within = np.arange(num.sum()) - np.repeat(np.cumsum(num) - num, num)
    return np.repeat(first, num) + within * step


def _cut_text(letters, lengths, backend: Tokenizer, widths: np.ndarray | None) -> Cut:
    """Encode through the tokenizer; with `widths` (V,), bases of each token, no offsets are needed."""
    texts = [row[:n].tobytes().decode("ascii") for row, n in zip(letters, lengths.tolist(), strict=True)]
    encode = backend.encode_batch if widths is None else backend.encode_batch_fast
    encodings = encode(texts, add_special_tokens=False)
    count = np.array([len(encoding.ids) for encoding in encodings], dtype=np.int64)
    shape = (len(texts), int(count.max(initial=0)))
    ids, start, end = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.int32)
    for i, encoding in enumerate(encodings):
        ids[i, : count[i]] = encoding.ids
        if widths is None:
            start[i, : count[i]], end[i, : count[i]] = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2).T
    if widths is not None:
        end[:] = np.cumsum(widths[ids], axis=1)
        start[:, 1:] = end[:, :-1]
    return ids, start, end, count
