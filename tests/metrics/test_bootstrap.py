import itertools

import numpy as np
import pytest
from scipy.stats import norm

from genolm.metrics import bootstrap
from genolm.metrics.bootstrap import BootstrapMetrics, over_seeds, paired_difference, run_interval
from genolm.metrics.prediction_metrics import bootstrap_metrics


def test_interval_equals_all_resamples_of_three_blocks():
    x, w = np.array([1.0, 2.0, 6.0]), np.array([1.0, 1.0, 2.0])
    every = [x[list(drawn)].sum() / w[list(drawn)].sum() for drawn in itertools.product(range(3), repeat=3)]
    estimate = bootstrap.ratio(x, w, np.arange(3))
    assert estimate["value"] == 9 / 4
    low, high = np.quantile(every, [0.025, 0.975], method="inverted_cdf")
    assert (estimate["low"], estimate["high"]) == pytest.approx((low, high), abs=1e-12)


def test_interval_of_a_mean_covers_its_truth():
    """95 % intervals of the mean of 60 independent blocks contain it about 95 times in 100."""
    rng = np.random.default_rng(0)
    block = np.repeat(np.arange(60), 5)
    covered = 0
    for trial in range(200):
        x = np.repeat(rng.normal(1.9, 0.1, size=60), 5)
        estimate = bootstrap.ratio(x, np.ones(300), block, seed=trial)
        covered += estimate["low"] <= 1.9 <= estimate["high"]
    assert 0.9 <= covered / 200 <= 0.98


def test_values_of_one_block_are_drawn_together():
    x = np.tile([0.0, 1.0], 500)
    one_by_one = bootstrap.ratio(x, np.ones(1000), np.arange(1000))
    paired = bootstrap.ratio(x, np.ones(1000), np.arange(1000) // 2)
    assert one_by_one["high"] - one_by_one["low"] == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(1000), rel=0.15)
    assert (paired["low"], paired["high"]) == (0.5, 0.5)


def test_ids_only_name_blocks():
    rng = np.random.default_rng(1)
    x, w, block = rng.random(50), rng.random(50), rng.integers(7, size=50)
    assert bootstrap.ratio(x, w, block) == bootstrap.ratio(x, w, (block << 40) - 5)


def test_same_seed_same_interval():
    x, block = np.arange(20.0), np.arange(20)
    assert bootstrap.ratio(x, np.ones(20), block, seed=3) == bootstrap.ratio(x, np.ones(20), block, seed=3)
    assert bootstrap.ratio(x, np.ones(20), block, seed=3) != bootstrap.ratio(x, np.ones(20), block, seed=4)


def test_draws_in_parts_equal_draws_at_once(monkeypatch):
    x, block = np.random.default_rng(0).random(64), np.arange(64)
    at_once = bootstrap.ratio(x, np.ones(64), block)
    monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", 640)
    in_parts = bootstrap.ratio(x, np.ones(64), block)
    assert in_parts == at_once


def test_blocks_without_weight_are_left_out():
    estimate = bootstrap.ratio(np.array([3.0, 0.0, 5.0]), np.array([1.0, 0.0, 1.0]), np.arange(3))
    assert (estimate["value"], estimate["num_blocks"]) == (4.0, 2)


def test_one_block_has_no_interval_and_none_no_value():
    one = bootstrap.ratio(np.array([3.0]), np.array([2.0]), np.array([7]))
    assert one["value"] == 1.5 and np.isnan([one["low"], one["high"]]).all() and one["num_blocks"] == 1
    none = bootstrap.ratio(np.empty(0), np.empty(0), np.empty(0, dtype=int))
    assert np.isnan([none["value"], none["low"], none["high"]]).all() and none["num_blocks"] == 0


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(3,\), \(2,\), \(3,\)"):
        bootstrap.ratio(np.ones(3), np.ones(2), np.arange(3))


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
