"""A comparison as one HTML page that needs nothing else: no script, no network, no font but the reader's own.

Everything that comes from files is escaped, and the page forbids itself every request.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

from genolm.metrics.comparison import TITLES, verdict
from genolm.metrics.format import amount, digits_of, duration, memory, number, span
from genolm.metrics.prediction_metrics import LOWER_IS_BETTER
from genolm.metrics.runs import Run
from genolm.reports.panels import Groups, panels, tones
from genolm.reports.style import STYLE

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_MARKS = {
    "better": '<span class="up" title="better: the interval of the difference excludes zero">▲</span> ',
    "worse": '<span class="down" title="worse: the interval of the difference excludes zero">▼</span> ',
}
_LEGEND = (
    "Small: 95 % interval. Bold: best of its column. ▲ better or ▼ worse than the run it is compared with, where the "
    "interval of the difference excludes zero; without a mark the two cannot be told apart."
)


def page(comparison: dict[str, Any], tasks: dict[str, Groups], versions: dict[str, str | None]) -> str:
    """Return the page as text.

    Args:
        comparison: of `comparison.compare`.
        tasks: of `runs.group`, the same runs.
        versions: package → version that compared them.
    """
    found, several = comparison["tasks"], len(comparison["tasks"]) > 1
    kinds = ", ".join(dict.fromkeys(task["task"]["kind"] for task in found))
    num_runs = sum(len(row["seeds"]) for task in found for row in task["runs"])
    over = f"{comparison['split']} split · {kinds} · {_rows(found)} · {num_runs} trainings compared by genolm"
    title = f"{len(found)} tasks" if several else found[0]["task_name"] or "runs compared"
    head = f"genolm: {title}"
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(head)}</title>',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}</style></head><body>",
        f'<header><p class="over">{escape(over)}</p><h1>{escape(comparison["finding"])}</h1></header><main>',
    ]
    parts += [overview(found)] if several else []
    parts += [_section(task, tasks[task["task_name"]], several) for task in found]
    parts += [_method(comparison), "</main>", _footer(tasks, versions), "</body></html>\n"]
    return "\n".join(parts)


def _rows(tasks: Sequence[dict[str, Any]]) -> str:
    counts = sorted({task["rows"] for task in tasks})
    return f"{counts[0]:,} rows" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,} rows a task"


def _section(task: dict[str, Any], groups: Groups, several: bool) -> str:
    parts = ["<section>"]
    if several or task["task_name"]:
        parts.append(f"<h2>{escape(task['task_name'] or 'unnamed task')}</h2>")
    if several:
        parts.append(f'<p class="lead">{escape(task["finding"])}</p>')
    parts += [results_table(task), f'<p class="legend">{_LEGEND}</p>']
    parts.append(f'<div class="figures">{"".join(panels(task, groups))}</div>')
    parts += [_targets_table(task), _leakage(groups), "</section>"]
    return "\n".join(part for part in parts if part)


def overview(tasks: Sequence[dict[str, Any]]) -> str:
    """Return a table of runs by tasks: the primary metric of each, the best of a task marked."""
    names = list(dict.fromkeys(row["name"] for task in tasks for row in task["runs"]))
    heads = [f"{escape(task['task_name'] or 'unnamed')}<br>{TITLES[task['metric']]}" for task in tasks]
    rows = []
    for name in names:
        cells = [f'<span class="name plain">{escape(name)}</span>']
        best = []
        for task in tasks:
            place = next((k for k, row in enumerate(task["runs"]) if row["name"] == name), None)
            best.append(place == 0)
            if place is None:
                cells.append("–")
                continue
            row = task["runs"][place]
            found = row["metrics"][task["metric"]]
            digits = digits_of(task["runs"], task["metric"])
            mark = _MARKS.get(verdict(row, task["metric"]), "") if row["difference"] else ""
            note = span(found, digits) if row["difference"] else "compared with"
            cells.append(f"{mark}{number(found['value'], digits)}<small>{note}</small>")
        rows.append(_tr(cells, best=[False, *best]))
    return _table(["run", *heads], rows)


def results_table(task: dict[str, Any]) -> str:
    """Return the table of one task: metrics with intervals, the difference to the baseline, and what each run cost."""
    metric, tone = task["metric"], tones(task)
    keys = [metric, *(key for key in task["runs"][0]["metrics"] if key != metric and "/" not in key)]
    title = {key: TITLES[key] for key in keys}
    heads = ["run", title[metric], f"difference to<br>{escape(task['baseline'])}", *(title[key] for key in keys[1:])]
    heads += ["parameters<br>trained", "training<br>time", "peak<br>memory"]
    best = {key: _best(task["runs"], key) for key in keys}
    rows = []
    for row in task["runs"]:
        digits = {key: digits_of(task["runs"], key) for key in keys}
        values = [_value(row["metrics"][key], digits[key]) for key in keys]
        cells = [_name(row, tone[row["name"]]), values[0], _difference(row, metric, digits[metric]), *values[1:]]
        cells += [amount(row["parameters"]["trained"]), duration(row["seconds"]["train"])]
        cells.append(memory(row["peak_memory_bytes"]))
        marks = [best[key] == row["metrics"][key]["value"] for key in keys]
        rows.append(_tr(cells, best=[False, marks[0], False, *marks[1:], False, False, False]))
    return _table(heads, rows)


def _table(heads: Sequence[str], rows: Sequence[str], style: str = "wide") -> str:
    top = "".join(f"<th>{head}</th>" for head in heads)
    return f'<div class="{style}"><table><thead><tr>{top}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _tr(cells: Sequence[str], best: Sequence[bool]) -> str:
    marked = (f"<td{' class=best' if mark else ''}>{cell}</td>" for cell, mark in zip(cells, best, strict=True))
    return f"<tr>{''.join(marked)}</tr>"


def _name(row: dict[str, Any], tone: str) -> str:
    seeds = len(row["seeds"])
    about = [row["method"]] if row["method"] != row["name"] else []
    about.append("1 seed" if seeds == 1 else f"{seeds} seeds")
    about += [f"{100 * row['data_fraction']:g} % of rows"] if row["data_fraction"] < 1 else []
    return f'<span class="name {tone}">{escape(row["name"])}</span><small>{escape(" · ".join(about))}</small>'


def _value(found: dict[str, float], digits: int) -> str:
    return f"{number(found['value'], digits)}<small>{span(found, digits)}</small>"


def _difference(row: dict[str, Any], metric: str, digits: int) -> str:
    if row["difference"] is None:
        return "–"
    found, mark = row["difference"][metric], _MARKS.get(verdict(row, metric), "")
    return f"{mark}{number(found['value'], digits, signed=True)}<small>{span(found, digits, signed=True)}</small>"


def _best(rows: Sequence[dict[str, Any]], key: str) -> float | None:
    values = [row["metrics"][key]["value"] for row in rows]
    known = [value for value in values if value == value]
    if len(rows) < 2 or not known:
        return None
    return min(known) if key.split("/")[0] in LOWER_IS_BETTER else max(known)


def _targets_table(task: dict[str, Any]) -> str:
    """Return the values of each target, folded, where there are several."""
    keys = [key for key in task["runs"][0]["metrics"] if "/" in key and key.split("/")[0] == task["metric"]]
    if not keys:
        return ""
    tone, title = tones(task), TITLES[task["metric"]]
    best = {key: _best(task["runs"], key) for key in keys}
    rows = []
    for row in task["runs"]:
        values = [_value(row["metrics"][key], digits_of(task["runs"], key)) for key in keys]
        cells = [_name(row, tone[row["name"]]), *values]
        rows.append(_tr(cells, best=[False, *(best[key] == row["metrics"][key]["value"] for key in keys)]))
    heads = ["run", *(escape(key.split("/", 1)[1]) for key in keys)]
    return f"<details open><summary>{title} of each target</summary>{_table(heads, rows, 'wide small')}</details>"


def _leakage(groups: Groups) -> str:
    """Return what the runs found of training rows among held-out rows, told once where all agree."""
    told: dict[str, list[str]] = {}
    for replicates in groups.values():
        for run in replicates:
            told.setdefault(_leak_rows(run.about.get("leakage")), []).append(run.name)
    parts = []
    for rows, names in told.items():
        whose = "" if len(told) == 1 else f": {', '.join(dict.fromkeys(names))}"
        parts.append(f"<details open><summary>Leakage between splits{escape(whose)}</summary>{rows}</details>")
    return "".join(parts)


_WAYS = {"identical": "copies", "reverse_complement": "of the other strand", "overlapping": "overlapping"}
_WAYS |= {"near_duplicate": "near-duplicates"}


def _leak_rows(leakage: Any) -> str:
    """Return what `genolm.labels.leakage` counted: a line for each two splits, a column for each way to be alike."""
    pairs = leakage.items() if isinstance(leakage, dict) else ()
    pairs = [(pair.split("/"), found) for pair, found in pairs if pair.count("/") == 1 and isinstance(found, dict)]
    if not pairs:
        return "<p>Not counted by these runs.</p>"
    rows = []
    for (first, second), found in pairs:
        counts = [found[way].get(second) if isinstance(found.get(way), dict) else None for way in _WAYS]
        cells = [found.get("of"), found.get("any"), *counts, found.get("contradicting")]
        told = [f"{cell:,}" if type(cell) is int else "–" for cell in cells]
        rows.append(_tr([escape(f"{second} rows like {first} rows"), *told], best=[False] * 8))
    heads = ["", "rows", "like any", *_WAYS.values(), "with another label there"]
    return _table(heads, rows, "wide small")


def _method(comparison: dict[str, Any]) -> str:
    share, replicates = f"{100 * comparison['confidence']:g}", f"{comparison['replicates']:,}"
    return (
        "<section><h2>How the intervals were made</h2>"
        f"<p>Each interval holds the middle {share} % of {replicates} bootstrap replicates (percentile interval; Efron "
        "and Tibshirani 1993). A replicate draws as many rows as there are, with replacement, and for a run trained "
        "with several seeds it also draws among them, one fewer than there are. Differences are paired: both runs are "
        "measured on the same drawn rows (Dror et al. 2018, doi:10.18653/v1/P18-1128), so that a difference can be "
        "certain where the intervals of two runs overlap. With one seed an interval says nothing about another "
        "training; with three that differ by more than their rows explain, it is somewhat too narrow.</p>"
        "<p>Intervals are not widened for how many runs are compared: of twenty runs that are equal to the baseline, "
        "one is expected to seem different. Where no run to compare with was named, the baseline that is best on these "
        "rows was taken, which favours it a little.</p></section>"
    )


def _footer(tasks: dict[str, Groups], versions: dict[str, str | None]) -> str:
    runs = [run for groups in tasks.values() for replicates in groups.values() for run in replicates]
    used = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    recipes = "".join(_recipe(run) for run in runs)
    return f"<footer><h2>Recipes</h2>{recipes}<p>Compared with {escape(used)}.</p></footer>"


def _recipe(run: Run) -> str:
    with_ = ", ".join(f"{name} {version}" for name, version in run.versions.items() if version)
    text = escape(run.recipe) if run.recipe else "no recipe.yaml in the run folder"
    note = f"<p>Ran with {escape(with_)}.</p>" if with_ else ""
    where = escape(f"{run.name}, seed {run.about['seed']}: {run.folder}")
    return f"<details><summary>{where}</summary>{note}<pre>{text}</pre></details>"
