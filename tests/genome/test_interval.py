import gzip

import pytest

from genolm.genome.interval import Interval, IntervalError, read_bed, read_gff, read_intervals

GFF = """##gff-version 3
chr1\tx\tgene\t11\t20\t.\t-\t.\tID=g1
chr1\tx\tCDS\t11\t11\t.\t+\t0\tID=c1
chr2\tx\tregion\t1\t5\t.\t?\t.\tID=r1
##FASTA
>chr1
ACGT
"""


def test_bed_is_zero_based_and_half_open(tmp_path):
    path = tmp_path / "x.bed"
    path.write_text("track name=x\n# note\nchr1\t0\t5\nchr1 7 9 island\n\nchr2\t3\t4\tg\t0\t-\n")
    assert read_bed(path) == [
        Interval("chr1", 0, 5),
        Interval("chr1", 7, 9, "+", "island"),
        Interval("chr2", 3, 4, "-", "g"),
    ]
    assert len(Interval("chr1", 7, 9)) == 2


def test_gff_counts_from_one_and_includes_its_end(tmp_path):
    (tmp_path / "x.gff3").write_text(GFF)
    (tmp_path / "y.gff.gz").write_bytes(gzip.compress(GFF.encode()))
    expected = [
        Interval("chr1", 10, 20, "-", "gene"),
        Interval("chr1", 10, 11, "+", "CDS"),
        Interval("chr2", 0, 5, ".", "region"),
    ]
    assert read_gff(tmp_path / "x.gff3") == expected == read_intervals(tmp_path / "y.gff.gz")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.bed", "chr1\t0\t5\nchr1\t5\n", r"x\.bed:2: BED needs contig, start and end"),
        ("x.bed", "chr1\t5\t5\n", r"x\.bed:1: chr1:5-5 is no interval"),
        ("x.bed", "chr1\t-1\t5\n", r"x\.bed:1: .*no interval"),
        ("x.bed", "chr1\ta\t5\n", r"x\.bed:1: 'a' and '5' must be whole numbers"),
        ("x.gff", "chr1 x gene 1 2 . + .\n", r"x\.gff:1: GFF has nine columns"),
        ("x.gff", "chr1\tx\tgene\t0\t2\t.\t+\t.\tID=1\n", r"x\.gff:1: .*no interval"),
        ("x.txt", "", "cannot tell what this is"),
        ("x.bed.gz", "not gzip", "BED needs"),
    ],
)
def test_a_bad_line_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(IntervalError, match=message):
        read_intervals(tmp_path / name)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(IntervalError, match="no such file"):
        read_intervals(tmp_path / "none.bed")


def test_real_annotation(data_dir):
    found = read_intervals(data_dir / "genomes" / "ecoli_K12_MG1655_NC_000913.3.gff3.gz")
    thrl = next(interval for interval in found if interval.name == "gene")
    assert (thrl.contig, thrl.start, thrl.end, thrl.strand) == ("NC_000913.3", 189, 255, "+")
    assert max(interval.end for interval in found) == 4_641_652
