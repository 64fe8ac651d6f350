"""Metrics against scikit-learn's and scipy's, weighted and not; intervals and how fast they are."""

import time
import warnings

import numpy as np
import pytest
from scipy import stats

from genolm.metrics import bootstrap
from genolm.metrics import prediction_metrics as m
from genolm.metrics import weighted_metrics as weighted

sklearn = pytest.importorskip("sklearn.metrics")


def near(value):
    return pytest.approx(value, abs=1e-12, rel=1e-12)


def binary(n=300, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    probabilities = 1 / (1 + np.exp(-rng.normal(labels - 0.5, 1)))
    return labels, np.round(probabilities, 1) if ties else probabilities


def classes(n=400, num_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=n)
    logits = rng.normal(size=(n, num_classes)) + 1.5 * np.eye(num_classes)[labels]
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [7, 300])
def test_binary_equals_sklearn(n, ties):
    labels, p = binary(n, ties=ties)
    found = m.compute_metrics("binary", labels, p, 0.4)
    assert found["mcc"] == near(sklearn.matthews_corrcoef(labels, p >= 0.4))
    assert found["auroc"] == near(sklearn.roc_auc_score(labels, p))
    assert found["auprc"] == near(sklearn.average_precision_score(labels, p))
    assert found["f1"] == near(sklearn.f1_score(labels, p >= 0.4))
    assert found["accuracy"] == near(sklearn.accuracy_score(labels, p >= 0.4))


def test_weighted_equals_sklearn():
    labels, p = binary(200, ties=True)
    w = np.random.default_rng(1).multinomial(200, np.full(200, 1 / 200), size=3).astype(float)
    order, ends = weighted.tied_order(p)
    ranked = weighted.ranking(w, labels == 1, order, ends)
    counts = weighted.confusion(w, labels, (p >= 0.5).astype(int), 2)
    for r, row in enumerate(w):
        assert ranked["auroc"][r] == near(sklearn.roc_auc_score(labels, p, sample_weight=row))
        assert ranked["auprc"][r] == near(sklearn.average_precision_score(labels, p, sample_weight=row))
        assert weighted.mcc(counts)[r] == near(sklearn.matthews_corrcoef(labels, p >= 0.5, sample_weight=row))
        assert weighted.f1(counts)[r, 1] == near(sklearn.f1_score(labels, p >= 0.5, sample_weight=row))


def test_a_replicate_is_the_metric_of_its_drawn_rows():
    """The weighted form against the plain one, on rows that are written out as often as they were drawn."""
    rng = np.random.default_rng(3)
    labels, p = binary(60, ties=True)
    y = rng.normal(size=(60, 2)).round(1)
    y[::7, 1] = np.nan
    z = np.where(np.isnan(y), 0, y).round() + rng.normal(size=(60, 2)).round(1)
    many, q = classes(60, 3)
    tasks = [("binary", labels, p, 0.5), ("regression", y, z, None), ("multiclass", many, q, None)]
    for kind, label, prediction, threshold in tasks:
        scores = m.bootstrap_metrics(kind, label, prediction, threshold, num_replicates=5, seed=2)
        counts = next(bootstrap.drawn_weights(60, 60, 5, 2)).astype(int)
        for r, count in enumerate(counts):
            rows = np.repeat(np.arange(60), count)
            expected = m.compute_metrics(kind, label[rows], prediction[rows], threshold)
            assert {name: values[r] for name, values in scores.replicates.items()} == pytest.approx(expected, abs=1e-10)


def test_multiclass_equals_sklearn():
    labels, p = classes()
    found = m.compute_metrics("multiclass", labels, p)
    predicted, one_hot = p.argmax(axis=1), np.eye(4)[labels]
    assert found["mcc"] == near(sklearn.matthews_corrcoef(labels, predicted))
    assert found["macro_f1"] == near(sklearn.f1_score(labels, predicted, average="macro"))
    assert found["accuracy"] == near(sklearn.accuracy_score(labels, predicted))
    assert found["auroc"] == near(sklearn.roc_auc_score(labels, p, multi_class="ovr", average="macro"))
    assert found["auprc"] == near(sklearn.average_precision_score(one_hot, p, average="macro"))


def test_multilabel_leaves_out_what_is_not_known():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=(200, 3)).astype(float)
    p = np.clip(labels * 0.3 + rng.random((200, 3)) * 0.7, 0, 1)
    labels[rng.random((200, 3)) < 0.2] = np.nan
    cuts = [0.3, 0.5, 0.6]
    found = m.compute_metrics("multilabel", labels, p, cuts)
    expected = {"auprc": [], "auroc": [], "f1": [], "mcc": []}
    for k, cut in enumerate(cuts):
        known = ~np.isnan(labels[:, k])
        y, q = labels[known, k], p[known, k]
        expected["auprc"].append(sklearn.average_precision_score(y, q))
        expected["auroc"].append(sklearn.roc_auc_score(y, q))
        expected["f1"].append(sklearn.f1_score(y, q >= cut))
        expected["mcc"].append(sklearn.matthews_corrcoef(y, q >= cut))
    assert found == {name: near(np.mean(values)) for name, values in expected.items()}


@pytest.mark.parametrize("offset", [0, 1e4])
def test_regression_equals_sklearn_and_scipy(offset):
    rng = np.random.default_rng(0)
    y = rng.normal(size=(150, 2)).round(1) + offset
    p = y + rng.normal(size=(150, 2)).round(1)
    y[::5, 1] = np.nan
    found = m.compute_metrics("regression", y, p, names=["low", "high"])
    known = ~np.isnan(y[:, 1])
    pairs = {"low": (y[:, 0], p[:, 0]), "high": (y[known, 1], p[known, 1])}
    for name, (a, b) in pairs.items():
        tolerance = {"abs": 1e-12 * max(offset, 1)}
        assert found[f"r2/{name}"] == pytest.approx(sklearn.r2_score(a, b), **tolerance)
        assert found[f"mse/{name}"] == pytest.approx(sklearn.mean_squared_error(a, b), **tolerance)
        assert found[f"pearson/{name}"] == pytest.approx(stats.pearsonr(a, b).statistic, **tolerance)
        assert found[f"spearman/{name}"] == near(stats.spearmanr(a, b).statistic)
    assert found["r2"] == near((found["r2/low"] + found["r2/high"]) / 2)
    assert set(m.compute_metrics("regression", y[:, :1], p[:, :1])) == {"r2", "spearman", "pearson", "mse"}


def test_per_base_and_tracks_are_the_same_over_all_bases():
    labels, p = classes(60, 3)
    ragged = [slice(0, 10), slice(10, 35), slice(35, 60)]
    with_unknown = labels.copy()
    with_unknown[5:20] = -100
    known = with_unknown != -100
    rows, predictions = [with_unknown[part] for part in ragged], [p[part] for part in ragged]
    assert m.compute_metrics("per-base", rows, predictions) == m.compute_metrics("multiclass", labels[known], p[known])
    y = np.random.default_rng(0).normal(size=(60, 2))
    found = m.compute_metrics("tracks", [y[part] for part in ragged], [p[part, :2] for part in ragged])
    assert found == m.compute_metrics("regression", y, p[:, :2])


def test_rows_are_drawn_with_all_their_bases():
    """Each row repeats one value: drawing bases would give an interval narrower by the root of the row's length."""
    rng = np.random.default_rng(0)
    y, p = rng.normal(size=(80, 1)), rng.normal(size=(80, 1))
    by_row = m.bootstrap_metrics("regression", y, p).intervals()["mse"]
    by_base = m.bootstrap_metrics(
        "tracks", [np.repeat(a[None], 9, 0) for a in y], [np.repeat(b[None], 9, 0) for b in p]
    ).intervals()
    assert by_base["mse"] == pytest.approx(by_row)


@pytest.mark.parametrize("seed", range(20))
def test_threshold_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    labels, p = rng.integers(2, size=40), rng.random(40).round(rng.integers(1, 4))
    p = np.clip(p + (0.2 * labels if seed % 3 else -0.2 * labels), 0, 1)
    found = m.choose_threshold(labels, p)
    cuts = np.unique(np.concatenate([p, p + 1e-9, [0.5]]))
    mcc = np.array([sklearn.matthews_corrcoef(labels, p >= cut) for cut in cuts])
    assert sklearn.matthews_corrcoef(labels, p >= found) == pytest.approx(mcc.max(), abs=1e-12)
    if mcc[cuts == 0.5] >= mcc.max() - 1e-12:
        assert found == 0.5


def test_threshold_by_hand():
    assert m.choose_threshold(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.9])) == 0.25
    assert m.choose_threshold(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.6, 0.9])) == 0.5
    assert m.choose_threshold(np.array([1, 1]), np.array([0.1, 0.2])) == 0.5
    assert m.choose_threshold(np.array([0, 1]), np.array([0.3, 0.3])) == 0.5
    assert m.choose_threshold(np.array([0, np.nan, 1]), np.array([0.6, 0.7, 0.8])) == pytest.approx(0.7)


def test_what_is_not_defined_is_nan():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = m.compute_metrics("binary", np.ones(4, dtype=int), np.array([0.1, 0.9, 0.4, 0.6]))
        assert np.isnan([one["mcc"], one["auroc"], one["auprc"]]).all()
        assert one["accuracy"] == 0.5
        assert np.isnan(m.compute_metrics("binary", np.zeros(3, dtype=int), np.zeros(3))["f1"])
        assert m.compute_metrics("binary", np.array([0, 1]), np.array([0.1, 0.1]))["mcc"] == 0
        constant = m.compute_metrics("regression", np.full((5, 1), 0.1), np.arange(5.0)[:, None])
        assert np.isnan([constant["r2"], constant["pearson"], constant["spearman"]]).all()
        assert np.isnan(m.bootstrap_metrics("binary", np.ones(4, dtype=int), np.full(4, 0.3)).intervals()["mcc"]["low"])
        # A class without rows is left out of the mean.
        labels, p = classes(50, 3)
        p = np.column_stack([p, np.zeros(50)])
        assert np.isfinite(list(m.compute_metrics("multiclass", labels, p).values())).all()


@pytest.mark.parametrize(
    ("kind", "labels", "predictions", "message"),
    [
        ("binary", [0, 1], [0.5, np.nan], "row 1: prediction is nan"),
        ("binary", [0, 1], [1.5, 0.2], "row 0: prediction is 1.5; allowed: probabilities"),
        ("binary", [0, 2], [0.5, 0.5], "row 1: label is 2; allowed: 0 to 1"),
        ("binary", [0, 1], [[0.5, 0.5], [0.5, 0.5]], r"shape \(2,\), predictions \(2, 2\)"),
        ("binary", [0, 1], [0.5], "2 labels but 1 predictions"),
        ("binary", [], [], "no rows"),
        ("multiclass", [0, 1], [[0.9, 0.9], [0.5, 0.5]], "row 0: probabilities of the classes sum to 1.8"),
        ("multiclass", [0, 3], [[0.5, 0.5], [0.5, 0.5]], "row 1: label is 3"),
        ("multilabel", [[0.0], [1.0]], [[0.0], [-1.0]], "prediction is -1.0"),
        ("regression", [[0.0], [1.0]], [[0.0], [np.inf]], "row 1: prediction is not finite"),
        ("multilabel", [[np.nan, 0.0], [1.0, 1.0]], [[0.5, 0.5], [np.nan, 0.5]], "row 1: prediction is nan"),
        ("regression", [[0.0]], [[0.0, 1.0]], "labels have shape"),
        ("per-base", [[0, 1]], [[[0.5, 0.5]]], "row 0: 2 labels but 1 predictions"),
        ("ranking", [0], [0], "task kind is 'ranking'; allowed: binary"),
    ],
)
def test_bad_predictions_are_refused(kind, labels, predictions, message):
    if kind != "per-base":
        labels, predictions = np.array(labels), np.array(predictions)
    with pytest.raises(ValueError, match=message):
        m.compute_metrics(kind, labels, predictions)


def test_intervals_follow_from_the_seed(monkeypatch):
    labels, p = binary(500)
    at_once = m.bootstrap_metrics("binary", labels, p, 0.5, seed=1, num_replicates=200).intervals()
    assert at_once != m.bootstrap_metrics("binary", labels, p, 0.5, seed=2, num_replicates=200).intervals()
    monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", 1700)
    assert m.bootstrap_metrics("binary", labels, p, 0.5, seed=1, num_replicates=200).intervals() == at_once
    for row in at_once.values():
        assert row["low"] < row["value"] < row["high"]


def test_the_interval_of_accuracy_is_the_binomial_one():
    labels, p = binary(2000)
    found = m.bootstrap_metrics("binary", labels, p, 0.5).intervals()["accuracy"]
    half = 1.96 * np.sqrt(found["value"] * (1 - found["value"]) / 2000)
    assert found["high"] - found["low"] == pytest.approx(2 * half, rel=0.1)


@pytest.mark.slow
def test_bootstrap_of_50_000_rows_is_fast():
    labels, p = binary(50_000)
    start = time.process_time()
    m.bootstrap_metrics("binary", labels, p, 0.5, num_replicates=1000).intervals()
    assert time.process_time() - start < 30
