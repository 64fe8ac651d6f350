import gzip
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genolm.genome.alphabet import BASE_INDEX, reverse_complement, to_array, to_text
from genolm.metrics import markov
from genolm.metrics.markov import MIXED_ORDERS, fit_mixture

dna = st.text(alphabet="ACGTacgtNR", max_size=40)


def context_length(sequence, i, order):
    """Number of bases right before i, at most order."""
    length = 0
    while length < order and i - length - 1 >= 0 and sequence[i - length - 1] in "ACGT":
        length += 1
    return length


def bits_by_dictionary(train, test, order, alpha, held):
    """The same model, letter by letter from its definition, of orders held; returns one list per test piece."""
    strands = [s.upper() for piece in train for s in (piece, to_text(reverse_complement(to_array(piece))))]
    seen = Counter()
    for strand in strands:
        for i, letter in enumerate(strand):
            if letter in "ACGT":
                for length in range(context_length(strand, i, order) + 1):
                    seen[strand[i - length : i + 1]] += 1
    found = []
    for piece in (piece.upper() for piece in test):
        bits = []
        for i, letter in enumerate(piece):
            if letter not in "ACGT":
                bits.append(math.nan)
                continue
            longest = context_length(piece, i, order)
            context = piece[i - max(length for length in held if length <= longest) : i]
            total = sum(seen[context + base] for base in "ACGT")
            bits.append(-math.log2((seen[context + letter] + alpha) / (total + 4 * alpha)))
        found.append(bits)
    return found


@settings(deadline=None, max_examples=60)
@given(
    train=st.lists(dna, max_size=3),
    test=st.lists(dna, max_size=3),
    orders=st.sets(st.integers(0, 5), min_size=1),
    alpha=st.sampled_from([0.1, 1.0]),
    block_bases=st.sampled_from([1, 3, 7, 1 << 20]),
    dense=st.sampled_from([0, 2, 12]),
)
def test_equals_the_definition_letter_by_letter(train, test, orders, alpha, block_bases, dense):
    held = {*range(min(dense, max(orders)) + 1), *orders}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(markov, "BLOCK_BASES", block_bases)
        patch.setattr(markov, "DENSE_ORDER", dense)
        ladder = markov.fit(map(to_array, train), sorted(orders), alpha=alpha)
        per_base = [ladder.bits(to_array(piece)) for piece in test]
        mean = ladder.bits_per_base(map(to_array, test))
    for order in orders:
        truth = bits_by_dictionary(train, test, order, alpha, held)
        for piece, expected in zip(per_base, truth, strict=True):
            np.testing.assert_allclose(piece[order], expected, rtol=1e-6)
        flat = [bits for piece in truth for bits in piece if not math.isnan(bits)]
        np.testing.assert_allclose(mean[order], np.mean(flat) if flat else math.nan, rtol=1e-6)


def test_counts_by_hand():
    ladder = markov.fit([to_array("AAC")], orders=[1])
    # Forward AAC, reverse GTT: A A C G T T; pairs AA, AC, GT, TT.
    assert ladder.dense[0].tolist() == [2, 1, 1, 2]
    assert {i: n for i, n in enumerate(ladder.dense[1].tolist()) if n} == {0b0000: 1, 0b0001: 1, 0b1011: 1, 0b1111: 1}
    bits = ladder.bits(to_array("AC"))[1]
    np.testing.assert_allclose(bits, [-math.log2(3 / 10), -math.log2(2 / 6)], rtol=1e-6)


def test_nothing_to_learn_costs_two_bits():
    assert markov.fit([], orders=[0, 3]).bits_per_base([to_array("ACGTN")]) == {0: 2.0, 3: 2.0}


@pytest.mark.parametrize("orders", [[], [-1], [17]])
def test_wrong_orders_are_refused(orders):
    with pytest.raises(ValueError, match="from 0 to 16"):
        markov.fit([], orders)


def test_alpha_must_be_positive():
    with pytest.raises(ValueError, match="alpha is 0"):
        markov.fit([], alpha=0)


def test_ecoli_anchor(data_dir):
    """Values measured elsewhere, first 90 % train, last 10 % test; alpha = 1 gives them."""
    with gzip.open(data_dir / "genomes/ecoli_K12_MG1655_NC_000913.3.fna.gz") as lines:
        next(lines)
        genome = to_array(b"".join(line.strip() for line in lines))
    cut = len(genome) * 9 // 10
    found = markov.fit([genome[:cut]], [2, 4, 6, 8, 10]).bits_per_base([genome[cut:]])
    expected = {2: 1.964, 4: 1.944, 6: 1.933, 8: 1.935, 10: 2.003}
    assert found == pytest.approx(expected, abs=0.001)
    listed = markov.fit([genome[:cut]], [12, 16], alpha=1 / 16).bits_per_base([genome[cut:]])
    assert listed[12] == pytest.approx(2.54, abs=0.01)


def random_dna(length, seed):
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


@pytest.fixture(scope="module")
def repeats():
    """Training and held-out sequence, random but for 20 stretches of 300 bp that come again on the other strand."""
    stretches = [random_dna(300, seed) for seed in range(20)]
    parts = []
    for number, stretch in enumerate(stretches):
        parts += [stretch, random_dna(900, 100 + number), to_text(reverse_complement(to_array(stretch)))]
    held_out = random_dna(500, 50) + stretches[3] + random_dna(500, 51)
    return to_array("".join(parts)), to_array(held_out)


@pytest.fixture(scope="module")
def fitted(repeats):
    return fit_mixture([repeats[0]])


def test_probabilities_add_up_and_depend_on_what_stands_before_only(fitted, repeats):
    piece = repeats[1]
    place = 650
    total = 0.0
    for base in "ACGT":
        other = piece.copy()
        other[place] = ord(base)
        other[place + 1 :] = to_array("A" * (len(piece) - place - 1))
        bits = fitted.bits(other)
        np.testing.assert_array_equal(bits[:place], fitted.bits(piece)[:place])
        total += 2.0 ** -bits[place]
    assert total == pytest.approx(1, abs=1e-5)


def test_what_comes_again_is_told_from_what_does_not(fitted, repeats):
    train, piece = repeats
    ladder = markov.fit([train], range(17), alpha=1 / 16)
    inside, outside = slice(532, 800), np.r_[0:500, 832 : len(piece)]
    bits = fitted.bits(piece)
    assert bits[inside].mean() < 0.5
    assert bits[outside].mean() < 2.1
    assert bits.mean() < min(ladder.bits(piece)[order].mean() for order in range(17))


@pytest.mark.parametrize("block_bases", [97, 250])
def test_blocks_change_nothing(fitted, repeats, monkeypatch, block_bases):
    whole = fitted.bits(repeats[1])
    monkeypatch.setattr(markov, "BLOCK_BASES", block_bases)
    np.testing.assert_allclose(fitted.bits(repeats[1]), whole, rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_weights(fitted, repeats):
    again, other = fit_mixture([repeats[0]]), fit_mixture([repeats[0]], seed=1)
    for mine, theirs in zip(fitted.network.parameters(), again.network.parameters(), strict=True):
        assert mine.equal(theirs)
    piece = repeats[1]
    np.testing.assert_array_equal(fitted.bits(piece), again.bits(piece))
    assert (fitted.bits(piece) != other.bits(piece)).any()


def test_letters_that_are_no_bases(fitted):
    piece = to_array("ACGTNNacgtRACGT")
    bits = fitted.bits(piece)
    np.testing.assert_array_equal(np.isnan(bits), BASE_INDEX[piece] > 3)
    assert fitted.bits_per_base([piece, to_array("NN"), to_array("")]) == pytest.approx(np.nanmean(bits), rel=1e-6)
    assert np.isnan(fitted.bits_per_base([to_array("NN")]))


def test_nothing_to_learn_from_costs_two_bits():
    assert fit_mixture([]).bits_per_base([to_array(random_dna(200, 0))]) == pytest.approx(2, abs=1e-5)


def test_a_training_letter_does_not_see_itself():
    """Of every base, the counts after its context minus its own occurrence on the strands it was counted on."""
    sequence = random_dna(60, 0) + "N" + "ACGT" * 6 + random_dna(20, 1) + "AATT" * 5
    ladder = markov.fit([to_array(sequence)], MIXED_ORDERS)
    log_p, features, _ = markov._inputs(ladder, BASE_INDEX[to_array(sequence)], 0, leave_one_out=True)
    strands = [sequence, to_text(reverse_complement(to_array(sequence)))]
    for k, order in enumerate(MIXED_ORDERS):
        seen = Counter(
            s[i : i + order + 1] for s in strands for i in range(len(s) - order) if "N" not in s[i : i + order + 1]
        )
        alpha = 1 if order <= 8 else 1 / 16
        for i in range(len(sequence)):
            context = sequence[max(i - order, 0) : i]
            counts = np.zeros(4)
            if len(context) == order and "N" not in context:
                counts = np.array([float(seen[context + base]) for base in "ACGT"])
                if sequence[i] != "N":
                    kmer = context + sequence[i]
                    counts["ACGT".index(sequence[i])] -= 1 + (kmer == to_text(reverse_complement(to_array(kmer))))
            expected = np.log((counts + alpha) / (counts.sum() + 4 * alpha))
            assert (counts >= 0).all()
            np.testing.assert_allclose(log_p[i, k], expected, atol=1e-5)
            assert features[i, k] == pytest.approx(np.log1p(counts.sum()), abs=1e-5)


@pytest.mark.slow
def test_mixture_ecoli_anchor(data_dir):
    """A mixture of twelve orders measured elsewhere reaches 1.893 on the last tenth, trained on the rest."""
    with gzip.open(data_dir / "genomes/ecoli_K12_MG1655_NC_000913.3.fna.gz") as lines:
        next(lines)
        genome = to_array(b"".join(line.strip() for line in lines))
    cut = len(genome) * 9 // 10
    found = fit_mixture([genome[:cut]]).bits_per_base([genome[cut:]])
    print(f"{found:.4f} bits per base")
    assert 1.87 < found < 1.893 + 0.005
