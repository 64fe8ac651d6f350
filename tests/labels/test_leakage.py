import json
import time

import numpy as np
import pytest

from genolm.genome.alphabet import reverse_complement, to_array, to_text
from genolm.genome.interval import Interval
from genolm.labels.dataset import Labelled, Task, read_labels
from genolm.labels.leakage import MIN_SHARED, THRESHOLD, candidate_pairs, choose_k, codes, find_leakage, kmer_sets

PAIR = ("train", "test")


def rc(sequence: str) -> str:
    return to_text(reverse_complement(to_array(sequence)))


def drawn(n, length, seed=0) -> list[str]:
    return [row.tobytes().decode() for row in np.frombuffer(b"ACGT", np.uint8)[
        np.random.default_rng(seed).integers(4, size=(n, length))]]  # fmt: skip


def mutated(sequence: str, num: int, rng) -> str:
    """Change this many letters, each to another."""
    found = list(sequence)
    for at in rng.choice(len(found), num, replace=False):
        found[at] = rng.choice([base for base in "ACGT" if base != found[at]])
    return "".join(found)


def made(train, test, valid=(), labels=None, intervals=None) -> Labelled:
    sequences = [*train, *valid, *test]
    split = ["train"] * len(train) + ["valid"] * len(valid) + ["test"] * len(test)
    return Labelled(
        Task("binary", ("0", "1")),
        np.array([f"{name}-{i}" for i, name in enumerate(split)]),
        sequences,
        np.zeros(len(sequences), dtype=np.int64) if labels is None else np.array(labels),
        np.array(split),
        np.array([f"a.csv:{i + 2}" for i in range(len(sequences))]),
        intervals,
    )


def exact_kmers(sequence: str, k: int) -> set[str]:
    windows = (sequence[i : i + k] for i in range(len(sequence) - k + 1))
    return {min(window, rc(window)) for window in windows if set(window) <= set("ACGT")}


def test_kmers_are_those_of_a_plain_loop():
    sequences = ["ACGTTGCANACGTACGATCGA", "AC", "TTTTTTTT", *drawn(5, 60)]
    for k in (4, 11, 13, 16):
        found = kmer_sets(sequences, k)
        assert [len(one) for one in found] == [len(exact_kmers(sequence, k)) for sequence in sequences]
        for a in range(len(sequences)):
            for b in range(len(sequences)):
                shared = len(exact_kmers(sequences[a], k) & exact_kmers(rc(sequences[b]), k))
                assert len(np.intersect1d(found[a], found[b])) == shared
    assert codes(["ACG", "TT"], 2)[0].tolist() == [1, 6, 0] and codes(["ACG", "TT"], 2)[1].tolist() == [0, 0, 1]


def test_copies_and_reverse_complements_by_hand():
    a, b, c, d = drawn(4, 50)
    leakage = find_leakage(made([a, b, c, a], [rc(b), d, a, a, rc(a)], labels=[0, 0, 0, 0, 1, 0, 0, 1, 0]))
    found = leakage.shared[PAIR]
    assert found["identical"].first.tolist() == [0, 3] and found["identical"].second.tolist() == [6, 7]
    assert found["identical"].partner.tolist() == [0, 0]
    assert found["reverse_complement"].first.tolist() == [0, 1, 3]
    assert found["reverse_complement"].second.tolist() == [4, 8]
    assert found["reverse_complement"].partner.tolist() == [1, 0]
    assert not len(found["near_duplicate"].second) and "overlapping" not in found
    assert leakage.contradicting[PAIR].tolist() == [4, 7] and leakage.num_contradicting == 7
    assert leakage.rows(*PAIR).tolist() == [4, 6, 7, 8] and leakage.rows_to_drop().tolist() == [0, 1, 3]
    assert leakage.describe() == [
        "leakage: 4 of 5 test rows are like train rows (copies 2, reverse complements 2, with another label there 2)",
        "labels: 7 of 9 rows contradict a copy",
    ]
    report = json.loads(json.dumps(leakage.to_dict()))
    assert report["train/test"]["identical"] == {
        "test": 2, "train": 2, "examples": [["train-0", "test-6"], ["train-0", "test-7"]]
    }  # fmt: skip
    assert report["train/test"]["of"] == 5 and report["train/test"]["any"] == 4
    assert report["k"] == 11 and report["threshold"] == THRESHOLD


def test_a_sequence_that_is_its_own_reverse_complement_is_a_copy_only():
    half = drawn(1, 25)[0]
    found = find_leakage(made([half + rc(half)], [half + rc(half)])).shared[PAIR]
    assert len(found["identical"].second) == 1 and len(found["reverse_complement"].second) == 0


def test_overlaps_are_those_of_a_bitmap():
    rng = np.random.default_rng(0)
    for _ in range(30):
        rows = [
            Interval(f"c{rng.integers(3)}", start, start + int(rng.integers(1, 12)), str(rng.choice(["+", "-"])))
            for start in rng.integers(60, size=20).tolist()
        ]
        labelled = made(drawn(10, 5, 1), drawn(6, 5, 2), drawn(4, 5, 3), intervals=rows)
        leakage = find_leakage(labelled)
        for (first, second), kinds in leakage.shared.items():
            a, b = np.flatnonzero(labelled.split == first), np.flatnonzero(labelled.split == second)
            over = np.array([[rows[i].contig == rows[j].contig and rows[i].start < rows[j].end
                              and rows[j].start < rows[i].end for j in b] for i in a])  # fmt: skip
            found = kinds["overlapping"]
            assert found.first.tolist() == a[over.any(axis=1)].tolist()
            assert found.second.tolist() == b[over.any(axis=0)].tolist()
            for i, j in zip(found.partner, found.second, strict=True):
                assert over[np.searchsorted(a, i), np.searchsorted(b, j)]


@pytest.mark.parametrize(("length", "changes"), [(41, 2), (70, 3), (101, 5), (200, 10), (300, 15), (1000, 50)])
def test_mutated_copies_are_all_found_and_none_invented(length, changes):
    rng = np.random.default_rng(length)
    train, others = drawn(1500, length, 1), drawn(400, length, 2)
    sources = rng.choice(1500, 100, replace=False)
    copies = [mutated(train[i], changes, rng) for i in sources]
    copies = [rc(copy) if i % 2 else copy for i, copy in enumerate(copies)]
    leakage = find_leakage(made(train, copies + others))
    found = leakage.shared[PAIR]
    assert found["near_duplicate"].second.tolist() == list(range(1500, 1600))
    assert found["near_duplicate"].partner.tolist() == sources.tolist()
    assert found["near_duplicate"].first.tolist() == sorted(sources.tolist())
    assert not len(found["identical"].second) and not len(found["reverse_complement"].second)


def test_two_changes_where_they_do_most_harm():
    one = drawn(1, 41)[0]
    worst = one[:13] + rc(one[13]) + one[14:27] + rc(one[27]) + one[28:]
    assert len(find_leakage(made([one], [worst])).rows(*PAIR)) == 1


def test_windows_that_overlap_are_near_duplicates():
    contig = drawn(1, 4000)[0]
    starts = np.arange(0, 3700, 100)
    windows = [contig[i : i + 300] for i in starts]
    leakage = find_leakage(made(windows[0::3], windows[1::3]))
    assert len(leakage.rows(*PAIR)) == len(windows[1::3])
    # A short row that lies in a long one is like it.
    assert len(find_leakage(made([contig], [contig[500:570]])).rows(*PAIR)) == 1


def test_pairs_are_those_of_a_comparison_of_all_with_all():
    """Families of relatives at every distance: what is above the threshold is found, and nothing else."""
    rng = np.random.default_rng(5)
    rows = [mutated(root, int(rng.integers(1, 40)), rng) for root in drawn(12, 150) for _ in range(20)]
    order = rng.permutation(len(rows))
    train, test = [rows[i] for i in order[:160]], [rows[i] for i in order[160:]]
    near = find_leakage(made(train, test)).shared[PAIR]["near_duplicate"]
    sets = [exact_kmers(sequence, 11) for sequence in train + test]
    like = np.zeros((160, 80), dtype=bool)
    for i in range(160):
        for j in range(80):
            shared = len(sets[i] & sets[160 + j])
            smaller = min(len(sets[i]), len(sets[160 + j]))
            like[i, j] = shared >= MIN_SHARED and shared / smaller >= THRESHOLD
    assert near.first.tolist() == np.flatnonzero(like.any(axis=1)).tolist()
    assert near.second.tolist() == (160 + np.flatnonzero(like.any(axis=0))).tolist()
    assert 20 < len(near.second) < 80


def test_repeats_do_not_look_alike_and_cost_little():
    """Rows that share only a poly-A or a (CA)n are no near-duplicates; a seed in all of them is no square of them."""
    rng = np.random.default_rng(0)
    rows = [
        head + "A" * 30 + "CA" * 15 + tail for head, tail in zip(drawn(6000, 60, 1), drawn(6000, 60, 2), strict=True)
    ]
    copies = [mutated(rows[i], 5, rng) for i in range(0, 6000, 200)]
    began = time.perf_counter()
    leakage = find_leakage(made(rows, copies + ["CA" * 60, "A" * 150]))
    assert time.perf_counter() - began < 30
    assert len(leakage.rows(*PAIR)) == len(copies)
    assert set(leakage.shared[PAIR]["near_duplicate"].first.tolist()) == set(range(0, 6000, 200))


def test_a_family_larger_than_a_bucket_is_found_whole():
    rng = np.random.default_rng(0)
    root = drawn(1, 200)[0]
    family = [mutated(root, 4, rng) for _ in range(900)]
    leakage = find_leakage(made(family[:600] + drawn(50, 200, 3), family[600:]))
    assert leakage.shared[PAIR]["near_duplicate"].first.tolist() == list(range(600))
    assert len(leakage.rows(*PAIR)) == 300


def test_after_dropping_nothing_is_left_and_test_is_whole():
    rng = np.random.default_rng(3)
    pool = drawn(200, 80)
    train = pool[:150] + [mutated(pool[i], 3, rng) for i in range(150, 170)] + pool[190:]
    valid = pool[150:180] + [rc(sequence) for sequence in pool[180:190]]
    labelled = made(train, pool[170:], valid)
    leakage = find_leakage(labelled)
    dropped = leakage.rows_to_drop()
    assert leakage and set(labelled.split[dropped].tolist()) == {"train", "valid"}
    kept = labelled.select(np.setdiff1d(np.arange(len(labelled)), dropped))
    after = find_leakage(kept)
    assert not after and (kept.split == "test").sum() == 30
    assert after.describe() == ["leakage: none between train and valid, train and test, valid and test"]


def test_rows_of_one_split_and_rows_without_are_left_out():
    a, b = drawn(2, 50)
    labelled = made([a, a, b], [b])
    leakage = find_leakage(labelled, np.array(["train", "train", "", "test"]))
    assert not leakage and leakage.sizes == {"train": 2, "valid": 0, "test": 1}
    alone = find_leakage(labelled, np.full(4, "train"))
    assert not alone and alone.describe() == ["leakage: one split only, nothing to find"]


def test_labels_that_are_not_known_contradict_none():
    a, b = drawn(2, 50)
    labelled = made([a, b], [rc(a), b])
    labels = np.array([[0, np.nan], [1, 0], [0, 1], [1, 1]])
    labelled = Labelled(
        Task("multilabel", ("x", "y")), labelled.ids, labelled.sequences, labels, labelled.split, labelled.ids
    )
    assert find_leakage(labelled).contradicting[PAIR].tolist() == [3]
    continuous = Labelled(Task("regression", ("x", "y")), *list(vars(labelled).values())[1:])
    assert find_leakage(continuous).num_contradicting == 0


def test_very_short_rows_and_unknown_letters():
    leakage = find_leakage(made(["A", "N" * 40, "ACGTA"], ["T", "N" * 40, "NNN"]))
    assert leakage.shared[PAIR]["identical"].second.tolist() == [4]
    assert leakage.shared[PAIR]["reverse_complement"].second.tolist() == [3]
    assert not len(leakage.shared[PAIR]["near_duplicate"].second)
    assert candidate_pairs(["A", "C"], np.array([0, 1])).shape == (0, 2)


def test_k_grows_with_the_sequences():
    assert [choose_k(n) for n in (0, 10_000, 11_000, 160_000, 200_000)] == [11, 11, 13, 13, 15]


@pytest.mark.parametrize(
    ("train", "test", "copies", "rows"),
    [
        ("ienhancer2L_train", "ienhancer2L_test", 100, 400),
        ("6mA_A.thaliana_train", "6mA_A.thaliana_test", 144, 3_924),
        ("6mA_Rosaceae_train_removeN", "6mA_Rosaceae_test", 36, 14_598),
    ],
)
def test_published_test_sets_that_repeat_training_rows(data_dir, train, test, copies, rows):
    folder = data_dir / "labels"
    files = {"train": folder / f"{train}.csv.gz", "test": folder / f"{test}.csv.gz"}
    labelled = read_labels(files, columns={"id": None})
    leakage = find_leakage(labelled)
    identical = leakage.shared[PAIR]["identical"]
    assert len(identical.second) == copies and leakage.sizes["test"] == rows
    for a, b in zip(identical.partner, identical.second, strict=True):
        assert labelled.sequences[a] == labelled.sequences[b] and labelled.split[a] == "train"
