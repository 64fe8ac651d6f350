"""Paired bootstrap: intervals cover the truth at the stated rate, with one seed and with several."""

import numpy as np
import pytest
from scipy.stats import norm

from genolm.metrics.bootstrap import BootstrapMetrics
from genolm.metrics.paired import over_seeds, paired_difference, run_interval
from genolm.metrics.prediction_metrics import bootstrap_metrics


def two_scorers(rng, n, strong=1.6, weak=1.2):
    """Binormal scores of the same rows, errors correlated: AUROC is Φ(d/√2), accuracy at 0.5 is Φ(d/2)."""
    labels = rng.integers(2, size=n)
    shared = rng.normal(size=n)
    found = []
    for distance in (strong, weak):
        noise = 0.7 * shared + np.sqrt(1 - 0.49) * rng.normal(size=n)
        found.append(norm.cdf(noise + distance * (labels - 0.5)))
    return labels, *found


def test_difference_covers_the_truth():
    rng = np.random.default_rng(0)
    truth = {
        "auroc": norm.cdf(1.6 / np.sqrt(2)) - norm.cdf(1.2 / np.sqrt(2)),
        "accuracy": norm.cdf(0.8) - norm.cdf(0.6),
    }
    held, trials = dict.fromkeys(truth, 0), 400
    for trial in range(trials):
        labels, ours, theirs = two_scorers(rng, 250)
        scores = [[bootstrap_metrics("binary", labels, p, 0.5, num_replicates=300, seed=trial)] for p in (ours, theirs)]
        for metric in truth:
            found = paired_difference(*scores, metric)
            held[metric] += found["low"] <= truth[metric] <= found["high"]
    for metric, count in held.items():
        assert 0.92 <= count / trials <= 0.98, metric


def seeds_of(rng, num_seeds, num_rows, spread, num_replicates=200):
    """Runs whose accuracy at all rows is 0.8 plus what the seed adds."""
    labels = np.ones(num_rows, dtype=int)
    hits = [rng.random(num_rows) < 0.8 + rng.normal(0, spread) for _ in range(num_seeds)]
    seed = int(rng.integers(1 << 30))
    options = {"num_replicates": num_replicates, "seed": seed}
    return [bootstrap_metrics("binary", labels, hit * 1.0, 0.5, **options) for hit in hits]


def test_seeds_are_part_of_the_interval():
    """Seeds that differ by much more than rows explain: one of rows alone would hold the truth too seldom."""
    rng = np.random.default_rng(1)
    trials, held, held_by_rows = 150, 0, 0
    for _ in range(trials):
        scores = seeds_of(rng, 8, 300, 0.06)
        found = run_interval(scores, "accuracy")
        held += found["low"] <= 0.8 <= found["high"]
        by_rows = np.quantile(np.mean([one.replicates["accuracy"] for one in scores], axis=0), [0.025, 0.975])
        held_by_rows += by_rows[0] <= 0.8 <= by_rows[1]
    assert 0.9 <= held / trials <= 0.98
    assert held_by_rows / trials < 0.6


@pytest.mark.parametrize("num_seeds", [2, 3, 10])
def test_one_draw_fewer_gives_the_spread_of_the_mean(num_seeds):
    """Replicates that are constant in rows: their spread is s²/S, s² the unbiased variance of the seeds."""
    values = np.random.default_rng(0).normal(size=num_seeds)
    scores = [BootstrapMetrics({"mcc": value}, {"mcc": np.full(40_000, value)}, 10, 0) for value in values]
    mean, replicates = over_seeds(scores, "mcc")
    assert mean == pytest.approx(values.mean())
    assert replicates.var() == pytest.approx(values.var(ddof=1) / num_seeds, rel=0.05)


def test_a_run_differs_from_itself_by_nothing():
    labels, ours, _ = two_scorers(np.random.default_rng(0), 100)
    scores = [bootstrap_metrics("binary", labels, ours, 0.5, num_replicates=50)]
    assert paired_difference(scores, scores, "mcc") == {"value": 0, "low": 0, "high": 0}


def test_pairing_narrows_the_interval():
    labels, ours, theirs = two_scorers(np.random.default_rng(0), 1000)
    a, b = ([bootstrap_metrics("binary", labels, p, 0.5)] for p in (ours, theirs))
    paired = paired_difference(a, b, "auroc")
    apart = np.std(a[0].replicates["auroc"] - np.roll(b[0].replicates["auroc"], 1))
    assert paired["high"] - paired["low"] < 0.8 * 2 * 1.96 * apart


def test_other_draws_are_not_paired():
    labels, ours, theirs = two_scorers(np.random.default_rng(0), 100)
    a = [bootstrap_metrics("binary", labels, ours, num_replicates=5, seed=0)]
    for b in (
        bootstrap_metrics("binary", labels, theirs, num_replicates=5, seed=1),
        bootstrap_metrics("binary", labels, theirs, num_replicates=6),
        bootstrap_metrics("binary", labels[:99], theirs[:99], num_replicates=5),
    ):
        with pytest.raises(ValueError, match="cannot be paired"):
            paired_difference(a, [b], "auroc")
