"""`genolm demo`: train a small model on a simulated genome of known entropy.

simulate → pretrain → bits per base compared with the floor and the Markov models
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from genolm.config.pretrain import DataRecipe, EvaluationRecipe, ObjectiveRecipe, PretrainRecipe, SplitRecipe
from genolm.training.signals import exit_codes

NUM_BASES = 1_500_000
HELD_OUT = {"valid": "sim7", "test": "sim8"}
MODEL = {
    "architecture": "llama",
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "initializer_range": 0.06,
}
TRAINING = {
    "max_steps": 1400,
    "per_device_train_batch_size": 8,
    "learning_rate": 3e-3,
    "lr_scheduler_type": "linear",
    "warmup_steps": 20,
    "adam_beta2": 0.95,
    "weight_decay": 0.05,
}


@exit_codes
def demo(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
    fasta: Annotated[str | None, typer.Option(help="Train on this genome instead of a simulated one.")] = None,
    steps: Annotated[int, typer.Option(help="Training steps.")] = TRAINING["max_steps"],
    seed: Annotated[int, typer.Option(help="Seed of the genome and of the training.")] = 0,
) -> None:
    """Train a small causal model in about three minutes on a CPU, and compare it with Markov models and the floor.

    Example: genolm demo --out runs/demo
    """
    from genolm.pretraining import run_pretraining

    out.mkdir(parents=True, exist_ok=True)
    recipe = PretrainRecipe(
        run_dir=str(out),
        data=DataRecipe(fasta=fasta, valid=SplitRecipe(fraction=0.05), test=SplitRecipe(fraction=0.1), window_bp=256),
        objective=ObjectiveRecipe("causal"),
        model=MODEL,
        seed=seed,
        training=TRAINING | {"max_steps": steps},
        evaluation=EvaluationRecipe(every_steps=200, valid_bp=40_000, max_bp=200_000),
    )
    if fasta:
        print_report(out, run_pretraining(recipe), None)
        return
    from genolm.genome.simulate import simulate, write_bed, write_fasta

    print(f"simulating {NUM_BASES:,} bp: codon-biased genes, motifs, repeats in lower case, on a Markov background")
    genome = simulate(NUM_BASES, seed=seed)
    write_fasta(out / "simulated.fa", genome.records)
    write_bed(out / "features.bed", genome.features)
    data = replace(
        recipe.data,
        fasta=str(out / "simulated.fa"),
        **{name: SplitRecipe(contigs=[contig]) for name, contig in HELD_OUT.items()},
    )
    evaluation = replace(recipe.evaluation, regions=str(out / "features.bed"))
    metrics = run_pretraining(replace(recipe, data=data, evaluation=evaluation))
    names = [name for name, _ in genome.records]
    floor = float(genome.bits[names.index(HELD_OUT["test"])][: recipe.evaluation.max_bp].mean())
    print_report(out, metrics, floor)


def print_report(out: Path, metrics: dict, floor: float | None) -> None:
    """Print and draw the bits per base of the model, the best Markov model and the floor."""
    from genolm.reports.figures import loss_curve

    bits = metrics["test"]["bits_per_base"]
    order, best = min(metrics["markov"].items(), key=lambda row: row[1])
    print("\nbits per base on held-out sequence")
    print(f"  {f'best Markov model, order {order}':<34}{best:.4f}")
    print(f"  {'this model':<34}{bits:.4f}")
    if floor is not None:
        print(f"  {'floor: no causal model is better':<34}{floor:.4f}")
        print(f"{(best - bits) / (best - floor):.0%} of the way from the Markov model to the floor")
        (out / "floor.json").write_text(json.dumps({"bits_per_base": floor}))
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    loss_curve(rows, out / "loss.png", "causal", baselines=metrics["markov"], floor=floor)
    print(f"curve: {out / 'loss.png'}")
