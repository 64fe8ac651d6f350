import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from genolm.genome import alphabet
from genolm.genome.alphabet import reverse_complement, to_array, to_text

ANY_CASE = "ACGTNRYSWKMBDHVacgtnryswkmbdhv"


@given(st.text(ANY_CASE))
def test_reverse_complement_twice_is_the_identity(sequence):
    assert to_text(reverse_complement(reverse_complement(to_array(sequence)))) == sequence


def test_reverse_complement_by_hand():
    assert to_text(reverse_complement(to_array("AACgtN"))) == "NacGTT"
    assert to_text(reverse_complement(to_array("RYSWKMBDHVN"))) == "NBDHVKMWSRY"


def test_policy():
    stored = alphabet.POLICY[to_array("ACGTNacgtnRyUuXx-.")]
    assert to_text(stored) == "ACGTNacgtnRyTtNnNN"
    assert (alphabet.POLICY[to_array("*EFILPQZJO@> 1")] == alphabet.REFUSED).all()


def test_base_index_ignores_case():
    np.testing.assert_array_equal(alphabet.BASE_INDEX[to_array("ACGTacgtNR")], [0, 1, 2, 3, 0, 1, 2, 3, 4, 4])
