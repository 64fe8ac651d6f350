"""Compare fine-tuned runs: metrics with intervals, paired differences to one baseline, and a one-sentence finding.

Each run is bootstrapped once, with the same drawn rows for all runs of a task; a difference is then a subtraction.
Cost: one bootstrap for each run folder.
"""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from genolm.metrics.bootstrap import CONFIDENCE, NUM_REPLICATES, BootstrapMetrics, paired_difference, run_interval
from genolm.metrics.format import TITLES, digits_of, number, span
from genolm.metrics.prediction_metrics import LOWER_IS_BETTER, PRIMARY, bootstrap_metrics
from genolm.metrics.runs import FinetunedRun, group_runs

RunKey = tuple[str, float]
"""Name and data fraction of a run."""


def compare_runs(
    runs: Sequence[FinetunedRun],
    *,
    split: str = "test",
    against: str | None = None,
    metric: str | None = None,
    num_replicates: int = NUM_REPLICATES,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare the runs of each task.

    Args:
        runs: of one or more tasks.
        split: the rows they hold.
        against: name of the run that the others are compared with. None: the baseline (`method: baseline`) with the
            best primary metric, or without baselines the first run of the task.
        metric: orders the runs; None: the primary metric of the task's kind.
        num_replicates: bootstrap replicates.
        seed: seed of the bootstrap.

    Returns:
        Contents of metrics.json: {"split", "confidence", "replicates", "seed", "finding", "tasks"}. A task:
        {"task_name", "task", "rows", "metric", "baseline", "runs", "fractions", "finding"}; its runs, best first, each
        at its largest data fraction; fractions: every run and fraction of names with several.

    Raises:
        ValueError: runs cannot be compared, or `against` or `metric` does not exist.
    """
    tasks = []
    for name, replicates in group_runs(runs).items():
        for seeds in replicates.values():
            seeds.sort(key=lambda run: run.metadata["seed"])
        options = {"num_replicates": num_replicates, "seed": seed}
        scores = {
            key: [bootstrap_metrics(*run.measured(), **options) for run in seeds] for key, seeds in replicates.items()
        }
        tasks.append(_compare_task(name, replicates, scores, against, metric))
    settings = {"split": split, "confidence": CONFIDENCE, "replicates": num_replicates, "seed": seed}
    return settings | {"finding": overall_finding(tasks), "tasks": tasks}


def _compare_task(
    name: str,
    replicates: dict[RunKey, list[FinetunedRun]],
    scores: dict[RunKey, list[BootstrapMetrics]],
    against: str | None,
    metric: str | None,
) -> dict[str, Any]:
    first = next(iter(replicates.values()))[0]
    metrics = list(next(iter(scores.values()))[0].values)
    metric, allowed = metric or PRIMARY[first.kind], [key for key in metrics if key in TITLES]
    if metric not in allowed:
        raise ValueError(f"--metric is {metric!r}; a {first.kind} task has {', '.join(allowed)}")
    largest: dict[str, float] = {}
    for run, fraction in replicates:
        largest[run] = max(fraction, largest.get(run, 0.0))
    rows = [_row(replicates[key], scores[key]) for key in largest.items()]
    rows.sort(key=lambda row: _merit(row["metrics"][metric]["value"], metric))
    rows.reverse()
    baseline = _baseline(rows, first.name, against, name)
    for row in rows:
        pair = scores[row["name"], row["data_fraction"]], scores[baseline, largest[baseline]]
        row["difference"] = None if row["name"] == baseline else {key: paired_difference(*pair, key) for key in metrics}
    names = [run for run, _ in replicates]
    fractions = [_row(replicates[key], scores[key]) for key in sorted(replicates) if names.count(key[0]) > 1]
    task = {"task_name": name, "task": first.metadata["task"], "rows": len(first.ids), "metric": metric}
    task |= {"baseline": baseline, "runs": rows, "fractions": fractions}
    return task | {"finding": task_finding(task)}


def _merit(value: float, metric: str) -> float:
    """Return a number that is greater for a better run; an undefined metric comes last."""
    return -math.inf if math.isnan(value) else -value if metric in LOWER_IS_BETTER else value


def _row(runs: list[FinetunedRun], scores: list[BootstrapMetrics]) -> dict[str, Any]:
    seeds = [run.metadata for run in runs]
    return {
        "name": runs[0].name,
        "method": seeds[0]["method"],
        "model": seeds[0].get("model"),
        "data_fraction": runs[0].fraction,
        "seeds": [metadata["seed"] for metadata in seeds],
        "folders": [str(run.folder) for run in runs],
        "metrics": {key: run_interval(scores, key) for key in scores[0].values},
        "parameters": {key: _mean(seeds, "parameters", key) for key in ("total", "trained")},
        "seconds": {key: _mean(seeds, "seconds", key) for key in ("train", "predict")},
        "peak_memory_bytes": _mean(seeds, "peak_memory_bytes"),
        "train_rows": _mean(seeds, "rows", "train"),
    }


def _mean(seeds: list[dict[str, Any]], *keys: str) -> float | None:
    """Average a nested value over seeds; None where a run lacks it."""
    values = []
    for value in seeds:
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, int | float):
            return None
        values.append(value)
    return fmean(values)


def _baseline(rows: list[dict[str, Any]], first: str, against: str | None, task: str) -> str:
    if against is None:
        return next((row["name"] for row in rows if row["method"] == "baseline"), first)
    names = [row["name"] for row in rows]
    if against not in names:
        where = f" of task {task!r}" if task else ""
        raise ValueError(f"--against {against}: no such run{where}; its runs: {', '.join(names)}")
    return against


def baseline_verdict(row: dict[str, Any], metric: str) -> str:
    """Return `better`, `worse` or `same` than the baseline by the interval of the difference, or `unknown`."""
    low, high = row["difference"][metric]["low"], row["difference"][metric]["high"]
    if math.isnan(low) or math.isnan(high):
        return "unknown"
    if metric in LOWER_IS_BETTER:
        low, high = -high, -low
    return "better" if low > 0 else "worse" if high < 0 else "same"


def task_finding(task: dict[str, Any]) -> str:
    """Summarise the differences to the baseline of one task in a sentence."""
    metric, baseline, rows = task["metric"], task["baseline"], task["runs"]
    title, digits = TITLES[metric], digits_of(rows, metric)
    others = [row for row in rows if row["name"] != baseline]
    if not others:
        value = rows[0]["metrics"][metric]
        return f"{baseline} reaches {number(value['value'], digits)} {title} ({span(value, digits)})."
    by = {
        key: [row for row in others if baseline_verdict(row, metric) == key]
        for key in ("better", "same", "worse", "unknown")
    }
    parts = []
    if by["better"]:
        best, *rest = by["better"]  # runs are ordered, so the first is the best
        gain = best["difference"][metric]
        if metric in LOWER_IS_BETTER:
            gain = {"value": -gain["value"], "low": -gain["high"], "high": -gain["low"]}
        parts.append(
            f"{best['name']} beats {baseline} by {number(gain['value'], digits)} {title} ({span(gain, digits)})"
        )
        parts += [f"so {'does' if len(rest) == 1 else 'do'} {_listed(rest)}"] if rest else []
    if by["same"]:
        parts.append(
            f"{_listed(by['same'])} {'is' if len(by['same']) == 1 else 'are'} indistinguishable from {baseline}"
        )
    if by["worse"]:
        parts.append(f"{_listed(by['worse'])} {'falls' if len(by['worse']) == 1 else 'fall'} behind {baseline}")
    if by["unknown"]:
        parts.append(f"{_listed(by['unknown'])} could not be measured by {title}")
    return "; ".join(parts) + "."


def overall_finding(tasks: list[dict[str, Any]]) -> str:
    """Summarise in a sentence how many tasks the best run that is no baseline wins against the baseline."""
    if len(tasks) == 1:
        return tasks[0]["finding"]
    compared = [
        (row, baseline_verdict(row, task["metric"])) for task in tasks for row in task["runs"] if row["difference"]
    ]
    compared = [pair for pair in compared if pair[0]["method"] != "baseline"] or compared
    if not compared:
        return f"{len(tasks)} tasks, one run each: nothing to compare."
    verdicts: dict[str, list[str]] = {}
    for row, result in compared:
        verdicts.setdefault(row["name"], []).append(result)
    name, results = max(
        verdicts.items(), key=lambda item: (item[1].count("better"), item[1].count("same"), -len(item[1]))
    )
    baselines = {task["baseline"] for task in tasks}
    other = baselines.pop() if len(baselines) == 1 else "the best baseline"
    verbs = {
        "better": f"beats {other}",
        "same": "is indistinguishable",
        "worse": "falls behind",
        "unknown": "is not measured",
    }
    parts = [f"{verb} on {results.count(key)}" for key, verb in verbs.items() if key in results]
    parts[0] += f" of {len(results)} {'task' if len(results) == 1 else 'tasks'}"
    sentence = f"{name} {_and(parts)}"
    return f"{sentence}." if "better" in results else f"No run beats {other}: at best, {sentence}."


def _listed(rows: list[dict[str, Any]]) -> str:
    names = [row["name"] for row in rows]
    return _and([*names[:3], f"{len(names) - 3} others"] if len(names) > 4 else names)


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
