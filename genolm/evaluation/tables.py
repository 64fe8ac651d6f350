"""Measures as tables on the terminal."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from genolm.evaluation.comparison import TITLES
from genolm.evaluation.numbers import amount, digits_of, duration, memory, number, span


def print_metrics(metrics: dict[str, Any]) -> None:
    """Print bits per base with its interval, by class, and beside it the Markov models; the best of these is marked."""
    console = Console(highlight=False)
    for split in (name for name in ("test", "valid") if name in metrics):
        found = metrics[split]
        key = "bits_per_base" if "bits_per_base" in found else "masked_bits_per_base"
        table = Table(split, key.replace("_", " "), "95 % interval", "bases")
        for name, row in {"all": found, **found.get("classes", {})}.items():
            interval = "–" if row["interval"] is None else "{:.4f} … {:.4f}".format(*row["interval"])
            table.add_row(name, f"{row[key]:.4f}", interval, f"{row['num_bases']:,.0f}")
        console.print(table)
    if "markov" in metrics:
        best = min(metrics["markov"], key=metrics["markov"].__getitem__)
        table = Table("Markov order", "bits per base")
        for order, bits in metrics["markov"].items():
            table.add_row(f"{order} (best)" if order == best else order, f"{bits:.4f}")
        console.print(table)


def print_comparison(comparison: dict[str, Any]) -> None:
    """Print runs from best to worst: metrics with intervals, the difference to the baseline, and what each cost."""
    console = Console(highlight=False)
    for task in comparison["tasks"]:
        metric, baseline = task["metric"], task["baseline"]
        keys = [metric, *(key for key in task["runs"][0]["metrics"] if key != metric and "/" not in key)]
        digits = {key: digits_of(task["runs"], key) for key in keys}
        heads = [TITLES.get(key, key) for key in keys]
        table = Table(
            "run",
            "seeds",
            heads[0],
            f"less {baseline}",
            *heads[1:],
            "trained",
            "time",
            "memory",
            title=task["task_name"],
        )
        for column in table.columns[1:]:
            column.justify = "right"
        for row in task["runs"]:
            values = [_two_lines(row["metrics"][key], digits[key]) for key in keys]
            difference = row["difference"] and _two_lines(row["difference"][metric], digits[metric], signed=True)
            cost = [
                amount(row["parameters"]["trained"]),
                duration(row["seconds"]["train"]),
                memory(row["peak_memory_bytes"]),
            ]
            name = row["name"] if row["data_fraction"] == 1 else f"{row['name']} ({100 * row['data_fraction']:g} %)"
            table.add_row(escape(name), str(len(row["seeds"])), values[0], difference or "–", *values[1:], *cost)
        console.print(table)
    console.print(comparison["finding"], markup=False)


def _two_lines(found: dict[str, float], digits: int, *, signed: bool = False) -> str:
    return f"{number(found['value'], digits, signed=signed)}\n[dim]{span(found, digits, signed=signed)}[/dim]"
