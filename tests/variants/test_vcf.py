import gzip
import os
import random
import shutil
import subprocess
import tracemalloc
from collections import Counter
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pysam
import pytest
from nasty import COLUMNS, HEADER, REFERENCE, nasty_lines, nasty_vcf

from genolm.genome.store import prepare_store
from genolm.variants.alleles import STATUSES, Contigs, resolve_allele
from genolm.variants.vcf import Records
from genolm.variants.write_vcf import as_words, check_suffix, write_records


@pytest.fixture
def store(tmp_path):
    (tmp_path / "genome.fa").write_text(f">1\n{REFERENCE}\n")
    return prepare_store({"g": [tmp_path / "genome.fa"]}, tmp_path / "store")


def statuses(records, store):
    contigs = Contigs(store)
    return [[resolve_allele(contigs, store, r.chrom, r.pos, r.ref, alt, 1000)[0] for alt in r.alts] for r in records]


def scored(found, size=7):
    """Results as parts of a few ALTs, that end anywhere: the number of the ALT where it was scored."""
    words = [word for record in found for word in record]
    for at in range(0, len(words), size):
        part = words[at : at + size]
        values = [at + i if word == "scored" else float("nan") for i, word in enumerate(part)]
        yield {"GENOLM_LLR": np.array(values), "GENOLM_STATUS": part}


def read_back(path):
    """Return what htslib reads: chrom, pos, ref, alts, LLRs and statuses of every record."""
    said = pysam.set_verbosity(0)
    try:
        with pysam.VariantFile(str(path)) as file:
            return [
                (r.chrom, r.pos, r.ref, r.alts, r.info.get("GENOLM_LLR"), r.info.get("GENOLM_STATUS")) for r in file
            ]
    finally:
        pysam.set_verbosity(said)


@pytest.mark.parametrize("suffix", [".vcf", ".vcf.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_every_record_of_a_nasty_vcf_comes_out_with_a_score_or_a_reason(tmp_path, store, suffix, end):
    path = tmp_path / "nasty.vcf"
    path.write_bytes(nasty_vcf(end))
    records = Records(path)
    expected = [status.split() for _, status in nasty_lines()]
    found = statuses(records, store)
    assert found == expected
    assert len(found) >= 80 and {word for words in found for word in words} == set(STATUSES)
    written = write_records(tmp_path / f"out{suffix}", records, scored(found), HEADER)
    back = read_back(tmp_path / f"out{suffix}")
    assert len(back) == len(found) == written.num_records
    assert written.num_alts == sum(map(len, found))
    number = 0
    for (_, _, _, _, llrs, words), wanted in zip(back, found, strict=True):
        assert list(words) == wanted
        for i, word in enumerate(wanted):
            value = llrs[i] if llrs is not None else None
            assert (value == pytest.approx(number, abs=0.1)) if word == "scored" else value is None
            number += 1
    assert written.index is None and any("not sorted (" in note for note in written.notes) == (suffix == ".vcf.gz")


def test_a_bcf_holds_what_it_can(tmp_path, store):
    path = tmp_path / "nasty.vcf"
    path.write_bytes(nasty_vcf())
    records = Records(path)
    with pytest.raises(ValueError, match=r"o.bcf: BCF holds no places beyond 2,147,483,647; write a .vcf.gz instead"):
        write_records(tmp_path / "o.bcf", records, scored(statuses(records, store)), HEADER)
    assert not list(tmp_path.glob("o.bcf*"))
    path.write_bytes(b"".join(x for x in nasty_vcf().splitlines(True) if b"4000000000" not in x))
    records = Records(path)
    write_records(tmp_path / "o.bcf", records, scored(statuses(records, store)), HEADER)
    with pytest.raises(ValueError, match=r"o.bcf:record \d+: not UTF-8, .*: bcftools view -Oz "):
        list(Records(tmp_path / "o.bcf"))
    path.write_bytes(path.read_bytes().replace(b"\xff", b"?"))
    write_records(tmp_path / "o.bcf", records, scored(statuses(records, store)), HEADER)
    write_records(tmp_path / "o.vcf", records, scored(statuses(records, store)), HEADER)
    as_read = [tuple(row[:5]) for row in read_back(tmp_path / "o.bcf")]
    assert as_read == [tuple(row[:5]) for row in read_back(tmp_path / "o.vcf")]
    again = Records(tmp_path / "o.bcf")
    assert (again.kind, len(list(again))) == ("bcf", len(as_read))
    sorted_one = Records(simple_vcf(tmp_path))
    assert write_records(tmp_path / "o.bcf", sorted_one, some([1.0] * 3), HEADER).index == tmp_path / "o.bcf.csi"
    assert [r.pos for r in Records(tmp_path / "o.bcf", region="1:4-9")] == [5]


def test_what_can_be_kept_is_kept_to_the_letter(tmp_path, store):
    path = tmp_path / "nasty.vcf"
    path.write_bytes(nasty_vcf())
    records = Records(path)
    write_records(tmp_path / "out.vcf", records, scored(statuses(records, store)), HEADER)
    out = (tmp_path / "out.vcf").read_text("utf-8", "surrogateescape").splitlines()
    head = [line for line in out if line.startswith("#")]
    assert head[:2] == ["##fileformat=VCFv4.2", "##source=hand"]
    assert head[-1] == COLUMNS + "\tFORMAT\tsample"
    assert sum("ID=GENOLM_STATUS" in line for line in head) == 1
    assert sum("ID=GENOLM_LLR" in line for line in head) == 1
    assert [line for line in head if line.startswith("##contig")] == [
        "##contig=<ID=1,length=263>", "##contig=<ID=chr1>", "##contig=<ID=2>", "##contig=<ID=un_known>",
        "##contig=<ID=_1_>", "##contig=<ID=_>", "##contig=<ID=HLA-A*01:01>", "##contig=<ID=rubbish>",
        "##contig=<ID=1_8_._A_C_._._.>",
    ]  # fmt: skip
    body = out[len(head) :]
    mended = 0
    for (line, _), new in zip(nasty_lines(), body, strict=True):
        old, columns = line.split("\t"), new.split("\t")
        assert len(columns) == 10
        info = [entry for entry in columns[7].split(";") if not entry.startswith("GENOLM_")]
        if "GENOLM_LINE" in new:
            mended += 1
            assert f"GENOLM_LINE={8 + body.index(new)}" in columns[7].split(";")
            continue
        kept = [entry for entry in old[7].split(";") if not entry.startswith("GENOLM_") and entry]
        assert columns[:7] + columns[8:] == old[:7] + old[8:]
        assert info == kept
        assert columns[7].count("GENOLM_STATUS=") == 1 and columns[7].count("GENOLM_LLR=") <= 1
    assert any('\t.\tq_1_;q2\t_AC=1,<2>;A B="x, y";AF=1 ;_P;GENOLM_LINE=' in line for line in body)
    assert 15 <= mended <= 27


def test_scoring_what_was_scored_gives_the_same_bytes(tmp_path, store):
    (tmp_path / "nasty.vcf").write_bytes(nasty_vcf())
    first, second = Records(tmp_path / "nasty.vcf"), tmp_path / "one.vcf.gz"
    found = statuses(first, store)
    write_records(second, first, scored(found), HEADER)
    for size in (1, 1000):
        again = Records(second)
        write_records(tmp_path / "two.vcf.gz", again, scored(found, size), HEADER)
        assert (tmp_path / "two.vcf.gz").read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.glob("*.vcf*")) == ["nasty.vcf", "one.vcf.gz", "two.vcf.gz"]


def simple_vcf(
    tmp_path, lines=("1\t1\t.\tA\tC\t.\t.\t.", "1\t5\trs5\tT\tG,TA\t.\t.\tDP=1"), name="x.vcf", head=COLUMNS
):
    (tmp_path / name).write_text("\n".join(["##fileformat=VCFv4.2", head, *lines]) + "\n")
    return tmp_path / name


def some(values, status=None):
    return [{"GENOLM_LLR": values, "GENOLM_STATUS": status or ["scored"] * len(values)}]


def test_a_sorted_file_is_indexed(tmp_path):
    lines = [f"{c}\t{p}\t.\tA\tC\t.\t.\t." for c in ("1", "2") for p in range(1, 30_000, 7)]
    records = Records(simple_vcf(tmp_path, lines))
    written = write_records(tmp_path / "o.vcf.gz", records, some(np.arange(len(lines)) / 3), HEADER)
    assert written.index == tmp_path / "o.vcf.gz.tbi" and written.index.is_file()
    with pysam.VariantFile(str(tmp_path / "o.vcf.gz")) as file:
        assert [r.pos for r in file.fetch("2", 9990, 10011)] == [9997, 10004, 10011]
    # Beyond 2**29 only a CSI index can point; an older index of the file does not stay.
    far = Records(simple_vcf(tmp_path, ["1\t5\t.\tA\tC\t.\t.\t.", "1\t600000000\t.\tA\tC\t.\t.\t."]))
    written = write_records(tmp_path / "o.vcf.gz", far, some([1.0, 2.0]), HEADER)
    assert written.index == tmp_path / "o.vcf.gz.csi"
    assert not (tmp_path / "o.vcf.gz.tbi").exists()
    with pysam.VariantFile(str(tmp_path / "o.vcf.gz")) as file:
        assert [r.pos for r in file.fetch("1", 599_999_990, 600_000_010)] == [600_000_000]
    unsorted = Records(simple_vcf(tmp_path, ["1\t5\t.\tA\tC\t.\t.\t.", "1\t2\t.\tA\tC\t.\t.\t."]))
    written = write_records(tmp_path / "o.vcf.gz", unsorted, some([1.0, 2.0]), HEADER)
    assert written.index is None and not list(tmp_path.glob("o.vcf.gz.*"))
    assert written.notes == [
        f"{tmp_path}/o.vcf.gz has no index, because the records are not sorted "
        f"({tmp_path}/x.vcf:4: 1:2 comes after 1:5)"
    ]


def test_records_of_another_reference_can_be_left_out(tmp_path):
    records = Records(simple_vcf(tmp_path))
    results = some([1.0, np.nan, np.nan], ["scored", "ref_mismatch", "ref_mismatch"])
    written = write_records(tmp_path / "o.vcf", records, results, HEADER, exclude="ref_mismatch")
    assert (written.num_records, written.num_alts, written.num_excluded) == (2, 3, 1)
    assert [row[1] for row in read_back(tmp_path / "o.vcf")] == [1]


def test_values_as_words():
    values = np.array([0.1234567, -0.0, 1e-9, 123456.7, np.nan, np.inf])
    assert as_words(values, "Float") == ["0.12346", "0", "1e-09", "1.2346e+05", ".", "inf"]
    assert as_words(values.astype(np.float32)[:1], "Float") == as_words(values[:1], "Float")
    assert as_words([1, None, float("nan"), 2.0], "Integer") == ["1", ".", ".", "2"]
    assert as_words(np.array([True, False]), "Integer") == ["1", "0"]
    assert as_words(["a", "", None], "String") == ["a", ".", "."]


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, 2.0, 3.0, 4.0]])
def test_results_that_do_not_fit_are_caught_and_nothing_is_written(tmp_path, values):
    records = Records(simple_vcf(tmp_path))
    with pytest.raises(AssertionError, match="fewer results|1 results more"):
        write_records(tmp_path / "o.vcf.gz", records, some(values), HEADER)
    assert [path.name for path in tmp_path.iterdir()] == ["x.vcf"]


def test_the_input_is_not_overwritten(tmp_path):
    path = simple_vcf(tmp_path)
    with pytest.raises(ValueError, match="is the file that is read"):
        write_records(path, Records(path), some([1.0] * 3), HEADER)


@pytest.mark.parametrize("name", ["x.txt", "x.vcf.bgz", "x", ".vcf", "x.tsv.bz2"])
def test_other_outputs_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"must end in .vcf, .vcf.gz, .bcf, .tsv, .tsv.gz, .parquet"):
        check_suffix(tmp_path / name)


# --- reading


def squeezed(records):
    return [(r.chrom, r.pos, r.ref, r.alts) for r in records]


def test_any_compression_is_told_by_its_bytes(tmp_path, store):
    (tmp_path / "plain.vcf").write_bytes(nasty_vcf())
    expected = list(Records(tmp_path / "plain.vcf"))
    (tmp_path / "gzip.vcf").write_bytes(gzip.compress(nasty_vcf()))
    with pysam.BGZFile(str(tmp_path / "bgzip.txt"), "wb") as file:
        file.write(nasty_vcf())
    (tmp_path / "bom.vcf").write_bytes(b"\xef\xbb\xbf" + nasty_vcf("\r\n"))
    two = nasty_vcf()
    (tmp_path / "members.vcf.gz").write_bytes(gzip.compress(two[:500]) + gzip.compress(two[500:]))
    for name in ("gzip.vcf", "bgzip.txt", "bom.vcf", "members.vcf.gz"):
        records = Records(tmp_path / name)
        assert list(records) == expected, name
        assert list(records) == expected, name  # and once more
        assert (records.kind, records.names) == ("vcf", ["sample"])


def test_places_are_named(tmp_path):
    records = Records(simple_vcf(tmp_path))
    assert [(r.number, r.line, records.where(r)) for r in records] == [
        (0, 3, f"{tmp_path}/x.vcf:3"),
        (1, 4, f"{tmp_path}/x.vcf:4"),
    ]


def test_samples_can_be_left_out(tmp_path):
    head = COLUMNS + "\tFORMAT\ta\tb"
    path = simple_vcf(tmp_path, ["1\t1\t.\tA\tC\t.\t.\t.\tGT\tx/\t0"], head=head)
    records = Records(path, drop_samples=True)
    assert records.names == [] and next(iter(records)).fields == ["1", "1", ".", "A", "C", ".", ".", "."]
    write_records(tmp_path / "o.vcf", records, some([1.0]), HEADER)
    out = (tmp_path / "o.vcf").read_text().splitlines()
    assert out[-2:] == [COLUMNS, "1\t1\t.\tA\tC\t.\t.\tGENOLM_LLR=1;GENOLM_STATUS=scored"]


@pytest.mark.parametrize("samples", ["", "\tGT\t0/1\t1/1"])
@pytest.mark.parametrize("head", ["", "##fileformat=VCFv4.1\n##x=1\n"])
def test_a_vcf_without_its_column_line(tmp_path, head, samples):
    (tmp_path / "x.vcf").write_text(f"{head}1\t8\t.\tA\tC\t.\t.\t.{samples}\n2\t9\t.\tA\tC\t.\t.\t.{samples}\n")
    records = Records(tmp_path / "x.vcf")
    assert records.notes == [f"{tmp_path}/x.vcf has no #CHROM line; read as a VCF, by its columns"]
    written = write_records(tmp_path / "o.vcf.gz", records, some([1.0, 2.0]), HEADER)
    assert records.notes[0] in written.notes and written.index is not None
    assert [row[:2] for row in read_back(tmp_path / "o.vcf.gz")] == [("1", 8), ("2", 9)]
    with pysam.VariantFile(str(tmp_path / "o.vcf.gz")) as file:
        assert list(file.header.samples) == (["sample1", "sample2"] if samples else [])


def test_empty_lines_and_second_headers_are_no_records(tmp_path):
    path = simple_vcf(
        tmp_path, ["1\t1\t.\tA\tC\t.\t.\t.", "", "##fileformat=VCFv4.2", COLUMNS, "1\t2\t.\tC\tA\t.\t.\t."]
    )
    records = Records(path)
    assert [(r.number, r.line, r.pos) for r in records] == [(0, 3, 1), (1, 7, 2)]
    list(records)
    assert records.notes == [f"{path}: 2 lines with # among the records are comments, and not in the output"]


def test_a_vcf_without_records(tmp_path):
    for name in ("o.vcf.gz", "o.tsv", "o.parquet"):
        written = write_records(tmp_path / name, Records(simple_vcf(tmp_path, ())), [], HEADER)
        assert written.num_records == 0
    assert read_back(tmp_path / "o.vcf.gz") == []
    assert (tmp_path / "o.tsv").read_text() == "chrom\tpos\tid\tref\talt\tGENOLM_LLR\tGENOLM_STATUS\n"
    assert pq.read_table(tmp_path / "o.parquet").num_rows == 0


zipped = partial(gzip.compress, mtime=0)  # the time would be in the names of tests


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "x: the file is empty"),
        (b"\n \n", "x: the file is empty"),
        (zipped(b""), "x: the file is empty"),
        (b">chr1\nACGT\n", "x: this is FASTA; the genome goes into --fasta"),
        (zipped(b"BAM\1" + bytes(50)), "x: this is BAM"),
        (b"<!DOCTYPE html>\n<p>404", "x: this is HTML"),
        (b"PK\3\4" + bytes(40), "x: this is a zip"),
        (b"PAR1" + bytes(40), "x: this is Parquet"),
        (zipped(zipped(b"x")), "x: this is gzip within gzip"),
        (bytes(range(256)), "x: not text"),
        (b"\xff\xfe#\0", "x: this is UTF-16"),
        (b"##gff-version 3\n", "x: this is GFF"),
        (b"##fileformat=VCFv4.2\r##x\r", "x: lines end in CR alone"),
        (b"##fileformat=VCFv4.2\n##x=1\n", "x: only comments, no records and no #CHROM line"),
        (b"# a comment\n", "x: only comments, no records"),
        (b"hello world\n", "x: neither VCF nor a table of variants; its first line is 'hello world'"),
        (b"chr1\t5\t9\tgene1\t0\t+\n", "x: neither VCF nor"),
        (b"chrom\tpos\tref\n1\t2\tA\n", "x: a table without a column 'alt': it may be called alt, alternate, alter"),
        (b"Chromosome\tposition (hg19)\treference\talt\n1\t2\tA\tC\n", "x: a table without a column 'pos': it may"),
        (b"1\t5\tA\tC\n", "x: neither VCF nor"),
        (b"chrom\tpos\tposition\tref\talt\n", "x: 'pos' and 'position' both name the pos"),
        (b"chrom\tpos\tref\talt\tn\tn\n", "x: column 'n' is there twice"),
        (COLUMNS.replace("\t", " ").encode() + b"\n1 5 . A C . . .\n", "x: columns of the #CHROM line are separated"),
        (zipped(b"##fileformat=VCFv4.2\n" * 2000)[:-9], "x: broken or truncated"),
        (zipped(b"##fileformat=VCFv4.2\n")[:4], "x: broken or truncated"),
        (b"BCF\2\2" + bytes(9), "x: this BCF cannot be read"),
    ],
)  # fmt: skip
def test_what_is_no_vcf_is_one_clear_error(tmp_path, content, says):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError) as error:
        list(Records(tmp_path / "x"))
    assert str(error.value).startswith(str(tmp_path / says))
    assert "\n" not in str(error.value)


def test_what_is_no_file(tmp_path):
    with pytest.raises(ValueError, match="this is a folder"):
        Records(tmp_path)
    with pytest.raises(ValueError, match="no such file"):
        Records(tmp_path / "x.vcf")


def many_lines(count=20_000):
    letters = random.Random(0)
    return [f"1\t{i + 1}\trs{letters.random()}\tA\tC\t.\t.\t." for i in range(count)]


def test_a_truncated_file_names_its_last_good_line(tmp_path):
    text = simple_vcf(tmp_path, many_lines()).read_bytes()
    (tmp_path / "a.vcf.gz").write_bytes(gzip.compress(text)[:-100_000])
    read = []
    with pytest.raises(ValueError, match=r"a.vcf.gz: broken or truncated after line (\d+) ") as error:
        read.extend(Records(tmp_path / "a.vcf.gz"))
    last = int(str(error.value).split("line ")[1].split()[0])
    assert last == read[-1].line and 1000 < last < 20_000
    # bgzip may end between two blocks; without its last, empty one it is refused before anything is scored
    with pysam.BGZFile(str(tmp_path / "b.vcf.gz"), "wb") as file:
        file.write(text)
    whole = (tmp_path / "b.vcf.gz").read_bytes()
    (tmp_path / "b.vcf.gz").write_bytes(whole[:-28])
    with pytest.raises(ValueError, match=r"b.vcf.gz: broken or truncated after line 20002 \(bgzip without its end"):
        Records(tmp_path / "b.vcf.gz")
    (tmp_path / "b.vcf.gz").write_bytes(whole[:-50_000])
    with pytest.raises(ValueError, match=r"b.vcf.gz: broken or truncated after line 1\d{4} "):
        Records(tmp_path / "b.vcf.gz")
    (tmp_path / "c.vcf").write_bytes(text + b"1\t5\t\0\0\0")
    with pytest.raises(ValueError, match=r"c.vcf:20003: zero bytes; the file is damaged"):
        list(Records(tmp_path / "c.vcf"))


def bcf_of(path, out):
    said = pysam.set_verbosity(0)
    with pysam.VariantFile(str(path)) as file, pysam.VariantFile(str(out), "wb", header=file.header) as new:
        for record in file:
            new.write(record)
    pysam.set_verbosity(said)
    return out


def test_a_bcf_is_read_and_a_truncated_one_is_refused(tmp_path):
    lines = ["##contig=<ID=1>", COLUMNS, *many_lines(5000)]
    vcf = simple_vcf(tmp_path, lines[2:], head="\n".join(lines[:2]))
    bcf = bcf_of(vcf, tmp_path / "x.bcf")
    records = Records(bcf)
    assert records.kind == "bcf"
    assert squeezed(records) == squeezed(Records(vcf))
    assert records.where(next(iter(records))) == f"{bcf}:record 1"
    whole = bcf.read_bytes()
    bcf.write_bytes(whole[:-28])
    with pytest.raises(ValueError, match="x.bcf: truncated after record 5000 "):
        Records(bcf)
    bcf.write_bytes(whole[:-10_000])
    with pytest.raises(ValueError, match=r"x.bcf: (broken or )?truncated after record [1-4]\d{3} "):
        Records(bcf)


def test_a_million_records_are_never_held(tmp_path):
    peaks = []
    for count in (5_000, 12_000):
        path = simple_vcf(tmp_path, many_lines(count))
        for out in ("o.vcf.gz", "o.tsv"):
            tracemalloc.start()
            found = ([{"GENOLM_LLR": [1.0] * 500, "GENOLM_STATUS": ["scored"] * 500}]) * (count // 500)
            write_records(tmp_path / out, Records(path), iter(found), HEADER)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert max(peaks[2:]) < 1.2 * max(peaks[:2]) and max(peaks) < 8e6


# --- tables


def test_a_table_with_columns_in_any_order(tmp_path):
    (tmp_path / "x.tsv").write_text(
        "## made by hand\nscore\tALT\tChrom\tPosition\treference\tID\n"
        "0.5\tC\t1\t8\tA\trs8\n-\tG,T\t1\t9\tA\t\n7\tC\t1\tx\tA\t.\n7\tC\t1\t8\n"
    )
    records = Records(tmp_path / "x.tsv")
    assert records.kind == "table" and records.columns[0] == "score"
    assert [(*row, r.id) for row, r in zip(squeezed(records), records, strict=True)] == [
        ("1", 8, "A", ["C"], "rs8"),
        ("1", 9, "A", ["G", "T"], "."),
        ("1", None, "A", ["C"], "."),
        ("1", None, "", ["C"], "."),
    ]
    results = some([0.5, -1.25, np.nan, np.nan, np.nan], ["scored", "scored", "same", "malformed", "malformed"])
    write_records(tmp_path / "o.tsv", records, results, HEADER)
    assert (tmp_path / "o.tsv").read_text() == (
        "## made by hand\nscore\tALT\tChrom\tPosition\treference\tID\tGENOLM_LLR\tGENOLM_STATUS\n"
        "0.5\tC\t1\t8\tA\trs8\t0.5\tscored\n-\tG\t1\t9\tA\t\t-1.25\tscored\n-\tT\t1\t9\tA\t\tNA\tsame\n"
        "7\tC\t1\tx\tA\t.\tNA\tmalformed\n7\tC\t1\t8\t\t\tNA\tmalformed\n"
    )
    write_records(tmp_path / "o.parquet", records, results, HEADER)
    table = pq.read_table(tmp_path / "o.parquet")
    assert table.column_names == [*records.columns, "GENOLM_LLR", "GENOLM_STATUS"]
    assert table["Position"].to_pylist() == [8, 9, 9, None, None]
    assert table["GENOLM_LLR"].to_pylist() == [0.5, -1.25, None, None, None]
    write_records(tmp_path / "o.vcf.gz", records, results, HEADER)
    back = read_back(tmp_path / "o.vcf.gz")
    assert [row[:4] for row in back[:2]] == [("1", 8, "A", ("C",)), ("1", 9, "A", ("G", "T"))]
    assert [row[5] for row in back] == [("scored",), ("scored", "same"), ("malformed",), ("malformed",)]
    # scored once more: values of the same name are replaced
    again = Records(tmp_path / "o.tsv")
    results[0]["GENOLM_LLR"] = [3.0] * 5
    write_records(tmp_path / "p.tsv", again, results, HEADER)
    assert [line.split("\t")[6] for line in (tmp_path / "p.tsv").read_text().splitlines()[2:]] == ["3"] * 5


def test_a_table_parted_by_commas(tmp_path):
    long = f"2,8,A,{'C' * 140_000},z"
    (tmp_path / "x.csv").write_text(f'#chrom,pos,ref,alt,"a, note"\r\n1,8,A,"C,G","x, ""y"""\r\n{long}\n')
    records = Records(tmp_path / "x.csv")
    assert squeezed(records) == [("1", 8, "A", ["C", "G"]), ("2", 8, "A", ["C" * 140_000])]
    write_records(tmp_path / "o.tsv.gz", records, some([1.0, 2.0, 3.0]), HEADER)
    lines = gzip.decompress((tmp_path / "o.tsv.gz").read_bytes()).decode().splitlines()
    assert lines[1:3] == ['1\t8\tA\tC\tx, "y"\t1\tscored', '1\t8\tA\tG\tx, "y"\t2\tscored']


def test_a_vcf_as_a_table(tmp_path, store):
    (tmp_path / "nasty.vcf").write_bytes(nasty_vcf())
    records = Records(tmp_path / "nasty.vcf")
    found = statuses(records, store)
    write_records(tmp_path / "o.tsv", records, scored(found), HEADER)
    write_records(tmp_path / "o.parquet", records, scored(found), HEADER)
    rows = [line.split("\t") for line in (tmp_path / "o.tsv").read_bytes().decode("utf-8", "replace").split("\n")[1:-1]]
    table = pq.read_table(tmp_path / "o.parquet").to_pylist()
    alts = [(r, alt) for r in records for alt in r.alts]
    assert len(rows) == len(table) == len(alts)
    for row, cells, (record, alt), word in zip(rows, table, alts, [w for ws in found for w in ws], strict=True):
        assert row[0] == record.chrom and row[4] == alt and row[6] == word
        assert (cells["chrom"], cells["pos"], cells["alt"], cells["GENOLM_STATUS"]) == (
            record.chrom,
            record.pos,
            alt,
            word,
        )
        assert (row[5] == "NA") == (cells["GENOLM_LLR"] is None) == (word != "scored")
        assert row[5] == "NA" or float(row[5]) == cells["GENOLM_LLR"]


# --- regions


@pytest.fixture
def regions(tmp_path):
    rows = [
        ("1", 5, "A", "."),
        ("1", 10, "ACGTA", "."),
        ("1", 20, "A", "END=40"),
        ("1", 30, "A", "."),
        ("1", 50, "A", "."),
    ]
    rows += [("2", 5, "A", "."), ("a:1-2", 5, "A", "DP=3;END=9;X"), ("a:1-2", 40, "A", ".")]
    head = "\n".join([*(f"##contig=<ID={name}>" for name in ("1", "2", "3", "a:1-2")), COLUMNS])
    lines = [f"{c}\t{p}\t.\t{r}\tT\t.\t.\t{i}" for c, p, r, i in rows]
    path = simple_vcf(tmp_path, lines, head=head)
    pysam.tabix_compress(str(path), str(tmp_path / "i.vcf.gz"))
    pysam.tabix_index(str(tmp_path / "i.vcf.gz"), preset="vcf")
    shutil.copy(path, tmp_path / "plain.vcf")
    return tmp_path


@pytest.mark.parametrize(
    ("region", "found"),
    [
        ("1", [5, 10, 20, 30, 50]),
        ("1:10-20", [10, 20]),
        ("1:14-19", [10]),
        ("1:15-19", []),
        ("1:35-45", [20]),
        ("1:41-49", []),
        ("1:30", [20, 30]),
        ("1:21-", [20, 30, 50]),
        ("1:1-1,000", [5, 10, 20, 30, 50]),
        ("3", []),
        ("3:1-10", []),
        ("a:1-2", [5, 40]),
        ("a:1-2:8-9", [5]),
    ],
)
def test_regions_with_an_index_and_without(regions, region, found):
    for name in ("plain.vcf", "i.vcf.gz"):
        records = Records(regions / name, region=region)
        assert [r.pos for r in records] == found, name
        assert [r.number for r in records] == list(range(len(found)))


@pytest.mark.parametrize(
    ("region", "says"),
    [
        ("9:1-5", "region 9: .* has no such contig; it has 1, 2, "),
        ("chr1", "region chr1: .* has no such contig"),
        ("1:9-5", "1 <= start <= end"),
        ("1:0-5", "1 <= start <= end"),
        ("1:x-5", "must be chrom:start-end"),
        ("1:5-x", "must be chrom:start-end"),
    ],
)
def test_regions_that_are_none(regions, region, says):
    for name in ("plain.vcf", "i.vcf.gz"):
        with pytest.raises(ValueError, match=says):
            list(Records(regions / name, region=region))


def test_an_index_that_is_old_or_broken(regions):
    os.utime(regions / "i.vcf.gz.tbi", (1, 1))
    records = Records(regions / "i.vcf.gz", region="1:30-")
    assert [(r.pos, r.line) for r in records] == [(20, 9), (30, 10), (50, 11)]
    assert records.notes == [f"{regions}/i.vcf.gz.tbi is older than its file, and is not used; the whole file is read"]
    (regions / "i.vcf.gz.tbi").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match=r"i.vcf.gz: could not be read by i.vcf.gz.tbi \(.*; index it anew"):
        list(Records(regions / "i.vcf.gz", region="1:30-"))


# --- real files


def parser_files(data_dir):
    for folder in ("vcf", "vcf_bcftools", "vcf_cyvcf2", "vcf_htslib"):
        for path in sorted((data_dir / "parsers" / folder).iterdir()):
            if path.suffix not in (".csi", ".tbi", ".fa"):
                yield path


def test_files_of_other_tools_are_read_as_htslib_reads_them(data_dir, tmp_path, capfd):
    said = pysam.set_verbosity(0)
    read = 0
    try:
        for path in parser_files(data_dir):
            try:
                with pysam.VariantFile(str(path)) as file:
                    theirs = [(r.chrom, r.pos, r.ref, list(r.alts or ["."])) for r in file]
            except (ValueError, OSError):
                continue
            records = Records(path)
            assert squeezed(records) == theirs, path.name
            parts = ({"GENOLM_LLR": [1.5] * len(r.alts), "GENOLM_STATUS": ["scored"] * len(r.alts)} for r in records)
            write_records(tmp_path / "o.vcf.gz", records, parts, HEADER)
            back = read_back(tmp_path / "o.vcf.gz")
            assert [(*row[:3], list(row[3] or ["."])) for row in back] == theirs, path.name
            assert all(set(row[5]) == {"scored"} for row in back), path.name
            read += 1
    finally:
        pysam.set_verbosity(said)
        capfd.readouterr()
    assert read > 200


def test_sites_of_the_1000_genomes_come_out_whole(data_dir, tmp_path):
    store = prepare_store({"human": [data_dir / "genomes/human_chr20_1.0-2.0Mb_GRCh37.fa.gz"]}, tmp_path / "store")
    path = data_dir / "variants/human_chr20_1Mb_1000G_phase3_sites.vcf.gz"
    records = Records(path)
    found = statuses(records, store)
    written = write_records(tmp_path / "o.vcf.gz", records, scored(found, 4096), HEADER)
    assert (written.num_records, written.notes) == (28_998, [])
    assert Counter(word for words in found for word in words)["symbolic"] >= 24
    assert written.index == tmp_path / "o.vcf.gz.tbi"
    with gzip.open(path, "rt") as old, gzip.open(tmp_path / "o.vcf.gz", "rt") as new:
        old_lines = [line.rstrip("\n") for line in old if line[0] != "#"]
        new_lines = [line.rstrip("\n") for line in new if line[0] != "#"]
    assert [line.partition(";GENOLM_")[0] for line in new_lines] == old_lines
    region = "z:500000-510000"
    near = squeezed(Records(path, region=region))
    assert 100 < len(near) < 1000 and near == squeezed(Records(tmp_path / "o.vcf.gz", region=region))
    if shutil.which("bcftools"):
        listed = subprocess.run(
            ["bcftools", "query", "-f", "%POS %GENOLM_STATUS\n", tmp_path / "o.vcf.gz"], capture_output=True, text=True
        )
        assert (listed.returncode, listed.stderr) == (0, "")
        rows = [line.split() for line in listed.stdout.splitlines()]
        assert [row[1].split(",") for row in rows] == found
        counted = subprocess.run(["bcftools", "index", "-n", tmp_path / "o.vcf.gz"], capture_output=True, text=True)
        assert counted.stdout.strip() == "28998"


@pytest.mark.skipif(shutil.which("bcftools") is None, reason="needs bcftools")
def test_bcftools_reads_the_nasty_output_to_its_end(tmp_path, store):
    (tmp_path / "nasty.vcf").write_bytes(nasty_vcf())
    records = Records(tmp_path / "nasty.vcf")
    found = statuses(records, store)
    write_records(tmp_path / "o.vcf.gz", records, scored(found), HEADER)
    done = subprocess.run(["bcftools", "view", "-H", tmp_path / "o.vcf.gz"], capture_output=True)
    assert (done.returncode, done.stdout.count(b"\n")) == (0, len(found))


def test_genotypes_of_the_mitochondrial_calls_are_kept(data_dir, tmp_path):
    path = data_dir / "variants/mt_1000G_phase1_chrMT.vcf.gz"
    records = Records(path)
    assert len(records.names) == 1074
    parts = [{"GENOLM_LLR": [0.25] * len(r.alts), "GENOLM_STATUS": ["scored"] * len(r.alts)} for r in records]
    written = write_records(tmp_path / "o.vcf.gz", records, parts, HEADER)
    assert written.num_records == 2834 and written.index is not None
    with gzip.open(path, "rt") as old, gzip.open(tmp_path / "o.vcf.gz", "rt") as new:
        for before, after in zip(*([x for x in file if x[0] != "#"] for file in (old, new)), strict=True):
            a, b = before.split("\t"), after.split("\t")
            assert a[:7] == b[:7] and a[8:] == b[8:] and b[7].startswith(a[7] + ";GENOLM_LLR=")


def test_the_mitochondrial_table_of_gnomad(data_dir):
    records = Records(data_dir / "variants/mt_gnomad_v3.1_chrM.tsv.gz")
    assert records.kind == "table"
    rows = squeezed(records)
    assert len(rows) == 18_164 and rows[0] == ("chrM", 3, "T", ["C"])
    assert all(pos for _, pos, _, _ in rows)
