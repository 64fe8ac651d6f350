"""Regions against bitmaps: a region table is a set of bases, and every operation on it is one on sets."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from genolm.genome.interval import Interval
from genolm.genome.regions import Regions, SplitRule, available_regions, split_genomes
from genolm.genome.store import prepare_store

LENGTHS = (40, 40, 25, 7, 1)  # of the contigs below
ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 40), st.integers(0, 40)), max_size=10
)  # some of them empty, backwards, touching or overlapping
SHARED = settings(
    max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def bitmap(rows) -> np.ndarray:
    bases = np.zeros((len(LENGTHS), max(LENGTHS)), dtype=bool)
    for contig, start, end in rows:
        bases[contig, start:end] = True
    return bases


def assert_canonical(regions: Regions) -> None:
    """Sorted, not empty, and with at least a base between two on one contig."""
    rows = list(regions)
    assert all(start < end for _, start, end in rows)
    for (contig, _, end), (after, start, _) in zip(rows, rows[1:], strict=False):
        assert contig < after or (contig == after and end < start)
    for column in (regions.contig, regions.start, regions.end):
        assert column.dtype == np.int64 and column.shape == (len(rows),)


@SHARED
@given(ROWS, ROWS)
def test_algebra_is_that_of_sets(rows, others):
    a, b = Regions.from_rows(rows), Regions.from_rows(others)
    for found, expected in (
        (a, bitmap(rows)),
        (a.intersect(b), bitmap(rows) & bitmap(others)),
        (a.subtract(b), bitmap(rows) & ~bitmap(others)),
        (Regions.from_rows([*a, *b]), bitmap(rows) | bitmap(others)),
    ):
        assert_canonical(found)
        np.testing.assert_array_equal(bitmap(found), expected)
        assert found.num_bases == expected.sum() == found.length.sum()


def test_touching_regions_become_one_and_empty_ones_none():
    assert list(Regions.from_rows([(0, 5, 9), (0, 0, 5), (1, 9, 12), (0, 3, 3), (0, 8, 2), (0, 10, 11)])) == [
        (0, 0, 9),
        (0, 10, 11),
        (1, 9, 12),
    ]
    assert len(Regions.from_rows([])) == 0 and Regions.from_rows([]).num_bases == 0


@SHARED
@given(ROWS)
def test_inside_is_a_look_at_the_bitmap(rows):
    contig, position = (axis.ravel() for axis in np.mgrid[: len(LENGTHS), : max(LENGTHS)])
    np.testing.assert_array_equal(Regions.from_rows(rows).contain(contig, position), bitmap(rows).ravel())


def test_inside_knows_positions_beyond_two_to_the_31():
    far = 3_000_000_000
    regions = Regions.from_rows([(0, far, far + 2), (7, 0, 1)])
    contig, position = np.array([0, 0, 0, 0, 7, 7, 6]), np.array([far - 1, far, far + 1, far + 2, 0, 1, 0])
    assert regions.contain(contig, position).tolist() == [False, True, True, False, True, False, False]


@SHARED
@given(ROWS, st.integers(1, 20), st.data())
def test_tiles_score_each_base_once_and_show_what_is_before_it(rows, window_bp, data):
    context_bp = data.draw(st.integers(0, window_bp - 1))
    regions = Regions.from_rows(rows)
    tiles = regions.tile(window_bp, context_bp)
    assert tiles.dtype == np.int64 and tiles.shape[1] == 4
    times = np.zeros((len(LENGTHS), max(LENGTHS)), dtype=int)
    first_base = {(contig, at): start for contig, start, end in regions for at in range(start, end)}
    for contig, start, end, scored_from in tiles.tolist():
        assert start <= scored_from < end <= start + window_bp
        times[contig, scored_from:end] += 1
        region_start = first_base[contig, scored_from]
        # A window stays in its region, and shows its context unless the region has no more.
        assert start >= region_start == first_base[contig, end - 1]
        assert scored_from - start >= min(context_bp, scored_from - region_start)
    np.testing.assert_array_equal(times, bitmap(rows).astype(int))


def test_tiles_by_hand():
    regions = Regions.from_rows([(0, 10, 31), (2, 0, 3)])
    assert regions.tile(8, 0).tolist() == [[0, 10, 18, 10], [0, 18, 26, 18], [0, 23, 31, 26], [2, 0, 3, 0]]
    assert regions.tile(8, 6).tolist() == [
        [0, 10, 18, 10],
        [0, 12, 20, 18],
        [0, 14, 22, 20],
        [0, 16, 24, 22],
        [0, 18, 26, 24],
        [0, 20, 28, 26],
        [0, 22, 30, 28],
        [0, 23, 31, 30],
        [2, 0, 3, 0],
    ]
    assert Regions.from_rows([]).tile(8).shape == (0, 4)
    for wrong in (-1, 8, 9):
        with pytest.raises(ValueError, match=f"context_bp is {wrong}; it must be at least 0 and below window_bp, 8"):
            regions.tile(8, wrong)


@SHARED
@given(ROWS, st.integers(1, 120))
def test_head_takes_the_first_bases_of_every_region_in_equal_shares(rows, max_bp):
    regions = Regions.from_rows(rows)
    found = regions.head(max_bp)
    if regions.num_bases <= max_bp:
        assert list(found) == list(regions)
        return
    share = max_bp / regions.num_bases
    assert len(found) == len(regions)
    for (contig, start, end), (whose, first, last) in zip(regions, found, strict=True):
        assert (whose, first) == (contig, start) and last <= end
        assert abs((last - first) - (end - start) * share) <= 1
    assert max_bp - len(regions) <= found.num_bases <= max_bp + len(regions)


def test_head_by_hand():
    regions = Regions.from_rows([(0, 100, 200), (1, 0, 300)])
    assert list(regions.head(40)) == [(0, 100, 110), (1, 0, 30)]
    assert regions.head(None) is regions


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Five contigs of LENGTHS in two genomes, which share the name `c`."""
    folder = tmp_path_factory.mktemp("windows")
    names = ("a", "b", "c", "c", "d")
    records = [f">{name}\n{'ACGTN' * 8}"[: 3 + length] + "\n" for name, length in zip(names, LENGTHS, strict=True)]
    (folder / "x.fa").write_text("".join(records[:3]))
    (folder / "y.fa").write_text("".join(records[3:]))
    made = prepare_store({"x": [folder / "x.fa"], "y": [folder / "y.fa"]}, folder / "store")
    assert tuple(contig.length for contig in made.contigs) == LENGTHS
    return made


def test_whole_and_of_genome(store):
    assert list(Regions.whole(store)) == [(i, 0, length) for i, length in enumerate(LENGTHS)]
    assert list(Regions.whole(store, "x")) == [(0, 0, 40), (1, 0, 40), (2, 0, 25)]
    assert list(Regions.whole(store, "y")) == [(3, 0, 7), (4, 0, 1)]
    assert len(Regions.whole(store, "z")) == 0


INTERVALS = st.lists(st.tuples(st.integers(0, 39), st.integers(1, 40)).filter(lambda row: row[0] < row[1]), max_size=3)


@SHARED
@given(
    st.floats(0, 0.4),
    st.floats(0, 0.4),
    INTERVALS,
    INTERVALS,
    st.sampled_from([(), ("x/c",), ("d", "y/c")]),
    INTERVALS,
)
def test_a_base_has_one_split_and_none_is_lost(store, valid, test, in_valid, in_test, contigs, excluded):
    open_to_all = Regions.whole(store).subtract(Regions.from_rows((1, *row) for row in excluded))
    rules = (
        SplitRule(fraction=valid, intervals=[Interval("a", *row) for row in in_valid]),
        SplitRule(contigs=contigs, fraction=test, intervals=[Interval("b", *row) for row in in_test]),
    )
    try:
        parts = split_genomes(store, *rules, open_to_all)
    except ValueError as error:
        assert "no base to train on" in str(error)
        reject()
    times = sum(bitmap(part).astype(int) for part in parts.values())
    np.testing.assert_array_equal(times, bitmap(open_to_all).astype(int))
    assert set(parts) == {"train", "valid", "test"} and parts["train"].num_bases
    for part in parts.values():
        assert_canonical(part)
    named = bitmap((0, *row) for row in in_valid) & bitmap(open_to_all)
    assert bitmap(parts["valid"])[named].all()
    asked = [(i, 0, LENGTHS[i]) for i, name in ((2, "x/c"), (3, "y/c"), (4, "d")) if name in contigs]
    named = bitmap([*((1, *row) for row in in_test), *asked]) & bitmap(open_to_all)
    assert bitmap(parts["test"])[named].all()
    again = split_genomes(store, *rules, open_to_all)
    assert all(list(parts[name]) == list(again[name]) for name in parts)


@pytest.mark.parametrize("percent", [15, 19, 35, 75])
def test_a_fraction_is_what_it_says(tmp_path, percent):
    (tmp_path / "x.fa").write_text("".join(f">c{i}\n{'ACGT' * 25}\n" for i in range(10)))
    parts = split_genomes(
        prepare_store({"g": [tmp_path / "x.fa"]}, tmp_path / "store"), SplitRule(), SplitRule(fraction=percent / 100)
    )
    assert parts["test"].num_bases == 10 * percent


@pytest.mark.parametrize("percent", [1, 5, 10, 20, 50])
def test_a_fraction_of_equal_contigs(tmp_path, percent):
    (tmp_path / "x.fa").write_text("".join(f">c{i}\n{'ACGT' * 25}\n" for i in range(10)))
    parts = split_genomes(
        prepare_store({"g": [tmp_path / "x.fa"]}, tmp_path / "store"), SplitRule(), SplitRule(fraction=percent / 100)
    )
    assert parts["test"].num_bases == 10 * percent


def test_test_is_taken_before_valid_from_the_ends_of_the_largest(tmp_path):
    (tmp_path / "x.fa").write_text(">a\n" + "ACGT" * 25 + "\n")
    parts = split_genomes(
        prepare_store({"g": [tmp_path / "x.fa"]}, tmp_path / "store"), SplitRule(fraction=0.1), SplitRule(fraction=0.2)
    )
    assert {name: list(part) for name, part in parts.items()} == {
        "train": [(0, 0, 70)],
        "valid": [(0, 70, 80)],
        "test": [(0, 80, 100)],
    }


def test_available_is_what_is_included_less_what_is_excluded(store, tmp_path):
    (tmp_path / "in.bed").write_text("a\t5\t30\nb\t0\t10\n")
    (tmp_path / "out.gff").write_text("a\tx\trepeat\t11\t20\t.\t+\t.\t.\n")  # [10, 20)
    assert list(available_regions(store)) == list(Regions.whole(store))
    assert list(available_regions(store, tmp_path / "in.bed")) == [(0, 5, 30), (1, 0, 10)]
    assert list(available_regions(store, tmp_path / "in.bed", tmp_path / "out.gff")) == [
        (0, 5, 10),
        (0, 20, 30),
        (1, 0, 10),
    ]
    only = available_regions(store, exclude=tmp_path / "out.gff")
    assert only.num_bases == sum(LENGTHS) - 10 and list(only)[:2] == [(0, 0, 10), (0, 20, 40)]
    parts = split_genomes(
        store, SplitRule(), SplitRule.read(["a"], 0.0, None), available_regions(store, tmp_path / "in.bed")
    )
    assert list(parts["test"]) == [(0, 5, 30)] and list(parts["train"]) == [(1, 0, 10)]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (SplitRule(contigs=("c",)), "contig 'c' is in 2 genomes; write one of x/c, y/c"),
        (SplitRule(contigs=("z",)), "no contig is named 'z'; the genomes have a, b, c, c, d"),
        (SplitRule(intervals=[Interval("d", 0, 2)]), "interval d:0-2 ends beyond its contig of 1 bases"),
        (SplitRule(intervals=[Interval("z", 0, 2)]), "no contig is named 'z'"),
        (SplitRule(fraction=1.0), "leave no base to train on"),
    ],
)
def test_a_wrong_split_says_what_is_wrong(store, rule, message):
    with pytest.raises(ValueError, match=message):
        split_genomes(store, rule, SplitRule())
