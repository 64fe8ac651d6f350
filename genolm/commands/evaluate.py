"""`genolm evaluate`: bits per base on held-out regions, beside Markov models of every order on the same bases."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def evaluate(
    run: Annotated[str, typer.Argument(help="Run folder that `genolm pretrain` wrote.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes to its recipe: key=value.")] = None,
) -> None:
    """Evaluate a pretrained model on its test regions, or on others.

    Example: genolm evaluate runs/first evaluation.regions=genes.gff3
    """
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    from genolm.data.collate import Masking
    from genolm.genome.store import Store
    from genolm.genome.windows import Split, available, split
    from genolm.recipe import PretrainRecipe
    from genolm.settings import load_settings
    from genolm.tokenizers.build import load_tokenizer
    from genolm.tokenizers.encode import make_encoder
    from genolm.training.held_out import measure_splits
    from genolm.training.precision import has_fast_bf16

    run_dir = Path(run)
    checkpoint = run_dir / "checkpoint"
    if not (checkpoint / "config.json").is_file():
        raise ValueError(f"{run} has no checkpoint/config.json; give the run folder of a finished `genolm pretrain`")
    recipe = load_settings(PretrainRecipe, run_dir / "recipe.yaml", [*(overrides or []), f"run_dir={run}"])
    data, objective = recipe.data, recipe.objective
    store = Store.open(run_dir / "genome")
    valid, test = (Split.read(rule.contigs, rule.fraction, rule.regions) for rule in (data.valid, data.test))
    encoder = make_encoder(load_tokenizer(checkpoint))
    causal = objective.kind == "causal"
    model = (AutoModelForCausalLM if causal else AutoModelForMaskedLM).from_pretrained(checkpoint)
    rates = (objective.mask_rate, objective.mask_token_rate, objective.random_token_rate, objective.span_bp)
    metrics = measure_splits(
        model,
        encoder,
        store,
        split(store, valid, test, available(store, data.include, data.exclude)),
        window_bp=data.window_bp,
        masking=None if causal else Masking(encoder, *rates),
        seed=recipe.seed,
        soft_masked_weight=data.eval_soft_masked_weight,
        annotation=recipe.evaluation.regions,
        max_bp=recipe.evaluation.max_bp,
        markov_orders=recipe.evaluation.markov_orders,
        autocast=has_fast_bf16(),
    )
    (run_dir / "metrics.json").write_text(json.dumps(metrics, indent=1))
    print_metrics(metrics)


def print_metrics(metrics: dict[str, Any]) -> None:
    """Print bits per base with its interval, by class, beside the Markov models."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for split in (name for name in ("test", "valid") if name in metrics):
        found = metrics[split]
        key = "bits_per_base" if "bits_per_base" in found else "masked_bits_per_base"
        table = Table("region", key.replace("_", " "), "95 % interval", "bases", title=split)
        for name, row in {"all": found, **found.get("classes", {})}.items():
            low, high = row["interval"]
            table.add_row(name, f"{row[key]:.4f}", f"{low:.4f} … {high:.4f}", f"{row['num_bases']:,.0f}")
        console.print(table)
    if "markov" in metrics:
        table = Table("order", "bits per base", title="Markov models fitted on the training regions")
        for order, bits in metrics["markov"].items():
            table.add_row(order, f"{bits:.4f}")
        console.print(table)
