"""Comparison of finished runs as files: metrics.json, and a page with tables and figures."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from genolm.config.files import refuse_other, write_text
from genolm.config.provenance import versions
from genolm.metrics.comparison import baseline_verdict, compare_runs
from genolm.metrics.format import TITLES, amount, digits_of, duration, memory, number, span
from genolm.metrics.prediction_metrics import LOWER_IS_BETTER
from genolm.metrics.runs import FinetunedRun, group_runs, read_run, write_metrics
from genolm.reports.comparison_figures import Replicates, panels, tones
from genolm.reports.page import Cell, HtmlTable, render

WRITTEN = ("metrics.json", "index.html")
_LEAKAGE = {
    "identical": "identical",
    "reverse_complement": "reverse complement",
    "overlapping": "overlapping",
    "near_duplicate": "near-duplicates",
}
"""Kinds of similarity that `genolm.labels.leakage` counts, as column heads."""


def write_comparison(folders: Sequence[str | Path], out: Path, split: str = "test", **options) -> dict[str, Any]:
    """Compare finished runs and write `metrics.json` and `index.html`.

    Args:
        folders: run folders of `genolm finetune`; a repeated one counts once.
        out: created if it does not exist.
        split: rows to compare on.
        options: further arguments of `comparison.compare_runs`.

    Returns:
        The comparison, as `comparison.compare_runs` returns it.

    Raises:
        ValueError: the runs cannot be read or compared, or `out` holds other files.
    """
    refuse_other(out, WRITTEN, "comparison")
    metrics = out / "metrics.json"
    if metrics.exists() and '"made_by": "genolm compare"' not in metrics.read_text(errors="replace")[:200]:
        raise ValueError(f"--out {out} holds a metrics.json of something other than a comparison; give a new folder")
    runs = [read_run(folder, split) for folder in dict.fromkeys(folders)]
    comparison = compare_runs(runs, split=split, **options)
    packages = versions()
    page = comparison_page(comparison, group_runs(runs), packages)
    out.mkdir(parents=True, exist_ok=True)
    header = {"made_by": "genolm compare", "versions": packages}
    write_metrics(metrics, header | comparison)
    write_text(out / "index.html", page)
    return comparison


def comparison_page(
    comparison: dict[str, Any], replicates: dict[str, Replicates], packages: dict[str, str | None]
) -> str:
    """Return the page as HTML.

    Args:
        comparison: of `comparison.compare_runs`.
        replicates: of `runs.group_runs`, the same runs.
        packages: package → version that compared them.
    """
    tasks = comparison["tasks"]
    several = len(tasks) > 1
    runs = [run for groups in replicates.values() for seeds in groups.values() for run in seeds]
    kinds = ", ".join(dict.fromkeys(task["task"]["kind"] for task in tasks))
    counts = sorted({task["rows"] for task in tasks})
    rows = f"{counts[0]:,} rows" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,} rows in each task"
    num_runs = sum(len(row["seeds"]) for task in tasks for row in task["runs"])
    return render(
        "comparison.html.j2",
        title=f"{len(tasks)} tasks" if several else tasks[0]["task_name"] or "runs compared",
        over=f"{comparison['split']} split · {kinds} · {rows} · {num_runs} runs compared by genolm",
        headline=comparison["finding"],
        overview=overview_table(tasks) if several else None,
        tasks=[_section(task, replicates[task["task_name"]]) for task in tasks],
        confidence=f"{100 * comparison['confidence']:g}",
        replicates=f"{comparison['replicates']:,}",
        runs=runs,
        versions=packages,
        packages=lambda used: ", ".join(f"{name} {version}" for name, version in used.items() if version),
    )


def _section(task: dict[str, Any], replicates: Replicates) -> dict[str, Any]:
    return {
        "name": task["task_name"],
        "finding": task["finding"],
        "metric": TITLES[task["metric"]],
        "results": _results_table(task),
        "panels": panels(task, replicates),
        "targets": _targets_table(task),
        "leakage": _leakage_tables(replicates),
    }


def overview_table(tasks: Sequence[dict[str, Any]]) -> HtmlTable:
    """Return a table of runs by tasks: the primary metric of each, the best of a task in bold."""
    rows = []
    for name in dict.fromkeys(row["name"] for task in tasks for row in task["runs"]):
        cells = [Cell(name, tone="plain")]
        for task in tasks:
            row = next((row for row in task["runs"] if row["name"] == name), None)
            cell = Cell("–") if row is None else _value(task, row, task["metric"], best=row is task["runs"][0])
            if row and row["difference"]:
                cell = replace(cell, verdict=baseline_verdict(row, task["metric"]))
            elif row:
                cell = replace(cell, note="compared with")
            cells.append(cell)
        rows.append(cells)
    return HtmlTable(["run", *(f"{task['task_name'] or 'unnamed'}\n{TITLES[task['metric']]}" for task in tasks)], rows)


def _results_table(task: dict[str, Any]) -> HtmlTable:
    """Return the table of one task: metrics with intervals, differences to the baseline, and costs."""
    metric, rows = task["metric"], []
    keys = [metric, *(key for key in task["runs"][0]["metrics"] if key != metric and "/" not in key)]
    for row in task["runs"]:
        values = [_value(task, row, key) for key in keys]
        cost = amount(row["parameters"]["trained"]), duration(row["seconds"]["train"]), memory(row["peak_memory_bytes"])
        rows.append([_name(task, row), values[0], _difference(task, row), *values[1:], *map(Cell, cost)])
    heads = ["run", TITLES[metric], f"difference to\n{task['baseline']}", *(TITLES[key] for key in keys[1:])]
    return HtmlTable([*heads, "parameters\ntrained", "training\ntime", "peak\nmemory"], rows)


def _targets_table(task: dict[str, Any]) -> HtmlTable | None:
    """Return the primary metric of each target, where there are several."""
    keys = [key for key in task["runs"][0]["metrics"] if "/" in key and key.split("/")[0] == task["metric"]]
    rows = [[_name(task, row), *(_value(task, row, key) for key in keys)] for row in task["runs"]]
    return HtmlTable(["run", *(key.split("/", 1)[1] for key in keys)], rows) if keys else None


def _name(task: dict[str, Any], row: dict[str, Any]) -> Cell:
    seeds = len(row["seeds"])
    notes = [row["method"]] if row["method"] != row["name"] else []
    notes.append("1 seed" if seeds == 1 else f"{seeds} seeds")
    notes += [f"{100 * row['data_fraction']:g} % of rows"] if row["data_fraction"] < 1 else []
    return Cell(row["name"], " · ".join(notes), tone=tones(task)[row["name"]])


def _value(task: dict[str, Any], row: dict[str, Any], key: str, best: bool | None = None) -> Cell:
    interval, digits = row["metrics"][key], digits_of(task["runs"], key)
    marked = _best(task["runs"], key) == interval["value"] if best is None else best
    return Cell(number(interval["value"], digits), span(interval, digits), best=marked)


def _best(rows: Sequence[dict[str, Any]], key: str) -> float | None:
    values = [value for row in rows if not math.isnan(value := row["metrics"][key]["value"])]
    if len(rows) < 2 or not values:
        return None
    return min(values) if key.split("/")[0] in LOWER_IS_BETTER else max(values)


def _difference(task: dict[str, Any], row: dict[str, Any]) -> Cell:
    if row["difference"] is None:
        return Cell("–")
    metric = task["metric"]
    interval, digits = row["difference"][metric], digits_of(task["runs"], metric)
    text = number(interval["value"], digits, signed=True)
    return Cell(text, span(interval, digits, signed=True), baseline_verdict(row, metric))


def _leakage_tables(replicates: Replicates) -> list[tuple[str, HtmlTable | None]]:
    """Return (names, counts of similar rows in two splits) of runs that agree in them; no names where all agree."""
    tables: dict[str, tuple[HtmlTable | None, list[str]]] = {}
    for run in (run for seeds in replicates.values() for run in seeds):
        table = _leakage_table(run)
        tables.setdefault(repr(table), (table, []))[1].append(run.name)
    return [(", ".join(dict.fromkeys(names)) if len(tables) > 1 else "", table) for table, names in tables.values()]


def _leakage_table(run: FinetunedRun) -> HtmlTable | None:
    leakage = run.metadata.get("leakage")
    pairs = leakage.items() if isinstance(leakage, dict) else ()
    pairs = [(pair.split("/"), counts) for pair, counts in pairs if pair.count("/") == 1 and isinstance(counts, dict)]
    rows = []
    for (first, second), counts in pairs:
        ways = [counts[way].get(second) if isinstance(counts.get(way), dict) else None for way in _LEAKAGE]
        values = [counts.get("of"), counts.get("any"), *ways, counts.get("contradicting")]
        texts = [f"{value:,}" if type(value) is int else "–" for value in values]
        rows.append([Cell(text) for text in (f"{second} rows similar to {first} rows", *texts)])
    return HtmlTable(["", "rows", "similar", *_LEAKAGE.values(), "with another label"], rows) if rows else None
