"""Keep the model that is best on the valid rows, and stop training when none better comes."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from genolm.labels.dataset import Labelled
from genolm.labels.task import PER_BASE
from genolm.metrics.prediction_metrics import LOWER_IS_BETTER, bootstrap_metrics, choose_threshold, compute_metrics


def choose_thresholds(labelled: Labelled, predictions: list[np.ndarray]) -> float | list[float] | None:
    """Return the threshold of greatest MCC, one for each label of a multilabel task; None for other tasks."""
    if labelled.task.kind == "binary":
        return choose_threshold(labelled.labels, np.array(predictions))
    if labelled.task.kind == "multilabel":
        return [choose_threshold(*pair) for pair in zip(labelled.labels.T, np.stack(predictions).T, strict=True)]
    return None


def evaluate_predictions(
    labelled: Labelled,
    predictions: list[np.ndarray],
    threshold: float | list[float] | None,
    intervals: bool = False,
) -> dict[str, Any]:
    """Return the metrics of predictions: with their mean loss (nats, or squared error), or with bootstrap intervals."""
    kind, labels = labelled.task.kind, labelled.labels
    values: Any = predictions if kind in PER_BASE else np.stack(predictions)
    names = labelled.task.names if kind in ("regression", "tracks") else None
    if intervals:
        return bootstrap_metrics(kind, labels, values, threshold, names).intervals()
    return {"loss": _loss(kind, labels, values), **compute_metrics(kind, labels, values, threshold, names)}


def _loss(kind: str, labels: Any, values: Any) -> float:
    if kind in PER_BASE:
        labels, values = np.concatenate(list(labels)), np.concatenate(list(values))
    if kind in ("regression", "tracks"):
        return float(np.nanmean((labels - values) ** 2))
    if kind in ("multiclass", "per-base"):
        has_label = labels >= 0
        right = values[has_label, labels[has_label]]
    else:
        right = np.where(labels == 1, values, 1 - values)[np.isfinite(labels)]
    return float(-np.log(np.clip(right, 1e-12, 1)).mean())


def higher_is_better(metric: str) -> bool:
    """Say whether greater values of a metric, or of `loss`, are better."""
    return metric not in LOWER_IS_BETTER and metric != "loss"


class BestModel(TrainerCallback):
    """Evaluates the model on the valid rows, saves it when it is better than before, and stops training in time.

    Args:
        predict: model → predictions of the valid rows; called on every rank.
        valid: the rows.
        metric: which decides what is better.
        patience: evaluations without a better model after which training stops; 0 for never.
        save: saves the model; called on every rank.
        log: of the run, from which a resumed run learns what was best.
    """

    def __init__(
        self,
        predict: Callable[[Any], list[np.ndarray]],
        valid: Labelled,
        metric: str,
        patience: int,
        save: Callable[[], None],
        log: Path,
    ):
        self.predict, self.valid, self.metric, self.patience = predict, valid, metric, patience
        self.save, self.log, self.sign = save, log, 1 if higher_is_better(metric) else -1
        self.best, self.since, self.best_step, self.step = -math.inf, 0, 0, 0

    @property
    def done(self) -> bool:
        """Whether there were `patience` evaluations without a better model."""
        return bool(self.patience) and self.since >= self.patience

    def on_train_begin(self, args, state, control, **kwargs):
        """Learn from the log what was best before."""
        self.best, self.since, self.best_step, self.step = -math.inf, 0, 0, state.global_step
        lines = self.log.read_text().splitlines() if self.log.is_file() else []
        for row in map(json.loads, lines):
            if any(name.startswith("eval_") for name in row):  # a metric that was not defined was not written
                self._record(row.get(f"eval_{self.metric}", math.nan), row["step"])

    def on_step_begin(self, args, state, control, **kwargs):
        """Note the step that is about to be taken."""
        self.step = state.global_step + 1

    def __call__(self, model) -> dict[str, float]:
        """Return the metrics of a model on the valid rows; save it if it is the best so far."""
        predictions = self.predict(model)
        metrics = evaluate_predictions(self.valid, predictions, choose_thresholds(self.valid, predictions))
        if self._record(round(metrics[self.metric], 5), self.step):
            self.save()
        return {name: value for name, value in metrics.items() if math.isfinite(value)}

    def on_step_end(self, args, state, control, **kwargs):
        """Stop when no better model came in time."""
        if self.done:
            control.should_training_stop = True

    def summary(self, max_steps: int) -> str:
        """Return which model is kept and, where training stopped early, why."""
        value = "not defined" if math.isinf(self.best) else f"{self.sign * self.best:.4f}"
        why = f"; stopped after step {self.step:,} of {max_steps:,}: none better in {self.since} evaluations"
        return f"best       step {self.best_step:,}, {self.metric} {value}{why if self.done else ''}"

    def _record(self, value: float, step: int) -> bool:
        # Not finite where there is one class only among the valid rows, say.
        value = self.sign * value if math.isfinite(value) else -math.inf
        better = value > self.best or self.best == -math.inf
        if better:
            self.best, self.since, self.best_step = value, 0, step
        else:
            self.since += 1
        return better
