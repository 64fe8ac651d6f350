import gzip
from collections import Counter

import pytest

from genolm.genome.alphabet import reverse_complement, to_text
from genolm.genome.interval import Interval, IntervalError, read_bed, read_gff, read_intervals
from genolm.genome.store import prepare

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
        ("x.gff", "##gff-version 3\n\n#note\nchr1\tx\tgene\t9\t8\t.\t+\t.\n", r"x\.gff:4: chr1:8-8 is no interval"),
        ("x.gtf", "chr1\tx\tgene\t1\t2.5\t.\t+\t.\tID=1\n", r"x\.gtf:1: '1' and '2.5' must be whole numbers"),
        ("x.bed", "chr1\t0\t5\tn\t0\tx\n", r"x\.bed:1: strand 'x' of chr1:0-5; allowed: \+ - \."),
        ("x.txt", "", "cannot tell what this is; the name must end in .bed, .gff, .gff3 or .gtf"),
        ("bed", "", "cannot tell what this is"),
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


@pytest.mark.parametrize("name", ["x.bed", "X.BED", "x.bed.gz", "x.bed.bgz"])
def test_the_suffix_tells_the_format_and_the_content_the_packing(tmp_path, name):
    (tmp_path / "plain.bed").write_text("chr1\t0\t5\r\nchr2\t2\t4\r\n")
    plain = (tmp_path / "plain.bed").read_bytes()
    for i, content in enumerate((plain, gzip.compress(plain))):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / name).write_bytes(content)
        assert read_intervals(tmp_path / str(i) / name) == [Interval("chr1", 0, 5), Interval("chr2", 2, 4)]


def test_a_bed_of_nothing_but_comments_is_empty(tmp_path):
    (tmp_path / "x.bed").write_text('# a\nbrowser position chr1:1-9\ntrack name="x"\n\n   \n')
    assert read_bed(tmp_path / "x.bed") == []


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", gzip.compress(b"chr1\t0\t5\n" * 999, mtime=0)[:-12]])
def test_what_cannot_be_decoded_names_the_file(tmp_path, content):
    (tmp_path / "x.bed").write_bytes(content)
    with pytest.raises(IntervalError, match=r"x\.bed: could not be read"):
        read_intervals(tmp_path / "x.bed")


def test_damaged_gzip_names_the_file(tmp_path):
    packed = bytearray(gzip.compress(b"chr1\t0\t5\n" * 999))
    packed[10] = 0x07  # the first block after gzip's ten bytes claims to be of the reserved kind
    (tmp_path / "x.bed.gz").write_bytes(packed)
    with pytest.raises(IntervalError, match=r"x\.bed\.gz: could not be read"):
        read_intervals(tmp_path / "x.bed.gz")


def test_a_contig_may_be_called_like_a_track_line(tmp_path):
    (tmp_path / "x.bed").write_text("tracks_1\t0\t5\nbrowser7\t2\t4\n")
    assert read_bed(tmp_path / "x.bed") == [Interval("tracks_1", 0, 5), Interval("browser7", 2, 4)]


def test_yeast_genes_begin_with_a_start_codon_and_end_with_a_stop(data_dir, tmp_path):
    """One base off, or the wrong strand, and none of them would."""
    found = read_intervals(data_dir / "genomes" / "yeast_S288C_R64-2-1.gff3.gz")
    assert len(found) == 23_058  # lines that are no comments, before ##FASTA
    assert Counter(interval.strand for interval in found) == {"+": 11_578, "-": 11_111, ".": 369}
    assert found[0] == Interval("chrI", 0, 230_218, ".", "chromosome")
    # YAL069W: chrI 335 649 +; YAL068C: chrI 1807 2169 -
    assert Interval("chrI", 334, 649, "+", "CDS") in found and Interval("chrI", 1806, 2169, "-", "CDS") in found
    store = prepare({"yeast": [data_dir / "genomes/yeast_S288C_R64-2-1.fa.gz"]}, tmp_path / "yeast")
    index = {contig.name: i for i, contig in enumerate(store.contigs)}
    genes = {interval for interval in found if interval.name == "gene" and interval.contig == "chrI"}
    whole = [x for x in found if x.name == "CDS" and Interval(x.contig, x.start, x.end, x.strand, "gene") in genes]
    assert len(whole) > 100 and {x.strand for x in whole} == {"+", "-"}
    for cds in whole:
        letters = store.fetch(index[cds.contig], cds.start, cds.end)
        coding = to_text(letters if cds.strand == "+" else reverse_complement(letters)).upper()
        assert len(coding) % 3 == 0 and coding[:3] == "ATG" and coding[-3:] in ("TAA", "TAG", "TGA"), cds
