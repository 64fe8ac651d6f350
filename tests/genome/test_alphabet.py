import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from genolm.genome import alphabet
from genolm.genome.alphabet import letters, reverse_complement, text

ANY_CASE = "ACGTNRYSWKMBDHVacgtnryswkmbdhv"


@given(st.text(ANY_CASE))
def test_reverse_complement_twice_is_the_identity(sequence):
    assert text(reverse_complement(reverse_complement(letters(sequence)))) == sequence


def test_reverse_complement_by_hand():
    assert text(reverse_complement(letters("AACgtN"))) == "NacGTT"
    assert text(reverse_complement(letters("RYSWKMBDHVN"))) == "NBDHVKMWSRY"


def test_policy():
    stored = alphabet.POLICY[letters("ACGTNacgtnRyUuXx-.")]
    assert text(stored) == "ACGTNacgtnRyTtNnNN"
    assert (alphabet.POLICY[letters("*EFILPQZJO@> 1")] == alphabet.REFUSED).all()


def test_base_index_ignores_case():
    np.testing.assert_array_equal(alphabet.BASE_INDEX[letters("ACGTacgtNR")], [0, 1, 2, 3, 0, 1, 2, 3, 4, 4])
