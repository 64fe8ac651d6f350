"""Metrics of variant scores against scikit-learn's and scipy's, and a bootstrap against rows written out."""

import numpy as np
import pytest
from scipy import stats

from genolm.config.console import progress_bar
from genolm.metrics import bootstrap
from genolm.metrics import variant_metrics as m
from genolm.metrics.bootstrap import drawn_weights

sklearn = pytest.importorskip("sklearn.metrics")


def near(value):
    return pytest.approx(value, abs=1e-12, rel=1e-12)


def rows(n=200, seed=0, ties=True):
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n).astype(float)
    values = rng.normal(labels, 2)
    chrom = rng.choice(np.array(["1", "2", "X"], dtype=object), size=n, p=[0.5, 0.3, 0.2])
    return labels, np.round(values) if ties else values, chrom


def by_chromosome(labels, values, chrom):
    """The weighted mean as its source has it: weights are numbers of variants."""
    total = 0.0
    for name in set(chrom):
        here = chrom == name
        total += here.sum() * sklearn.average_precision_score(labels[here], values[here])
    return total / len(labels)


@pytest.mark.parametrize("ties", [False, True])
def test_two_classes_equal_sklearn(ties):
    labels, values, chrom = rows(ties=ties)
    found = m.score_all("binary", labels, chrom, {"s": values}, num_replicates=1)["s"].values
    assert found["auroc"] == near(sklearn.roc_auc_score(labels, values))
    assert found["auprc"] == near(sklearn.average_precision_score(labels, values))
    assert found["auprc_by_chrom"] == near(by_chromosome(labels, values, chrom))


def test_by_chromosome_by_hand():
    # Chromosome 1: positive on top of three, AUPRC 1. Chromosome 2: positive second of two, AUPRC 1/2. 3: one class.
    labels = np.array([1, 0, 0, 0, 1, 1, 1.0])
    values = np.array([9, 1, 2, 8, 7, 5, 5.0])
    chrom = np.array(["1", "1", "1", "2", "2", "3", "3"], dtype=object)
    found = m.score_all("binary", labels, chrom, {"s": values}, num_replicates=1)["s"].values
    assert found["auprc_by_chrom"] == near((3 * 1 + 2 * 0.5) / 5)
    each = m.by_chromosome(labels, values, chrom)
    assert {name: row["variants"] for name, row in each.items()} == {"1": 3, "2": 2, "3": 2}
    np.testing.assert_array_equal([row["auprc"] for row in each.values()], [1, 0.5, np.nan])


def test_one_chromosome_is_the_plain_auprc():
    labels, values, _ = rows()
    found = m.score_all("binary", labels, np.full(200, "1", dtype=object), {"s": values}, num_replicates=3)["s"]
    assert found.values["auprc_by_chrom"] == found.values["auprc"]


def test_numbers_equal_scipy():
    rng = np.random.default_rng(3)
    labels = np.round(rng.normal(size=100), 1)
    values = np.round(labels + rng.normal(size=100), 1)
    found = m.score_all("regression", labels, np.full(100, "1"), {"s": values}, num_replicates=1)["s"].values
    assert found["spearman"] == near(stats.spearmanr(labels, values).statistic)
    assert found["pearson"] == near(stats.pearsonr(labels, values).statistic)


@pytest.mark.parametrize("grouped", [False, True])
def test_a_replicate_is_the_metric_of_the_rows_drawn(grouped):
    labels, values, chrom = rows(60)
    groups = np.arange(60) * 7 % 15 if grouped else None  # four rows each, scattered
    scored = m.score_all("binary", labels, chrom, {"s": values}, groups, num_replicates=5, seed=2)["s"]
    counts = next(drawn_weights(15 if grouped else 60, 60, 5, 2)).astype(int)
    for r in range(5):
        drawn = np.repeat(np.arange(60), counts[r] if groups is None else counts[r][groups])
        assert scored.replicates["auroc"][r] == near(sklearn.roc_auc_score(labels[drawn], values[drawn]))
        again = by_chromosome(labels[drawn], values[drawn], chrom[drawn])
        assert scored.replicates["auprc_by_chrom"][r] == near(again)
    assert scored.num_rows == (15 if grouped else 60)


def test_groups_widen_an_interval_of_rows_that_go_together():
    """Each row ten times over: drawn by row the interval is too narrow by about the root of ten."""
    labels, values, _ = rows(60, ties=False)
    many = [np.repeat(part, 10) for part in (labels, values)]
    chrom = np.full(600, "1", dtype=object)
    widths = []
    for groups in (None, np.repeat(np.arange(60), 10)):
        row = m.compare_scores("binary", many[0], chrom, [m.Candidate("s", many[1], "")], groups, num_replicates=400)[0]
        widths.append(row["metrics"]["auroc"]["high"] - row["metrics"]["auroc"]["low"])
    assert 2.4 < widths[1] / widths[0] < 4


def test_scores_stand_against_the_best_baseline_of_each_metric():
    labels, _, _ = rows(400)
    rng = np.random.default_rng(5)
    chrom = np.full(400, "1", dtype=object)
    candidates = [
        m.Candidate("good", labels + rng.normal(0, 0.3, 400), "up"),
        m.Candidate("weak", labels + rng.normal(0, 3, 400), "up"),
        m.Candidate("noise", rng.normal(size=400), "up", baseline=True),
        m.Candidate("fair", labels + rng.normal(0, 1, 400), "up", baseline=True),
    ]
    good, weak, noise, fair = m.compare_scores("binary", labels, chrom, candidates, num_replicates=300)
    assert good["difference"]["auroc"]["against"] == "fair" and noise["difference"] == fair["difference"] == {}
    found = good["difference"]["auroc"]
    assert found["value"] == near(good["metrics"]["auroc"]["value"] - fair["metrics"]["auroc"]["value"])
    assert 0 < found["low"] < found["value"] < found["high"]
    assert weak["difference"]["auprc"]["high"] < 0
    alone = m.compare_scores("binary", labels, chrom, candidates[:1], num_replicates=10)
    assert alone[0]["difference"] == {}


def test_a_difference_of_twins_is_zero_with_no_width():
    labels, values, chrom = rows()
    twins = [m.Candidate("a", values, ""), m.Candidate("b", 3 * values + 1, "", baseline=True)]
    found = m.compare_scores("binary", labels, chrom, twins, num_replicates=50)[0]["difference"]
    assert {key: (row["value"], row["low"], row["high"]) for key, row in found.items()} == dict.fromkeys(
        ("auroc", "auprc", "auprc_by_chrom"), (0, 0, 0)
    )


def test_a_constant_is_no_best_baseline_of_a_correlation():
    labels = np.arange(20.0)
    candidates = [m.Candidate("flat", np.ones(20), "", baseline=True), m.Candidate("up", labels, "")]
    flat, up = m.compare_scores("regression", labels, np.full(20, "1"), candidates, num_replicates=20)
    assert np.isnan(flat["metrics"]["spearman"]["value"]) and up["difference"] == {}


def test_a_mistake_is_named():
    labels, values, chrom = rows(5)
    with pytest.raises(ValueError, match="s: shape"):
        m.score_all("binary", labels, chrom, {"s": values[:3]})
    with pytest.raises(ValueError, match="every row needs a finite number"):
        m.score_all("binary", labels, chrom, {"s": values * np.nan})
    with pytest.raises(ValueError, match="kind is 'tracks'; allowed: binary, regression"):
        m.score_all("tracks", labels, chrom, {"s": values})


def test_a_bar_counts_replicates(monkeypatch):
    bars = []

    def bar(**options):
        bars.append((progress_bar(**options), options["disable"]))
        return bars[-1][0]

    monkeypatch.setattr(bootstrap, "progress_bar", bar)
    labels = np.array([0.0, 1.0, 0.0, 1.0])
    for show in (False, True):
        m.score_all("binary", labels, np.full(4, "1"), {"a": labels}, num_replicates=30, show=show)
    assert [disable for _, disable in bars] == [True, False] and bars[1][0].n == bars[1][0].total == 30
