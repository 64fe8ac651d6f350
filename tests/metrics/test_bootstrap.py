import itertools

import numpy as np
import pytest

from genolm.metrics import bootstrap


def test_interval_equals_all_resamples_of_three_blocks():
    x, w = np.array([1.0, 2.0, 6.0]), np.array([1.0, 1.0, 2.0])
    every = [x[list(drawn)].sum() / w[list(drawn)].sum() for drawn in itertools.product(range(3), repeat=3)]
    estimate = bootstrap.ratio(x, w, np.arange(3), num_replicates=20_000, confidence=0.8)
    assert estimate.value == 9 / 4
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(every, [0.1, 0.9])), abs=1e-12)


def test_interval_of_a_mean_covers_its_truth():
    """95 % intervals of the mean of 60 independent blocks contain it about 95 times in 100."""
    rng = np.random.default_rng(0)
    block = np.repeat(np.arange(60), 5)
    covered = 0
    for trial in range(200):
        x = np.repeat(rng.normal(1.9, 0.1, size=60), 5)
        estimate = bootstrap.ratio(x, np.ones(300), block, seed=trial, num_replicates=400)
        covered += estimate.low <= 1.9 <= estimate.high
    assert 0.9 <= covered / 200 <= 0.98


def test_values_of_one_block_are_drawn_together():
    x = np.tile([0.0, 1.0], 500)
    one_by_one = bootstrap.ratio(x, np.ones(1000), np.arange(1000))
    paired = bootstrap.ratio(x, np.ones(1000), np.arange(1000) // 2)
    assert one_by_one.high - one_by_one.low == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(1000), rel=0.15)
    assert (paired.low, paired.high) == (0.5, 0.5)


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
    assert (estimate.value, estimate.num_blocks) == (4.0, 2)


def test_one_block_has_no_interval_and_none_no_value():
    one = bootstrap.ratio(np.array([3.0]), np.array([2.0]), np.array([7]))
    assert one.value == 1.5 and np.isnan([one.low, one.high]).all() and one.num_blocks == 1
    none = bootstrap.ratio(np.empty(0), np.empty(0), np.empty(0, dtype=int))
    assert np.isnan([none.value, none.low, none.high]).all() and none.num_blocks == 0


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(3,\), \(2,\), \(3,\)"):
        bootstrap.ratio(np.ones(3), np.ones(2), np.arange(3))
    with pytest.raises(ValueError, match="confidence is 95"):
        bootstrap.ratio(np.ones(3), np.ones(3), np.arange(3), confidence=95)
