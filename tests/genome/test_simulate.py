from itertools import product

import numpy as np
import pytest

from genolm.evaluation.markov import fit
from genolm.genome.alphabet import BASE_INDEX, text
from genolm.genome.interval import read_bed
from genolm.genome.simulate import Element, Generator, make_generator, simulate, write_bed, write_fasta
from genolm.genome.store import prepare


@pytest.fixture(scope="module")
def genome():
    return simulate(160_000, seed=1)


def tiny_generator():
    rng = np.random.default_rng(0)
    emission = rng.dirichlet(np.ones(4), size=(64, 12)).transpose(0, 2, 1)
    gene = Element("CDS", "+", 1, 9, 0.2, 0.6)
    motif = Element("motif", "+", 10, 2, 0.1)
    return Generator(emission, (gene, motif))


def paths(generator, length):
    """Every path of states with its probability, by the rules as the module's text gives them."""
    gene, motif = generator.elements

    def after(state):
        if state == 0:
            return [(0, 1 - gene.enter - motif.enter), (gene.first, gene.enter), (motif.first, motif.enter)]
        if state == gene.first + 5:
            return [(gene.first + 3, gene.again), (state + 1, 1 - gene.again)]
        if state in (gene.first + gene.length - 1, motif.first + motif.length - 1):
            return [(0, 1.0)]
        return [(state + 1, 1.0)]

    found = [((0,), 1.0)]
    for _ in range(length - 1):
        found = [((*path, to), p * q) for path, p in found for to, q in after(path[-1])]
    return found


def probability(generator, letters):
    """p(letters), summed over every path."""
    codes = [0, 0, 0, *BASE_INDEX[letters].tolist()]
    total = 0.0
    for path, p in paths(generator, len(letters)):
        for t, state in enumerate(path):
            a, b, c, x = codes[t : t + 4]
            p *= generator.emission[a * 16 + b * 4 + c, x, state]
        total += p
    return total


def test_bits_are_the_sum_over_all_paths():
    generator = tiny_generator()
    letters = np.frombuffer(b"ACGTTGcaACGGT", dtype=np.uint8)
    bits = generator.bits([letters, letters[:3]])
    expected = [
        -np.log2(probability(generator, letters[: t + 1]) / probability(generator, letters[:t])) for t in range(1, 13)
    ]
    np.testing.assert_allclose(bits[0][1:], expected, rtol=1e-9)
    np.testing.assert_allclose(bits[1], bits[0][:3], rtol=1e-12)


def test_what_may_come_next_sums_to_one():
    generator = tiny_generator()
    stem = b"GATTACAG"
    last = [generator.bits([np.frombuffer(stem + bytes([x]), dtype=np.uint8)])[0][-1] for x in b"ACGT"]
    assert sum(2.0**-b for b in last) == pytest.approx(1, rel=1e-12)


def test_the_background_is_its_own_reverse_complement():
    chain = make_generator(np.random.default_rng(2)).emission[:, :, 0]
    frequency = np.full(64, 1 / 64)
    for _ in range(2000):
        frequency = (frequency[:, None] * chain).reshape(4, 64).sum(axis=0)
    fourmers = (frequency[:, None] * chain).ravel()
    for kmer in product(range(4), repeat=4):
        forward = sum(x * 4 ** (3 - i) for i, x in enumerate(kmer))
        backward = sum((3 - x) * 4**i for i, x in enumerate(kmer))
        assert fourmers[forward] == pytest.approx(fourmers[backward], rel=1e-9)


def test_features_cover_every_base_once_and_repeats_are_lower_case(genome):
    for name, letters in genome.records:
        here = [f for f in genome.features if f.contig == name]
        assert [f.start for f in here] == [0, *(f.end for f in here[:-1])]
        assert here[-1].end == len(letters)
        for feature in here:
            lower = letters[feature.start : feature.end] >= ord("a")
            assert lower.all() if feature.name == "repeat" else not lower.any()


def test_genes_are_genes(genome):
    letters = dict(genome.records)
    genes = [f for f in genome.features if f.name == "CDS" and f.end < len(letters[f.contig])]
    complement = str.maketrans("ACGT", "TGCA")
    assert {g.strand for g in genes} == {"+", "-"}
    for gene in genes:
        sequence = text(letters[gene.contig][gene.start : gene.end])
        if gene.strand == "-":
            sequence = sequence.translate(complement)[::-1]
        codons = [sequence[i : i + 3] for i in range(0, len(sequence), 3)]
        stops = {"TAA", "TAG", "TGA"}
        assert codons[0] == "ATG" and codons[-1] in stops and not stops & set(codons[1:-1])


def test_the_floor_is_below_every_markov_model_and_above_what_states_give(genome):
    sequences = [letters for _, letters in genome.records]
    markov = fit(sequences[:-1], list(range(9))).bits_per_base(sequences[-1:])
    assert genome.bits[-1].mean() < min(markov.values()) - 0.05
    assert np.concatenate(genome.bits_given_states).mean() < genome.entropy_bits_per_base < 1.8
    assert genome.entropy_by_class["repeat"] < genome.entropy_by_class["CDS"] < genome.entropy_by_class["background"]


def test_a_seed_is_a_genome():
    one, same, other = (simulate(3_001, num_contigs=2, seed=seed) for seed in (5, 5, 6))
    assert [len(letters) for _, letters in one.records] == [1501, 1500]
    assert all((a == b).all() for (_, a), (_, b) in zip(one.records, same.records, strict=True))
    assert (one.records[0][1] != other.records[0][1]).any()


def test_files_give_the_same_genome_back(genome, tmp_path):
    write_fasta(tmp_path / "g.fa", genome.records, width=61)
    write_bed(tmp_path / "g.bed", genome.features)
    store = prepare({"sim": [tmp_path / "g.fa"]}, tmp_path / "store")
    for i, (name, letters) in enumerate(genome.records):
        assert store.contigs[i].name == name
        assert (store.fetch(i, 0, len(letters)) == letters).all()
    assert read_bed(tmp_path / "g.bed") == genome.features


def test_too_few_bases_are_refused():
    with pytest.raises(ValueError, match="cannot make 8 contigs"):
        simulate(4)
