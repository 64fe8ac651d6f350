"""Sample bases from a language model: after a prompt (causal), in place of N (masked).

Only tokens that spell A, C, G, T are drawn. The random number of each draw is f(seed, sequence, position) alone, so
that neither the batch nor its order changes a sequence, except for a near tie, which another batch may round
differently.

Cost: a causal model with a cache takes a step for each token; a masked model a pass over the row for each masked token,
or the requested number of passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from genolm.data import rng
from genolm.genome.alphabet import to_array
from genolm.tokenizers.encode import Encoder

STREAM_DRAW, STREAM_FIRST = 48, 49
N = ord("N")


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn from logits.

    Attributes:
        temperature: logits are divided by it; 0 takes the likeliest token.
        top_k: draw from the k likeliest tokens; 0 for all.
        top_p: draw from the likeliest tokens with this total probability; 1 for all.
        seed: any integer.

    Raises:
        ValueError: a value is not allowed.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature is {self.temperature}; it must be at least 0")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; it must be at least 0, which is for all tokens")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be above 0 and at most 1, which is for all tokens")

    def draw(self, logits: torch.Tensor, numbers: np.ndarray, positions: np.ndarray) -> torch.Tensor:
        """Return (R,) int64 tokens.

        Args:
            logits: (R, V), -inf where a token may not be drawn.
            numbers: (R,) of the sequences.
            positions: (R,) positions within them.
        """
        logits = logits.double()
        if self.temperature == 0:
            return logits.argmax(-1)
        ordered, token = (logits / self.temperature).sort(dim=-1, descending=True, stable=True)
        probability = ordered.softmax(-1)
        before = probability.cumsum(-1) - probability
        allowed = before < self.top_p
        if self.top_k:
            allowed &= torch.arange(allowed.shape[-1], device=allowed.device) < self.top_k
        total = (probability * allowed).cumsum(-1)
        words = rng.words_at(self.seed, STREAM_DRAW, numbers, positions) >> np.uint64(11)
        uniform = torch.from_numpy(words * 2.0**-53).to(total).unsqueeze(-1)
        # The first token whose cumulative probability exceeds the number; never one past the last that is allowed.
        rank = torch.searchsorted(total, uniform * total[:, -1:], right=True)
        last = (probability * allowed > 0).sum(-1, keepdim=True) - 1
        return token.gather(1, torch.minimum(rank, last)).squeeze(1)


@dataclass(frozen=True)
class Spelling:
    """The bases that tokens spell.

    Attributes:
        letters: (V, K) uint8, upper-case A, C, G, T, and 0 after the last base.
        num_bases: (V,) int64, 0 for tokens that spell none.
        adds: (V,) int64, bases that a token adds to those before it: 1 of overlapping k-mers.
    """

    letters: np.ndarray
    num_bases: np.ndarray
    adds: np.ndarray

    @classmethod
    def of(cls, tokenizer, encoder: Encoder, num_logits: int) -> "Spelling":
        """Return the spelling of a tokenizer's tokens, one for each logit."""
        size = max(num_logits, len(encoder.num_bases))
        num_bases = np.zeros(size, dtype=np.int64)
        num_bases[: len(encoder.num_bases)] = encoder.num_bases
        num_bases[num_logits:] = 0
        letters = np.zeros((size, int(num_bases.max(initial=1))), dtype=np.uint8)
        ids = np.flatnonzero(num_bases)
        for i, token in zip(ids.tolist(), tokenizer.convert_ids_to_tokens(ids.tolist()), strict=True):
            letters[i, : num_bases[i]] = to_array(token.upper())
        adds = np.minimum(num_bases, 1) if encoder.kind == "kmer-overlapping" else num_bases
        return cls(letters[:num_logits], num_bases[:num_logits], adds[:num_logits])

    def text(self, token: int, last: int) -> str:
        """Return the last bases of a token."""
        return self.letters[token, self.num_bases[token] - last : self.num_bases[token]].tobytes().decode("ascii")


class _Draw(LogitsProcessor):
    """Draws a token and leaves only its logit, so that `generate` takes it."""

    def __init__(self, spelling: Spelling, sampling: Sampling, numbers: np.ndarray, num_given: int, overlapping: bool):
        self.spelling, self.sampling, self.numbers, self.num_given = spelling, sampling, numbers, num_given
        self.overlapping = overlapping

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return (B, V)."""
        allowed = np.tile(self.spelling.num_bases > 0, (len(input_ids), 1))
        if self.overlapping:  # the next k-mer begins with all but the first base of the last
            last, letters = input_ids[:, -1].cpu().numpy(), self.spelling.letters
            follows = (letters[last, None, 1:] == letters[None, :, :-1]).all(-1)
            allowed &= follows | (self.spelling.num_bases[last] == 0)[:, None]
        logits = scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), -torch.inf)
        positions = np.full(len(input_ids), input_ids.shape[1] - self.num_given)
        token = self.sampling.draw(logits, self.numbers, positions).unsqueeze(1)
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)


class _Enough(StoppingCriteria):
    """Ends each sequence once its new tokens spell `length_bp` bases."""

    def __init__(self, adds: torch.Tensor, num_given: int, length_bp: int):
        self.adds, self.num_given, self.length_bp = adds, num_given, length_bp

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_) -> torch.Tensor:
        """Return (B,) bool."""
        return self.adds[input_ids[:, self.num_given :]].sum(1) >= self.length_bp


def encode_prompt(encoder: Encoder, prompt: str, seed: int, number: int) -> list[int]:
    """Return the tokens of a prompt, as those at the start of a training window.

    K-mers are cut from the left in training. Where k does not divide the length of a prompt, its first bases are left
    out, so that new k-mers follow whole ones. Without a prompt and without a special token at the start, the first
    token is drawn uniformly.

    Args:
        encoder: sequence → ids.
        prompt: upper-case A, C, G, T, or nothing.
        seed: of the first token.
        number: of the sequence.

    Raises:
        ValueError: the prompt is shorter than one overlapping k-mer.
    """
    text = prompt[len(prompt) % encoder.k :] if encoder.kind == "kmer" and len(prompt) >= encoder.k else prompt
    ids = encoder.encode_batch(to_array(text)[None], special_tokens=False).ids[0].tolist() if text else []
    if prompt and not ids:
        raise ValueError(f"the prompt has {len(prompt)} bp; the tokenizer's tokens are {encoder.k} bp long")
    given = [*encoder.prefix_ids, *ids]
    any_of = encoder.nucleotide_ids
    return given or any_of[rng.integers(seed, STREAM_FIRST, np.array([number]), len(any_of))].tolist()


@torch.inference_mode()
def generate_after(
    model: PreTrainedModel,
    encoder: Encoder,
    spelling: Spelling,
    given: Sequence[Sequence[int]],
    numbers: np.ndarray,
    length_bp: int,
    sampling: Sampling,
    drawn_first: bool = False,
    most_tokens: int | None = None,
) -> list[str]:
    """Draw bases after tokens with a causal model.

    Args:
        model: in evaluation.
        encoder: sequence → ids.
        spelling: as `Spelling.of`.
        given: B rows of equally many tokens, at least one.
        numbers: (B,) of the sequences, which seed their draws.
        length_bp: bases to return; the last token is cut.
        sampling: how to draw.
        drawn_first: the only token of each row was drawn, and is returned too.
        most_tokens: of a row; None where the model has positions for any.

    Returns:
        B texts of length_bp bases.

    Raises:
        ValueError: `most_tokens` do not spell `length_bp` bases.
    """
    ids = torch.tensor([list(row) for row in given], device=model.device)
    overlapping = encoder.kind == "kmer-overlapping"
    adds = torch.from_numpy(spelling.adds).to(model.device)
    before = [spelling.text(row[0], int(spelling.num_bases[row[0]])) if drawn_first else "" for row in given]
    missing = length_bp - min(map(len, before))
    out = ids
    most = missing if most_tokens is None else min(missing, most_tokens - ids.shape[1])
    if most > 0:
        # Pads of ended rows spell nothing, whatever the tokenizer pads with.
        nothing = int(np.flatnonzero(spelling.num_bases == 0)[0]) if (spelling.num_bases == 0).any() else encoder.pad_id
        out = model.generate(
            ids,
            **{"attention_mask": torch.ones_like(ids), "do_sample": False, "num_beams": 1, "use_cache": True},
            **{"max_new_tokens": most, "pad_token_id": nothing, "eos_token_id": None, "repetition_penalty": 1.0},
            logits_processor=LogitsProcessorList([_Draw(spelling, sampling, numbers, ids.shape[1], overlapping)]),
            stopping_criteria=StoppingCriteriaList([_Enough(adds, ids.shape[1], missing)]),
        )  # type: ignore[operator]
    texts = []
    for begin, row in zip(before, out[:, ids.shape[1] :].tolist(), strict=True):
        # The first overlapping k-mer adds all its bases.
        whole = overlapping and not spelling.num_bases[given[0][-1]]
        parts = [
            spelling.text(token, int(spelling.num_bases[token] if whole and not i else spelling.adds[token]))
            for i, token in enumerate(row)
        ]
        texts.append("".join([begin, *parts])[:length_bp])
        if len(texts[-1]) < length_bp:
            raise ValueError(
                f"{most_tokens:,} tokens, the most the model has positions for, held {len(texts[-1]):,} new bp of "
                f"{length_bp:,}; lower --length, or shorten the prompt"
            )
    return texts


def matching_tokens(spelling: Spelling, pattern: np.ndarray) -> np.ndarray:
    """Return (V,) bool, the tokens that spell a pattern of bases, `N` matching any.

    Args:
        spelling: as `Spelling.of`.
        pattern: (w,) uint8.
    """
    width = len(pattern)
    fits = (spelling.num_bases == width) if width <= spelling.letters.shape[1] else np.zeros(len(spelling.adds), bool)
    return fits & ((spelling.letters[:, :width] == pattern) | (pattern == N)).all(1) if fits.any() else fits


@torch.inference_mode()
def fill(
    model: PreTrainedModel,
    encoder: Encoder,
    spelling: Spelling,
    sequences: Sequence[str],
    numbers: np.ndarray,
    sampling: Sampling,
    passes: int = 0,
) -> list[str]:
    """Draw every N of sequences with a masked model.

    Every token with an N is masked. In each row a pass draws the token that the model is most certain of, among those
    that agree with the given bases, and the next pass sees it.

    Args:
        model: in evaluation.
        encoder: of single nucleotides or of k-mers that do not overlap.
        spelling: as `Spelling.of`.
        sequences: B texts of A, C, G, T and N, of one length.
        numbers: (B,) of the sequences, which seed their draws.
        sampling: how to draw.
        passes: number of passes, each drawing as many tokens as needed; 0 for one token each.

    Raises:
        ValueError: the tokenizer's token boundaries depend on the bases, or it has no mask token.
    """
    if encoder.kind not in ("char", "kmer"):
        raise ValueError(
            f"the tokenizer is {encoder.kind}: which tokens lie over an N depends on the bases to be drawn; fill "
            "with a model of single nucleotides or of k-mers that do not overlap"
        )
    if encoder.mask_id is None:
        raise ValueError("the tokenizer has no mask token, which stands for the bases to be filled")
    letters = np.stack([to_array(sequence) for sequence in sequences]).copy()
    encoded = encoder.encode_batch(np.where(letters == N, ord("A"), letters))
    positions = [
        (row, column)
        for row, column in zip(*np.nonzero(encoded.end > encoded.start), strict=True)
        if (letters[row, encoded.start[row, column] : encoded.end[row, column]] == N).any()
    ]
    if not positions:
        return list(sequences)
    rows, columns = np.array(positions).T
    start, end = encoded.start[rows, columns], encoded.end[rows, columns]
    allowed = torch.from_numpy(
        np.stack([matching_tokens(spelling, letters[r, a:b]) for r, a, b in zip(rows, start, end, strict=True)])
    ).to(model.device)
    ids = torch.from_numpy(encoded.ids).to(model.device)
    ids[rows, columns] = encoder.mask_id
    a_pass = -(-np.bincount(rows, minlength=len(letters)) // passes) if passes else np.ones(len(letters), dtype=int)
    left = np.arange(len(rows))
    while len(left):
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[rows[left], columns[left]]
        logits = logits.double().masked_fill(~allowed[left], -torch.inf)
        certain = logits.softmax(-1).amax(-1).cpu().numpy()
        order = np.lexsort((columns[left], -certain, rows[left]))
        row = rows[left][order]
        rank = np.arange(len(order)) - np.searchsorted(row, row)
        taken = order[rank < a_pass[row]]
        at = left[taken]
        token = sampling.draw(logits[taken], numbers[rows[at]], columns[at])
        ids[rows[at], columns[at]] = token
        for target, one in zip(at, token.tolist(), strict=True):
            letters[rows[target], start[target] : end[target]] = spelling.letters[one, : end[target] - start[target]]
        left = np.setdiff1d(left, at)
    return [row.tobytes().decode("ascii") for row in letters]
