"""Genomes of known entropy: drawn from a stated model, with the exact probability of every letter.

The model is a hidden Markov model whose letters also depend on the three letters before them. From a background state it
enters, at a constant rate for each kind and either strand, one of

- `CDS`: a start codon, codons drawn independently by biased usage (their number is geometric), a stop codon;
- `motif`: one of a few position weight matrices, letters independent of each other;
- `repeat`: a copy of one of a few consensus sequences, each letter replaced with a small probability; lower case;

and returns from its end to the background, a third-order Markov chain whose 4-mers are as frequent as their reverse
complements. A contig starts in the background, as if AAA came before it, and may end inside an element.

Two numbers are exact for each letter x_t:

- `bits`: -log2 p(x_t | x_1 … x_(t-1)), the states summed out by the forward algorithm. It is what the best causal
  predictor pays, one that knows this model but sees letters alone: the **floor**. Any other causal predictor, trained on
  anything but these very letters, pays more in expectation, and undercuts the floor by c bits in total with probability
  at most 2^-c. It holds for these letters, so a held-out part is compared with the mean of `bits` over that part.
- `bits_given_states`: -log2 p(x_t | x_(t-3) … x_(t-1), state at t). It is lower, and no predictor can reach it, because
  the states are hidden: the difference is what it costs to find out where a gene or repeat begins.

Neither bounds a masked model, which also sees the letters after the one it predicts. Case is not predicted: it follows
from the state, and a predictor that reads case sees more than the floor allows.

Cost: the forward algorithm, (states × letters) multiplications; contigs advance together, about 3 s for 1.5 Mb.

Source: Rabiner (1989), doi:10.1109/5.18626; probability of undercutting by Markov's inequality.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from genolm.genome.alphabet import BASE_INDEX, BASES
from genolm.genome.interval import Interval

ORDER = 3
"""Letters of context of every letter; the codons need two, the background uses all."""

FRACTIONS = {"CDS": 0.40, "repeat": 0.15, "motif": 0.03}
"""Expected share of the genome in each kind of element; the rest is background."""

_NUM_CONTEXTS = 4**ORDER


@dataclass(frozen=True)
class Element:
    """A run of states that is entered at its first and left after its last.

    Attributes:
        name: `CDS`, `repeat` or `motif`.
        strand: `+` or `-`.
        first: its first state.
        length: number of its states.
        enter: probability that it follows a background letter.
        again: for a CDS, probability that another codon follows a codon; else 0. The codon is states 3 … 5 of nine.
    """

    name: str
    strand: str
    first: int
    length: int
    enter: float
    again: float = 0.0


@dataclass(frozen=True)
class Generator:
    """The model that letters are drawn from. State 0 is the background.

    Attributes:
        emission: (4 ** ORDER, 4, S) float64, p(letter | letters before it, state).
        elements: they own states 1 … S - 1, in order.
    """

    emission: np.ndarray
    elements: tuple[Element, ...]

    def bits(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return -log2 p(letter | all letters before it), by the forward algorithm.

        The difference of the sums for two alleles of a sequence is their true log-likelihood ratio.

        Args:
            sequences: letters arrays, each shape (length,), dtype uint8, A, C, G, T of either case; each is a contig.

        Returns:
            One float64 array of shape (length,) for each sequence.

        Raises:
            ValueError: a letter is not A, C, G or T.
        """
        kmers = [self._kmers(letters) for letters in sequences]
        steps = max((len(row) for row in kmers), default=0)
        # Rows that have ended run on over AAAA; what they give there is cut off below.
        padded = np.array([np.pad(row, (0, steps - len(row))) for row in kmers], dtype=np.intp).reshape(-1, steps)
        probability = self._forward(np.ascontiguousarray(padded.T))
        return [-np.log2(probability[: len(row), i]) for i, row in enumerate(kmers)]

    def bits_given_states(self, letters: np.ndarray, states: np.ndarray) -> np.ndarray:
        """Return -log2 p(letter | ORDER letters before it, its state); all of shape (length,)."""
        kmers = self._kmers(letters)
        return -np.log2(self.emission[kmers >> 2, kmers & 3, states])

    def _kmers(self, letters: np.ndarray) -> np.ndarray:
        codes = BASE_INDEX[letters].astype(np.int64)
        if (codes > 3).any():
            at = int(np.flatnonzero(codes > 3)[0])
            raise ValueError(f"letter {chr(letters[at])!r} at {at} has no probability here; only A, C, G, T are drawn")
        index = codes.copy()
        for lag in range(1, ORDER + 1):
            index[lag:] |= codes[:-lag] << (2 * lag)
        return index

    def _forward(self, kmers: np.ndarray) -> np.ndarray:
        """Return p(letter | letters before it), shape (steps, B), for k-mers that end at each step, same shape."""
        by_kmer = np.ascontiguousarray(self.emission.reshape(_NUM_CONTEXTS * 4, -1))
        first = np.array([e.first for e in self.elements], dtype=np.intp)
        last = np.array([e.first + e.length - 1 for e in self.elements], dtype=np.intp)
        enter = np.array([e.enter for e in self.elements])
        codon = np.array([e.first + 3 for e in self.elements if e.again], dtype=np.intp)
        again = np.array([e.again for e in self.elements if e.again])
        advance = np.ones(by_kmer.shape[1] - 1)
        advance[codon + 2] = 1 - again
        probability = np.empty(kmers.shape)
        state = np.zeros((kmers.shape[1], by_kmer.shape[1]))
        state[:, 0] = 1
        joint, ended = np.empty_like(state), 1 - enter.sum()
        for step, kmer in enumerate(kmers):
            np.take(by_kmer, kmer, axis=0, out=joint)
            joint *= state
            total = joint.sum(axis=1)
            probability[step] = total
            joint *= (1 / total)[:, None]
            np.multiply(joint[:, :-1], advance, out=state[:, 1:])
            background = joint[:, 0]
            state[:, first] = background[:, None] * enter
            state[:, codon] += joint[:, codon + 2] * again
            state[:, 0] = background * ended + joint[:, last].sum(axis=1)
        return probability


@dataclass(frozen=True)
class Simulated:
    """A genome and the truth about it.

    Attributes:
        records: (name, letters) of each contig; letters uint8, repeats in lower case.
        bits: of each contig, (length,) float64, the floor: see the module.
        bits_given_states: of each contig, (length,) float64, lower and out of reach: see the module.
        features: CDS, repeat, motif and background in order; together they cover every base once.
        generator: the model all this was drawn from.
    """

    records: list[tuple[str, np.ndarray]]
    bits: list[np.ndarray]
    bits_given_states: list[np.ndarray]
    features: list[Interval]
    generator: Generator

    @cached_property
    def entropy_bits_per_base(self) -> float:
        """Mean of `bits`: the entropy rate, up to the luck of these letters."""
        return float(np.concatenate(self.bits).mean())

    @cached_property
    def entropy_by_class(self) -> dict[str, float]:
        """Mean of `bits` over the bases of each kind of feature."""
        of_contig = dict(zip((name for name, _ in self.records), self.bits, strict=True))
        parts: dict[str, list[np.ndarray]] = {}
        for feature in self.features:
            parts.setdefault(feature.name, []).append(of_contig[feature.contig][feature.start : feature.end])
        return {name: float(np.concatenate(parts[name]).mean()) for name in sorted(parts)}
