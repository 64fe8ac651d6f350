"""A linear probe: the pooled vectors of a frozen model, and logistic or ridge regression on them, by scikit-learn.

The strength of regularisation is the one of `STRENGTHS` that is best on the valid rows.
"""

import hashlib
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from genolm.inference.predict import predict_rows
from genolm.labels.collate import LabelCollator
from genolm.labels.dataset import Labelled
from genolm.models.label_model import LabelModel

STRENGTHS = tuple(10.0**power for power in range(-4, 3))


def pooled_vectors(model: LabelModel, collator: LabelCollator, cache: Path, key: str, **options) -> np.ndarray:
    """Return the pooled vectors of all rows, (n, D) float32, from the cache where they are there.

    Args:
        model: whose backbone and pooling are used.
        collator: holds the rows.
        cache: folder of the cache.
        key: says which model it is.
        options: of `predict_rows`.
    """
    how = f"{key} {model.config.pooling} {options.get('both_strands')} {options.get('autocast')}"
    digest = hashlib.sha256(how.encode())
    for sequence in collator.labelled.sequences:
        digest.update(sequence.encode() + b"\n")
    path = cache / f"{digest.hexdigest()[:16]}.npy"
    if path.is_file():
        return np.load(path, allow_pickle=False)

    def vectors(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        mask = inputs["attention_mask"]
        hidden = model.backbone(input_ids=inputs["input_ids"], attention_mask=mask).last_hidden_state
        return model.pool(hidden.float(), mask, inputs.get("pieces"))

    found = np.stack(predict_rows(model, collator, answer=vectors, **options)).astype(np.float32)
    cache.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial.npy")
    np.save(aside, found)
    aside.replace(path)
    return found


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
        labelled: train rows; `vectors` (n, D) are theirs.
        vectors: see there.
        valid: rows that choose the strength; with none, or where the score is not defined on them, it is 1.
        valid_vectors: (m, D).
        weighted: classes weigh alike.
        measure: valid rows and their logits or numbers (m, outputs) → a score, the higher the better.
        seed: of scikit-learn.

    Returns:
        Weights (outputs, D), biases (outputs,) for the vectors as they are, and the strength.
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
    kind, labels = labelled.task.kind, labelled.labels
    options = {"C": 1 / (strength * 100), "max_iter": 2000, "random_state": seed}
    options["class_weight"] = "balanced" if weighted else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the weakest strengths end far from where they would
        if kind in ("binary", "multiclass"):
            fitted = LogisticRegression(**options).fit(x, labels)
            weight, bias = np.zeros((len(labelled.task.names), x.shape[1])), np.full(len(labelled.task.names), -20.0)
            if len(fitted.classes_) == 2 and kind == "binary":
                return fitted.coef_, fitted.intercept_
            if len(fitted.classes_) == 2:  # of which scikit-learn gives one row
                weight[fitted.classes_], bias[fitted.classes_] = 0.0, 0.0
                weight[fitted.classes_[1]], bias[fitted.classes_[1]] = fitted.coef_[0], fitted.intercept_[0]
                return weight, bias
            weight[fitted.classes_], bias[fitted.classes_] = fitted.coef_, fitted.intercept_
            return weight, bias
        rows = []
        for target in labels.T:
            known = np.isfinite(target)
            if not known.any():
                rows.append((np.zeros(x.shape[1]), 0.0))
            elif kind == "regression":
                fitted = Ridge(alpha=strength * known.sum() / 10).fit(x[known], target[known])
                rows.append((np.ravel(fitted.coef_), float(np.ravel(fitted.intercept_)[0])))
            elif len(set(target[known])) < 2:
                rows.append((np.zeros(x.shape[1]), 20.0 if (target[known] == 1).any() else -20.0))
            else:
                fitted = LogisticRegression(**options).fit(x[known], target[known].astype(int))
                rows.append((fitted.coef_[0], float(fitted.intercept_[0])))
    return np.stack([weight for weight, _ in rows]), np.array([bias for _, bias in rows])


def set_head(model: LabelModel, weight: np.ndarray, bias: np.ndarray) -> None:
    """Give the model's head these weights."""
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(weight).float())
        model.head.bias.copy_(torch.from_numpy(np.atleast_1d(bias)).float())
