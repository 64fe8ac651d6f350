import time

import numpy as np
import pytest

from genolm.genome.alphabet import reverse_complement, to_array, to_text
from genolm.genome.regions import Regions
from genolm.genome.store import prepare_store
from genolm.tokenizers import bpe
from genolm.tokenizers.build import TokenizerSpec, build_tokenizer, load_spec


def store_of(folder, records):
    (folder / "g.fa").write_text("".join(f">{name}\n{sequence}\n" for name, sequence in records))
    return prepare_store({"g": [folder / "g.fa"]}, folder / "store")


def test_the_sample_is_every_nth_chunk_on_alternating_strands(tmp_path):
    sequence = "".join(np.random.default_rng(0).choice(list("ACGT"), 8 * bpe.CHUNK_BP))
    store = store_of(tmp_path, [("one", sequence)])
    found = list(bpe.train_sample(store, list(Regions.whole(store)), 4 * bpe.CHUNK_BP))
    chunks = [sequence[i : i + bpe.CHUNK_BP] for i in range(0, len(sequence), bpe.CHUNK_BP)]
    assert found[::2] == [chunks[0], chunks[4]]
    assert found[1::2] == [to_text(reverse_complement(to_array(chunks[i]))) for i in (2, 6)]
    everything = list(bpe.train_sample(store, list(Regions.whole(store)), 10**9))
    assert sum(map(len, everything)) == len(sequence)


def test_only_the_training_regions_are_learnt_from(tmp_path):
    store = store_of(tmp_path, [("one", "ACGT" * 300), ("two", "GGCC" * 300)])
    found = "".join(bpe.train_sample(store, list(Regions.from_rows([(0, 0, 1200)])), 10**9))
    assert "GGCC" not in found and len(found) == 1200


def test_other_letters_cut_and_case_folds(tmp_path):
    store = store_of(tmp_path, [("one", "ACGTNNacgtRACGTT")])
    assert list(bpe.train_sample(store, list(Regions.whole(store)), 10**9)) == ["ACGT", "ACGT", "ACGTT"]


def test_merges_are_what_a_hand_count_gives():
    # AC stands 15 times, AC+G 14 times before G+T (11), and then ACG+T 11 times.
    spec = TokenizerSpec(kind="bpe", vocab_size=7 + 5 + 3)
    tokenizer = build_tokenizer(spec, ["ACGTAACC"] + ["ACGT"] * 10 + ["ACG"] * 3)
    assert tokenizer.convert_ids_to_tokens(range(7, 15)) == ["A", "C", "G", "N", "T", "AC", "ACG", "ACGT"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("acgtNACGR")["input_ids"]) == ["ACGT", "N", "ACG", "[UNK]"]


def test_no_token_is_longer_than_asked():
    spec = TokenizerSpec(kind="bpe", vocab_size=64, max_token_bp=5)
    tokenizer = build_tokenizer(spec, ["ACGTTGCA" * 50] * 20)
    # In this repeat merges double: 2, 4, and 8 is too long.
    assert max(len(token) for token in tokenizer.get_vocab() if set(token) <= set("ACGT")) == 4


def test_the_same_sample_gives_the_same_vocabulary(tmp_path):
    sequence = np.random.default_rng(1).choice(list("ACGT"), 200_000)
    chunks = ["".join(sequence[i : i + 512]) for i in range(0, 200_000, 512)]
    spec = load_spec("bpe512")
    one, same = (build_tokenizer(spec, chunks) for _ in range(2))
    assert one.backend_tokenizer.to_str() == same.backend_tokenizer.to_str()
    assert len(one) == 512


@pytest.mark.slow
def test_one_unbroken_contig_of_5_mb_is_learnt_from_and_encoded(tmp_path):
    sequence = "".join(np.random.default_rng(2).choice(list("ACGT"), 5_000_000))
    store = store_of(tmp_path, [("one", sequence)])
    began = time.perf_counter()
    tokenizer = build_tokenizer(load_spec("bpe4096"), bpe.train_sample(store, list(Regions.whole(store))))
    assert time.perf_counter() - began < 100
    assert len(tokenizer) == 4096
    ids = tokenizer(sequence)["input_ids"]
    assert tokenizer.decode(ids) == sequence
    assert 4 < len(sequence) / len(ids) < 8
