import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genolm.data import rng


def test_a_sample_does_not_depend_on_its_batch():
    together = rng.words(7, 1, np.arange(100), 33)
    alone = np.concatenate([rng.words(7, 1, np.array([i]), 33) for i in range(100)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(rng.words32(7, 1, np.arange(100), 9), rng.words32(7, 1, np.arange(100), 10)[:, :9])


def test_seed_stream_and_sample_all_matter():
    a = rng.words(0, 0, np.arange(2), 4)
    assert (
        len({a.tobytes(), rng.words(1, 0, np.arange(2), 4).tobytes(), rng.words(0, 1, np.arange(2), 4).tobytes()}) == 3
    )
    assert (a[0] != a[1]).all()


def test_uniformity():
    u = rng.words32(3, 5, np.arange(400), 1000) / 2**32
    assert abs(u.mean() - 0.5) < 4 * np.sqrt(1 / 12 / u.size)
    counts = np.histogram(u, bins=64, range=(0, 1))[0]
    chi2 = ((counts - u.size / 64) ** 2 / (u.size / 64)).sum()
    assert 25 < chi2 < 115  # 63 degrees of freedom, p outside about 1e-5
    columns = u - 0.5
    assert abs((columns[:, :-1] * columns[:, 1:]).mean() * 12) < 0.01
    assert abs((columns[:-1] * columns[1:]).mean() * 12) < 0.01


@given(st.integers(1, 5000), st.integers(0, 3), st.integers(0, 2**63))
def test_permute_is_a_bijection(size, epoch, seed):
    order = rng.permute(seed, 0, np.arange(size), size, np.full(size, epoch))
    np.testing.assert_array_equal(np.sort(order), np.arange(size))


def test_permute_shuffles():
    a, b = (rng.permute(0, 0, np.arange(10_000), 10_000, np.full(10_000, e)) for e in (0, 1))
    for order in (a, b):
        assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 0.05
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.05


def test_integers_stay_below():
    high = np.array([1, 2, 1000] * 1000)
    drawn = rng.integers(0, 0, np.arange(3000), high)
    assert (drawn >= 0).all() and (drawn < high).all()
    assert drawn[2::3].mean() == pytest.approx(500, abs=50)
