from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from genolm.genome.alphabet import BASE_INDEX, to_array
from genolm.tokenizers import bpe
from genolm.tokenizers.merges import learn_merges


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
