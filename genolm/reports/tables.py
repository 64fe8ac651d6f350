"""Measures as tables on the terminal."""

from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from genolm.metrics.format import amount, digits_of, duration, memory, number, span
from genolm.metrics.titles import TITLES


def print_comparison(comparison: dict[str, Any]) -> None:
    """Print runs from best to worst: metrics, the difference to the baseline with its interval; then what each cost."""
    console = Console(highlight=False)
    for task in comparison["tasks"]:
        if task["task_name"]:
            console.print(f"\n[bold]{escape(task['task_name'])}[/bold]")
        metric, rows = task["metric"], task["runs"]
        keys = [metric, *(key for key in rows[0]["metrics"] if key != metric and "/" not in key)]
        digits = {key: digits_of(rows, key) for key in keys}
        heads = [TITLES[key] for key in keys]
        measured = _plain("run", heads[0], f"less {escape(task['baseline'])}", *heads[1:])
        cost = _plain("run", "parameters trained", "training time", "peak memory")
        for row in rows:
            seeds = f"{len(row['seeds'])} seed{'s' * (len(row['seeds']) > 1)}"
            about = seeds if row["data_fraction"] == 1 else f"{seeds}, {100 * row['data_fraction']:g} %"
            first, found = _two_lines(row["metrics"][metric], digits[metric]), row["difference"]
            difference = _two_lines(found[metric], digits[metric], signed=True) if found else "–"
            rest = [number(row["metrics"][key]["value"], digits[key]) for key in keys[1:]]
            measured.add_row(f"{escape(row['name'])}\n[dim]{about}[/dim]", first, difference, *rest)
            spent = duration(row["seconds"]["train"]), memory(row["peak_memory_bytes"])
            cost.add_row(escape(row["name"]), amount(row["parameters"]["trained"]), *spent)
        console.print(measured, cost)
        if len(comparison["tasks"]) > 1:
            console.print(task["finding"], markup=False)
    console.print(comparison["finding"], markup=False)


def print_labelled(metrics: dict[str, Any]) -> None:
    """Print the metrics of one fine-tuned model on its test rows, with intervals, beside those on its valid rows."""
    test, valid = metrics.get("test", {}), metrics.get("valid", {})
    table = _plain(escape(metrics["name"]), "test", "95 % interval", "valid")
    for name in test or valid:
        found, chosen = test.get(name), valid.get(name)
        ends = "–" if found is None or found["low"] != found["low"] else f"{found['low']:.4f} … {found['high']:.4f}"
        shown = [
            "–" if value is None or value != value else f"{value:.4f}" for value in (found and found["value"], chosen)
        ]
        table.add_row(TITLES.get(name, name), shown[0], ends, shown[1])
    Console(highlight=False).print(table)


def print_variants(found: dict[str, Any]) -> None:
    """Print scores of variants and the baselines from best to worst, then rows left out, and what it says."""
    rows, counts = found["scores"], found["rows"]
    several = counts["chromosomes"] > 1
    keys = [key for key in rows[0]["metrics"] if several or key != "auprc_by_chrom"]
    titles = TITLES | {"auprc_by_chrom": "AUPRC by chrom"}

    def order(row: dict[str, Any]) -> tuple[bool, float]:
        value = row["metrics"][keys[0]]["value"]
        return row["baseline"], float("inf") if value != value else -value

    compared = ["less best baseline"] if any(row["difference"] for row in rows) else []
    table = _plain("score", titles[keys[0]], *compared, *(titles[key] for key in keys[1:]))
    table.columns[0].overflow = "fold"  # names that begin alike must not be cut where they differ
    for row in sorted(rows, key=order):
        name = f"{escape(row['name'])}\n[dim]{'baseline' if row['baseline'] else ''}[/dim]"
        cells = [_two_lines(row["metrics"][key], 3) for key in keys]
        difference = row["difference"].get(keys[0])
        less = [_two_lines(difference, 3, signed=True) if difference else "–"] if compared else []
        table.add_row(name, cells[0], *less, *cells[1:])
    console = Console(highlight=False)
    console.print(table)
    classes = f": {counts['positive']:,} positive, {counts['negative']:,} negative" if "positive" in counts else ""
    console.print(f"{counts['used']:,} of {counts['read']:,} rows used{classes}", markup=False, soft_wrap=True)
    for reason, count in sorted(counts["left_out"].items(), key=lambda pair: -pair[1]):
        by_score = reason.removeprefix("no ") in {row["name"] for row in rows}
        hint = "; --scores without it keeps them" if by_score else ""
        console.print(f"  {count:,} left out: {reason}{hint}", markup=False, soft_wrap=True)
    if several and counts.get("chromosomes_of_one_class"):
        named = ", ".join(counts["chromosomes_of_one_class"])
        console.print(f"not in AUPRC by chrom, having one class only: {named}", markup=False, soft_wrap=True)
    console.print(found["finding"], markup=False, soft_wrap=True)


def _plain(*heads: str) -> Table:
    table = Table(*heads, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    return table


def _two_lines(found: dict[str, float], digits: int, *, signed: bool = False) -> str:
    return f"{number(found['value'], digits, signed=signed)}\n[dim]{span(found, digits, signed=signed)}[/dim]"
