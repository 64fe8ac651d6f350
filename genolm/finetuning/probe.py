"""Linear probe: logistic or ridge regression (scikit-learn) on the pooled vectors of a frozen model.

The strength of regularisation is the one of `STRENGTHS` that is best on the valid rows.
"""

import hashlib
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from transformers import TrainingArguments

from genolm.config.files import atomic_path
from genolm.config.finetune import FinetuneRecipe
from genolm.config.yaml import SettingsError
from genolm.finetuning.best import choose_thresholds, evaluate_predictions, higher_is_better
from genolm.finetuning.build import FinetuningSetup, begin_run, num_parameters
from genolm.inference.predict import in_units, predict_rows
from genolm.labels.collate import LabelCollator, for_rows
from genolm.labels.dataset import Labelled
from genolm.labels.task import PER_BASE
from genolm.metrics.prediction_metrics import PRIMARY
from genolm.models.label_model import LabelModel
from genolm.models.precision import available_device
from genolm.training.arguments import uses_cpu
from genolm.training.checkpoint import write_checkpoint
from genolm.training.memory import peak_bytes

STRENGTHS = tuple(10.0**power for power in range(-4, 3))


def check_probe(recipe: FinetuneRecipe, kind: str) -> None:
    """Refuse a recipe or a kind of task that a probe cannot fit.

    Raises:
        SettingsError: saying what to use instead.
    """
    if recipe.imbalance == "focal":
        raise SettingsError("imbalance is focal, which a probe's regression does not have; use weights")
    if kind in PER_BASE or recipe.pooling == "attention" or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingsError(
            "method is probe, which fits one vector a sequence, pooled by mean or cls, in one process; for "
            "predictions at every base, attention pooling or several ranks take lora or full"
        )


def train_probe(recipe: FinetuneRecipe, arguments: TrainingArguments, setup: FinetuningSetup) -> dict[str, Any]:
    """Fit a linear head on frozen vectors, write the model, and return its entries of `metrics.json`."""
    rows, model = setup.rows, setup.model
    kind, run_dir = rows.train.task.kind, Path(recipe.run_dir)
    metric = recipe.stopping.metric or PRIMARY[kind]
    check_probe(recipe, kind)
    model.backbone.requires_grad_(False)
    begin_run(recipe, rows, model, arguments)
    model.to(available_device(uses_cpu(recipe.training)))
    options: dict[str, Any] = {"batch_size": 64, "both_strands": recipe.both_strands}
    options |= {"autocast": setup.metadata["bf16"], "progress": True}
    key = setup.metadata["base"]["sha256"]
    train, valid = (
        pooled_vectors(model, for_rows(setup.collator, part), run_dir / "embeddings", key, **options)
        for part in (rows.train, rows.valid)
    )

    def score(labelled: Labelled, outputs: np.ndarray) -> float:
        raw = torch.from_numpy(np.asarray(outputs, dtype=np.float64))
        values = list(raw.numpy() if kind == "regression" else in_units(kind, raw, setup.collator).numpy())
        metrics = evaluate_predictions(labelled, values, choose_thresholds(labelled, values))
        return metrics[metric] * (1 if higher_is_better(metric) else -1)

    weighted = recipe.imbalance in ("weights", "sampling")
    weight, bias, strength = fit_head(rows.train, train, rows.valid, valid, weighted, score, recipe.seed)
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(weight).float())
        model.head.bias.copy_(torch.from_numpy(np.atleast_1d(bias)).float())
    # The head is fitted to the targets as they are, not standardised.
    setup.metadata.update(centre=None, scale=None)
    write_checkpoint(run_dir / "model", model, setup.tokenizer, setup.metadata)
    return {
        "parameters": {"total": num_parameters(model)[0], "trained": int(weight.size + np.size(bias))},
        "peak_memory_bytes": peak_bytes(),
        "strength": strength,
    }


def pooled_vectors(model: LabelModel, collator: LabelCollator, cache: Path, key: str, **options) -> np.ndarray:
    """Return the pooled vectors of all rows, (n, D) float32, from the folder `cache` if they are there.

    `key` identifies the weights of the model, whose backbone and pooling are used; options are those of `predict_rows`.
    """
    how = f"{key} {model.config.pooling} {options.get('both_strands')} {options.get('autocast')}"
    digest = hashlib.sha256(how.encode())
    for sequence in collator.labelled.sequences:
        digest.update(sequence.encode() + b"\n")
    path = cache / f"{digest.hexdigest()[:16]}.npy"
    if path.is_file():
        return np.load(path, allow_pickle=False)

    def pool(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        mask = inputs["attention_mask"]
        hidden = model.backbone(input_ids=inputs["input_ids"], attention_mask=mask).last_hidden_state
        return model.pool(hidden.float(), mask, inputs.get("pieces"))

    vectors = np.stack(predict_rows(model, collator, output=pool, **options)).astype(np.float32)
    with atomic_path(path) as aside, aside.open("wb") as file:
        np.save(file, vectors)
    return vectors


def fit_head(
    labelled: Labelled,
    vectors: np.ndarray,
    valid: Labelled,
    valid_vectors: np.ndarray,
    weighted: bool,
    measure: Callable[[Labelled, np.ndarray], float],
    seed: int,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Fit a linear head on vectors of train rows.

    Args:
        labelled: n train rows.
        vectors: (n, D).
        valid: m rows that choose the strength; with none, or where the score is not defined on them, it is 1.
        valid_vectors: (m, D).
        weighted: classes weigh alike.
        measure: valid rows and their logits or numbers (m, outputs) → a score, the higher the better.
        seed: of scikit-learn.

    Returns:
        Weights (outputs, D) and biases (outputs,) for vectors that are not standardised, and the strength.
    """
    centre, scale = vectors.mean(0), vectors.std(0)
    scale = np.where(scale > 1e-8, scale, 1.0)
    x = ((vectors - centre) / scale).astype(np.float64)

    def fit(strength: float) -> tuple[np.ndarray, np.ndarray, float]:
        weight, bias = _fit(labelled, x, strength, weighted, seed)
        weight = weight / scale
        return weight, bias - weight @ centre, strength

    best, most = None, -math.inf
    for strength in STRENGTHS if len(valid) else ():
        fitted = fit(strength)
        score = measure(valid, valid_vectors @ fitted[0].T + fitted[1])
        if score > most:  # never where it is not defined, as with one class among the valid rows
            best, most = fitted, score
    return best or fit(1.0)


def _fit(
    labelled: Labelled, x: np.ndarray, strength: float, weighted: bool, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and biases on standardised vectors."""
    kind, labels = labelled.task.kind, labelled.labels
    options = {"C": 1 / (strength * 100), "max_iter": 2000, "random_state": seed}
    options["class_weight"] = "balanced" if weighted else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the weakest strengths end far from where they would
        if kind in ("binary", "multiclass"):
            fitted = LogisticRegression(**options).fit(x, labels)
            return _class_head(fitted, 1 if kind == "binary" else len(labelled.task.names))
        rows = [_target_head(x, target, kind, strength, options) for target in labels.T]
    return np.stack([weight for weight, _ in rows]), np.array([bias for _, bias in rows])


def _class_head(fitted: LogisticRegression, num_outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and biases of every class; one that no train row has gets a bias of -20."""
    if num_outputs == 1:
        return np.asarray(fitted.coef_), np.asarray(fitted.intercept_)
    classes, coef, intercept = fitted.classes_, np.asarray(fitted.coef_), np.asarray(fitted.intercept_)
    weight, bias = np.zeros((num_outputs, coef.shape[1])), np.full(num_outputs, -20.0)
    if len(classes) == 2:  # of which scikit-learn gives one row
        coef, intercept = np.stack([np.zeros_like(coef[0]), coef[0]]), np.array([0.0, intercept[0]])
    weight[classes], bias[classes] = coef, intercept
    return weight, bias


def _target_head(x: np.ndarray, target: np.ndarray, kind: str, strength: float, options) -> tuple[np.ndarray, float]:
    """Return weights and bias of one label or target, fitted to the rows that have it."""
    has_value = np.isfinite(target)
    x, target = x[has_value], target[has_value]
    if not len(target):
        return np.zeros(x.shape[1]), 0.0
    if kind == "regression":
        fitted = Ridge(alpha=strength * len(target) / 10).fit(x, target)
        return np.ravel(fitted.coef_), float(np.ravel(fitted.intercept_)[0])
    if len(set(target)) < 2:
        return np.zeros(x.shape[1]), 20.0 if (target == 1).any() else -20.0
    fitted = LogisticRegression(**options).fit(x, target.astype(int))
    return fitted.coef_[0], float(fitted.intercept_[0])
