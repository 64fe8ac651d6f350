import gzip
from collections import Counter

import pytest

from genolm.genome.alphabet import reverse_complement, to_text
from genolm.genome.interval import CONTIG_END, Interval, bed_rows, parse_region, read_bed, read_gff, read_intervals
from genolm.genome.store import prepare_store

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
        ("x.txt", "", "unknown format; the name must end in .bed, .gff, .gff3 or .gtf"),
        ("bed", "", "unknown format"),
        ("x.bed.gz", "not gzip", "BED needs"),
    ],
)
def test_a_bad_line_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_intervals(tmp_path / name)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00", "this is UTF-16 text"),
        (b">chr1\nACGT\n", "this is FASTA; a BED or GFF file is needed"),
        (b"chr1\t0\t5\nchr\xe9\t0\t5\n", "not UTF-8 after line"),
        (b"chr1\t0\t5\n\0\0\0", "2: zero bytes; the file is damaged"),
        (gzip.compress(b"chr1\t0\t5\n" * 999, mtime=0)[:-12], "broken or truncated"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path, content, message):
    (tmp_path / "x.bed").write_bytes(content)
    with pytest.raises(ValueError, match=rf"x\.bed:.*{message}"):
        read_intervals(tmp_path / "x.bed")


def test_damaged_gzip_names_the_file(tmp_path):
    packed = bytearray(gzip.compress(b"chr1\t0\t5\n" * 999))
    packed[10] = 0x07  # the first block after gzip's ten bytes claims to be of the reserved kind
    (tmp_path / "x.bed.gz").write_bytes(packed)
    with pytest.raises(ValueError, match=r"x\.bed\.gz: broken or truncated gzip"):
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
    store = prepare_store({"yeast": [data_dir / "genomes/yeast_S288C_R64-2-1.fa.gz"]}, tmp_path / "yeast")
    index = {contig.name: i for i, contig in enumerate(store.contigs)}
    genes = {interval for interval in found if interval.name == "gene" and interval.contig == "chrI"}
    whole = [x for x in found if x.name == "CDS" and Interval(x.contig, x.start, x.end, x.strand, "gene") in genes]
    assert len(whole) > 100 and {x.strand for x in whole} == {"+", "-"}
    for cds in whole:
        letters = store.fetch(index[cds.contig], cds.start, cds.end)
        coding = to_text(letters if cds.strand == "+" else reverse_complement(letters)).upper()
        assert len(coding) % 3 == 0 and coding[:3] == "ATG" and coding[-3:] in ("TAA", "TAG", "TGA"), cds


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("chr1:1-3", Interval("chr1", 0, 3)),
        ("chr1:41,196,312-41,196,431", Interval("chr1", 41_196_311, 41_196_431)),
        ("chr1:5", Interval("chr1", 4, 5)),
        ("chr1:5-", Interval("chr1", 4, CONTIG_END)),
        ("chr1", Interval("chr1", 0, CONTIG_END)),
        ("HLA:A*01:5-9", Interval("HLA:A*01", 4, 9)),
        ("HLA:01", Interval("HLA:01", 0, CONTIG_END)),
    ],
)
def test_a_typed_region_is_one_based_and_closed(region, expected):
    assert parse_region(region, ["HLA:01"]) == expected
    assert parse_region(expected.region, ["HLA:01"]) == expected


@pytest.mark.parametrize("region", ["chr1:", "chr1:0-3", "chr1:5-4", "chr1:a-b", "chr1:-5", "chr1:,-", ":1-2"])
def test_a_region_that_is_none_is_refused(region):
    with pytest.raises(ValueError, match="region '"):
        parse_region(region)


def test_bed_rows_keep_line_numbers_and_all_columns(tmp_path):
    (tmp_path / "x.bed").write_text("# note\nchr1\t0\t5\tn\t7\t.\textra\n\nchr1 7 9\n")
    assert list(bed_rows(tmp_path / "x.bed")) == [
        (2, ["chr1", "0", "5", "n", "7", ".", "extra"]),
        (4, ["chr1", "7", "9"]),
    ]


def test_a_comment_in_a_bed_loses_no_rows(tmp_path):
    """`##FASTA` ends the features of a GFF; in a BED it is a comment like any other."""
    (tmp_path / "x.bed").write_text("c\t0\t5\n##FASTA\nc\t7\t9\n")
    assert [(row.start, row.end) for row in read_bed(tmp_path / "x.bed")] == [(0, 5), (7, 9)]
    (tmp_path / "x.gff").write_text("c\t.\tgene\t1\t5\t.\t+\t.\t.\n##FASTA\n>c\nACGTACGT\n")
    assert [(row.start, row.end) for row in read_gff(tmp_path / "x.gff")] == [(0, 5)]
