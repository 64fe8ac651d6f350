import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genolm.genome.alphabet import reverse_complement, to_array, to_text
from genolm.tokenizers.build import build_tokenizer, load_spec, spec_names
from genolm.tokenizers.encode import make_encoder

LETTERS = "ACGTNRYSWKMBDHVacgtnryswkmbdhv"
rng = np.random.default_rng(5)
GENOME = "".join(rng.choice(list("ACGT"), 60_000, p=[0.3, 0.2, 0.2, 0.3]))
SAMPLE = [GENOME[i : i + 500] for i in range(0, 60_000, 500)]

_made = {}


def make(name):
    if name not in _made:
        spec = load_spec(name)
        tokenizer = build_tokenizer(spec, SAMPLE if spec.kind == "bpe" else None)
        _made[name] = (tokenizer, make_encoder(tokenizer))
    return _made[name]


# Mostly bases, some of everything else: long pieces and short ones, and pieces at both ends.
sequences = st.lists(
    st.one_of(st.text("ACGT", max_size=30), st.text("acgt", max_size=8), st.text(LETTERS, max_size=6)), max_size=6
).map("".join)


@pytest.mark.parametrize("name", [n for n in spec_names() if not n.startswith("bpe1") and n != "bpe4096"])
@settings(max_examples=60, deadline=None)
@given(batch=st.lists(sequences, min_size=1, max_size=4))
def test_equal_to_the_tokenizer_id_for_id(name, batch):
    tokenizer, encoder = make(name)
    lengths = np.array([len(s) for s in batch])
    rows = np.full((len(batch), max(1, lengths.max())), ord("G"), dtype=np.uint8)
    for row, sequence in zip(rows, batch, strict=True):
        row[: len(sequence)] = to_array(sequence)
    expected = [tokenizer(sequence)["input_ids"] for sequence in batch]
    encoded = encoder.encode_batch(rows, lengths)
    width = max(len(row) for row in expected)
    assert encoded.ids.shape == (len(batch), width)
    for row, found in zip(expected, encoded.ids.tolist(), strict=True):
        assert found == row + [encoder.pad_id] * (width - len(row))
    assert encoded.length.tolist() == [len(row) for row in expected]


@pytest.mark.parametrize("name", ["char", "kmer3", "kmer6", "kmer4-overlapping", "bpe512", "nucleotide-transformer-v2"])
@settings(max_examples=40, deadline=None)
@given(sequence=sequences.filter(len))
def test_tokens_spell_the_letters_under_them(name, sequence):
    tokenizer, encoder = make(name)
    encoded = encoder.encode_batch(to_array(sequence)[None])
    tokens = tokenizer.convert_ids_to_tokens(encoded.ids[0].tolist())
    covered = np.zeros(len(sequence), dtype=int)
    for i, token in enumerate(tokens):
        first, end = int(encoded.start[0, i]), int(encoded.end[0, i])
        covered[first:end] += 1
        if token in tokenizer.all_special_tokens and token != tokenizer.unk_token:
            assert first == end
        elif token != tokenizer.unk_token:
            assert token == sequence[first:end].upper()
    k = encoder.k
    if encoder.kind == "kmer-overlapping":
        place = np.arange(len(sequence))
        count = np.minimum(np.minimum(place + 1, len(sequence) - place), k)
        assert len(sequence) < k or (covered == np.minimum(count, len(sequence) - k + 1)).all()
    else:
        assert (covered == 1).all()


@pytest.mark.parametrize("name", ["char", "kmer6", "kmer3-overlapping", "bpe512", "caduceus"])
def test_cutting_to_max_tokens_keeps_the_special_tokens(name):
    _, encoder = make(name)
    rows = np.stack([to_array(GENOME[i : i + 96]) for i in range(0, 960, 96)])
    whole = encoder.encode_batch(rows)
    short = encoder.encode_batch(rows, max_tokens=12)
    keep = 12 - len(encoder.suffix_ids)
    assert short.ids.shape == (10, 12)
    assert (short.ids[:, :keep] == whole.ids[:, :keep]).all()
    assert (short.ids[:, keep:] == encoder.suffix_ids).all()
    assert (short.length == 12).all()
    wide = encoder.encode_batch(rows, max_tokens=128)
    assert (wide.ids[:, : whole.ids.shape[1]] == whole.ids).all()
    assert (wide.ids[:, whole.ids.shape[1] :] == encoder.pad_id).all()


@pytest.mark.parametrize("name", ["char", "kmer6", "kmer3-overlapping", "nucleotide-transformer-v1"])
def test_reverse_complement_twice_is_the_identity_for_every_tokenizers_letters(name):
    _, encoder = make(name)
    row = to_array(LETTERS * 3)
    twice = reverse_complement(reverse_complement(row))
    assert to_text(twice) == LETTERS * 3
    assert (encoder.encode_batch(twice[None]).ids == encoder.encode_batch(row[None]).ids).all()


def test_what_an_encoder_says_of_its_ids():
    _, encoder = make("kmer2")
    assert encoder.vocab_size == 7 + 16 + 5
    assert encoder.num_bases[encoder.nucleotide_ids].tolist() == [2] * 16 + [1] * 4
    assert encoder.num_bases.sum() == 36
    assert np.flatnonzero(encoder.is_special).tolist() == list(range(7))
    _, encoder = make("evo")
    assert encoder.nucleotide_ids.tolist() == [65, 67, 71, 84]
    assert encoder.mask_id is None


@pytest.mark.parametrize("name", ["char", "kmer3", "bpe512"])
def test_an_encoder_goes_to_another_process(name):
    _, encoder = make(name)
    copy = pickle.loads(pickle.dumps(encoder))
    row = to_array(GENOME[:200])[None]
    assert (copy.encode_batch(row).ids == encoder.encode_batch(row).ids).all()
