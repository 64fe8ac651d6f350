import numpy as np
import pytest

from genolm.metrics.bits import bits_per_base, bits_table


def test_guessing_costs_two_bits_for_every_tokenizer():
    assert bits_per_base(np.full(6, np.log(4)), np.ones(6)) == pytest.approx(2)
    assert bits_per_base(np.full(2, np.log(4**3)), np.full(2, 3)) == pytest.approx(2)
    assert np.isnan(bits_per_base(np.empty(0), np.empty(0)))


def test_table_by_hand():
    nats = np.log(2) * np.array([1.0, 3.0, 2.0, 8.0])
    bases = np.array([1, 1, 2, 4])
    repeat = np.array([True, False, True, False])
    table = bits_table(nats, bases, np.array([0, 0, 1, 1]), {"repeat": repeat, "unique": ~repeat})
    assert table["bits_per_base"] == pytest.approx(14 / 8)
    # Two blocks, 4 bits / 2 bases and 10 bits / 6 bases: a quarter of resamples is each alone.
    assert table["interval"] == pytest.approx([10 / 6, 2])
    assert (table["num_bases"], table["num_blocks"]) == (8, 2)
    assert table["classes"]["repeat"]["bits_per_base"] == pytest.approx(1)
    assert table["classes"]["unique"]["bits_per_base"] == pytest.approx(11 / 5)
    assert "classes" not in table["classes"]["unique"]


def test_classes_average_to_the_whole():
    rng = np.random.default_rng(0)
    nats, bases, block = rng.random(1000), rng.integers(1, 7, size=1000), np.arange(1000) // 50
    mask = rng.random(1000) < 0.3
    table = bits_table(nats, bases, block, {"in": mask, "out": ~mask})
    rows = table["classes"].values()
    assert sum(row["num_bases"] for row in rows) == table["num_bases"]
    whole = sum(row["bits_per_base"] * row["num_bases"] for row in rows) / table["num_bases"]
    assert whole == pytest.approx(table["bits_per_base"])
    for row in (table, *rows):
        low, high = row["interval"]
        assert low < row["bits_per_base"] < high


def test_an_empty_class_has_no_number():
    row = bits_table(np.ones(3), np.ones(3), np.arange(3), {"none": np.zeros(3, dtype=bool)})["classes"]["none"]
    assert np.isnan(row["bits_per_base"]) and row["interval"] is None and row["num_bases"] == 0


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match=r"nats\[1\] is inf"):
        bits_table(np.array([1, np.inf]), np.ones(2), np.arange(2))
    with pytest.raises(ValueError, match="class 'CDS' must be a bool mask"):
        bits_table(np.ones(2), np.ones(2), np.arange(2), {"CDS": np.ones(3, dtype=bool)})
