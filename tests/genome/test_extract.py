import pytest

from genolm.genome.extract import extract_intervals
from genolm.genome.interval import Interval


def test_letters_are_those_of_a_slice_from_whichever_file(tmp_path):
    contigs = {"a": "ACGTNacgtn" * 30, "b": "GATTACA", "c": "T"}
    (tmp_path / "1.fa").write_text(f">b x\n{contigs['b']}\n>unused\nAAAA\n>c\n{contigs['c']}\n")
    (tmp_path / "2.fa").write_text(f">a\n{contigs['a'][:70]}\n{contigs['a'][70:]}\n>b\nCCCCCCC\n")
    rows = [("a", 0, 300), ("b", 2, 5), ("c", 0, 1), ("a", 65, 75), ("b", 0, 7), ("a", 66, 67)]
    found = extract_intervals([tmp_path / "1.fa", tmp_path / "2.fa"], [Interval(*row) for row in rows], str)
    assert found == [contigs[contig][start:end] for contig, start, end in rows]
    assert extract_intervals([tmp_path / "1.fa"], [Interval("b", 0, 4, "-")], str) == ["AATC"]


def test_what_is_not_there_is_named(tmp_path):
    (tmp_path / "1.fa").write_text(">chr1\nACGT\n")
    with pytest.raises(ValueError, match="row 0: no contig '1' in .*1.fa, which has chr1; there it is named 'chr1'"):
        extract_intervals([tmp_path / "1.fa"], [Interval("1", 0, 2)], lambda row: f"row {row}")
    with pytest.raises(ValueError, match=r"row 1: chr1:3-5 \(0-based, half-open\) ends beyond chr1, which has 4 bp"):
        extract_intervals(
            [tmp_path / "1.fa"], [Interval("chr1", 0, 4), Interval("chr1", 3, 5)], lambda row: f"row {row}"
        )
    with pytest.raises(ValueError, match="no such file"):
        extract_intervals([tmp_path / "2.fa"], [Interval("chr1", 0, 4)], str)
