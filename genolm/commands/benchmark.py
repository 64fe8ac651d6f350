"""`genolm benchmark`: tasks × methods × seeds from one YAML, each a run of `genolm finetune`, to one page.

suite → recipes, all checked → processes, a few at a time → run folders → comparison

A run folder with metrics.json is done; one that was started is resumed.
"""

from pathlib import Path
from typing import Annotated

import typer

from genolm.config.shipped import recipe_names


def benchmark(
    suite: Annotated[
        str, typer.Argument(help="Suite: a name from `genolm recipes`, or a YAML file.", autocompletion=recipe_names)
    ],
    out: Annotated[Path, typer.Option(help="Folder for runs/ and compare/.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes to the suite: key=value.")] = None,
    jobs: Annotated[int, typer.Option(help="Runs at a time; 0 for one a GPU.", min=0)] = 0,
    only: Annotated[str, typer.Option(help="Names of tasks and methods: mouse_0,lora,danq.")] = "",
    dry_run: Annotated[bool, typer.Option(help="Check all recipes, show what would run, and run nothing.")] = False,
) -> None:
    """Run every method on every task with every seed, and compare them. The same command again resumes.

    Example: genolm benchmark benchmarks/gue defaults.model=runs/first --out runs/gue --jobs 2
    """
    from rich.console import Console

    from genolm.benchmarking.suite import SuiteTable, check_runs, read_suite, run_suite, select
    from genolm.config.files import refuse_other

    runs = read_suite(suite, overrides or [], out)
    check_runs(runs)
    chosen = SuiteTable(select(runs, only))
    if dry_run:
        Console(highlight=False).print(chosen.table())
        for run in chosen.runs:
            typer.echo(f"{chosen.state[run.folder]:<8}{run.folder}  {run.label}")
        return
    refuse_other(out, ("runs", "compare", ".lock"), "benchmark")
    out.mkdir(parents=True, exist_ok=True)
    failed = run_suite(chosen, out, jobs)
    if finished := [run.folder for run in runs if run.done]:
        from genolm.reports.comparison_report import write_comparison
        from genolm.reports.tables import print_comparison

        print_comparison(write_comparison(finished, out / "compare"))
        typer.echo(f"page: {out / 'compare' / 'index.html'}")
    if failed:
        typer.echo(f"{len(failed)} of {len(chosen.runs)} runs failed; the same command tries them again:", err=True)
        for run, reason in failed:
            typer.echo(f"  {run.label}: {reason}\n    {run.folder / 'output.txt'}", err=True)
        raise SystemExit(1)
