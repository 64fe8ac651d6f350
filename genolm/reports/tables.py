"""Metrics as tables on the terminal."""

import math
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from genolm.metrics.format import TITLES, amount, digits_of, duration, memory, number, span


def print_comparison(comparison: dict[str, Any]) -> None:
    """Print runs from best to worst: metrics, the difference to the baseline with its interval, and costs."""
    console = Console(highlight=False)
    for task in comparison["tasks"]:
        if task["task_name"]:
            console.print(f"\n[bold]{escape(task['task_name'])}[/bold]")
        metric, rows = task["metric"], task["runs"]
        keys = [metric, *(key for key in rows[0]["metrics"] if key != metric and "/" not in key)]
        digits = {key: digits_of(rows, key) for key in keys}
        heads = [TITLES[key] for key in keys]
        measured = _plain("run", heads[0], f"minus {escape(task['baseline'])}", *heads[1:])
        costs = _plain("run", "parameters trained", "training time", "peak memory")
        for row in rows:
            note = f"{len(row['seeds'])} seed{'s' * (len(row['seeds']) > 1)}"
            note += "" if row["data_fraction"] == 1 else f", {100 * row['data_fraction']:g} %"
            first, difference = _two_lines(row["metrics"][metric], digits[metric]), row["difference"]
            difference = _two_lines(difference[metric], digits[metric], signed=True) if difference else "–"
            others = [number(row["metrics"][key]["value"], digits[key]) for key in keys[1:]]
            measured.add_row(f"{escape(row['name'])}\n[dim]{note}[/dim]", first, difference, *others)
            cost = duration(row["seconds"]["train"]), memory(row["peak_memory_bytes"])
            costs.add_row(escape(row["name"]), amount(row["parameters"]["trained"]), *cost)
        console.print(measured, costs)
        if len(comparison["tasks"]) > 1:
            console.print(task["finding"], markup=False)
    console.print(comparison["finding"], markup=False)


def print_labelled(metrics: dict[str, Any]) -> None:
    """Print the metrics of a fine-tuned model on its test rows, with intervals, and on its valid rows."""
    test, valid = metrics.get("test", {}), metrics.get("valid", {})
    table = _plain(escape(metrics["name"]), "test", "95 % interval", "valid")
    for name in test or valid:
        interval = test.get(name, {"value": None, "low": None, "high": None})
        ends = f"{_four_digits(interval['low'])} … {_four_digits(interval['high'])}"
        ends = "–" if ends == "– … –" else ends
        table.add_row(TITLES.get(name, name), _four_digits(interval["value"]), ends, _four_digits(valid.get(name)))
    Console(highlight=False).print(table)


def print_variants(evaluation: dict[str, Any]) -> None:
    """Print variant scores and baselines from best to worst, the rows that were left out, and the finding."""
    rows, counts = evaluation["scores"], evaluation["rows"]
    several = counts["chromosomes"] > 1
    keys = [key for key in rows[0]["metrics"] if several or key != "auprc_by_chrom"]
    titles = TITLES | {"auprc_by_chrom": "AUPRC by chrom"}

    def order(row: dict[str, Any]) -> tuple[bool, float]:
        value = row["metrics"][keys[0]]["value"]
        return row["baseline"], math.inf if math.isnan(value) else -value

    compared = ["minus best baseline"] if any(row["difference"] for row in rows) else []
    table = _plain("score", titles[keys[0]], *compared, *(titles[key] for key in keys[1:]))
    table.columns[0].overflow = "fold"  # names that begin alike must not be cut where they differ
    for row in sorted(rows, key=order):
        name = f"{escape(row['name'])}\n[dim]{'baseline' if row['baseline'] else ''}[/dim]"
        cells = [_two_lines(row["metrics"][key], 3) for key in keys]
        difference = row["difference"].get(keys[0])
        gap = [_two_lines(difference, 3, signed=True) if difference else "–"] if compared else []
        table.add_row(name, cells[0], *gap, *cells[1:])
    console = Console(highlight=False)
    console.print(table)
    classes = f": {counts['positive']:,} positive, {counts['negative']:,} negative" if "positive" in counts else ""
    lines = [f"{counts['used']:,} of {counts['read']:,} rows used{classes}"]
    for reason, count in sorted(counts["left_out"].items(), key=lambda pair: -pair[1]):
        by_score = reason.removeprefix("no ") in {row["name"] for row in rows}
        lines.append(f"  {count:,} left out: {reason}{'; --scores without it keeps them' if by_score else ''}")
    if several and counts.get("chromosomes_of_one_class"):
        lines.append(f"not in AUPRC by chrom, having one class only: {', '.join(counts['chromosomes_of_one_class'])}")
    console.print("\n".join([*lines, evaluation["finding"]]), markup=False, soft_wrap=True)


def _plain(*heads: str) -> Table:
    table = Table(*heads, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    return table


def _two_lines(interval: dict[str, float], digits: int, *, signed: bool = False) -> str:
    return f"{number(interval['value'], digits, signed=signed)}\n[dim]{span(interval, digits, signed=signed)}[/dim]"


def _four_digits(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"
