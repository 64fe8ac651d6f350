"""Measures as tables on the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table


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
