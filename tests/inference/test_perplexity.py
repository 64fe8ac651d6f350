"""Bits per base over both strands, held against genomes that are written out the other way round."""

import gzip

import numpy as np
import pytest
import torch

from genolm.data.masking import evaluation_masking
from genolm.genome.alphabet import reverse_complement, to_text
from genolm.genome.regions import Regions
from genolm.genome.store import OtherStrand, Store, prepare_store
from genolm.inference.perplexity import measure_bits
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
