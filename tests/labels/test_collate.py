"""Batches of labelled rows: counted by hand, or held to what the whole row gives."""

import numpy as np
import pytest
import torch

from genolm.labels.collate import LabelCollator, RowEncoder, class_weights, for_rows
from genolm.labels.dataset import Labelled, Task
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.tokenizers.encode import make_encoder

NAMES = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "per-base": ("out", "in")}


def encoder(name="char"):
    return make_encoder(build_tokenizer(load_spec(name)))


def labelled(kind, sequences, labels, names=None):
    if kind in ("per-base", "tracks"):
        held = np.empty(len(labels), dtype=object)
        held[:] = [np.array(x) for x in labels]
        labels = held
    text = np.array([f"r{i}" for i in range(len(sequences))])
    return Labelled(Task(kind, names or NAMES[kind]), text, list(sequences), np.asarray(labels), text, text)


def some(num=10, kind="binary", **options):
    rng = np.random.default_rng(0)
    rows = labelled(kind, ["".join(rng.choice(list("ACGT"), 12)) for _ in range(num)], np.arange(num) % 2)
    return LabelCollator(rows, RowEncoder(encoder()), **options)


def test_a_sample_depends_on_seed_and_number_alone():
    collator = some(reverse_complement=0.5, seed=3)
    samples = np.arange(40)
    row, flip = collator.drawn(samples)
    for size in (1, 3, 40):
        parts = [collator.drawn(samples[i : i + size]) for i in range(0, 40, size)]
        np.testing.assert_array_equal(np.concatenate([p[0] for p in parts]), row)
        np.testing.assert_array_equal(np.concatenate([p[1] for p in parts]), flip)
    assert 5 < flip.sum() < 35
    assert (some(seed=4).drawn(samples)[0] != row).any()
    one, all_of = collator([7]), collator(list(range(10)))
    torch.testing.assert_close(one["input_ids"][0], all_of["input_ids"][7])


def test_every_row_comes_once_an_epoch_in_an_order_of_its_own():
    row, _ = some(num=11).drawn(np.arange(44))
    epochs = row.reshape(4, 11)
    assert all(sorted(epoch) == list(range(11)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_balanced_sampling_is_balanced_and_reaches_every_row():
    labels = np.array([0] * 90 + [1] * 9 + [2])
    rows = labelled("multiclass", ["ACGT"] * 100, labels)
    row, _ = LabelCollator(rows, RowEncoder(encoder()), balanced=True).drawn(np.arange(9000))
    counts = np.bincount(labels[row])
    assert (np.abs(counts - 3000) < 4 * np.sqrt(9000 * 2 / 9)).all()
    assert len(set(row.tolist())) == 100
    present = labelled("multiclass", ["ACGT"] * 10, np.array([0] * 9 + [2]))  # of class 1 there is none
    row, _ = LabelCollator(present, RowEncoder(encoder()), balanced=True).drawn(np.arange(100))
    assert 30 < (row == 9).sum() < 70


def test_class_weights_by_hand():
    np.testing.assert_allclose(class_weights(labelled("binary", ["A"] * 8, [0] * 6 + [1] * 2)), [8 / 12, 8 / 4])
    np.testing.assert_allclose(class_weights(labelled("multiclass", ["A"] * 4, [0, 0, 1, 2])), [4 / 6, 4 / 3, 4 / 3])
    found = class_weights(labelled("multilabel", ["A"] * 5, [[1, 0], [0, 0], [0, np.nan], [0, 1], [1, 0]], ("x", "y")))
    np.testing.assert_allclose(found, [[5 / 6, 4 / 6], [5 / 4, 4 / 2]])
    bases = labelled("per-base", ["ACGT", "AC"], [[0, 0, 1, -100], [0, 0]])
    np.testing.assert_allclose(class_weights(bases), [5 / 8, 5 / 2])


def test_weights_of_a_batch():
    rows = labelled("multilabel", ["ACGT"] * 3, [[1.0, 0.0], [np.nan, 1.0], [0.0, np.nan]], ("x", "y"))
    collator = LabelCollator(rows, RowEncoder(encoder()), weights=np.array([[2.0, 3.0], [4.0, 5.0]]), in_order=True)
    batch = collator([0, 1, 2])
    assert batch["loss_weight"].tolist() == [[4, 3], [0, 5], [2, 0]]
    assert batch["labels"].isfinite().all()


def test_numbers_are_centred_and_what_is_not_known_weighs_nothing():
    rows = labelled("regression", ["ACGT"] * 2, [[3.0, np.nan], [5.0, 10.0]], ("x", "y"))
    options = {"centre": np.array([1.0, 10.0]), "scale": np.array([2.0, 5.0]), "in_order": True}
    batch = LabelCollator(rows, RowEncoder(encoder()), **options)([0, 1])
    assert batch["labels"].tolist() == [[1, 0], [2, 0]] and batch["loss_weight"].tolist() == [[1, 0], [1, 1]]


def test_the_other_strand_turns_letters_and_the_labels_of_bases_round():
    rows = labelled("per-base", ["AACGT", "GGA"], [[0, 1, 1, 0, -100], [1, 0, 0]])
    collator = LabelCollator(rows, RowEncoder(encoder(), per_base=True), reverse_complement=1.0)
    order, flip = collator.drawn(np.arange(2))
    assert flip.all()
    batch = collator([0, 1])
    at = dict(zip(order.tolist(), range(2), strict=True))
    assert batch["labels"][at[0]].tolist() == [-100, 0, 1, 1, 0]
    assert batch["labels"][at[1]].tolist() == [0, 0, 1, -100, -100]
    assert batch["loss_weight"].tolist()[at[1]] == [1, 1, 1, 0, 0]
    plain = RowEncoder(encoder())(["ACGTT", "TCC"])
    np.testing.assert_array_equal(batch["input_ids"][at[0], :5], plain["input_ids"][0, :5])
    np.testing.assert_array_equal(batch["input_ids"][at[1], :3], plain["input_ids"][1, :3])
    tracks = labelled("tracks", ["AC"], [[[1.0, 2.0], [3.0, np.nan]]], ("x", "y"))
    batch = LabelCollator(tracks, RowEncoder(encoder(), per_base=True), reverse_complement=1.0)([0])
    assert batch["labels"].tolist() == [[[3, 0], [1, 2]]] and batch["loss_weight"].tolist() == [[[1, 0], [1, 1]]]
    still = for_rows(collator, rows)
    assert still([0])["labels"][0].tolist() == [0, 1, 1, 0, -100]


@pytest.mark.parametrize("name", ["char", "kmer3", "kmer3-overlapping", "kmer6"])
@pytest.mark.parametrize("special", [True, False])
def test_pieces_hold_every_token_of_the_row_once(name, special):
    made = encoder(name)
    ends = len(made.prefix_ids) + len(made.suffix_ids) if special else 0
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGTN"), n)) for n in (97, 8, 55, 130)]
    whole = RowEncoder(made, special_tokens=special)(sequences)
    cut = RowEncoder(made, 16 + ends, cut=True, special_tokens=special)(sequences)
    shares, mask = cut["pieces"], cut["attention_mask"].astype(bool)
    assert cut["input_ids"].shape[1] <= 16 + ends
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)
    assert ((shares > 0).sum(0) == 1).all()  # a piece is of one row
    first, last = (len(made.prefix_ids), len(made.suffix_ids)) if special else (0, 0)
    for row in range(len(sequences)):
        pieces = [cut["input_ids"][p][mask[p]] for p in np.flatnonzero(shares[row])]
        sizes = [len(piece) - ends for piece in pieces]
        assert max(sizes) - min(sizes) <= 1
        inner = np.concatenate([piece[first : len(piece) - last] for piece in pieces])
        expected = whole["input_ids"][row][whole["attention_mask"][row].astype(bool)]
        np.testing.assert_array_equal(inner, expected[first : len(expected) - last])
        np.testing.assert_allclose(shares[row][shares[row] > 0], np.array(sizes) / sum(sizes), rtol=1e-6)


def test_a_longer_row_is_refused_where_it_may_not_be_cut():
    with pytest.raises(ValueError, match="20 bp has 20 tokens; the model takes 10"):
        RowEncoder(encoder(), 10, special_tokens=False)(["A" * 20])


def tokens_of(name, sequence, width=None):
    rows = RowEncoder(encoder(name), per_base=True, special_tokens=False)
    return rows([sequence] if width is None else [sequence, "A" * width])["token_of_base"][0].tolist()


def test_which_token_speaks_for_a_base_by_hand():
    assert tokens_of("char", "ACGTA") == [0, 1, 2, 3, 4]
    assert tokens_of("char", "ACG", width=5) == [0, 1, 2, 2, 2]  # past the end: never counted
    assert tokens_of("kmer3", "ACGTACGT")[:6] == [0, 0, 0, 1, 1, 1]  # then what the tokenizer does with two letters
    # Overlapping 3-mers: ACG CGT GTA; a base is the middle of the token one before it, but for the ends.
    assert tokens_of("kmer3-overlapping", "ACGTA") == [0, 0, 1, 2, 2]
    assert tokens_of("kmer6-overlapping", "ACGTACGT") == [0, 0, 0, 0, 1, 2, 2, 2]
    made = encoder("char")
    shifted = RowEncoder(made, per_base=True)(["ACG"])
    assert shifted["token_of_base"][0].tolist() == [len(made.prefix_ids) + i for i in range(3)]


def test_which_token_of_bpe_speaks_for_a_base(tmp_path):
    from genolm.tokenizers.build import build_tokenizer

    spec = load_spec("bpe512")
    rng = np.random.default_rng(0)
    rows = ["".join(rng.choice(list("ACGT"), 500)) for _ in range(20)]
    made = make_encoder(build_tokenizer(spec, rows))
    sequence = rows[0][:60]
    encoded = made.encode_batch(np.frombuffer(sequence.encode(), np.uint8)[None], special_tokens=False)
    found = RowEncoder(made, per_base=True, special_tokens=False)([sequence])["token_of_base"][0]
    for base, token in enumerate(found):
        assert encoded.start[0, token] <= base < encoded.end[0, token]
    assert len(set(found.tolist())) < 40


def test_padding_of_rows_of_one_and_of_many_lengths():
    rows = RowEncoder(encoder(), special_tokens=False)
    assert rows(["ACGTA"] * 2)["input_ids"].shape == (2, 5)
    found = rows(["ACGTA", "A"])
    assert found["input_ids"].shape == (2, 32)
    assert found["attention_mask"].sum(1).tolist() == [5, 1]
    assert (found["input_ids"][1, 1:] == encoder().pad_id).all()
    upper, lower = rows(["ACGTN"])["input_ids"], rows(["acgtn"])["input_ids"]
    np.testing.assert_array_equal(upper, lower)


def test_a_row_without_a_token_is_refused():
    encoder = RowEncoder(make_encoder(build_tokenizer(load_spec("kmer6-overlapping"))))
    for rows in (["ACG"], ["ACG", "ACGTACGT"]):
        with pytest.raises(ValueError, match="a sequence of 3 bp has no token: the tokenizer's are 6 bp long"):
            encoder(rows)
