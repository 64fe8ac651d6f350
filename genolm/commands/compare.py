"""`genolm compare`: fine-tuned models and baselines side by side, with intervals: a table and a page to show.

run folders → checks → metrics and paired differences → terminal, metrics.json, index.html
"""

import json
from pathlib import Path
from typing import Annotated

import typer

WRITTEN = ("metrics.json", "index.html")


def compare(
    runs: Annotated[list[str], typer.Argument(help="Run folders of `genolm finetune`.")],
    out: Annotated[Path, typer.Option(help="Folder for metrics.json and index.html.")],
    against: Annotated[
        str | None, typer.Option(help="Name of the run to compare with; else the best baseline.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Metric to order by; else the primary one of the task.")] = None,
    split: Annotated[str, typer.Option(help="Rows to compare on.")] = "test",
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.", min=100)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Compare runs on the same rows. Runs of one name and other seeds are averaged.

    Example: genolm compare runs/lora-seed0 runs/lora-seed1 runs/danq-seed0 --out compared
    """
    from genolm.evaluation.comparison import compare as compare_runs
    from genolm.evaluation.comparison import without_nan
    from genolm.evaluation.page import page
    from genolm.evaluation.runs import group, read_run
    from genolm.evaluation.tables import print_comparison
    from genolm.provenance import versions, write_text

    refuse_other(out)
    found = [read_run(run, split) for run in dict.fromkeys(runs)]
    comparison = compare_runs(found, split=split, against=against, metric=metric, num_replicates=replicates, seed=seed)
    used = versions()
    text = page(comparison, group(found), used)
    out.mkdir(parents=True, exist_ok=True)
    write_text(
        out / "metrics.json",
        json.dumps({"made_by": "genolm compare", "versions": used} | without_nan(comparison), indent=1),
    )
    write_text(out / "index.html", text)
    print_comparison(comparison)
    typer.echo(f"page: {out / 'index.html'}")


def refuse_other(out: Path) -> None:
    """Refuse a folder that holds anything but an earlier comparison.

    Raises:
        ValueError: naming what is there.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"--out {out} is no folder")
    names = {path.name.removesuffix(".partial") for path in out.iterdir()}
    other = sorted(names.difference(WRITTEN))
    if other:
        raise ValueError(f"--out {out} holds {other[0]!r}, which is no comparison; give a new folder")
    written = out / "metrics.json"
    if written.exists() and '"made_by": "genolm compare"' not in written.read_text(errors="replace")[:200]:
        raise ValueError(f"--out {out} holds a metrics.json that is no comparison; give a new folder")
