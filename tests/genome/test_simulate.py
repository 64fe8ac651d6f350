from itertools import product

import numpy as np
import pytest

from genolm.genome import simulate as simulate_module
from genolm.genome.alphabet import BASE_INDEX, to_text
from genolm.genome.interval import read_bed
from genolm.genome.simulate import (
    CODON_BITS,
    Element,
    Generator,
    make_generator,
    simulate,
    write_bed,
    write_fasta,
)
from genolm.genome.store import prepare_store
from genolm.metrics.markov import fit


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


def test_what_may_come_next_sums_to_one_in_a_gene_a_repeat_and_a_motif(genome):
    letters = genome.records[0][1]
    first = {f.name: f.start for f in reversed(genome.features) if f.contig == genome.records[0][0]}
    assert len(first) == 4
    stems = [letters[: start + 7] for start in first.values()]
    last = genome.generator.bits([np.append(stem, np.uint8(x)) for stem in stems for x in b"ACGT"])
    total = 2.0 ** -np.array([bits[-1] for bits in last]).reshape(4, 4)
    np.testing.assert_allclose(total.sum(axis=1), 1, rtol=1e-12)


def test_a_letter_that_a_long_element_cannot_hold_still_has_a_probability():
    emission = np.full((64, 4, 1601), 0.25)
    emission[:, :, 1:] = np.array([1, 0, 0, 0])[:, None]
    generator = Generator(emission, (Element("repeat", "+", 1, 1600, 0.1),))
    # By now the background is less likely than the least double, but T and what follows can come from it alone.
    bits = generator.bits([np.frombuffer(b"C" + b"A" * 1500 + b"TA", dtype=np.uint8)])[0]
    assert np.isfinite(bits).all() and bits[-2] > 900
    assert bits[-1] == pytest.approx(-np.log2(0.9 * 0.25 + 0.1))


def test_letters_without_a_probability_are_refused_and_nothing_has_no_bits():
    generator = tiny_generator()
    with pytest.raises(ValueError, match="'N' at 2"):
        generator.bits([np.frombuffer(b"ACNT", dtype=np.uint8)])
    assert generator.bits([]) == []
    assert [len(bits) for bits in generator.bits([np.zeros(0, dtype=np.uint8)])] == [0]


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
        sequence = to_text(letters[gene.contig][gene.start : gene.end])
        if gene.strand == "-":
            sequence = sequence.translate(complement)[::-1]
        codons = [sequence[i : i + 3] for i in range(0, len(sequence), 3)]
        stops = {"TAA", "TAG", "TGA"}
        assert codons[0] == "ATG" and codons[-1] in stops and not stops & set(codons[1:-1])


def test_the_floor_is_below_every_markov_model_and_above_what_states_give(genome):
    sequences = [letters for _, letters in genome.records]
    markov = fit(sequences[:-1], range(13)).bits_per_base(sequences[-1:])
    assert genome.bits[-1].mean() < min(markov.values()) - 0.05
    assert np.concatenate(genome.bits_given_states).mean() < genome.entropy_bits_per_base < 1.8
    assert (
        genome.entropy_by_class["repeat"]
        < genome.entropy_by_class["CDS"]
        < genome.entropy_by_class["background"]
        < 1.97
    )


@pytest.mark.parametrize("seed", range(3))
def test_codons_cost_their_entropy_once_the_states_are_known(seed):
    genome = simulate(60_000, seed=seed)
    given = dict(zip((name for name, _ in genome.records), genome.bits_given_states, strict=True))
    genes = [f for f in genome.features if f.name == "CDS"]
    bits = np.concatenate([given[gene.contig][gene.start : gene.end] for gene in genes])
    assert bits.mean() == pytest.approx(CODON_BITS / 3, abs=0.05)
    assert CODON_BITS / 3 < genome.entropy_by_class["CDS"] < CODON_BITS / 3 + 0.12


def test_a_seed_is_a_genome():
    one, same, other = (simulate(3_001, num_contigs=2, seed=seed) for seed in (5, 5, 6))
    assert [len(letters) for _, letters in one.records] == [1501, 1500]
    assert all((a == b).all() for (_, a), (_, b) in zip(one.records, same.records, strict=True))
    assert one.features == same.features and (one.bits[0] == same.bits[0]).all()
    assert (one.records[0][1] != other.records[0][1]).any()


@pytest.mark.parametrize("width", [60, 61, 20_000, 30_000])
def test_files_give_the_same_genome_back(genome, tmp_path, monkeypatch, width):
    monkeypatch.setattr(simulate_module, "_LINES_AT_ONCE", 7)
    write_fasta(tmp_path / "g.fa", genome.records, width)
    lines = (tmp_path / "g.fa").read_text().splitlines()
    assert max(map(len, lines)) == min(width, 20_000) and "" not in lines
    write_bed(tmp_path / "g.bed", genome.features)
    store = prepare_store({"sim": [tmp_path / "g.fa"]}, tmp_path / "store")
    for i, (name, letters) in enumerate(genome.records):
        assert store.contigs[i].name == name
        assert (store.fetch(i, 0, len(letters)) == letters).all()
    assert read_bed(tmp_path / "g.bed") == genome.features


def test_too_few_bases_are_refused():
    with pytest.raises(ValueError, match="cannot make 8 contigs"):
        simulate(4)
