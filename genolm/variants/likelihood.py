"""Zero-shot scores of alleles: log-likelihood ratios and related estimators, in nats; positive favours ALT.

    masked_llr    masked models. All touched tokens hidden at once: Σ log p(ALT's) − Σ log p(REF's), each in its window.
    likelihood    causal models: log p(window of ALT) − log p(window of REF), over tokens that spell bases. Masked
                  models: the same of pseudo-likelihoods, touched tokens hidden one at a time.
    unmasked_llr  masked models, substitutions: log p(ALT) − log p(REF) at the touched tokens, where REF is shown.
    entropy       masked models, a token for each base, substitutions: nats of p(A, C, G, T) at the first changed base,
                  hidden.
    influence     the same models and alleles: how much ALT in place of REF moves the log-odds of a base elsewhere, the
                  most of four bases, averaged over the window (GPN's run_vep_influence).
    embedding     cosine, L2 distance and dot product of REF's and ALT's last hidden states: of the mean over touched
                  tokens (site) and of the mean over all (window).

Touched tokens are defined in haplotypes.py.

Every value is the mean over both strands. With non-overlapping k-mers it is also the mean over the k phases in which
k-mers can hold the variant. A row of tokens that several alleles share, such as a masked site with its three ALTs, is
computed once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from genolm.genome.reference import Reference
from genolm.tokenizers.encode import Encoder
from genolm.variants.alleles import Allele
from genolm.variants.haplotypes import Pair, tokenize_pair, windows_of
from genolm.variants.query_batch import QueryBatch, QueryResults, run_queries

CAUSAL = ("likelihood", "embedding")
MASKED = ("masked_llr", "likelihood", "unmasked_llr", "entropy", "influence", "embedding")
SINGLE = ("entropy", "influence")
"""Estimators that need one token a base."""
TOKENS = 1 << 22
"""Tokens of rows in memory at once: 32 MB."""
LLRS = ("masked_llr", "likelihood", "unmasked_llr")
"""Columns that are log-likelihood ratios, in nats; positive favours ALT."""

CALIBRATED = ("masked_llr", "likelihood")
"""Columns whose magnitude grows with the length of an indel, since they sum over more tokens."""

MEANINGS = {
    "masked_llr": "log p(ALT) - log p(REF) of touched tokens hidden at once, nats, mean of both strands",
    "likelihood": "log p(window with ALT) - log p(window with REF), nats, mean of both strands",
    "unmasked_llr": "log p(ALT) - log p(REF) where REF is shown, nats, mean of both strands",
    "entropy": "entropy of A, C, G, T at the first changed base, nats, mean of both strands",
    "influence": "mean greatest change of log-odds elsewhere in the window, mean of both strands",
}


@dataclass(frozen=True)
class AlleleScores:
    """AlleleScores of n alleles.

    Attributes:
        values: column → (n,) float64; NaN where the estimator has no meaning for the allele.
        strand_difference: column → (n,) float64, forward minus reverse; small where the model is sure of itself.
        cut: (n,) bool, an end of the contig made the window shorter.
    """

    values: dict[str, np.ndarray]
    strand_difference: dict[str, np.ndarray]
    cut: np.ndarray


def columns_of_estimators(estimators: Sequence[str]) -> list[str]:
    """Return the columns that estimators fill."""
    embedding = [f"embedding_{where}_{how}" for where in ("site", "window") for how in ("cosine", "l2", "dot")]
    return [column for name in estimators for column in (embedding if name == "embedding" else [name])]


def field_name(column: str) -> str:
    """Return the name of a column in the output."""
    return f"GENOLM_{column.upper()}"


def check_drawn(estimator: str, causal: bool) -> None:
    """Refuse an estimator that is not a log-likelihood ratio: the first one is drawn."""
    if estimator not in LLRS:
        allowed = ", ".join(LLRS[1:2] if causal else LLRS)
        raise ValueError(f"--estimator {estimator}: the first one is drawn, and must be of {allowed}")


def check_estimators(estimators: Sequence[str], encoder: Encoder, causal: bool) -> None:
    """Refuse estimators that a model does not have.

    Raises:
        ValueError: unknown, or not of this objective or tokenizer.
    """
    allowed, what = (CAUSAL, "causal") if causal else (MASKED, "masked")
    for name in estimators:
        if name not in allowed:
            raise ValueError(f"estimator {name!r} is not available for {what} models; allowed are {', '.join(allowed)}")
        if name in SINGLE and encoder.kind != "char":
            raise ValueError(f"estimator {name!r} needs a token for each base, and the tokenizer is of {encoder.kind}")
    if not causal and encoder.mask_id is None:
        raise ValueError("the model is masked, and its tokenizer has no mask token; is it the right tokenizer?")


def score_alleles(
    model: torch.nn.Module,
    encoder: Encoder,
    store: Reference,
    alleles: Sequence[Allele],
    *,
    causal: bool,
    window_bp: int,
    step: int = 1,
    estimators: Sequence[str],
    batch_size: int = 32,
    autocast: bool = False,
    max_tokens: int | None = None,
    on_done: Callable[[int], object] = lambda number: None,
) -> AlleleScores:
    """Score alleles: see the module for the estimators.

    Args:
        model: a causal or masked language model, in evaluation mode, where it is to run.
        encoder: letters → ids.
        store: the genome.
        alleles: n of them.
        causal: whether the model reads from left to right.
        window_bp: W, bases of a window; of k-mers a multiple of k.
        step: windows start at multiples of it, so that neighbouring alleles share what is computed of REF.
        estimators: see the module.
        batch_size: rows of tokens in a forward pass.
        autocast: run in bf16.
        max_tokens: that a row may have.
        on_done: called as the work goes on, with how many alleles more of it are done; n in all.

    Raises:
        ValueError: a window of more tokens than `max_tokens`.
    """
    num, by_column = len(alleles), {column: [] for column in columns_of_estimators(estimators)}
    cut = np.zeros(num, dtype=bool)
    phases = encoder.k if encoder.kind == "kmer" else 1
    chunk = max(1, TOKENS // (window_bp * phases * 8))
    for first in range(0, num, chunk):
        part = alleles[first : first + chunk]
        queries = QueryBatch(encoder, causal)
        finished = []
        for phase in range(phases):
            ref, alt, short = windows_of(store, part, window_bp, phase, step)
            cut[first : first + len(part)] |= short
            for other in (False, True):
                sides = (ref.on_other_strand(), alt.on_other_strand()) if other else (ref, alt)
                pair = tokenize_pair(encoder, *sides)
                if max_tokens is not None and max(map(len, pair.ref.ids + pair.alt.ids)) > max_tokens:
                    raise ValueError(
                        f"a window of {window_bp} bp gives more than the {max_tokens} tokens that the model takes; set "
                        "a smaller --window"
                    )
                finished.append([_ESTIMATORS[name](queries, pair) for name in estimators])
        on_rows = _in_alleles(len(part), len(queries.rows), on_done)
        results = run_queries(model, queries, batch_size, autocast, on_rows)
        on_rows(len(queries.rows) + 1)  # what is left: of an indel that no estimator has a meaning for there is no row
        # (phase and strand, column) → (n,)
        per_side = [[values for finish in row for values in finish(results)] for row in finished]
        for i, column in enumerate(by_column):
            by_column[column].append(
                np.stack([np.mean([row[i] for row in per_side[side::2]], axis=0) for side in (0, 1)])
            )
    strands = {
        column: np.concatenate(parts, axis=1) if parts else np.zeros((2, 0)) for column, parts in by_column.items()
    }
    return AlleleScores(
        {column: values.mean(0) for column, values in strands.items()},
        {column: values[0] - values[1] for column, values in strands.items()},
        cut,
    )


def _in_alleles(num: int, num_rows: int, on_done: Callable[[int], object]) -> Callable[[int], None]:
    """Return a callback for computed rows that reports the same fraction of n alleles."""
    rows, reported = 0, 0

    def on_rows(more: int) -> None:
        nonlocal rows, reported
        rows += more  # a row whose sums and vectors are both needed may be computed twice
        done = min(num * rows // max(num_rows, 1), num)
        on_done(done - reported)
        reported = done

    return on_rows


Finish = Callable[[QueryResults], list[np.ndarray]]
"""QueryResults → the columns of an estimator, each (n,)."""


class SignedSum:
    """Sums of signed terms, one for each of n alleles."""

    def __init__(self, queries: QueryBatch, num: int):
        self.queries, self.num, self.first = queries, num, len(queries.terms)
        self.alleles: list[int] = []
        self.signs: list[int] = []

    def add(self, allele: int, sign: int, row: int, position: int, token: int) -> None:
        """Add one term."""
        self.queries.terms.append((row, position, token))
        self.alleles.append(allele)
        self.signs.append(sign)

    def finish(self, keep: np.ndarray | None = None) -> Finish:
        """Return what adds up the results; NaN where an allele is not to be kept."""
        last = len(self.queries.terms)

        def total(results: QueryResults) -> list[np.ndarray]:
            weights = results.terms[self.first : last] * self.signs
            sums = np.bincount(self.alleles, weights, minlength=self.num) if self.alleles else np.zeros(self.num)
            return [sums if keep is None else np.where(keep, sums, np.nan)]

        return total


def masked_llr(queries: QueryBatch, pair: Pair, together: bool = True) -> Finish:
    """All touched tokens hidden at once, or one at a time."""
    terms = SignedSum(queries, len(pair.differ))
    for side, sign in ((pair.alt, 1), (pair.ref, -1)):
        for allele, ids in enumerate(side.ids):
            span = range(int(side.first[allele]), int(side.last[allele]))
            for position in span:
                if queries.encoder.num_bases[ids[position]]:
                    row = queries.row(ids, span if together else (position,))
                    terms.add(allele, sign, row, position, int(ids[position]))
    return terms.finish()


def likelihood(queries: QueryBatch, pair: Pair) -> Finish:
    """The whole window from the first token that differs; of a masked model touched tokens, hidden one at a time."""
    if not queries.causal:
        return masked_llr(queries, pair, together=False)
    terms = SignedSum(queries, len(pair.differ))
    for allele, differ in enumerate(pair.differ.tolist()):
        ref, alt = queries.row(pair.ref.ids[allele]), queries.row(pair.alt.ids[allele])
        queries.join(ref, alt, differ)
        terms.add(allele, 1, alt, differ, 0)
        terms.add(allele, -1, ref, differ, 0)
    return terms.finish()


def unmasked_llr(queries: QueryBatch, pair: Pair) -> Finish:
    """Both alleles' tokens in the window of REF."""
    terms = SignedSum(queries, len(pair.differ))
    for allele in np.flatnonzero(pair.substitution).tolist():
        row, first = queries.row(pair.ref.ids[allele]), int(pair.ref.first[allele])
        for side, sign in ((pair.alt, 1), (pair.ref, -1)):
            for position in range(first, int(pair.ref.last[allele])):
                token = int(side.ids[allele][position - first + int(side.first[allele])])
                if queries.encoder.num_bases[token]:
                    terms.add(allele, sign, row, position, token)
    return terms.finish(pair.substitution)


def hidden_entropy(queries: QueryBatch, pair: Pair) -> Finish:
    """Of the four bases at the first changed one, hidden."""
    num = len(pair.differ)
    terms = SignedSum(queries, 4 * num)
    for allele in np.flatnonzero(pair.substitution).tolist():
        position = int(pair.ref.first[allele])
        row = queries.row(pair.ref.ids[allele], (position,))
        for base, token in enumerate(queries.base_ids.tolist()):
            terms.add(base * num + allele, 1, row, position, token)
    total = terms.finish(np.tile(pair.substitution, 4))

    def finish(results: QueryResults) -> list[np.ndarray]:
        logs = total(results)[0].reshape(4, num)
        logs = logs - np.log(np.exp(logs).sum(0))
        return [-(np.exp(logs) * logs).sum(0)]

    return finish


def influence(queries: QueryBatch, pair: Pair) -> Finish:
    """The greatest change of log-odds of a base, averaged over the places that are not touched."""
    rows = [(queries.row(ref), queries.row(alt)) for ref, alt in zip(pair.ref.ids, pair.alt.ids, strict=True)]
    queries.odds |= {row: None for two in rows for row in two}

    def finish(results: QueryResults) -> list[np.ndarray]:
        means = np.full(len(rows), np.nan)
        for allele in np.flatnonzero(pair.substitution).tolist():
            moved = np.abs(results.odds[rows[allele][0]] - results.odds[rows[allele][1]]).max(1)
            first, last = pair.ref.bases[allele]
            place = np.arange(first, last)
            means[allele] = moved[place[(place < pair.ref.first[allele]) | (place >= pair.ref.last[allele])]].mean()
        return [means]

    return finish


def embedding(queries: QueryBatch, pair: Pair) -> Finish:
    """Cosine, L2 and dot product of REF's and ALT's vectors, of the site and of the window."""
    start = len(queries.pools)
    for spans in ("site", "window"):
        for side in (pair.ref, pair.alt):
            for allele, ids in enumerate(side.ids):
                span = (int(side.first[allele]), int(side.last[allele])) if spans == "site" else side.bases[allele]
                queries.pools.append((queries.row(ids), *span))

    def finish(results: QueryResults) -> list[np.ndarray]:
        num = len(pair.differ)
        vectors = results.pools[start : start + 4 * num].reshape(2, 2, num, -1).astype(np.float64)
        columns = []
        for ref, alt in vectors:
            dot, norms = (ref * alt).sum(-1), np.linalg.norm(ref, axis=-1) * np.linalg.norm(alt, axis=-1)
            columns += [dot / np.maximum(norms, 1e-30), np.linalg.norm(ref - alt, axis=-1), dot]
        return columns

    return finish


_ESTIMATORS: dict[str, Callable[[QueryBatch, Pair], Finish]] = {
    "masked_llr": masked_llr,
    "likelihood": likelihood,
    "unmasked_llr": unmasked_llr,
    "entropy": hidden_entropy,
    "influence": influence,
    "embedding": embedding,
}
