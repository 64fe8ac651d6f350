import gzip
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genolm.genome.alphabet import reverse_complement, to_array, to_text
from genolm.metrics import markov

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
