"""Choose which tokens a masked language model predicts, as a function of seed, sample number and position."""

import numpy as np

from genolm.data import rng
from genolm.tokenizers.encode import Encoder

STREAM_MASK, STREAM_RANDOM = 16, 17
MASKED, REPLACED, KEPT = 1, 2, 3


def span_offsets(span: int) -> range:
    """Return the offsets of a span's tokens from its centre, as in DNABERT: -2…3 for six tokens, -1…1 for three.

    Source: DNABERT `run_pretrain.py`, MASK_LIST.
    """
    return range(-((span - 1) // 2), span // 2 + 1)


def _shifted(array: np.ndarray, by: int) -> np.ndarray:
    """Move columns right by `by` (left if negative), filling with 0."""
    out = np.zeros_like(array)
    if by > 0:
        out[:, by:] = array[:, :-by]
    elif by < 0:
        out[:, :by] = array[:, -by:]
    else:
        out[:] = array
    return out


class Masking:
    """Choose the tokens to predict, and replace each by the mask token, a random one or itself.

    A centre is drawn at every token with probability 1 - (1 - rate)^(1/span), which selects `rate` of all tokens, and
    the span around it is selected too. A span is treated as one (mask, random, or kept): with overlapping k-mers
    neighbours share bases, so a span of k with mixed treatment would show the base it hides.

    Args:
        encoder: its mask token and nucleotide tokens are used.
        rate: fraction of nucleotide tokens to predict.
        mask_token_rate: fraction of those replaced by the mask token.
        random_token_rate: fraction of those replaced by a random nucleotide token; the rest is kept.
        span: tokens masked together; by default k for overlapping k-mers and 1 for all others.
    """

    def __init__(
        self,
        encoder: Encoder,
        rate: float = 0.15,
        mask_token_rate: float = 0.8,
        random_token_rate: float = 0.1,
        span: int | None = None,
    ):
        if encoder.mask_id is None:
            raise ValueError("the tokenizer has no mask token; use objective.kind=causal or another tokenizer")
        span = span or (encoder.k if encoder.kind == "kmer-overlapping" else 1)
        self.mask_id, self.span = encoder.mask_id, span
        self.nucleotide_ids = np.asarray(encoder.nucleotide_ids, dtype=np.int64)
        self.is_nucleotide = np.zeros(encoder.vocab_size, dtype=bool)
        self.is_nucleotide[self.nucleotide_ids] = True
        centre = 1 - (1 - rate) ** (1 / span)
        # Thresholds on one 32-bit number: below the first → mask token, then random, then kept.
        fractions = np.array([mask_token_rate, mask_token_rate + random_token_rate, 1.0])
        self._thresholds = np.minimum(np.round(centre * fractions * 2.0**32), 2.0**32 - 1).astype(np.uint32)

    def __call__(self, seed: int, samples: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mask a batch; what is drawn depends on the seed, the sample number and the position only.

        Args:
            seed: any integer.
            samples: (B,) sample numbers.
            ids: (B, L) int64.

        Returns:
            (B, L) int64, the masked ids, and (N,) int64, the tokens to predict, as positions in the flattened ids.
        """
        draw = rng.words32(seed, STREAM_MASK, samples, ids.shape[1])
        if self.span == 1:
            # Look again only at what is drawn, about one in seven.
            positions = np.flatnonzero(draw < self._thresholds[2])
            positions = positions[self.is_nucleotide[ids.ravel()[positions]]]
            treatment = self._treatment(draw.ravel()[positions])
        else:
            centres = self._treatment(draw) * self.is_nucleotide[ids]
            spread = np.zeros_like(centres)
            for offset in span_offsets(self.span):
                moved = _shifted(centres, offset)
                np.copyto(spread, moved, where=moved > 0)
            spread *= self.is_nucleotide[ids]
            positions = np.flatnonzero(spread)
            treatment = spread.ravel()[positions]
        masked_ids = ids.copy()
        masked_ids.ravel()[positions[treatment == MASKED]] = self.mask_id
        replaced = positions[treatment == REPLACED]
        rows, columns = np.divmod(replaced, ids.shape[1])
        word = rng.words_at(seed, STREAM_RANDOM, samples[rows], columns)
        choice = (word % np.uint64(len(self.nucleotide_ids))).astype(np.int64)
        masked_ids.ravel()[replaced] = self.nucleotide_ids[choice]
        return masked_ids, positions

    def _treatment(self, draw: np.ndarray) -> np.ndarray:
        """Return the treatment of tokens by their draws, uint8: MASKED, REPLACED, KEPT, or 0 for not predicted."""
        treatment = (draw < self._thresholds[2]).view(np.uint8) * np.uint8(KEPT)
        treatment -= (draw < self._thresholds[1]).view(np.uint8)
        treatment -= (draw < self._thresholds[0]).view(np.uint8)
        return treatment


def evaluation_masking(encoder: Encoder, rate: float, span: int | None = None) -> Masking:
    """Return the masking of an evaluation: every token to predict is replaced by the mask token.

    Training keeps some or replaces them at random; bits measured so would describe that mixture instead.
    """
    return Masking(encoder, rate, mask_token_rate=1.0, random_token_rate=0.0, span=span)
