"""The probe is scikit-learn's own fit on the same vectors, and the model folder says the same."""

import json

import numpy as np
import pytest
import torch
from labelled_runs import BERT, finetune, predictions, pretrain, write_recipe, write_table
from sklearn.linear_model import LogisticRegression, Ridge

from genolm.config.finetune import FinetuneRecipe
from genolm.config.yaml import load_settings
from genolm.finetuning.build import build_collator, build_label_model, read_split_rows
from genolm.finetuning.probe import STRENGTHS, fit_head, pooled_vectors
from genolm.labels.collate import for_rows
from genolm.labels.dataset import Labelled, Task

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    pretrain(folder, "bert", BERT)
    return folder


def vectors_of(num, width=5, seed=0):
    return np.random.default_rng(seed).normal(3, 2, (num, width)).astype(np.float32)


def rows(kind, labels, names):
    text = np.array([f"r{i}" for i in range(len(labels))])
    return Labelled(Task(kind, names), text, ["A"] * len(labels), np.array(labels), text, text)


def fitted(kind, labels, x, names=NAMES, weighted=False):
    none = rows(kind, labels, names).select([])
    return fit_head(rows(kind, labels, names), x, none, x[:0], weighted, lambda *_: 0.0, 0)


def scaled(x):
    return ((x - x.mean(0)) / x.std(0)).astype(np.float64)


@pytest.mark.parametrize("weighted", [False, True])
def test_binary_and_multiclass_are_scikit_learns(weighted):
    x = vectors_of(40)
    balance = "balanced" if weighted else None
    for kind, labels in (("binary", np.arange(40) % 4 == 0), ("multiclass", np.arange(40) % 3)):
        labels = labels.astype(np.int64)
        weight, bias, strength = fitted(kind, labels, x, NAMES[: labels.max() + 1], weighted)
        own = LogisticRegression(C=1 / 100, max_iter=2000, class_weight=balance).fit(scaled(x), labels)
        assert strength == 1.0
        logits = x @ weight.T + bias
        np.testing.assert_allclose(logits, own.decision_function(scaled(x)).reshape(logits.shape), atol=1e-4)


def test_two_of_three_classes():
    x, labels = vectors_of(40), np.where(np.arange(40) % 2, 2, 0)
    weight, bias, _ = fitted("multiclass", labels, x)
    own = LogisticRegression(C=1 / 100, max_iter=2000).fit(scaled(x), labels)
    logits = torch.from_numpy(x @ weight.T + bias)
    found = logits.softmax(1).numpy()
    np.testing.assert_allclose(found[:, [0, 2]], own.predict_proba(scaled(x)), atol=1e-4)
    assert found[:, 1].max() < 1e-4


def test_labels_and_targets_that_are_not_known_are_left_out():
    x = vectors_of(40)
    many = np.stack([np.arange(40) % 2, np.arange(40) // 2 % 2, np.ones(40), np.full(40, np.nan)], 1).astype(float)
    many[::7, 0] = np.nan
    weight, bias, _ = fitted("multilabel", many, x, ("w", "x", "y", "z"))
    known = np.isfinite(many[:, 0])
    own = LogisticRegression(C=1 / 100, max_iter=2000).fit(scaled(x)[known], many[known, 0].astype(int))
    np.testing.assert_allclose(x @ weight[0] + bias[0], own.decision_function(scaled(x)), atol=1e-4)
    assert (x @ weight[2] + bias[2] > 10).all()  # always there
    assert (weight[3] == 0).all() and bias[3] == 0  # nothing is known of it
    numbers = x[:, :2] * 100 + vectors_of(40, 2, seed=1)
    numbers[::5, 1] = np.nan
    weight, bias, _ = fitted("regression", numbers, x, ("x", "y"))
    for i in range(2):
        known = np.isfinite(numbers[:, i])
        own = Ridge(alpha=known.sum() / 10).fit(scaled(x)[known], numbers[known, i])
        np.testing.assert_allclose(x @ weight[i] + bias[i], own.predict(scaled(x)), rtol=1e-3)


def test_the_strength_is_the_best_on_valid_rows_and_1_where_nothing_tells():
    x, labels = vectors_of(40), np.arange(40) % 2
    part = rows("binary", labels, ("no", "yes"))

    def prefer(wanted):
        seen = iter(STRENGTHS)
        return lambda *_: -abs(np.log10(next(seen) / wanted))

    for wanted in STRENGTHS:
        assert fit_head(part, x, part, x, False, prefer(wanted), 0)[2] == wanted
    assert fit_head(part, x, part, x, False, lambda *_: np.nan, 0)[2] == 1.0


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression"])
def test_the_model_folder_predicts_what_scikit_learn_does(folder, tmp_path, kind):
    path = write_recipe(tmp_path, kind, folder / "bert", write_table(tmp_path, kind), kind, method="probe")
    metrics = finetune(path, "training.bf16=false")
    recipe = load_settings(FinetuneRecipe, path, ["training.bf16=false"])
    parts = read_split_rows(recipe)
    model, _, encoder, _ = build_label_model(recipe, parts)
    collator = build_collator(recipe, parts, encoder)
    train, test = (
        pooled_vectors(model, for_rows(collator, p), tmp_path / "cache", "key") for p in (parts.train, parts.test)
    )
    mean, scale, labels = train.mean(0), train.std(0), parts.train.labels
    x, y, strength = (train - mean) / scale, (test - mean) / scale, metrics["strength"]
    assert strength in STRENGTHS
    outputs = 1 if kind == "binary" else len(parts.train.task.names)
    assert metrics["parameters"]["trained"] == (train.shape[1] + 1) * outputs
    options = {"C": 1 / (strength * 100), "max_iter": 5000}
    if kind in ("binary", "multiclass"):
        expected = LogisticRegression(**options).fit(x, labels).predict_proba(y)
        expected = expected[:, 1] if kind == "binary" else expected
    else:
        columns = []
        for target in labels.T:
            known = np.isfinite(target)
            if kind == "regression":
                own = Ridge(alpha=strength * known.sum() / 10).fit(x[known], target[known])
                columns.append(own.predict(y))
            else:
                own = LogisticRegression(**options).fit(x[known], target[known].astype(int))
                columns.append(own.predict_proba(y)[:, 1])
        expected = np.stack(columns, 1)
    found = predictions(tmp_path / kind)
    found = np.stack([found[name] for name in parts.test.ids])
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4)


def test_vectors_are_computed_once(folder, tmp_path, monkeypatch, capfd):
    path = write_recipe(tmp_path, "run", folder / "bert", write_table(tmp_path), method="probe", dropout=0.5)
    finetune(path)
    assert "without effect on probe: dropout, training." in capfd.readouterr().err
    (tmp_path / "run" / "metrics.json").rename(tmp_path / "first.json")
    kept = sorted((tmp_path / "run" / "embeddings").iterdir())
    assert len(kept) == 2
    import genolm.finetuning.probe as probe

    calls = []
    monkeypatch.setattr(probe, "predict_rows", lambda *a, **k: calls.append(1))
    again = finetune(path)
    assert not calls and again["test"] == json.loads((tmp_path / "first.json").read_text())["test"]
