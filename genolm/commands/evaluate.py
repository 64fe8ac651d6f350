"""`genolm evaluate`: bits per base on held-out regions, beside Markov models of every order on the same bases."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from genolm.genome.alphabet import IS_SOFT_MASKED
from genolm.genome.windows import Regions, regions_of, tile
from genolm.recipe import PretrainRecipe, load_recipe

BLOCK_BP = 10_000
"""Bases of one block of the bootstrap: neighbours within it are not independent."""


def evaluate(
    run: Annotated[str, typer.Argument(help="Run folder that `genolm pretrain` wrote.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes to its recipe: key=value.")] = None,
) -> None:
    """Evaluate a pretrained model on its test regions, or others.

    Example: genolm evaluate runs/first evaluation.regions=genes.gff3
    """
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    from genolm.commands.pretrain import has_fast_bf16, open_genomes
    from genolm.tokenizers.build import load_tokenizer

    run_dir = Path(run)
    if not (run_dir / "checkpoint" / "config.json").is_file():
        raise ValueError(f"{run} has no checkpoint/config.json; give the run folder of a finished `genolm pretrain`")
    recipe = load_recipe(PretrainRecipe, run_dir / "recipe.yaml", [*(overrides or []), f"run_dir={run}"])
    auto = AutoModelForCausalLM if recipe.objective.kind == "causal" else AutoModelForMaskedLM
    model = auto.from_pretrained(run_dir / "checkpoint")
    tokenizer = load_tokenizer(run_dir / "checkpoint")
    store, regions = open_genomes(recipe)
    metrics = evaluate_model(model, tokenizer, store, regions, recipe, autocast=has_fast_bf16())
    (run_dir / "metrics.json").write_text(json.dumps(metrics, indent=1))
    print_metrics(metrics)


def evaluate_model(model, tokenizer, store, regions, recipe: PretrainRecipe, autocast: bool = False) -> dict[str, Any]:
    """Return metrics of the test regions (valid where there is no test), and the Markov ladder on the same regions."""
    from genolm.commands.pretrain import make_masking
    from genolm.evaluation.bits import summarise
    from genolm.models.nats import score_windows
    from genolm.tokenizers.encode import make_encoder

    name = "test" if len(regions["test"]) else "valid"
    held_out = limit(regions[name], recipe.evaluation.max_bp)
    if not held_out.num_bases:
        return {"note": "no base was held out; set data.test to measure bits per base"}
    causal = recipe.objective.kind == "causal"
    encoder = make_encoder(tokenizer)
    # Half of each causal window is context, so that no base is scored with almost nothing before it.
    windows = tile(held_out, recipe.data.window_bp, context_for(encoder, recipe.data.window_bp) if causal else 0)
    masking = None if causal else make_masking(recipe, encoder)
    parts = list(
        score_windows(
            model,
            encoder,
            store,
            windows,
            masking=masking,
            seed=recipe.seed,
            soft_masked_weight=recipe.data.eval_soft_masked_weight,
            autocast=autocast,
        )
    )
    nats, bases, contig, position = (
        np.concatenate([getattr(part, field) for part in parts]) for field in ("nats", "bases", "contig", "position")
    )
    classes = class_masks(store, contig, position, recipe.evaluation.regions)
    block = contig * (1 << 40) + position // BLOCK_BP
    table = summarise(nats, bases, block, classes)
    if not causal:
        table = {("masked_" + key if key == "bits_per_base" else key): value for key, value in table.items()}
    metrics = {name: table}
    if recipe.evaluation.markov_orders:
        ladder = markov_ladder(store, regions["train"], recipe.evaluation.markov_orders)
        metrics["markov"] = {str(k): v for k, v in ladder.bits_per_base(pieces(store, held_out)).items()}
    return metrics


def context_for(encoder, window_bp: int) -> int:
    """Return the bases of context of a causal evaluation window: half, in whole k-mers."""
    return window_bp // 2 // encoder.k * encoder.k if encoder.kind == "kmer" else window_bp // 2


def limit(regions: Regions, max_bp: int | None) -> Regions:
    """Return the first bases of every region, in equal shares, `max_bp` in all."""
    if max_bp is None or regions.num_bases <= max_bp:
        return regions
    share = max_bp / regions.num_bases
    return Regions.of((c, s, s + max(1, int((e - s) * share))) for c, s, e in regions)


def pieces(store, regions: Regions) -> Iterable[np.ndarray]:
    """Yield the letters of each region."""
    for contig, start, end in regions:
        yield store.fetch(contig, start, end)


def markov_ladder(store, train: Regions, orders: list[int]):
    """Fit Markov models of all orders, inverted repeats included, on the training regions."""
    from genolm.evaluation.markov import fit

    return fit(pieces(store, train), orders)


def class_masks(store, contig: np.ndarray, position: np.ndarray, annotation: str | None) -> dict[str, np.ndarray]:
    """Return which scored tokens end in a repeat, in unique sequence, and in each class of an annotation."""
    from genolm.genome.interval import read_intervals

    repeat = np.zeros(len(contig), dtype=bool)
    for i in np.unique(contig):
        here = contig == i
        letters = store.fetch(int(i), 0, store.contigs[int(i)].length)
        repeat[here] = IS_SOFT_MASKED[letters[position[here]]]
    classes = {"repeat": repeat, "unique": ~repeat} if repeat.any() else {}
    if annotation:
        by_type: dict[str, list] = {}
        for interval in read_intervals(Path(annotation)):
            by_type.setdefault(interval.name or "annotated", []).append(interval)
        for kind, intervals in by_type.items():
            classes[kind] = inside(regions_of(store, intervals), contig, position)
    return {name: mask for name, mask in classes.items() if mask.any()}


def inside(regions: Regions, contig: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Return (N,) bool: whether each position lies in a region."""
    key = regions.contig * (1 << 40)
    at = np.searchsorted(key + regions.start, contig * (1 << 40) + position, side="right") - 1
    found = np.maximum(at, 0)
    return (at >= 0) & (regions.contig[found] == contig) & (position < regions.end[found])


def print_metrics(metrics: dict[str, Any]) -> None:
    """Print bits per base with its interval, by class, beside the Markov models."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for split in ("test", "valid"):
        if split not in metrics:
            continue
        found = metrics[split]
        key = "bits_per_base" if "bits_per_base" in found else "masked_bits_per_base"
        table = Table("region", key.replace("_", " "), "95 % interval", "bases", title=split)
        rows = {"all": found, **found.get("classes", {})}
        for name, row in rows.items():
            bits = row.get("bits_per_base", row.get("masked_bits_per_base"))
            low, high = row["interval"]
            table.add_row(name, f"{bits:.4f}", f"{low:.4f} … {high:.4f}", f"{row['num_bases']:,.0f}")
        console.print(table)
    if "markov" in metrics:
        table = Table("order", "bits per base", title="Markov models fitted on the training regions")
        for order, bits in metrics["markov"].items():
            table.add_row(order, f"{bits:.4f}")
        console.print(table)
