"""Bits per base of a language model on held-out regions, and of Markov models fitted on the training regions.

They come from the negative log-likelihoods of the tokens of evaluation windows. The model and the Markov models see the
same bases. Half of each causal window is context, so that no base but a region's first ones is scored with little
before it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genolm.data.collate import Masking
from genolm.data.corpus import base_weights, encode_rows
from genolm.genome.alphabet import IS_SOFT_MASKED
from genolm.genome.interval import read_intervals
from genolm.genome.regions import Regions
from genolm.genome.store import OtherStrand, Store
from genolm.inference.batches import gather_batches, run_batches
from genolm.metrics.bits import bits_table
from genolm.metrics.markov import fit, fit_mixture
from genolm.tokenizers.encode import Encoder

BLOCK_BP = 10_000
"""Bases of one block of the bootstrap: neighbours within it are not independent."""


@dataclass(frozen=True)
class TokenNLL:
    """Negative log-likelihoods of tokens, in genome order within each window.

    Attributes:
        nats: (N,) float64, -ln p of the token.
        bases: (N,) float64, bases the token accounts for; they sum to the bases scored.
        contig: (N,) int64.
        position: (N,) int64, the last base of the token, 0-based.
    """

    nats: np.ndarray
    bases: np.ndarray
    contig: np.ndarray
    position: np.ndarray

    @classmethod
    def concatenate(cls, parts: Sequence["TokenNLL"]) -> "TokenNLL":
        """Join parts in their order."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def on_other_strand(self, lengths: np.ndarray) -> "TokenNLL":
        """Return the same tokens at positions of the other strand, for contigs of these lengths."""
        return replace(self, position=lengths[self.contig] - 1 - self.position)


def score_windows(
    model: torch.nn.Module,
    encoder: Encoder,
    store: Store,
    windows: np.ndarray,
    *,
    masking: Masking | None = None,
    seed: int = 0,
    soft_masked_weight: float = 1.0,
    batch_size: int = 32,
    **options: Any,
) -> Iterator[tuple[int, TokenNLL]]:
    """Score windows on their forward strand, and yield each batch's number and scores.

    A token that starts before the scored part counts for its fraction of bases in it.

    Args:
        model: a causal or masked language model; its mode and device are left as they are.
        encoder: sequence → ids.
        store: the genomes.
        windows: (N, 4) int64 as `genolm.genome.regions.Regions.tile` gives.
        masking: masks tokens for a masked model, by (seed, window number); None for a causal model.
        seed: of the masks.
        soft_masked_weight: 0 leaves lower-case bases out.
        batch_size: windows in a forward pass.
        options: `autocast`, `progress`, `rank` and `num_ranks` of `genolm.inference.batches.run_batches`.
    """
    weights = (base_weights(soft_masked_weight) > 0).astype(np.float32)

    def forward(numbers: range, device: torch.device) -> TokenNLL:
        rows = windows[numbers.start : numbers.stop]
        sequences, lengths = _sequences(store, rows)
        encoded = encoder.encode_batch(sequences, lengths=lengths)
        weight = encode_rows(encoder, sequences, lengths, weights).weight
        if masking is None:
            masked_ids, predicted = encoded.ids, weight > 0
            predicted[:, 0] = False
        else:
            masked_ids, target_positions = masking(seed, np.arange(numbers.start, numbers.stop), encoded.ids)
            predicted = np.zeros(masked_ids.shape, dtype=bool)
            predicted.ravel()[target_positions] = weight.ravel()[target_positions] > 0
        mask = (np.arange(masked_ids.shape[1]) < encoded.length[:, None]).astype(np.int64)
        padded = masking is not None and not mask.all()
        nats = _nats(model, masked_ids, encoded.ids, masking is None, mask if padded else None, device)
        bases = _bases(encoder, encoded.start, encoded.end, rows, predicted, masking is not None)
        fraction = _scored_fraction(encoder, encoded.start, encoded.end, rows)
        keep = predicted & (fraction > 0)
        row, column = np.nonzero(keep)
        return TokenNLL(
            nats=(nats * fraction)[keep].astype(np.float64),
            bases=bases[keep].astype(np.float64),
            contig=rows[row, 0],
            position=rows[row, 1] + encoded.end[row, column] - 1,
        )

    batches = [range(i, min(i + batch_size, len(windows))) for i in range(0, len(windows), batch_size)]
    return run_batches(model, batches, forward, unit="window", **options)


def fit_windows(
    encoder: Encoder, store: Store, windows: np.ndarray, max_tokens: int, batch_size: int = 256
) -> np.ndarray:
    """Cut windows that give more tokens than the model was trained on into ones that do not.

    The number of tokens depends on the sequence, with BPE and where k-mers meet other letters. Positions beyond those
    of training would cost a model bits, or do not exist. The scored parts still cover the same bases.

    Args:
        encoder: sequence → ids.
        store: the genomes.
        windows: (N, 4) int64 as `Regions.tile` returns.
        max_tokens: tokens of a row in training, special tokens included.
        batch_size: windows to encode at once.

    Returns:
        (M, 4) int64, in the order of the genome; the same windows where all fit.
    """
    done, left = [], windows
    while len(left):
        count = np.concatenate(
            [_num_tokens(encoder, store, left[i : i + batch_size]) for i in range(0, len(left), batch_size)]
        )
        done.append(left[count <= max_tokens])
        contig, start, end, scored = left[count > max_tokens].T
        # Halve the scored part, or, where it is shorter than the context, drop the farther half of the context.
        middle = (scored + end) // 2
        shown = scored - start >= end - scored
        first = np.stack([contig, start, middle, scored], axis=1)[~shown]
        second = np.stack([contig, middle - (end - middle) // 2, end, middle], axis=1)[~shown]
        nearer = np.stack([contig, (start + scored + 1) // 2, end, scored], axis=1)[shown]
        left = np.concatenate([first, second, nearer])
    fitting = np.concatenate([windows[:0], *done])
    return fitting[np.lexsort((fitting[:, 3], fitting[:, 0]))]


def _sequences(store: Store, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fetch (B, W) bases and (B,) lengths of windows."""
    lengths = rows[:, 2] - rows[:, 1]
    sequences = np.zeros((len(rows), int(lengths.max())), dtype=np.uint8)
    for row, (contig, start, end, _) in enumerate(rows.tolist()):
        sequences[row, : end - start] = store.fetch(contig, start, end)
    return sequences, lengths


def _num_tokens(encoder: Encoder, store: Store, rows: np.ndarray) -> np.ndarray:
    """Return (B,) tokens of windows, special tokens included."""
    sequences, lengths = _sequences(store, rows)
    encoded = encoder.encode_batch(sequences, lengths, special_tokens=False)
    return (encoded.end > encoded.start).sum(axis=1) + len(encoder.prefix_ids) + len(encoder.suffix_ids)


def _scored_fraction(encoder: Encoder, start: np.ndarray, end: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return (B, L): the fraction of each token that lies in its window's scored part."""
    scored_from = (rows[:, 3] - rows[:, 1])[:, None]
    if encoder.kind == "kmer-overlapping":
        return (end - 1 >= scored_from).astype(np.float64)
    inside = np.clip(end - np.maximum(start, scored_from), 0, None)
    return inside / np.maximum(end - start, 1)


def _bases(encoder: Encoder, start, end, rows: np.ndarray, predicted: np.ndarray, masked: bool) -> np.ndarray:
    """Return (B, L): bases a predicted token accounts for.

    An overlapping k-mer adds its last base to those of the tokens before it. Under a mask, a base counts when every
    k-mer that holds it is hidden; the count of a row is spread evenly over its predicted tokens.
    """
    if encoder.kind != "kmer-overlapping":
        return (end - start) * _scored_fraction(encoder, start, end, rows)
    if not masked:
        return (end > start).astype(np.float64)
    bases = np.zeros(start.shape)
    for row in range(len(start)):
        size = int(end[row].max())
        seen, hidden = np.zeros(size + 1, dtype=np.int64), np.zeros(size + 1, dtype=np.int64)
        for target, chosen in ((hidden, predicted[row]), (seen, ~predicted[row] & (end[row] > start[row]))):
            np.add.at(target, start[row][chosen], 1)
            np.add.at(target, end[row][chosen], -1)
        num = int(((np.cumsum(hidden) > 0) & (np.cumsum(seen) == 0)).sum())
        bases[row, predicted[row]] = num / max(1, int(predicted[row].sum()))
    return bases


def _nats(model, masked_ids, ids, causal: bool, mask, device) -> np.ndarray:
    """Return (B, L) float32: -ln p of the token at each position; 0 at the first position of a causal row."""
    inputs = {"input_ids": torch.from_numpy(masked_ids).to(device)}
    if mask is not None:
        inputs["attention_mask"] = torch.from_numpy(mask).to(device)
    logits = model(**inputs).logits.float()
    target = torch.from_numpy(ids).to(device)
    if causal:
        logits, target = logits[:, :-1], target[:, 1:]
    nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction="none")
    out = torch.zeros(ids.shape, dtype=torch.float32)
    out[:, 1 if causal else 0 :] = nats.cpu()
    return out.numpy()


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
