"""Runs side by side: metrics with intervals, differences to one baseline, and what they say in a sentence.

Each run's metrics are bootstrapped once, rows drawn alike for all runs of a task; a difference is then a subtraction.
Cost: one bootstrap a run folder.
"""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from genolm.metrics.format import digits_of, number, span
from genolm.metrics.paired import paired_difference, run_interval
from genolm.metrics.prediction_metrics import CONFIDENCE, LOWER_IS_BETTER, NUM_REPLICATES, PRIMARY, Scores, score
from genolm.metrics.runs import Run, group

TITLES = {
    "mcc": "MCC",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "f1": "F1",
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "r2": "R²",
    "spearman": "Spearman",
    "pearson": "Pearson",
    "mse": "MSE",
}


def compare(
    runs: Sequence[Run],
    *,
    split: str = "test",
    against: str | None = None,
    metric: str | None = None,
    num_replicates: int = NUM_REPLICATES,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare runs, each task by itself.

    Args:
        runs: of one or more tasks.
        split: whose rows they hold.
        against: name of the run that the others are compared with. None: the baseline (`method: baseline`) of greatest
            primary metric, or where there is none, the first run of the task.
        metric: what runs are ordered by; None: the primary metric of the task's kind.
        num_replicates: of the bootstrap.
        seed: of its draws.

    Returns:
        What `genolm compare` writes as metrics.json: {"split", "confidence", "replicates", "seed", "finding", "tasks"}.
        A task: {"task_name", "task", "rows", "metric", "baseline", "finding", "runs", "fractions"}; its runs, best
        first, each at its largest data fraction; fractions: every run and fraction where a name has several.

    Raises:
        ValueError: runs cannot be compared, or `against` or `metric` is not there.
    """
    tasks = [_compare_task(name, groups, against, metric, num_replicates, seed) for name, groups in group(runs).items()]
    about = {"split": split, "confidence": CONFIDENCE, "replicates": num_replicates, "seed": seed}
    return about | {"finding": overall_finding(tasks), "tasks": tasks}


def _compare_task(
    name: str,
    groups: dict[tuple[str, float], list[Run]],
    against: str | None,
    metric: str | None,
    num_replicates: int,
    seed: int,
) -> dict[str, Any]:
    for replicates in groups.values():
        replicates.sort(key=lambda run: run.about["seed"])
    first = next(iter(groups.values()))[0]
    names = first.about["task"]["names"] if first.kind in ("regression", "tracks") else None
    scores = {
        key: [
            score(
                run.kind,
                run.labels,
                run.predictions,
                run.about.get("threshold"),
                names,
                num_replicates=num_replicates,
                seed=seed,
            )
            for run in replicates
        ]
        for key, replicates in groups.items()
    }
    allowed = list(next(iter(scores.values()))[0].values)
    metric = metric or PRIMARY[first.kind]
    if metric not in allowed or metric not in TITLES:
        have = ", ".join(key for key in allowed if key in TITLES)
        raise ValueError(f"--metric is {metric!r}; a {first.kind} task has {have}")
    largest = {run: max(fraction for other, fraction in groups if other == run) for run, _ in groups}
    rows = [_row(groups[key], scores[key]) for key in largest.items()]
    sign = -1 if metric in LOWER_IS_BETTER else 1
    # What is not defined comes last.
    rows.sort(key=lambda row: sign * row["metrics"][metric]["value"] if _known(row, metric) else float("-inf"))
    rows.reverse()
    baseline = _baseline(rows, first.name, against, name)
    theirs = scores[baseline, largest[baseline]]
    for row in rows:
        ours = scores[row["name"], row["data_fraction"]]
        row["difference"] = (
            None if row["name"] == baseline else {key: paired_difference(ours, theirs, key) for key in allowed}
        )
    found = {"task_name": name, "task": first.about["task"], "rows": len(first.ids), "metric": metric}
    several = [run for run, _ in groups if sum(other == run for other, _ in groups) > 1]
    fractions = [_row(groups[key], scores[key]) for key in sorted(groups) if key[0] in several]
    found |= {"baseline": baseline, "runs": rows, "fractions": fractions}
    return found | {"finding": finding(found)}


def _known(row: dict[str, Any], metric: str) -> bool:
    value = row["metrics"][metric]["value"]
    return value == value


def _row(runs: list[Run], scores: list[Scores]) -> dict[str, Any]:
    about = [run.about for run in runs]
    return {
        "name": runs[0].name,
        "method": about[0]["method"],
        "model": about[0].get("model"),
        "data_fraction": runs[0].fraction,
        "seeds": [one["seed"] for one in about],
        "folders": [str(run.folder) for run in runs],
        "metrics": {key: run_interval(scores, key) for key in scores[0].values},
        "parameters": {key: _mean(about, "parameters", key) for key in ("total", "trained")},
        "seconds": {key: _mean(about, "seconds", key) for key in ("train", "predict")},
        "peak_memory_bytes": _mean(about, "peak_memory_bytes"),
        "train_rows": _mean(about, "rows", "train"),
    }


def _mean(about: list[dict[str, Any]], *keys: str) -> float | None:
    """Average over seeds; None where a run does not say."""
    found = []
    for value in about:
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, int | float):
            return None
        found.append(value)
    return fmean(found)


def _baseline(rows: list[dict[str, Any]], first: str, against: str | None, task: str) -> str:
    if against is None:
        return next((row["name"] for row in rows if row["method"] == "baseline"), first)
    names = [row["name"] for row in rows]
    if against not in names:
        where = f" of task {task!r}" if task else ""
        raise ValueError(f"--against {against}: no such run{where}; runs there: {', '.join(names)}")
    return against


def verdict(row: dict[str, Any], metric: str) -> str:
    """Return how a run stands to the baseline: `better`, `worse`, `same` (cannot be told apart), `unknown`."""
    found = row["difference"][metric]
    low, high = found["low"], found["high"]
    if low != low or high != high:
        return "unknown"
    if metric in LOWER_IS_BETTER:
        low, high = -high, -low
    return "better" if low > 0 else "worse" if high < 0 else "same"


def finding(task: dict[str, Any]) -> str:
    """Say in a sentence what the differences to the baseline of one task show."""
    metric, baseline, rows = task["metric"], task["baseline"], task["runs"]
    title = TITLES[metric]
    others = [row for row in rows if row["name"] != baseline]
    if not others:
        value = rows[0]["metrics"][metric]
        digits = digits_of(rows, metric)
        return f"{baseline} reaches {number(value['value'], digits)} {title} ({span(value, digits)})."
    digits = digits_of(rows, metric)
    by = {key: [row for row in others if verdict(row, metric) == key] for key in ("better", "same", "worse", "unknown")}
    parts = []
    if by["better"]:
        # Runs are in order, so the first is the best.
        best, *rest = by["better"]
        size = best["difference"][metric]
        if metric in LOWER_IS_BETTER:
            size = {"value": -size["value"], "low": -size["high"], "high": -size["low"]}
        parts.append(
            f"{best['name']} beats {baseline} by {number(size['value'], digits)} {title} ({span(size, digits)})"
        )
        parts += [f"so {'does' if len(rest) == 1 else 'do'} {_list(rest)}"] if rest else []
    if by["same"]:
        parts.append(f"{_list(by['same'])} cannot be told apart from {baseline}")
    if by["worse"]:
        parts.append(f"{_list(by['worse'])} {'falls' if len(by['worse']) == 1 else 'fall'} behind {baseline}")
    if by["unknown"]:
        parts.append(f"{_list(by['unknown'])} could not be measured by {title}")
    return "; ".join(parts) + "."


def overall_finding(tasks: list[dict[str, Any]]) -> str:
    """Say in a sentence how often the best run, if there is one that is no baseline, beats what it is compared with."""
    if len(tasks) == 1:
        return tasks[0]["finding"]
    compared = [(row, verdict(row, task["metric"])) for task in tasks for row in task["runs"] if row["difference"]]
    compared = [pair for pair in compared if pair[0]["method"] != "baseline"] or compared
    if not compared:
        return f"{len(tasks)} tasks, one run each: nothing to compare."
    found: dict[str, list[str]] = {}
    for row, said in compared:
        found.setdefault(row["name"], []).append(said)
    name, said = max(found.items(), key=lambda item: (item[1].count("better"), item[1].count("same"), -len(item[1])))
    baselines = sorted({task["baseline"] for task in tasks})
    other = baselines[0] if len(baselines) == 1 else "the best baseline"
    verbs = {
        "better": f"beats {other}",
        "same": "cannot be told apart",
        "worse": "falls behind",
        "unknown": "is not measured",
    }
    parts = [f"{verb} on {said.count(key)}" for key, verb in verbs.items() if key in said]
    parts[0] += f" of {len(said)} {'task' if len(said) == 1 else 'tasks'}"
    sentence = f"{name} {parts[0]}" if len(parts) == 1 else f"{name} {', '.join(parts[:-1])} and {parts[-1]}"
    return f"{sentence}." if "better" in said else f"No run beats {other}: at best, {sentence}."


def _list(rows: list[dict[str, Any]]) -> str:
    names = [row["name"] for row in rows]
    if len(names) > 4:
        names = [*names[:3], f"{len(names) - 3} others"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def without_nan(value: Any) -> Any:
    """Copy nested tables with None for NaN, which JSON lacks."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
