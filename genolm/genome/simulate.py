"""Simulate genomes of known entropy: drawn from a stated model, with the exact probability of every base.

The model is a hidden Markov model whose letters also depend on the three letters before them. From a background state
it enters, at a constant rate for each kind and either strand, one of

- `CDS`: a start codon, codons drawn independently by biased usage (their number is geometric), a stop codon;
- `motif`: one of a few position weight matrices, letters independent of each other;
- `repeat`: a copy of one of a few consensus sequences, each letter replaced with a small probability; lower case;

and returns from its end to the background, a third-order Markov chain whose 4-mers are as frequent as their reverse
complements. A contig starts in the background, as if AAA came before it, and may end inside an element.

Two numbers are exact for each letter x_t:

- `bits`: -log2 p(x_t | x_1 … x_(t-1)), the states summed out by the forward algorithm. It is what the best causal
  predictor pays, one that knows this model but sees letters alone: the **floor**. Any other causal predictor, trained
  on anything but these very letters, pays more in expectation, and undercuts the floor by c bits in total with
  probability at most 2^-c. It holds for these letters, so a held-out part is compared with the mean of `bits` there.
- `bits_given_states`: -log2 p(x_t | x_(t-3) … x_(t-1), state at t). It is lower, and no predictor can reach it, because
  the states are hidden: the difference is what it costs to find out where a gene or repeat begins.

Neither bounds a masked model, which also sees the letters after the one it predicts. Case is not predicted: it follows
from the state, and a predictor that reads case sees more than the floor allows.

Cost: the forward algorithm, (states × letters) multiplications; contigs advance together, and 1.5 Mb in eight
contigs take about 3 s, drawing included.

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

FRACTIONS = {"CDS": 0.60, "repeat": 0.05, "motif": 0.03}
"""Expected fraction of the genome in each kind of element; the rest is background."""

AGAIN = 0.995
"""Probability that a codon is followed by another: genes of 200 codons on average."""

CODON_BITS = 4.4
"""Entropy of the codon usage, 1.47 bits a letter; without bias it would be log2(61) = 5.93."""

SUBSTITUTION = 0.08
"""Probability that a letter of a repeat differs from its consensus."""

START, STOPS = "ATG", {"TAA": 0.6, "TGA": 0.3, "TAG": 0.1}

_NUM_CONTEXTS = 4**ORDER

_LEAST = 1e-280
"""Least probability of the background; without it a long gene rounds it to zero, and a letter no gene has gets none."""

_LINES_AT_ONCE = 1 << 16


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
    """The hidden Markov model that bases are drawn from; state 0 is the background.

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
        padded = np.zeros((steps, len(kmers)), dtype=np.intp)
        for i, row in enumerate(kmers):
            padded[: len(row), i] = row
        probability = self._forward(padded)
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
        sources, targets, jump = self._jumps()
        num_rows, num_states = kmers.shape[1], by_kmer.shape[1]
        probability = np.empty(kmers.shape)
        emitted = np.empty((num_rows, num_states))
        # Column s holds p(state s | letters before). Most states lead to the one after them, so each product is written
        # one column on, and only the jumps remain to be set. The last column is never read.
        now, after = np.zeros((2, num_rows, num_states + 1))
        now[:, 0] = 1
        for step, kmer in enumerate(kmers):
            by_kmer.take(kmer, axis=0, out=emitted, mode="clip")  # the default mode would copy twice
            joint = after[:, 1:]
            np.multiply(emitted, now[:, :-1], out=joint)
            np.add.reduce(joint, axis=1, out=probability[step])
            joint *= 1 / probability[step][:, None]
            after[:, targets] = joint.take(sources, axis=1) @ jump
            after[:, 0] += _LEAST
            now, after = after, now
        return probability

    def _jumps(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the transitions into every state that not only the one before it leads to, or not with certainty.

        Returns:
            Sources, shape (n,); targets, shape (m,); probabilities, shape (n, m).
        """
        moves = {(0, 0): 1 - sum(element.enter for element in self.elements)}
        for e in self.elements:
            moves[0, e.first], moves[e.first + e.length - 1, 0] = e.enter, 1.0
            if e.again:
                codon = e.first + 3
                moves |= {(codon - 1, codon): 1.0, (codon + 2, codon): e.again, (codon + 2, codon + 3): 1 - e.again}
        sources, targets = (sorted(set(states)) for states in zip(*moves, strict=True))
        jump = np.zeros((len(sources), len(targets)))
        for (source, target), probability in moves.items():
            jump[sources.index(source), targets.index(target)] = probability
        return np.array(sources), np.array(targets), jump


@dataclass(frozen=True)
class Simulated:
    """A simulated genome and its exact probabilities.

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


def simulate(num_bases: int, *, num_contigs: int = 8, seed: int = 0) -> Simulated:
    """Draw a genome and compute the bits that no causal predictor can beat.

    Args:
        num_bases: bases in all contigs together.
        num_contigs: contigs, equal in length up to one base.
        seed: of the model's parameters and of the letters.

    Raises:
        ValueError: fewer bases than contigs.
    """
    if not 1 <= num_contigs <= num_bases:
        raise ValueError(f"{num_bases} bases cannot make {num_contigs} contigs; a contig has at least one")
    rng = np.random.default_rng(seed)
    generator = make_generator(rng)
    records, features, states = [], [], []
    for i in range(num_contigs):
        name, length = f"sim{i + 1}", num_bases // num_contigs + (i < num_bases % num_contigs)
        path, drawn_features = _draw_states(generator, name, length, rng)
        letters = np.frombuffer(BASES, dtype=np.uint8)[_draw_letters(generator, path, rng)]
        for feature in drawn_features:
            if feature.name == "repeat":
                letters[feature.start : feature.end] |= 0x20
        records.append((name, letters))
        features += drawn_features
        states.append(path)
    sequences = [letters for _, letters in records]
    given = [generator.bits_given_states(letters, path) for letters, path in zip(sequences, states, strict=True)]
    return Simulated(records, generator.bits(sequences), given, features, generator)


def make_generator(rng: np.random.Generator) -> Generator:
    """Draw the parameters of the model: background, codon usage, four motifs and two repeats."""
    codons = _codon_usage(rng)
    start, stop = np.zeros((4, 4, 4)), np.zeros((4, 4, 4))
    start[_indices(START)] = 1
    for codon, frequency in STOPS.items():
        stop[_indices(codon)] = frequency
    gene = [*_codon_states(start), *_codon_states(codons), *_codon_states(stop)]
    antisense = [table for codon in (stop, codons, start) for table in _codon_states(_reversed(codon))]
    pieces: list[tuple[str, str, list[np.ndarray]]] = [("CDS", "+", gene), ("CDS", "-", antisense)]
    for _ in range(4):
        pieces += _both_strands("motif", rng.dirichlet(np.full(4, 0.15), size=int(rng.integers(8, 15))) * 0.98 + 0.005)
    for _ in range(2):
        consensus = rng.integers(0, 4, size=int(rng.integers(150, 250)))
        table = np.where(np.eye(4)[consensus] == 1, 1 - SUBSTITUTION, SUBSTITUTION / 3)
        pieces += _both_strands("repeat", table)
    emission, elements, first = [_background(rng)], [], 1
    background = 1 - sum(FRACTIONS.values())
    for name, strand, tables in pieces:
        again = AGAIN if name == "CDS" else 0.0
        mean_length = len(tables) + 3 * again / (1 - again)
        alike = sum(other == name for other, _, _ in pieces)
        enter = FRACTIONS[name] / alike / background / mean_length
        elements.append(Element(name, strand, first, len(tables), enter, again))
        emission += tables
        first += len(tables)
    return Generator(np.stack(emission, axis=2), tuple(elements))


def _indices(codon: str) -> tuple[int, ...]:
    return tuple(BASES.decode().index(letter) for letter in codon)


def _reversed(codons: np.ndarray) -> np.ndarray:
    """Return the probabilities of the reverse complements; T, G, C, A are the bases backwards."""
    return codons[::-1, ::-1, ::-1].transpose(2, 1, 0)


def _background(rng: np.random.Generator) -> np.ndarray:
    """Draw a third-order chain, (64, 4), whose stationary 4-mers are as frequent as their reverse complements."""
    chain = rng.dirichlet([4.0, 2.5, 2.5, 4.0], size=_NUM_CONTEXTS)
    frequency = np.full(_NUM_CONTEXTS, 1 / _NUM_CONTEXTS)
    for _ in range(500):
        frequency = (frequency[:, None] * chain).reshape(4, _NUM_CONTEXTS).sum(axis=0)
    fourmers = (frequency[:, None] * chain).reshape(4, 4, 4, 4)
    # Both summands have the same 3-mers as prefixes and as suffixes, so their mean is a stationary chain again.
    fourmers = fourmers + fourmers[::-1, ::-1, ::-1, ::-1].transpose(3, 2, 1, 0)
    fourmers = fourmers.reshape(_NUM_CONTEXTS, 4)
    return fourmers / fourmers.sum(axis=1, keepdims=True)


def _codon_usage(rng: np.random.Generator) -> np.ndarray:
    """Draw frequencies of the 61 codons that are no stop, (4, 4, 4), of an entropy of CODON_BITS."""
    preference = rng.normal(size=(4, 4, 4))
    for codon in STOPS:
        preference[_indices(codon)] = -np.inf
    low, high = 0.0, 20.0
    usage = np.zeros_like(preference)
    for _ in range(60):  # by bisection: the stronger the bias, the lower the entropy
        bias = (low + high) / 2
        usage = np.exp2(bias * (preference - preference.max()))
        usage /= usage.sum()
        entropy = -(usage * np.log2(np.maximum(usage, 1e-300))).sum()
        low, high = (bias, high) if entropy > CODON_BITS else (low, bias)
    return usage


def _codon_states(codons: np.ndarray) -> list[np.ndarray]:
    """Return p(letter | letters before it), (64, 4), of the three places of a codon."""
    first, second = codons.sum(axis=(1, 2)), codons.sum(axis=2)
    places = np.empty((3, 4, 4, 4, 4))  # place, three letters of context, letter
    places[0] = first
    places[1] = second / np.maximum(second.sum(axis=1, keepdims=True), 1e-300)
    places[2] = codons / np.maximum(codons.sum(axis=2, keepdims=True), 1e-300)
    # A context that cannot be is given any distribution, so that rows sum to one.
    empty = places.sum(axis=-1, keepdims=True) == 0
    return list(np.where(empty, 0.25, places).reshape(3, _NUM_CONTEXTS, 4))


def _both_strands(name: str, table: np.ndarray) -> list[tuple[str, str, list[np.ndarray]]]:
    """Return states of letters that depend on nothing, from (length, 4), forward and reverse complemented."""
    forward = [np.broadcast_to(row, (_NUM_CONTEXTS, 4)) for row in table]
    backward = [np.broadcast_to(row, (_NUM_CONTEXTS, 4)) for row in table[::-1, ::-1]]
    return [(name, "+", forward), (name, "-", backward)]


def _draw_states(generator: Generator, contig: str, length: int, rng) -> tuple[np.ndarray, list[Interval]]:
    """Draw a path of states, (length,) int64, and the features on it."""
    enter = np.array([element.enter for element in generator.elements])
    states, features, at = np.zeros(length, dtype=np.int64), [], 0
    while at < length:
        end = min(length, at + int(rng.geometric(enter.sum())))
        features.append(Interval(contig, at, end, "+", "background"))
        element = generator.elements[rng.choice(len(enter), p=enter / enter.sum())]
        path = np.arange(element.first, element.first + element.length)
        if element.again:
            codons = np.tile(path[3:6], rng.geometric(1 - element.again))
            path = np.concatenate([path[:3], codons, path[6:]])
        at, end = end, min(length, end + len(path))
        if end > at:
            states[at:end] = path[: end - at]
            features.append(Interval(contig, at, end, element.strand, element.name))
        at = end
    return states, features


def _draw_letters(generator: Generator, states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the letters of a path, (length,) int64 in 0 … 3; each depends on its state and the ORDER letters before."""
    thresholds = generator.emission.cumsum(axis=1)[:, :3].transpose(0, 2, 1).tolist()
    context, drawn = 0, []
    for state, u in zip(states.tolist(), rng.random(len(states)).tolist(), strict=True):
        a, b, c = thresholds[context][state]
        letter = (u >= a) + (u >= b) + (u >= c)
        context = (context << 2 | letter) & (_NUM_CONTEXTS - 1)
        drawn.append(letter)
    return np.array(drawn)


def write_fasta(path: str | Path, records: Sequence[tuple[str, np.ndarray]], width: int = 60) -> None:
    """Write records as FASTA.

    Args:
        path: the file, replaced if it exists.
        records: (name, letters) of each; letters shape (length,), dtype uint8, one at least, as `read_fasta` wants it.
        width: letters a line.
    """
    with Path(path).open("wb") as file:
        for name, letters in records:
            file.write(f">{name}\n".encode())
            for start in range(0, len(letters), width * _LINES_AT_ONCE):
                part = letters[start : start + width * _LINES_AT_ONCE]
                whole = len(part) // width * width
                lines = np.full((whole // width, width + 1), ord("\n"), dtype=np.uint8)
                lines[:, :width] = part[:whole].reshape(-1, width)
                file.write(lines.tobytes())
                if whole < len(part):
                    file.write(part[whole:].tobytes() + b"\n")


def write_bed(path: str | Path, features: Sequence[Interval]) -> None:
    """Write features as BED: contig, start, end, name, score 0, strand."""
    rows = (f"{f.contig}\t{f.start}\t{f.end}\t{f.name}\t0\t{f.strand}\n" for f in features)
    Path(path).write_text("".join(rows))
