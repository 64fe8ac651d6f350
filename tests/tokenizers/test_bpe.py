import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from genolm.genome.alphabet import BASE_INDEX, reverse_complement, to_array, to_text
from genolm.genome.regions import Regions
from genolm.genome.store import prepare_store
from genolm.tokenizers import bpe
from genolm.tokenizers.bpe import learn_merges
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


def by_definition(sequence, num_merges, max_token_bp):
    """The same merges, with every pair counted anew before each: slow, and as the docstring says it."""
    words = [list(word) for word in "".join(c if c in "ACGT" else " " for c in sequence).split()]
    tokens, merges = list("ACGT"), []
    while len(merges) < num_merges:
        counts = Counter(pair for word in words for pair in zip(word, word[1:], strict=False))
        pairs = [pair for pair in counts if len(pair[0] + pair[1]) <= max_token_bp]
        if not pairs:
            break
        most = max(counts[pair] for pair in pairs)
        left, right = min(
            ((tokens.index(a), tokens.index(b)) for a, b in pairs if counts[a, b] == most), key=place_among_equals
        )
        best = tokens[left], tokens[right]
        tokens.append(best[0] + best[1])
        merges.append((left, right))
        for number, word in enumerate(words):
            merged = []
            for token in word:
                if merged and (merged[-1], token) == best and not isinstance(merged[-1], Made):
                    merged[-1] = Made(best[0] + best[1])
                else:
                    merged.append(token)
            words[number] = [str(token) for token in merged]
    return merges


def place_among_equals(pair):
    left, right = pair
    younger = max(pair)
    if younger < 4:
        return 0, left, right
    return (younger, 1, right) if left == younger else (younger, 0, left)


class Made(str):
    """A token of the merge under way, which the same merge takes no part of."""


@settings(deadline=None, max_examples=150)
@given(
    sequence=st.text(alphabet="ACGTN", max_size=120) | st.text(alphabet="AC", max_size=120) | st.text("A", max_size=60),
    num_merges=st.integers(0, 30),
    max_token_bp=st.integers(1, 16),
)
def test_equal_to_the_definition(sequence, num_merges, max_token_bp):
    found = learn_merges(BASE_INDEX[to_array(sequence)], num_merges, max_token_bp)
    assert found == by_definition(sequence, num_merges, max_token_bp)


def test_many_merges_of_a_long_sequence_equal_the_definition():
    """Long enough for bounds to be out of date many times over."""
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("ACGT"), length)) for length in (3, 5, 9, 14)]
    sequence = "".join(words[i] for i in random.integers(0, 4, 150)) + "".join(random.choice(list("ACGTN"), 1500))
    assert learn_merges(BASE_INDEX[to_array(sequence)], 120, 12) == by_definition(sequence, 120, 12)


def test_no_two_merges_make_one_token():
    codes = np.random.default_rng(1).choice(5, 200_000, p=[0.4, 0.2, 0.2, 0.19, 0.01]).astype(np.uint8)
    tokens = list("ACGT")
    for left, right in learn_merges(codes, 2000, 16):
        tokens.append(tokens[left] + tokens[right])
    assert len(set(tokens)) == len(tokens) == 2004


def test_more_tokens_than_sixteen_bits_hold(monkeypatch):
    """The wider array gives the same merges."""
    codes = np.random.default_rng(2).integers(0, 4, 3000).astype(np.uint8)
    found = learn_merges(codes, 1 << 16, 8)
    assert found[:500] == learn_merges(codes, 500, 8)


def test_as_the_library_learns_them(data_dir):
    """tokenizers' trainer breaks ties another way; vocabularies are nearly the same, bases a token quite."""
    import gzip

    with gzip.open(data_dir / "genomes/ecoli_K12_MG1655_NC_000913.3.fna.gz", "rt") as lines:
        next(lines)
        genome = "".join(line.strip() for line in lines)[:1_000_000]
    chunks = [genome[i : i + 512] for i in range(0, len(genome), 512)]
    ours = bpe.train(chunks, ["[UNK]"], "ACGT", 1024, 16)
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.Split(Regex("[ACGT]+"), "isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=["[UNK]"],
        initial_alphabet=list("ACGT"),
        max_token_length=16,
        show_progress=False,
    )
    theirs.train_from_iterator(chunks, trainer)
    assert len(set(ours.get_vocab()) & set(theirs.get_vocab())) > 0.97 * 1024
    mine, other = (bpe.bases_per_token(backend, chunks) for backend in (ours, theirs))
    assert mine == pytest.approx(other, rel=1e-3)
