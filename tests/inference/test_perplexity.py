"""Bits per base over both strands, and scores of windows against sums done letter by letter."""

import gzip
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genolm.data.collate import Masking, evaluation_masking
from genolm.genome.alphabet import reverse_complement, to_text
from genolm.genome.regions import Regions
from genolm.genome.store import OtherStrand, Store, prepare_store
from genolm.inference.perplexity import fit_windows, measure_bits, score_windows
from genolm.models.build import build_model
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.tokenizers.encode import make_encoder

SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
OPTIONS = {"window_bp": 60, "window_tokens": 60, "batch_size": 7}


def write(path, sequences: list[str]):
    with gzip.open(path, "wt") as file:
        file.writelines(f">{i}\n{sequence}\n" for i, sequence in enumerate(sequences))
    return prepare_store({"g": [path]}, path.parent / path.name.split(".")[0])


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> tuple[Store, Store]:
    """A genome of two contigs, and the same one from the other strand."""
    folder = tmp_path_factory.mktemp("strands")
    rng = np.random.default_rng(1)
    contigs = [rng.choice(np.frombuffer(b"ACGTacgtN", np.uint8), size) for size in (501, 340)]
    other = [reverse_complement(contig) for contig in contigs]
    one = write(folder / "one.fa.gz", list(map(to_text, contigs)))
    two = write(folder / "two.fa.gz", list(map(to_text, other)))
    return one, two


def test_the_other_strand_is_the_genome_written_the_other_way_round(stores):
    one, two = stores
    other = OtherStrand.open(one.folder)
    for contig, length in enumerate(one.lengths.tolist()):
        for start, end in ((0, length), (3, 50), (length - 1, length), (7, 7)):
            assert np.array_equal(other.fetch(contig, start, end), two.fetch(contig, start, end))
    regions = Regions.from_rows([(0, 10, 200), (1, 0, 340)])
    there = regions.on_other_strand(one)
    assert list(there) == [(0, 301, 491), (1, 0, 340)]
    assert list(there.on_other_strand(one)) == list(regions)


@pytest.mark.parametrize("objective", ["causal", "masked"])
@pytest.mark.parametrize("name", ["char", "kmer3", "kmer3-overlapping", "bpe"])
def test_both_strands_are_the_mean_of_the_genome_and_its_reverse_complement(stores, name, objective):
    one, two = stores
    spec = load_spec("bpe512" if name == "bpe" else name)
    sample = [to_text(one.fetch(0, 0, 501)).upper()] if name == "bpe" else None
    encoder = make_encoder(tokenizer := build_tokenizer(spec, sample))
    torch.manual_seed(0)
    architecture = {"architecture": "llama" if objective == "causal" else "modernbert", **SIZE}
    model = build_model(architecture, tokenizer, objective, 60)
    options = OPTIONS | {"masking": evaluation_masking(encoder, 0.3) if objective == "masked" else None}
    key = "bits_per_base" if objective == "causal" else "masked_bits_per_base"
    held_out = Regions.from_rows([(0, 40, 420), (1, 0, 340)])
    there = held_out.on_other_strand(one)
    alone = [measure_bits(model, encoder, *where, **options) for where in ((one, held_out), (two, there))]
    both = measure_bits(model, encoder, one, held_out, both_strands=True, **options)
    nats = [row[key] * row["num_bases"] for row in alone]
    bases = [row["num_bases"] for row in alone]
    assert both[key] == pytest.approx(sum(nats) / sum(bases), abs=1e-6)
    assert both["num_bases"] == pytest.approx(sum(bases) / 2)
    assert both[key] != pytest.approx(alone[0][key], abs=1e-6)  # an untrained model does not say the same of both
    # Every class holds the same bases, whichever strand they are read from.
    for region, row in both["classes"].items():
        counts = [table["classes"][region]["num_bases"] for table in alone]
        assert row["num_bases"] == pytest.approx(sum(counts) / 2)


# --- windows, with models whose answer is known

rng = np.random.default_rng(0)
SEQUENCE = "".join(rng.choice(list("ACGT"), 150)) + "acgtNNacgt" + "".join(rng.choice(list("ACGT"), 90))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nats")
    (folder / "g.fa").write_text(f">one\n{SEQUENCE}\n>two\n{SEQUENCE[:70]}\n")
    return prepare_store({"g": [folder / "g.fa"]}, folder / "store")


class Bigram(torch.nn.Module):
    """Predicts from the token at hand alone: causal logits at t depend on ids[t]."""

    def __init__(self, vocab_size):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Parameter(torch.randn(vocab_size, vocab_size).log_softmax(-1))

    def forward(self, input_ids, attention_mask=None):
        return SimpleNamespace(logits=self.table[input_ids])


def encoder_of(name):
    return make_encoder(build_tokenizer(load_spec(name), ["ACGTTGCAAC" * 30]))


def gathered(parts):
    return {
        name: np.concatenate([getattr(p, name) for _, p in parts]) for name in ("nats", "bases", "contig", "position")
    }


def test_a_causal_score_is_the_sum_over_bases_whatever_the_windows(store):
    encoder = encoder_of("char")
    model = Bigram(encoder.vocab_size)
    ids = encoder.encode_batch(np.frombuffer(SEQUENCE.encode(), dtype=np.uint8)[None]).ids[0]
    expected = {}
    for t in range(1, len(SEQUENCE)):
        if SEQUENCE[t] in "ACGTacgt":
            expected[0, t] = -float(model.table[ids[t - 1], ids[t]].detach())
            if t < 70:
                expected[1, t] = expected[0, t]
    for window, context in ((64, 0), (64, 32), (300, 0), (17, 5)):
        windows = Regions.whole(store).tile(window, context)
        found = gathered(list(score_windows(model, encoder, store, windows, batch_size=3)))
        # Without context the first letter of each window has nothing before it, and is not scored.
        unscored = {(c, s) for c, s, _, scored in windows.tolist() if s == scored}
        keys = list(zip(found["contig"].tolist(), found["position"].tolist(), strict=True))
        assert len(keys) == len(set(keys))
        assert set(keys) == {key for key in expected if key not in unscored}
        np.testing.assert_allclose(found["nats"], [expected[key] for key in keys], rtol=1e-5)
        assert (found["bases"] == 1).all()


@pytest.mark.parametrize("name", ["kmer3", "bpe512"])
def test_bases_of_longer_tokens_sum_to_the_bases(store, name):
    encoder = encoder_of(name)
    windows = Regions.from_rows([(1, 0, 70)]).tile(32, 15)
    found = gathered(list(score_windows(Bigram(encoder.vocab_size), encoder, store, windows)))
    first = encoder.num_bases[
        encoder.encode_batch(np.frombuffer(SEQUENCE[:32].encode(), dtype=np.uint8)[None]).ids[0, 0]
    ]
    assert found["bases"].sum() == pytest.approx(70 - first)


def test_a_token_that_reaches_into_the_context_counts_for_its_share(store):
    encoder = encoder_of("kmer3")
    model = Bigram(encoder.vocab_size)
    model.table.data[:] = 0  # every token costs ln V
    windows = Regions.from_rows([(1, 0, 70)]).tile(30, 10)  # windows begin at 0, 20, 40: their 3-mers lie across bounds
    found = gathered(list(score_windows(model, encoder, store, windows)))
    np.testing.assert_allclose(found["nats"] / found["bases"], np.log(encoder.vocab_size) / 3, rtol=1e-5)
    assert (found["bases"] < 1).any() or (found["bases"] == 2).any()


@pytest.mark.parametrize("name", ["kmer3", "bpe512", "char"])
@pytest.mark.parametrize("context", [0, 20])
def test_windows_are_cut_until_their_tokens_fit(store, name, context):
    encoder = encoder_of(name)
    windows = Regions.whole(store).tile(60, context)
    fitting = fit_windows(encoder, store, windows, 14)
    for contig, start, end, scored in fitting.tolist():
        assert start <= scored < end
        row = store.fetch(contig, start, end)[None]
        assert encoder.encode_batch(row).ids.shape[1] <= 14
    parts = [(c, scored, e) for c, _, e, scored in fitting.tolist()]
    assert parts == sorted(parts)
    assert list(Regions.from_rows(parts)) == list(Regions.whole(store))
    assert sum(e - s for _, s, e in parts) == Regions.whole(store).num_bases
    same = fit_windows(encoder, store, windows, 60)
    assert (same == windows).all()


def test_overlapping_kmers_add_one_base_each(store):
    encoder = encoder_of("kmer3-overlapping")
    windows = Regions.from_rows([(1, 0, 70)]).tile(70, 0)
    found = gathered(list(score_windows(Bigram(encoder.vocab_size), encoder, store, windows)))
    assert found["bases"].sum() == 68  # 68 k-mers: the first is scored too, [CLS] stands before it


def test_soft_masked_bases_can_be_left_out(store):
    encoder = encoder_of("char")
    windows = Regions.from_rows([(0, 0, len(SEQUENCE))]).tile(250, 0)
    model = Bigram(encoder.vocab_size)
    every, upper = (
        gathered(list(score_windows(model, encoder, store, windows, soft_masked_weight=w)))["position"] for w in (1, 0)
    )
    assert set(every) - set(upper) == {150, 151, 152, 153, 156, 157, 158, 159}


def test_a_masked_score_counts_masked_bases_only(store):
    encoder = encoder_of("char")
    masking = Masking(encoder, rate=0.3)
    model = Bigram(encoder.vocab_size)
    windows = Regions.from_rows([(0, 0, 150)]).tile(50, 0)
    found = gathered(list(score_windows(model, encoder, store, windows, masking=masking, seed=4)))
    ids = encoder.encode_batch(np.frombuffer(SEQUENCE[:150].encode(), dtype=np.uint8).reshape(3, 50)).ids
    shown, places = masking(4, np.arange(3), ids)
    expected = -model.table.detach().numpy()[shown.ravel()[places], ids.ravel()[places]]
    np.testing.assert_allclose(found["nats"], expected, rtol=1e-5)
    assert found["position"].tolist() == places.tolist()


def test_the_model_is_left_as_it_was(store):
    encoder = encoder_of("char")
    model = Bigram(encoder.vocab_size).train()
    list(score_windows(model, encoder, store, Regions.whole(store).tile(64, 0)))
    assert model.training
