"""Measures a language model on held-out regions, beside Markov models fitted on the training regions.

The model and the Markov ladder see the same letters. Half of each causal window is context, so that no base but a
region's first is scored with little before it.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import gather_object
from tqdm.auto import tqdm

from genolm.data.collate import Masking
from genolm.genome.alphabet import IS_SOFT_MASKED
from genolm.genome.interval import read_intervals
from genolm.genome.splits import Regions, head, inside, regions_of, tile
from genolm.genome.store import OtherStrand, Store
from genolm.inference.token_nll import Scored, fit_windows, score_windows
from genolm.metrics.bits import summarise
from genolm.metrics.markov import fit
from genolm.metrics.markov_mixture import fit_mixture
from genolm.tokenizers.encode import Encoder

BLOCK_BP = 10_000
"""Bases of one block of the bootstrap: neighbours within it are not independent."""


def measure(
    model,
    encoder: Encoder,
    store: Store,
    held_out: Regions,
    *,
    window_bp: int,
    window_tokens: int,
    masking: Masking | None = None,
    seed: int = 0,
    soft_masked_weight: float = 1.0,
    annotation: str | Path | None = None,
    batch_size: int = 32,
    autocast: bool = False,
    both_strands: bool = False,
    progress: bool = False,
    rank: int = 0,
    num_ranks: int = 1,
    between: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Return bits per base with its interval, over all bases and by region class.

    Args:
        model: a causal or masked language model.
        encoder: letters → ids.
        store: the genomes.
        held_out: regions to score.
        window_bp: window the model was trained with.
        window_tokens: tokens of a row in training; no row is longer when measured.
        masking: hides tokens of a masked model, all that it chooses (`hide_all`); None for a causal model.
        seed: of the masks.
        soft_masked_weight: 0 leaves lower-case bases out.
        annotation: BED or GFF whose names or types become region classes.
        batch_size: windows in a forward pass.
        autocast: run in bf16.
        both_strands: the mean over the genome's two strands, each read in its own direction, at twice the time; else
            the forward strand.
        progress: show a bar.
        rank: of this process.
        num_ranks: processes that share the work; each of them must call this, and gets the same result.
        between: called after every batch, on each of them as often.

    Returns:
        `bits_per_base` for a causal model, a likelihood. `masked_bits_per_base` for a masked one: nats of the hidden
        bases given both flanks, which is no code length and never to be compared with the former.
    """
    context = 0
    if masking is None:
        context = window_bp // 2 // encoder.k * encoder.k if encoder.kind == "kmer" else window_bp // 2
    options: dict[str, Any] = dict(
        masking=masking, seed=seed, soft_masked_weight=soft_masked_weight, batch_size=batch_size, autocast=autocast
    )
    options |= dict(rank=rank, num_ranks=num_ranks)

    def score(strand: Store, regions: Regions) -> Scored:
        windows = fit_windows(encoder, strand, tile(regions, window_bp, context), window_tokens)
        num_batches = -(-len(windows) // batch_size)
        bar = tqdm(
            score_windows(model, encoder, strand, windows, **options),
            total=-(-num_batches // num_ranks),
            desc="evaluating" if strand is store else "other strand",
            unit="batch",
            mininterval=0.5 if sys.stderr.isatty() else 30.0,
            disable=not progress,
        )
        parts = []
        for part in bar:
            parts.append(part)
            between()
        if num_ranks > 1:
            # Batch i was scored by rank i modulo their number; put together, they are what one process would have.
            shares = gather_object([parts])
            parts = [part for round_of in zip(*shares, strict=True) for part in round_of][:num_batches]
        return Scored.concatenate(parts)

    strands = [score(store, held_out)]
    if both_strands:
        other = score(OtherStrand.open(store.folder), held_out.on_other_strand(store))
        strands.append(other.on_other_strand(store.lengths))
    scored = Scored.concatenate(strands)
    nats, bases, contig, position = scored.nats, scored.bases, scored.contig, scored.position
    # Each base is scored once on every strand, and counts once.
    nats, bases = nats / len(strands), bases / len(strands)
    classes = region_classes(store, contig, position, annotation)
    table = summarise(nats, bases, (contig << 40) + position // BLOCK_BP, classes)
    return table if masking is None else renamed(table)


def measure_splits(
    model,
    encoder: Encoder,
    store: Store,
    regions: dict[str, Regions],
    *,
    max_bp: int | None = None,
    markov_orders: Sequence[int] = (),
    markov_mixture: bool = False,
    **options,
) -> dict[str, Any]:
    """Return `measure` of the test regions (of valid where there is no test), and the Markov ladder beside it.

    Args:
        model: as for `measure`, and so are `encoder`, `store` and `options`.
        encoder: letters → ids.
        store: the genomes.
        regions: `train`, `valid` and `test`.
        max_bp: about how many bases to score.
        markov_orders: orders of the ladder.
        markov_mixture: measure the mixture of its orders, too.
        options: the rest of `measure`'s arguments.
    """
    name = "test" if len(regions["test"]) else "valid"
    held_out = head(regions[name], max_bp)
    if not len(held_out):
        return {}
    metrics: dict[str, Any] = {name: measure(model, encoder, store, held_out, **options)}
    if markov_orders:
        metrics["markov"] = markov_bits(store, regions["train"], held_out, markov_orders)
    if markov_mixture:
        mixture = fit_mixture(list(pieces(store, regions["train"])))
        metrics["markov_mixture"] = mixture.bits_per_base(pieces(store, held_out))
    return metrics


def renamed(table: dict[str, Any]) -> dict[str, Any]:
    """Return the table with `bits_per_base` called `masked_bits_per_base`, in its classes too."""
    return {
        ("masked_bits_per_base" if key == "bits_per_base" else key): (
            {name: renamed(row) for name, row in value.items()} if key == "classes" else value
        )
        for key, value in table.items()
    }


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
        annotated = {name: regions_of(store, intervals) for name, intervals in by_name.items()}
        classes |= {name: inside(regions, contig, position) for name, regions in annotated.items()}
    return {name: mask for name, mask in classes.items() if mask.any()}


def pieces(store: Store, regions: Regions) -> Iterator[np.ndarray]:
    """Yield the letters of each region."""
    for contig, start, end in regions:
        yield store.fetch(contig, start, end)


def markov_bits(store: Store, train: Regions, held_out: Regions, orders: Sequence[int]) -> dict[str, float]:
    """Return bits per base of order-k Markov models with inverted repeats, fitted on `train`, on `held_out`."""
    ladder = fit(pieces(store, train), list(orders))
    return {str(order): bits for order, bits in ladder.bits_per_base(pieces(store, held_out)).items()}
