"""Bits per base of a language model on held-out regions, and of Markov models fitted on the training regions.

The model and the Markov models see the same bases. Half of each causal window is context, so that no base but a
region's first ones is scored with little before it.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genolm.data.masking import Masking
from genolm.genome.alphabet import IS_SOFT_MASKED
from genolm.genome.interval import read_intervals
from genolm.genome.regions import Regions
from genolm.genome.store import OtherStrand, Store
from genolm.inference.batches import gather_batches
from genolm.inference.token_nll import TokenNLL, fit_windows, score_windows
from genolm.metrics.bits import bits_table
from genolm.metrics.markov import fit, fit_mixture
from genolm.tokenizers.encode import Encoder

BLOCK_BP = 10_000
"""Bases of one block of the bootstrap: neighbours within it are not independent."""


def score_regions(
    model,
    encoder: Encoder,
    store: Store,
    regions: Regions,
    *,
    window_bp: int,
    window_tokens: int,
    masking: Masking | None = None,
    batch_size: int = 32,
    progress: str = "",
    rank: int = 0,
    num_ranks: int = 1,
    after_batch: Callable[[], None] = lambda: None,
    **options: Any,
) -> TokenNLL:
    """Score every base of some regions, on all ranks together.

    Args:
        model: a causal or masked language model.
        encoder: sequence → ids.
        store: the genomes, or their other strand.
        regions: regions to score.
        window_bp: window the model was trained with.
        window_tokens: tokens of a row in training; no row is longer here.
        masking: masks tokens for a masked model (`evaluation_masking`); None for a causal model.
        batch_size: windows in a forward pass.
        progress: title of a progress bar, or empty for none.
        rank: of this process.
        num_ranks: processes that share the work; each of them must call this, and gets the same result.
        after_batch: called after every batch, equally often on each rank.
        options: further options of `score_windows`: `seed` of the masks, `soft_masked_weight`, `autocast`.
    """
    context = 0
    if masking is None:
        context = window_bp // 2 // encoder.k * encoder.k if encoder.kind == "kmer" else window_bp // 2
    windows = fit_windows(encoder, store, regions.tile(window_bp, context), window_tokens)
    options |= dict(masking=masking, batch_size=batch_size, progress=progress, rank=rank, num_ranks=num_ranks)
    parts = {}
    for number, part in score_windows(model, encoder, store, windows, **options):
        parts[number] = part
        after_batch()
    return TokenNLL.concatenate(gather_batches(parts, num_ranks))


def measure_bits(
    model,
    encoder: Encoder,
    store: Store,
    regions: Regions,
    *,
    annotation: str | Path | None = None,
    both_strands: bool = False,
    progress: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Return bits per base of held-out regions with its interval, over all bases and by region class.

    `annotation` is a BED or GFF whose names or types become region classes. With `both_strands` the two strands, each
    read in its own direction, are averaged, at twice the time. The other arguments are those of `score_regions`.

    Returns:
        `bits_per_base` for a causal model, a likelihood. `masked_bits_per_base` for a masked one: bits of the hidden
        bases given both flanks, which is not a code length and never to be compared with the former.
    """
    strands = [score_regions(model, encoder, store, regions, progress="evaluating" * progress, **options)]
    if both_strands:
        other, there = OtherStrand.open(store.folder), regions.on_other_strand(store)
        scored = score_regions(model, encoder, other, there, progress="other strand" * progress, **options)
        strands.append(scored.on_other_strand(store.lengths))
    scored = TokenNLL.concatenate(strands)
    # Each base is scored once on every strand, and counts once.
    nats, bases = scored.nats / len(strands), scored.bases / len(strands)
    classes = region_classes(store, scored.contig, scored.position, annotation)
    key = "bits_per_base" if options.get("masking") is None else "masked_bits_per_base"
    return bits_table(nats, bases, (scored.contig << 40) + scored.position // BLOCK_BP, classes, key=key)


def measure_splits(
    model,
    encoder: Encoder,
    store: Store,
    regions: dict[str, Regions],
    *,
    max_bp: int | None = None,
    markov_orders: Sequence[int] = (),
    markov_mixture: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Measure a model on the test regions (on valid where there is no test), and Markov models on the same bases.

    `regions` are those of `train`, `valid` and `test`; of the measured ones about `max_bp` bases are scored. The Markov
    models, and their mixture if requested, are fitted on `train`. The other arguments are those of `measure_bits`.
    """
    name = "test" if len(regions["test"]) else "valid"
    held_out = regions[name].head(max_bp)
    if not len(held_out):
        return {}
    metrics: dict[str, Any] = {name: measure_bits(model, encoder, store, held_out, **options)}
    if markov_orders:
        ladder = fit(sequences(store, regions["train"]), markov_orders)
        bits = ladder.bits_per_base(sequences(store, held_out))
        metrics["markov"] = {str(order): value for order, value in bits.items()}
    if markov_mixture:
        mixture = fit_mixture(list(sequences(store, regions["train"])))
        metrics["markov_mixture"] = mixture.bits_per_base(sequences(store, held_out))
    return metrics


def region_classes(store: Store, contig: np.ndarray, position: np.ndarray, annotation=None) -> dict[str, np.ndarray]:
    """Return (N,) bool masks: bases in repeats (lower case), in unique sequence, and in each class of a BED or GFF."""
    repeat = np.zeros(len(contig), dtype=bool)
    for i in np.unique(contig).tolist():
        here = contig == i
        repeat[here] = IS_SOFT_MASKED[store.fetch(i, 0, store.contigs[i].length)[position[here]]]
    classes = {"repeat": repeat, "unique": ~repeat} if repeat.any() else {}
    if annotation is not None:
        by_name: dict[str, list] = {}
        for interval in read_intervals(Path(annotation)):
            by_name.setdefault(interval.name or "annotated", []).append(interval)
        annotated = {name: Regions.from_intervals(store, intervals) for name, intervals in by_name.items()}
        classes |= {name: regions.contain(contig, position) for name, regions in annotated.items()}
    return {name: mask for name, mask in classes.items() if mask.any()}


def sequences(store: Store, regions: Regions) -> Iterator[np.ndarray]:
    """Yield the sequence of each region as (length,) uint8."""
    for contig, start, end in regions:
        yield store.fetch(contig, start, end)
