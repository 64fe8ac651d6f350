"""Numbers and names of metrics as text, for tables, figures and sentences."""

import math
from collections.abc import Sequence
from typing import Any


def digits_of(rows: Sequence[dict[str, Any]], metric: str) -> int:
    """Return the number of digits after the point: 3, more where all values are tiny, fewer where large."""
    values = [abs(row["metrics"][metric]["value"]) for row in rows if math.isfinite(row["metrics"][metric]["value"])]
    largest = max(values, default=1.0)
    if largest == 0 or 0.05 <= largest < 100:
        return 3
    return min(max(2 - math.floor(math.log10(largest)), 0), 12)


def number(value: float, digits: int = 3, *, signed: bool = False) -> str:
    """Format a metric, with a true minus sign; a dash where it is undefined."""
    if value != value:
        return "–"
    text = f"{value:{'+' if signed else ''},.{digits}f}"
    return text.replace("-", "−")


def span(interval: dict[str, float], digits: int = 3, *, signed: bool = False) -> str:
    """Format the ends of an interval: `0.012 … 0.049`."""
    return f"{number(interval['low'], digits, signed=signed)} … {number(interval['high'], digits, signed=signed)}"


def amount(value: float | None) -> str:
    """Format a count in three digits: `296 k`; a dash where it is None."""
    if value is None:
        return "–"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def duration(seconds: float | None) -> str:
    """Format seconds: `14.0 s`, `5 min 10 s`, `2 h 03 min`."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def memory(value: float | None) -> str:
    """Format bytes: `640 MB`, `2.11 GB`."""
    return "–" if value is None else f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


TITLES = {
    "mcc": "MCC",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "auprc_by_chrom": "AUPRC by chromosome",
    "f1": "F1",
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "r2": "R²",
    "spearman": "Spearman",
    "pearson": "Pearson",
    "mse": "MSE",
}
