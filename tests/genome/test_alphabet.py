import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genolm.genome import alphabet
from genolm.genome.alphabet import clean_sequences, reverse_complement, to_array, to_text
from genolm.genome.fasta import read_fasta

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


def test_clean_sequences_are_upper_case_and_replacements_are_counted():
    sequences, notes = clean_sequences(["acgtN", "RyU", "A-c.x"], str)
    assert sequences == ["ACGTN", "NNT", "ANCNN"]
    assert notes == (
        "IUPAC codes read as N: 2 bases",
        "U read as T: 1 base",
        "X and gaps read as N: 3 bases",
    )


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        ("AC GT", "row 1: ' ' at position 3 .*are these k-mers"),
        ("MKV*", "row 1: '\\*' at position 4 .*looks like protein"),
        ("12", "row 1: '1' at position 1 .*is this the right column"),
        ("AC\nGT", "row 1: '\\\\n' at position 3 of the sequence is no nucleotide"),
        ("ACé", "row 1: 'é' at position 3"),
    ],
)
def test_other_characters_are_refused(sequence, message):
    with pytest.raises(ValueError, match=message):
        clean_sequences(["ACGT", sequence, "AC"], lambda row: f"row {row}")


@given(st.text("".join(map(chr, range(33, 127))), min_size=1))
def test_a_table_and_a_fasta_accept_the_same_sequences(tmp_path_factory, sequence):
    """What one policy keeps as a base, keeps as N or refuses, the other does too."""
    path = tmp_path_factory.mktemp("policy") / "x.fa"
    path.write_text(f">x\nA{sequence}\n")
    try:
        stored = "".join(to_text(block.letters) for block in read_fasta(path))
    except ValueError:
        with pytest.raises(ValueError):
            clean_sequences([sequence], str)
        return
    (cleaned,), _ = clean_sequences([f"A{sequence}"], str)
    assert cleaned == "".join(base if base in "ACGT" else "N" for base in stored.upper())
