import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genolm.genome.alphabet import reverse_complement, to_array, to_text
from genolm.genome.interval import Interval
from genolm.labels.dataset import Labelled, Task
from genolm.labels.split import sequence_groups, split_rows, take_fraction

SHARED = settings(max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


def rc(sequence: str) -> str:
    return to_text(reverse_complement(to_array(sequence)))


def made(sequences, labels=None, split="", contigs=None) -> Labelled:
    n = len(sequences)
    labels = np.arange(n) % 2 if labels is None else np.asarray(labels)
    kind = "binary" if labels.dtype == np.int64 and labels.max(initial=0) < 2 else "multiclass"
    names = tuple(str(i) for i in range(2 if kind == "binary" else int(labels.max()) + 1))
    task = Task("regression", ("y",)) if labels.ndim == 2 else Task(kind, names)
    return Labelled(
        task,
        np.array([f"row-{i + 1}" for i in range(n)]),
        list(sequences),
        labels,
        np.array(split if isinstance(split, list) else [split] * n, dtype="<U5"),
        np.array([f"a.csv:{i + 2}" for i in range(n)]),
        None if contigs is None else [Interval(contig, i, i + 5) for i, contig in enumerate(contigs)],
    )


def drawn(n, length=30, seed=0) -> list[str]:
    return ["".join(row) for row in np.random.default_rng(seed).choice(list("ACGT"), (n, length))]


def counts(names) -> dict[str, int]:
    return {name: int((names == name).sum()) for name in ("train", "valid", "test")}


def test_groups_are_of_both_strands():
    assert sequence_groups(["ACG", "CGT", "ACC", "ACG", "GGT", "ACGT"]).tolist() == [0, 0, 1, 0, 1, 2]


@SHARED
@given(st.data(), st.sampled_from(["random", "fold", "column"]), st.integers(0, 3))
def test_copies_of_either_strand_stay_together(data, by, seed):
    unique = drawn(40, 12)
    rows = data.draw(st.lists(st.tuples(st.integers(0, 39), st.booleans()), min_size=20, max_size=50))
    rows += [(i, False) for i in range(3)]
    sequences = [rc(unique[i]) if flipped else unique[i] for i, flipped in rows]
    labelled = made(sequences, np.ones((len(rows), 1)))
    names, _ = split_rows(labelled, by=by, valid=0.2, test=0.2, seed=seed, folds=3)
    groups = sequence_groups(labelled.sequences)
    for group in np.unique(groups):
        assert len(set(names[groups == group].tolist())) == 1
    assert set(names.tolist()) <= {"train", "valid", "test"}


def test_random_is_stratified_seeded_and_of_the_size_asked():
    labels = np.array([0] * 900 + [1] * 80 + [2] * 20)
    labelled = made(drawn(1000), labels)
    names, notes = split_rows(labelled, by="random", valid=0.1, test=0.2)
    assert counts(names) == {"train": 700, "valid": 100, "test": 200}
    assert [counts(names[labels == label])["test"] for label in range(3)] == [180, 16, 4]
    assert [counts(names[labels == label])["valid"] for label in range(3)] == [90, 8, 2]
    assert notes[0] == "split: 200 rows of train drawn as test (20%, stratified by class, seed 0; copies stay together)"
    assert (split_rows(labelled, by="random", valid=0.1, test=0.2)[0] == names).all()
    other = split_rows(labelled, by="random", valid=0.1, test=0.2, seed=1)[0]
    assert 0.1 < (other[names == "test"] == "test").mean() < 0.3
    plain = split_rows(labelled, by="random", valid=0.1, test=0.2, stratified=False)[0]
    assert counts(plain) == counts(names) and (plain != names).any()
    targets = made(drawn(1000), np.random.default_rng(0).random((1000, 1)))
    assert counts(split_rows(targets, by="random")[0]) == {"train": 800, "valid": 100, "test": 100}


def test_every_row_is_test_in_one_fold():
    labels = np.array([0] * 60 + [1] * 46)
    labelled = made(drawn(106), labels)
    times = np.zeros(106, dtype=int)
    for fold in range(5):
        names, notes = split_rows(labelled, by="fold", folds=5, fold=fold, valid=0.1)
        times += names == "test"
        assert 21 <= (names == "test").sum() <= 22 and 8 <= (names == "valid").sum() <= 9
        assert (labels[names == "test"] == 0).sum() == 12
        assert notes[0].startswith(f"split: fold {fold} of 5 is test")
    assert (times == 1).all()


def test_a_column_is_kept_and_what_is_missing_is_drawn_from_train():
    split = ["train"] * 80 + ["test"] * 20
    names, notes = split_rows(made(drawn(100), split=split), valid=0.1, test=0.5)
    assert (names[80:] == "test").all() and counts(names) == {"train": 72, "valid": 8, "test": 20}
    assert len(notes) == 1 and "8 rows of train drawn as valid" in notes[0]
    whole = ["train"] * 80 + ["valid"] * 10 + ["test"] * 10
    names, notes = split_rows(made(drawn(100), split=whole))
    assert names.tolist() == whole and notes == ()
    names, notes = split_rows(made(drawn(100)), valid=0.1, test=0)
    assert counts(names) == {"train": 90, "valid": 10, "test": 0}


def test_whole_contigs():
    contigs = ["c1"] * 50 + ["c2"] * 25 + ["c3"] * 12 + ["c4"] * 8 + ["c5"] * 5
    labelled = made(drawn(100), contigs=contigs)
    names, notes = split_rows(labelled, by="contig", valid=0.1, test=0.2)
    assert {c: set(names[np.array(contigs) == c].tolist()) for c in set(contigs)} == {
        "c1": {"train"}, "c2": {"train"}, "c3": {"test"}, "c4": {"test"}, "c5": {"valid"}
    }  # fmt: skip
    assert notes == ("split: test is c3, c4, 20 rows of 100", "split: valid is c5, 5 rows of 100")
    names, _ = split_rows(labelled, by="contig", valid_contigs=["c1"], test_contigs=["c5"])
    assert counts(names) == {"train": 45, "valid": 50, "test": 5}
    # None is small enough: the smallest.
    assert counts(split_rows(labelled, by="contig", valid=0, test=0.01)[0]) == {"train": 95, "valid": 0, "test": 5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "chromosome"}, "split.by is 'chromosome'; allowed are column, contig, fold and random"),
        ({"valid": 0.5, "test": 0.5}, "both are below 1"),
        ({"by": "fold", "fold": 5}, "fold 5 of 5: folds are 2 or more, and are counted from 0 to 4"),
        ({"by": "contig", "test_contigs": ["c9"]}, "split.test_contigs: no row lies on 'c9'; rows lie on c1, c2"),
        ({"by": "contig", "test_contigs": ["c1"], "valid_contigs": ["c1"]}, "contig 'c1' is both in"),
        ({"by": "contig", "test_contigs": ["c1"], "valid_contigs": ["c2"]}, "no row is left to train on"),
    ],
)
def test_a_wrong_split_is_one_clear_error(options, message):
    labelled = made(drawn(10), contigs=["c1", "c2"] * 5)
    with pytest.raises(ValueError, match=message):
        split_rows(labelled, **options)


def test_what_a_table_lacks_is_said():
    with pytest.raises(ValueError, match="the table names no intervals"):
        split_rows(made(drawn(10)), by="contig")
    with pytest.raises(ValueError, match="no row is left to train on: 0 rows are valid and 10 rows test"):
        split_rows(made(drawn(10), split="test"))
    with pytest.raises(ValueError, match="all train rows have the same class"):
        split_rows(made(drawn(10), [0] * 5 + [1] * 5, split=["train"] * 5 + ["test"] * 5), valid=0)


def test_a_fraction_lies_within_a_larger_one():
    labels = np.array([0] * 800 + [1] * 195 + [2] * 5)
    labelled = made(drawn(1000), labels)
    split, _ = split_rows(labelled, by="random")
    before = np.zeros(1000, dtype=bool)
    for fraction in (0.01, 0.03, 0.1, 0.3, 0.7, 1.0):
        kept = take_fraction(labelled, split, fraction, seed=3)
        assert kept[split != "train"].all() and (kept | ~before).all()
        for label in range(3):
            of_class = (split == "train") & (labels == label)
            assert (kept & of_class).sum() == max(round(fraction * of_class.sum()), 1)
        before = kept
    assert before.all()
    half = [take_fraction(labelled, split, 0.5, seed) for seed in (1, 1, 2)]
    assert (half[0] == half[1]).all() and (half[0] != half[2]).any()
    with pytest.raises(ValueError, match="data_fraction is 0; it must be above 0 and at most 1"):
        take_fraction(labelled, split, 0)
