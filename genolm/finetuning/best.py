"""Keeps the model that is best on the valid rows, and stops when no better one comes."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from genolm.labels.dataset import Labelled
from genolm.labels.task import PER_BASE
from genolm.metrics.prediction_metrics import LOWER_IS_BETTER, choose_threshold, compute_metrics


def thresholds(labelled: Labelled, predictions: list[np.ndarray]) -> float | list[float] | None:
    """Return the threshold of greatest MCC, of each label where there are many; None for tasks that have none."""
    if labelled.task.kind == "binary":
        return choose_threshold(labelled.labels, np.array(predictions))
    if labelled.task.kind == "multilabel":
        return [choose_threshold(*pair) for pair in zip(labelled.labels.T, np.stack(predictions).T, strict=True)]
    return None


def measure(
    labelled: Labelled, predictions: list[np.ndarray], threshold: float | list[float] | None
) -> dict[str, float]:
    """Return the metrics of predictions, and their mean loss: nats, or squared error."""
    kind, labels = labelled.task.kind, labelled.labels
    values: Any = predictions if kind in PER_BASE else np.stack(predictions)
    names = labelled.task.names if kind in ("regression", "tracks") else None
    return {"loss": _loss(kind, labels, values), **compute_metrics(kind, labels, values, threshold, names)}


def _loss(kind: str, labels: Any, values: Any) -> float:
    if kind in PER_BASE:
        labels, values = np.concatenate(list(labels)), np.concatenate(list(values))
    if kind in ("regression", "tracks"):
        return float(np.nanmean((labels - values) ** 2))
    if kind in ("multiclass", "per-base"):
        known = labels >= 0
        right = values[known, labels[known]]
    else:
        right = np.where(labels == 1, values, 1 - values)[np.isfinite(labels)]
    return float(-np.log(np.clip(right, 1e-12, 1)).mean())


class Best(TrainerCallback):
    """Measures valid rows when asked, writes the model when it is better than before, and ends training in time.

    Args:
        predict: model → predictions of the valid rows; called on every rank.
        valid: the rows.
        metric: to be best in.
        patience: measurements without a better one after which training stops; 0 for never.
        write: writes the model; called on every rank.
        log: of the run, from which a resumed run learns what was best.
    """

    def __init__(
        self,
        predict: Callable[[Any], list[np.ndarray]],
        valid: Labelled,
        metric: str,
        patience: int,
        write: Callable[[], None],
        log: Path,
    ):
        self.predict, self.valid, self.metric, self.patience, self.write, self.log = (
            predict, valid, metric, patience, write, log
        )  # fmt: skip
        self.best, self.since, self.best_step, self.step = -math.inf, 0, 0, 0

    @property
    def done(self) -> bool:
        """Whether it has been too long since a better one."""
        return bool(self.patience) and self.since >= self.patience

    def on_train_begin(self, args, state, control, **kwargs):
        """Learn from the log what was best before."""
        self.best, self.since, self.best_step, self.step = -math.inf, 0, 0, state.global_step
        lines = self.log.read_text().splitlines() if self.log.is_file() else []
        for row in map(json.loads, lines):
            if any(name.startswith("eval_") for name in row):  # a metric that was not defined was not written
                self._note(self._signed(row.get(f"eval_{self.metric}", math.nan)), row["step"])

    def on_step_begin(self, args, state, control, **kwargs):
        """Note the step that is about to be taken."""
        self.step = state.global_step + 1

    def __call__(self, model) -> dict[str, float]:
        """Return the measures of a model on the valid rows; keep it if it is the best so far."""
        predictions = self.predict(model)
        found = measure(self.valid, predictions, thresholds(self.valid, predictions))
        if self._note(self._signed(round(found[self.metric], 5)), self.step):
            self.write()
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def on_step_end(self, args, state, control, **kwargs):
        """Stop when it has been too long."""
        if self.done:
            control.should_training_stop = True

    def _signed(self, value: float) -> float:
        return -value if self.metric in LOWER_IS_BETTER or self.metric == "loss" else value

    def told(self, max_steps: int) -> str:
        """Return which model is kept and, where training stopped early, why."""
        value = "not defined" if math.isinf(self.best) else f"{self._signed(self.best):.4f}"
        why = f"; stopped after step {self.step:,} of {max_steps:,}: none better in {self.since} evaluations"
        return f"best       step {self.best_step:,}, {self.metric} {value}{why if self.done else ''}"

    def _note(self, value: float, step: int) -> bool:
        value = value if math.isfinite(value) else -math.inf  # one class only among the valid rows, say
        better = value > self.best or self.best == -math.inf
        if better:
            self.best, self.since, self.best_step = value, 0, step
        else:
            self.since += 1
        return better
