"""`genolm compare`: compare fine-tuned models and baselines in a table and on a page.

run folders → checks → metrics and paired differences → terminal, metrics.json, index.html
"""

from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[list[str], typer.Argument(help="Run folders of `genolm finetune`.")],
    out: Annotated[Path, typer.Option(help="Folder for metrics.json and index.html.")],
    against: Annotated[
        str | None, typer.Option(help="Name of the run to compare with; else the best baseline.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Metric to order by; else the primary one of the task.")] = None,
    split: Annotated[str, typer.Option(help="Rows to compare on.")] = "test",
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.", min=100)] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
) -> None:
    """Compare runs on the same rows. Runs with one name and different seeds are averaged.

    Example: genolm compare runs/lora-seed0 runs/lora-seed1 runs/danq-seed0 --out compared
    """
    from genolm.reports.comparison_report import write_comparison
    from genolm.reports.tables import print_comparison

    options = {"against": against, "metric": metric, "num_replicates": replicates, "seed": seed}
    print_comparison(write_comparison(runs, out, split, **options))
    typer.echo(f"page: {out / 'index.html'}")
