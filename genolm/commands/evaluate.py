"""`genolm evaluate`: bits per base of a pretrained model on held-out regions, compared with Markov models."""

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    run: Annotated[str, typer.Argument(help="Run folder that `genolm pretrain` wrote.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes to its recipe: key=value.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="JSON file. By default the run's metrics.json, or with changes evaluation-HASH.json in the run folder."
        ),
    ] = None,
) -> None:
    """Measure bits per base of a pretrained model on its test regions, or on others.

    Example: genolm evaluate runs/first

    Example: genolm evaluate runs/first evaluation.regions=genes.gff3
    """
    from genolm.pretraining.build import print_bits
    from genolm.pretraining.evaluate import evaluate_run

    metrics, written = evaluate_run(run, overrides or [], out)
    print_bits(metrics)
    typer.echo(f"written: {written}")
