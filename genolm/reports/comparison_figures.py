"""Figures of a comparison page: values, differences, curves, calibration, scatter plots, learning curves."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genolm.metrics.curves import GRID, dense, joined_bases, one_against_rest, precision_recall, reliability, roc
from genolm.metrics.format import TITLES, digits_of, number, span
from genolm.metrics.runs import FinetunedRun
from genolm.reports.figures import running_mean, series
from genolm.reports.svg import INK, PAPER, QUIET, REST, RULE, TONES, WIDTH, add_axes, figure_svg, new_figure

Replicates = dict[tuple[str, float], list[FinetunedRun]]
"""(name, data fraction) → its runs, one for each seed."""

_COLOURS = {f"t{place}": colour for place, colour in enumerate(TONES)} | {"rest": REST, "base": INK}
_LEFT, _TOP, _RIGHT, _PLOT = 48, 26, 14, 284  # SVG units
_MAX_POINTS = 600
_MAX_SCATTERS = 4
_MAX_CALIBRATED = 3
_MAX_NAME = 20


@dataclass(frozen=True)
class Panel:
    """One figure of the page: its title, drawing and caption."""

    title: str
    svg: str
    caption: str = ""


def tones(task: dict[str, Any]) -> dict[str, str]:
    """Return name → CSS class: the baseline its own, the best six others a colour each, the rest grey."""
    others = [row["name"] for row in task["runs"] if row["name"] != task["baseline"]]
    classes = {name: f"t{place}" if place < len(TONES) else "rest" for place, name in enumerate(others)}
    return classes | {task["baseline"]: "base"}


def panels(task: dict[str, Any], replicates: Replicates) -> list[Panel]:
    """Return the figures of one task."""
    title, values = TITLES[task["metric"]], [(row["name"], row["metrics"][task["metric"]]) for row in task["runs"]]
    svg = _intervals(task, values, title, f"{title} of each run with 95 % intervals")
    drawn = [Panel(f"{title} of each run", svg), differences_panel(task), efficiency_panel(task)]
    if task["task"]["kind"] in ("regression", "tracks"):
        drawn += scatter_panels(task, replicates)
    else:
        drawn += [*curve_panels(task, replicates), calibration_panel(task, replicates)]
    return [panel for panel in [*drawn, *learning_panels(task, replicates)] if panel]


def differences_panel(task: dict[str, Any]) -> Panel | None:
    """Draw each run's difference to the baseline with its paired interval."""
    metric, baseline = task["metric"], task["baseline"]
    rows = [(row["name"], row["difference"][metric]) for row in task["runs"] if row["difference"] is not None]
    if not rows:
        return None
    label = f"difference of each run to {baseline} in {TITLES[metric]}, with 95 % intervals"
    caption = "Paired: both runs are measured on the same drawn rows. An interval that crosses zero names no winner."
    svg = _intervals(task, rows, f"{TITLES[metric]} minus that of {shorten(baseline)}", label, zero=True)
    return Panel(f"Difference to {baseline}", svg, caption)


def _intervals(
    task: dict[str, Any], rows: Sequence[tuple[str, dict[str, float]]], x_label: str, label: str, zero: bool = False
) -> str:
    """Draw a dot and its interval for each (name, interval), its name to the left and its value to the right."""
    tone, digits = tones(task), digits_of(task["runs"], task["metric"])
    names = [shorten(name) for name, _ in rows]
    # Few rows stand apart, so that the chart is about as tall as its neighbours; many stand close.
    height = len(rows) * min(max(270 / len(rows), 26), 44)
    left, right = max(6.6 * max(map(len, names)) + 14, 40), 54
    figure = new_figure(WIDTH, height + 56)
    axes = add_axes(figure, left, 12, WIDTH - left - right, height)
    if zero:
        axes.axvline(0, color=INK, linewidth=1.2)
    for place, (name, interval) in enumerate(rows):
        style = _style(tone[name], size=10)
        if math.isfinite(interval["low"]) and math.isfinite(interval["high"]):
            ends = [interval["low"], interval["high"]]
            axes.plot(ends, [place, place], color=style["color"], linewidth=2.2, solid_capstyle="round")
        axes.plot([interval["value"]], [place], **style)
        text = number(interval["value"], digits, signed=zero)
        at = (WIDTH - left - 2) / (WIDTH - left - right), place
        axes.text(*at, text, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=12, color=INK)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), names, color=INK, fontsize=12)
    _finish(axes, x_label)
    axes.grid(axis="x", color=RULE)
    return figure_svg(figure, label)


def efficiency_panel(task: dict[str, Any]) -> Panel | None:
    """Draw the primary metric against the fraction of training rows, of runs with several fractions."""
    metric, tone, tips = task["metric"], tones(task), {}
    digits = digits_of(task["runs"], metric)
    names = sorted({row["name"] for row in task["fractions"]}, key=list(tone).index)
    if not names:
        return None
    figure, axes = _plot()
    for place, name in enumerate(names):
        rows = [row for row in task["fractions"] if row["name"] == name]
        fractions = [row["data_fraction"] for row in rows]
        value, low, high = ([row["metrics"][metric][key] for row in rows] for key in ("value", "low", "high"))
        style = _style(tone[name])
        axes.vlines(fractions, low, high, color=style["color"], linewidth=2.2, capstyle="round")
        axes.plot(fractions, value, label=shorten(name), gid=f"marks{place}", **style)
        tips[f"marks{place}"] = [
            f"{name}, {row['data_fraction']:.4g}: {number(row['metrics'][metric]['value'], digits)} "
            f"({span(row['metrics'][metric], digits)})"
            for row in rows
        ]
    axes.set_xscale("log")
    fractions = sorted({row["data_fraction"] for row in task["fractions"]})
    axes.set_xticks(fractions, [f"{100 * fraction:g} %" for fraction in fractions])
    axes.minorticks_off()
    _finish(axes, "training rows", TITLES[metric], legend=True)
    svg = figure_svg(figure, f"{TITLES[metric]} against the fraction of training rows", tips)
    return Panel("Label efficiency", svg, "The same test rows for every fraction. Spacing is logarithmic.")


def curve_panels(task: dict[str, Any], replicates: Replicates) -> list[Panel]:
    """Draw the ROC and precision–recall curve of each run, averaged over classes and seeds."""
    kind, one_class = task["task"]["kind"], " One class against the rest, mean over classes."
    classes = {"binary": "", "multilabel": " Mean over labels."}.get(kind, one_class)
    seeds = " Mean over seeds." if _several_seeds(task) else ""
    pairs = {
        row["name"]: [one_against_rest(kind, run.labels, run.predictions) for run in _runs_of(row, replicates)]
        for row in task["runs"]
    }
    if not all(of_seed for of_run in pairs.values() for of_seed in of_run):
        return []
    name = task["task"]["names"][-1]
    positive = kind == "binary" and float(pairs[task["baseline"]][0][0][0].mean())
    drawn = []
    for metric, curve, title, x, y in (
        ("auroc", roc, "ROC", "false positive rate", "true positive rate"),
        ("auprc", precision_recall, "Precision and recall", "recall", "precision"),
    ):
        chance = ""
        if metric == "auprc" and positive:
            chance = f" Dotted: precision of a random order, the {100 * positive:.3g} % of rows of class {name}."
        figure, axes = _plot()
        if metric == "auroc":
            axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (2, 4)))
        elif positive:
            axes.axhline(positive, color=QUIET, linewidth=1, linestyle=(0, (2, 4)))
        _draw_curves(axes, task, pairs, metric, curve)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        _finish(axes, x, y, legend=True)
        caption = f"Number after each name: {TITLES[metric]}.{classes}{seeds}{chance}"
        drawn.append(Panel(title, figure_svg(figure, f"{title} of each run"), caption))
    return drawn


def _draw_curves(axes, task: dict[str, Any], pairs: dict, metric: str, curve: Callable[[list], np.ndarray]) -> None:
    tone = tones(task)
    for row in sorted(task["runs"], key=lambda row: tone[row["name"]] != "rest"):
        values = np.mean([curve(of_seed) for of_seed in pairs[row["name"]]], axis=0)
        label = f"{shorten(row['name'])}  {number(row['metrics'][metric]['value'])}"
        axes.plot(GRID, values, **_line(tone[row["name"]], label))


def calibration_panel(task: dict[str, Any], replicates: Replicates) -> Panel:
    """Draw the reliability diagram of the best runs and the baseline, with the number of predictions in each bin."""
    tone, kind, tips = tones(task), task["task"]["kind"], {}
    best = [row["name"] for row in task["runs"] if row["name"] != task["baseline"]][:_MAX_CALIBRATED]
    rows = [row for row in task["runs"] if row["name"] in (*best, task["baseline"])]
    figure, axes = _plot(below=40 * len(rows) + 4)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (2, 4)))
    for place, row in enumerate(rows):
        parts = [joined_bases(run.kind, run.labels, run.predictions) for run in _runs_of(row, replicates)]
        labels, predictions = (np.concatenate(values) for values in zip(*parts, strict=True))
        bins = reliability("multiclass" if kind == "per-base" else kind, labels, predictions)
        name, style = shorten(row["name"]), _style(tone[row["name"]])
        table = np.stack([bins.predicted, bins.observed, bins.count])[:, bins.count > 0]
        gid = f"bins{place}"
        axes.plot(*table[:2], label=f"{name}  {number(bins.error)}", gid=gid, **style)
        tips[gid] = [f"{row['name']}: predicted {p:.2f}, true {o:.2f}, {int(n):,} predictions" for p, o, n in table.T]
        strip = add_axes(figure, _LEFT, _TOP + _PLOT + 56 + 40 * place, WIDTH - _LEFT - _RIGHT, 20)
        width = 1 / len(bins.count)
        bars = {"align": "edge", "color": style["color"], "alpha": 0.75}
        strip.bar(np.arange(len(bins.count)) * width, bins.count, 0.94 * width, **bars)
        strip.set(xlim=(0, 1), ylim=(0, max(bins.count.max(), 1)), xticks=[], yticks=[])
        strip.set_title(f"{name}, {int(bins.count.sum()):,} in all", loc="left", fontsize=11.5, color=INK, pad=3)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    _finish(axes, "predicted probability", "fraction that is true", legend=True)
    classes = {"binary": "", "multilabel": " All labels pooled."}.get(kind, " Of the predicted class.")
    seeds = " Seeds pooled." if _several_seeds(task) else ""
    shown = f" The best {_MAX_CALIBRATED} and {task['baseline']}." if len(task["runs"]) > len(rows) else ""
    caption = (
        "On the diagonal, probabilities are calibrated. Number after each name: expected calibration error. "
        f"Bars: predictions in each bin.{classes}{seeds}{shown}"
    )
    return Panel("Calibration", figure_svg(figure, "reliability diagram", tips), caption)


def scatter_panels(task: dict[str, Any], replicates: Replicates) -> list[Panel]:
    """Draw predicted against true values of the best run and the baseline, target by target."""
    best, *others = task["runs"]
    rows = [best, *(row for row in others if row["name"] == task["baseline"])]
    names, drawn = task["task"]["names"], []
    for target, name in list(enumerate(names))[: _MAX_SCATTERS // len(rows)]:
        values = []
        for row in rows:
            run = _runs_of(row, replicates)[0]
            labels, predictions = joined_bases(run.kind, run.labels, run.predictions)
            labelled = ~np.isnan(labels[:, target])
            values.append((row, run, labels[labelled, target], predictions[labelled, target]))
        every = np.concatenate([column for _, _, *columns in values for column in columns])
        if not len(every):
            continue
        pad = 0.03 * float(np.ptp(every)) or 0.5
        limits = float(every.min()) - pad, float(every.max()) + pad
        for row, run, labels, predictions in values:
            title = row["name"] if len(names) == 1 else f"{row['name']}, {name}"
            colour = _COLOURS[tones(task)[row["name"]]]
            svg = _scatter(labels, predictions, limits, name, colour, f"predicted against true {name} of {row['name']}")
            unit = "bases" if run.kind == "tracks" else "rows"
            seed = f" Seed {run.metadata['seed']}." if len(row["seeds"]) > 1 else ""
            shade = " Stronger colour: more of them, on a logarithmic scale." if len(labels) > _MAX_POINTS else ""
            drawn.append(Panel(f"Predicted and true: {title}", svg, f"{len(labels):,} {unit}.{seed}{shade}"))
    return drawn


def _scatter(x: np.ndarray, y: np.ndarray, limits: tuple[float, float], name: str, colour: str, label: str) -> str:
    """Draw points, or where there are many, cells shaded by the number of points they hold."""
    figure, axes = _plot()
    axes.plot(limits, limits, color=QUIET, linewidth=1, linestyle=(0, (2, 4)))
    if len(x) <= _MAX_POINTS:
        axes.scatter(x, y, s=19, color=colour, alpha=0.45, linewidths=0)
    else:
        centres, counts = dense(x, y, *limits)
        shade = 0.12 + 0.88 * np.log1p(counts) / np.log1p(counts.max())
        side = min(WIDTH - _LEFT - _RIGHT, _PLOT) / 40
        axes.scatter(*centres.T, s=side**2, marker="s", color=colour, alpha=shade, linewidths=0)
    axes.set(xlim=limits, ylim=limits)
    _finish(axes, f"true {name}", f"predicted {name}")
    return figure_svg(figure, label)


def learning_panels(task: dict[str, Any], replicates: Replicates) -> list[Panel]:
    """Draw the held-out loss and the held-out primary metric against the epoch, one line for each seed."""
    title, drawn = TITLES[task["metric"]], []
    for key, y_label, heading in (
        ("eval_loss", "held-out loss", "Learning curves: loss"),
        (f"eval_{task['metric']}", f"held-out {title}", f"Learning curves: {title}"),
    ):
        figure, axes = _plot()
        _draw_learning(axes, task, replicates, key)
        if not axes.lines:
            continue
        _finish(axes, "epoch", y_label, legend=True)
        caption = "On validation rows; one line for each seed."
        if key == "eval_loss":
            caption += " Pale: training loss. Losses of different kinds (weighted, focal) cannot be compared by height."
        drawn.append(Panel(heading, figure_svg(figure, heading), caption))
    return drawn


def _draw_learning(axes, task: dict[str, Any], replicates: Replicates, key: str) -> None:
    tone = tones(task)
    for row in task["runs"]:
        style, label = tone[row["name"]], shorten(row["name"])
        for run in _runs_of(row, replicates):
            epochs, values = series(run.log, key, "epoch")
            if not len(epochs):
                continue
            if key == "eval_loss" and style != "rest":
                steps, loss = series(run.log, "loss", "epoch")
                shown = np.linspace(0, len(steps) - 1, min(len(steps), 100)).astype(int)
                pale = {"color": _COLOURS[style], "linewidth": 1, "alpha": 0.4, "zorder": 1}
                axes.plot(steps[shown], running_mean(loss)[shown], **pale)
            axes.plot(epochs, values, marker="o" if len(epochs) == 1 else None, **_line(style, label))
            label = ""


def _plot(below: float = 0):
    """Return a figure and its square plot, with room for labels and so much below them."""
    figure = new_figure(WIDTH, _TOP + _PLOT + 44 + below)
    return figure, add_axes(figure, _LEFT, _TOP, WIDTH - _LEFT - _RIGHT, _PLOT)


def _finish(axes, x_label: str, y_label: str = "", legend: bool = False) -> None:
    """Label the axes, draw the lines across, and put the legend where it hides least."""
    axes.spines["bottom"].set(visible=True, color=QUIET, linewidth=1)
    axes.set_xlabel(x_label, color=QUIET, fontsize=12, labelpad=6)
    if y_label:
        axes.grid(axis="y", color=RULE)
        height = axes.get_position().height * axes.figure.get_size_inches()[1] * 72
        place = -_LEFT / (WIDTH - _LEFT - _RIGHT), 1 + 14 / height
        axes.text(*place, y_label, transform=axes.transAxes, fontsize=12, color=QUIET)
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=11.5, labelcolor=INK, facecolor=PAPER, edgecolor="none", framealpha=0.82, handlelength=1.3)


def _line(tone: str, label: str) -> dict[str, Any]:
    """Return how a line is drawn: the baseline dashed, the rest pale and unnamed."""
    style: dict[str, Any] = {"color": _COLOURS[tone], "linewidth": 1.9, "solid_capstyle": "round"}
    if tone == "base":
        style |= {"linestyle": (0, (3, 2.5)), "linewidth": 1.6}
    if tone == "rest":
        return style | {"linewidth": 1, "alpha": 0.4}
    return style | {"label": label or "_"}


def _style(tone: str, size: float = 7) -> dict[str, Any]:
    """Return how dots and the line through them are drawn: those of the baseline hollow."""
    style = {key: value for key, value in _line(tone, "").items() if key not in ("label", "alpha")}
    hollow = {"markerfacecolor": PAPER, "markeredgecolor": INK, "markeredgewidth": 2}
    edge = hollow if tone == "base" else {"markeredgecolor": PAPER, "markeredgewidth": 1.2}
    return style | {"marker": "o", "markersize": size} | edge


def _runs_of(row: dict[str, Any], replicates: Replicates) -> Sequence[FinetunedRun]:
    return replicates[row["name"], row["data_fraction"]]


def _several_seeds(task: dict[str, Any]) -> bool:
    return any(len(row["seeds"]) > 1 for row in task["runs"])


def shorten(name: str) -> str:
    """Cut a name to what a chart has room for."""
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
