"""Figures of a comparison: which lines and points each shows, and the words beneath."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import numpy as np

from genolm.metrics.comparison import TITLES
from genolm.metrics.curves import GRID, dense, flat, one_against_rest, precision_recall, reliability, roc
from genolm.metrics.format import digits_of, number, span
from genolm.metrics.runs import Run
from genolm.reports.charts import Line, Row, count_strips, interval_chart, line_chart, scatter
from genolm.reports.figures import running_mean, series

Groups = dict[tuple[str, float], list[Run]]
_NUM_TONES = 6
_MOST_POINTS = 1500
_SCATTERS = 4
_CALIBRATED = 3
_UNIT = (0.0, 1.0)


def tones(task: dict[str, Any]) -> dict[str, str]:
    """Return name → CSS class: the baseline its own, the best six others a colour each, the rest grey."""
    others = [row["name"] for row in task["runs"] if row["name"] != task["baseline"]]
    found = {name: f"t{place}" if place < _NUM_TONES else "rest" for place, name in enumerate(others)}
    return found | {task["baseline"]: "base"}


def panels(task: dict[str, Any], groups: Groups) -> list[str]:
    """Return the figures of one task, each as HTML."""
    found = [values_panel(task), differences_panel(task), efficiency_panel(task)]
    if task["task"]["kind"] in ("regression", "tracks"):
        found += scatter_panels(task, groups)
    else:
        found += [*curve_panels(task, groups), calibration_panel(task, groups)]
    return [panel for panel in [*found, *learning_panels(task, groups)] if panel]


def figure(title: str, svg: str, caption: str = "") -> str:
    """Wrap a drawing with a title above and a caption beneath; title and caption are plain text."""
    under = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure><h3>{escape(title)}</h3>{svg}{under}</figure>"


def values_panel(task: dict[str, Any]) -> str:
    """Each run's primary metric with its interval."""
    metric, tone = task["metric"], tones(task)
    digits, title = digits_of(task["runs"], metric), TITLES[metric]
    rows = []
    for row in task["runs"]:
        found = row["metrics"][metric]
        text = number(found["value"], digits)
        rows.append(Row(row["name"], tone[row["name"]], found["value"], found["low"], found["high"], text))
    return figure(f"{title} of each run", interval_chart(rows, title, f"{title} of each run with 95 % intervals"))


def differences_panel(task: dict[str, Any]) -> str:
    """Each run's difference to the baseline with its paired interval."""
    metric, tone, baseline = task["metric"], tones(task), task["baseline"]
    digits, title = digits_of(task["runs"], metric), TITLES[metric]
    rows = []
    for row in task["runs"]:
        if row["difference"] is not None:
            found = row["difference"][metric]
            text = number(found["value"], digits, signed=True)
            rows.append(Row(row["name"], tone[row["name"]], found["value"], found["low"], found["high"], text))
    if not rows:
        return ""
    label = f"difference of each run to {baseline} in {title}, with 95 % intervals"
    caption = "Paired: both runs are measured on the same drawn rows. An interval that crosses zero tells no winner."
    drawn = interval_chart(rows, f"{title} less that of {baseline}", label, zero=True)
    return figure(f"Difference to {baseline}", drawn, caption)


def efficiency_panel(task: dict[str, Any]) -> str:
    """The primary metric against the share of training rows, of runs that exist at several."""
    metric, tone = task["metric"], tones(task)
    title, digits = TITLES[metric], digits_of(task["runs"], metric)
    names = sorted({row["name"] for row in task["fractions"]}, key=list(tone).index)
    lines = []
    for name in names:
        rows = [row for row in task["fractions"] if row["name"] == name]
        found = [row["metrics"][metric] for row in rows]
        tips = [
            f"{name}, {100 * row['data_fraction']:g} %: {number(one['value'], digits)} ({span(one, digits)})"
            for row, one in zip(rows, found, strict=True)
        ]
        x = [row["data_fraction"] for row in rows]
        value, low, high = ([one[key] for one in found] for key in ("value", "low", "high"))
        lines.append(Line(tone[name], x, value, name, marks=True, low=low, high=high, tips=tips))
    if not lines:
        return ""
    drawn = line_chart(lines, "training rows", title, f"{title} against the share of training rows", log_x=True)
    return figure("Label efficiency", drawn, "The same test rows for every share. Spacing is logarithmic.")


def curve_panels(task: dict[str, Any], groups: Groups) -> list[str]:
    """ROC and precision–recall of each run, averaged over classes and seeds."""
    kind = task["task"]["kind"]
    classes = " One class against the rest, mean over classes."
    several = {"binary": "", "multilabel": " Mean over labels."}.get(kind, classes)
    if any(len(row["seeds"]) > 1 for row in task["runs"]):
        several += " Mean over seeds."
    found = []
    for metric, curve, title, x, y in (
        ("auroc", roc, "ROC", "false-positive rate", "true-positive rate"),
        ("auprc", precision_recall, "Precision and recall", "recall", "precision"),
    ):
        lines = _run_lines(task, groups, metric, curve)
        if lines:
            label, chance = f"{title} of each run", metric == "auroc"
            drawn = line_chart(lines, x, y, label, diagonal=chance, x_range=_UNIT, y_range=_UNIT)
            found.append(figure(title, drawn, f"Beside each name: {TITLES[metric]}.{several}"))
    return found


def _run_lines(task: dict[str, Any], groups: Groups, metric: str, curve: Callable[[list], np.ndarray]) -> list[Line]:
    tone, lines = tones(task), []
    for row in task["runs"]:
        pairs = [one_against_rest(run.kind, run.labels, run.predictions) for run in _of(row, groups)]
        if not all(pairs):
            return []
        values = np.mean([curve(of_seed) for of_seed in pairs], axis=0)
        rest = tone[row["name"]] == "rest"
        note = number(row["metrics"][metric]["value"])
        lines.append(Line(tone[row["name"]], GRID, values, "" if rest else row["name"], note, faint=rest))
    return lines


def calibration_panel(task: dict[str, Any], groups: Groups) -> str:
    """Reliability diagram of the best runs and the baseline, all seeds pooled, and how many rows lie in each bin."""
    tone, kind, lines, strips = tones(task), task["task"]["kind"], [], []
    best = [row for row in task["runs"] if row["name"] != task["baseline"]][:_CALIBRATED]
    for row in (row for row in task["runs"] if row in best or row["name"] == task["baseline"]):
        parts = [flat(run.kind, run.labels, run.predictions) for run in _of(row, groups)]
        joined = [np.concatenate([part[k] for part in parts]) for k in (0, 1)]
        found = reliability("multiclass" if kind == "per-base" else kind, *joined)
        bins = zip(found.predicted, found.found, found.count, strict=True)
        tips = [f"{row['name']}: predicted {p:.2f}, found {f:.2f}, {int(n):,} predictions" for p, f, n in bins]
        name, colour, error = row["name"], tone[row["name"]], number(found.error)
        lines.append(Line(colour, found.predicted, found.found, name, error, marks=True, tips=tips))
        strips.append((name, colour, found.count))
    x, y = "predicted probability", "share that came true"
    drawn = line_chart(lines, x, y, "reliability diagram", diagonal=True, x_range=_UNIT, y_range=_UNIT)
    of = {"binary": "", "multilabel": " All labels pooled."}.get(kind, " Of the class that was predicted.")
    seeds = " Seeds pooled." if any(len(row["seeds"]) > 1 for row in task["runs"]) else ""
    most = f" The best {_CALIBRATED} and {task['baseline']}." if len(task["runs"]) > len(lines) else ""
    caption = (
        "On the diagonal, probabilities mean what they say. Beside each name: expected calibration error. "
        f"Bars: predictions in each bin.{of}{seeds}{most}"
    )
    return figure("Calibration", drawn + count_strips(strips, "predictions in each bin"), caption)


def scatter_panels(task: dict[str, Any], groups: Groups) -> list[str]:
    """Predicted against true values, of the best run and the baseline, target by target."""
    rows = [task["runs"][0]]
    rows += [row for row in task["runs"][1:] if row["name"] == task["baseline"]]
    names, found = task["task"]["names"], []
    for target, name in list(enumerate(names))[: _SCATTERS // len(rows)]:
        values = []
        for row in rows:
            run = _of(row, groups)[0]
            labels, predictions = flat(run.kind, run.labels, run.predictions)
            known = ~np.isnan(labels[:, target])
            values.append((row, run, labels[known, target], predictions[known, target]))
        every = np.concatenate([part for _, _, y, p in values for part in (y, p)])
        if not len(every):
            continue
        low, high = float(every.min()), float(every.max())
        pad = 0.03 * (high - low) or 0.5
        for row, run, y, p in values:
            cells = dense(y, p, low - pad, high + pad) if len(y) > _MOST_POINTS else []
            title = row["name"] if len(names) == 1 else f"{row['name']}, {name}"
            label = f"predicted against true {name} of {row['name']}"
            drawn = scatter(y, p, cells, f"true {name}", f"predicted {name}", label, low - pad, high + pad)
            kept = f"{len(y):,} {'bases' if run.kind == 'tracks' else 'rows'}"
            how = "Darker: more of them, on a logarithmic scale." if cells else ""
            seed = f" Seed {run.about['seed']}." if len(row["seeds"]) > 1 else ""
            toned = f'<div class="{tones(task)[row["name"]]}">{drawn}</div>'
            found.append(figure(f"Predicted and true: {title}", toned, f"{kept}.{seed} {how}"))
    return found


def learning_panels(task: dict[str, Any], groups: Groups) -> list[str]:
    """Held-out loss, and the held-out primary metric, against the epoch; one line a seed."""
    found, metric = [], task["metric"]
    title = TITLES[metric]
    for key, y_label, heading in (
        ("eval_loss", "held-out loss", "Learning curves: loss"),
        (f"eval_{metric}", f"held-out {title}", f"Learning curves: {title}"),
    ):
        lines = _learning_lines(task, groups, key)
        if lines:
            caption = "On validation rows; one line a seed."
            if key == "eval_loss":
                caption += " Pale: training loss. Losses of other kinds (weighted, focal) cannot be compared by height."
            found.append(figure(heading, line_chart(lines, "epoch", y_label, heading), caption))
    return found


def _learning_lines(task: dict[str, Any], groups: Groups, key: str) -> list[Line]:
    tone, lines = tones(task), []
    for row in task["runs"]:
        colour = tone[row["name"]]
        named = False
        for run in _of(row, groups):
            x, y = series(run.log, key, "epoch")
            if not len(x):
                continue
            if key == "eval_loss" and colour != "rest":
                steps, loss = series(run.log, "loss", "epoch")
                shown = np.linspace(0, len(steps) - 1, min(len(steps), 100)).astype(int)
                lines.append(Line(colour, steps[shown], running_mean(loss)[shown], faint=True))
            name = "" if named or colour == "rest" else row["name"]
            lines.append(Line(colour, x, y, name, faint=colour == "rest"))
            named = True
    return lines


def _of(row: dict[str, Any], groups: Groups) -> Sequence[Run]:
    return groups[row["name"], row["data_fraction"]]
