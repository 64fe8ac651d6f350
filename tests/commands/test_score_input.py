"""`genolm score` on input that is odd or broken: a score or a reason for every record, else one line and no file."""

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pysam
import pytest
from nasty import COLUMNS, REFERENCE, nasty_lines, nasty_vcf
from scoring import BASES, other_base, save, score, write_vcf

from genolm.variants.likelihood import CAUSAL, MASKED, columns_of_estimators

EXPECTED = [words.split() for _, words in nasty_lines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A genome of one contig, and models of windows that let alleles of 64 bases be scored."""
    folder = tmp_path_factory.mktemp("input")
    (folder / "g.fa").write_text(f">1\n{REFERENCE}\n")
    save(folder / "masked", "masked", {"architecture": "genolm", "mixers": ["attention"]}, window_tokens=256)
    save(folder / "causal", "causal", {"architecture": "genolm", "mixers": ["fir"]}, window_tokens=256)
    return folder


def read(path):
    """Return chrom, pos, alts, statuses and scores of every record, as htslib reads them."""
    said = pysam.set_verbosity(0)
    try:
        with pysam.VariantFile(str(path)) as file:
            name = next(key for key in file.header.info if key in ("GENOLM_MASKED_LLR", "GENOLM_LIKELIHOOD"))
            return [(r.chrom, r.pos, r.alts, r.info["GENOLM_STATUS"], r.info.get(name)) for r in file]
    finally:
        pysam.set_verbosity(said)


def check_values(values, statuses):
    for value, status in zip(values, statuses, strict=True):
        assert (value is not None and np.isfinite(value)) == (status == "scored")


KEPT = ("", ".summary.json", ".png")
"""What the command leaves for an unsorted file, by what is put to its name."""


@pytest.mark.parametrize(
    ("model", "end", "names"),
    [
        ("masked", "\n", ["o.vcf", "o.vcf.gz", "o.tsv", "o.parquet"]),
        ("masked", "\r\n", ["o.vcf.gz", "o.tsv"]),
        ("causal", "\n", ["o.vcf.gz"]),
    ],
    ids=["masked", "crlf", "causal"],
)
def test_every_record_of_a_nasty_vcf_comes_out_with_a_score_or_a_reason(folder, tmp_path, capfd, model, end, names):
    path = tmp_path / "nasty.vcf"
    path.write_bytes(nasty_vcf(end))
    words = [word for of_record in EXPECTED for word in of_record]
    column = "GENOLM_MASKED_LLR" if model == "masked" else "GENOLM_LIKELIHOOD"
    for name in names:
        out = tmp_path / name
        code, told = score(folder, path, "--out", out, "--background", 3, model=model, capfd=capfd)
        assert code == 0 and "Traceback" not in told and "[E::" not in told, told
        assert told.count(f"{len(EXPECTED)} of {len(EXPECTED)} records: {out}") == 1
        summary = json.loads((tmp_path / f"{name}.summary.json").read_text())
        assert summary["records"] == len(EXPECTED) >= 80 and summary["alts"] == len(words)
        assert summary["statuses"] == Counter(words)
        if name.startswith("o.vcf"):
            found = read(out)
            assert [list(row[3]) for row in found] == EXPECTED
            for _, _, alts, statuses, values in found:
                check_values(values if values is not None else [None] * len(alts or "."), statuses)
        elif name == "o.parquet":
            table = pq.read_table(out).to_pydict()
            assert table["GENOLM_STATUS"] == words
            check_values(table[column], words)
        else:
            rows = out.read_bytes().decode("utf-8", "replace").rstrip("\n").split("\n")
            at = [rows[0].split("\t").index(key) for key in ("GENOLM_STATUS", column)]
            cells = [[row.split("\t")[i] for i in at] for row in rows[1:]]
            assert [status for status, _ in cells] == words
            check_values([None if value == "NA" else float(value) for _, value in cells], words)
    left = {"nasty.vcf", *(f"{name}{kept}" for name in names for kept in KEPT)}
    assert {path.name for path in tmp_path.iterdir()} == left


PLACES = [*range(1, 21)] * 400
SIMPLE = f"##fileformat=VCFv4.2\n##contig=<ID=1>\n{COLUMNS}\n".encode() + b"".join(
    f"1\t{pos}\trs{number}\t{REFERENCE[pos - 1]}\t{other_base(REFERENCE[pos - 1])}\t.\t.\t.\n".encode()
    for pos, number in zip(PLACES, np.random.default_rng(0).integers(0, 1 << 60, len(PLACES)), strict=True)
)
"""8,000 records that do not compress well."""


def bgzipped(path, content):
    with pysam.BGZFile(str(path), "wb") as file:
        file.write(content)
    return path.read_bytes()


def as_bcf(path, content):
    plain = path.with_suffix(".vcf")
    plain.write_bytes(content)
    with pysam.VariantFile(str(plain)) as file, pysam.VariantFile(str(path), "wb", header=file.header) as new:
        for record in file:
            new.write(record)
    plain.unlink()
    return path.read_bytes()


BROKEN = {
    "empty": (lambda path: b"", "the file is empty"),
    "empty gzip": (lambda path: gzip.compress(b""), "the file is empty"),
    "truncated gzip": (lambda path: gzip.compress(SIMPLE)[:-20_000], "broken or truncated after line"),
    "gzip of a few bytes": (lambda path: gzip.compress(SIMPLE)[:4], "broken or truncated"),
    "bgzip without its end": (lambda path: bgzipped(path, SIMPLE)[:-28], "bgzip without its end-of-file block"),
    "truncated bgzip": (lambda path: bgzipped(path, SIMPLE)[:-20_000], "broken or truncated after line"),
    "damaged gzip": (
        lambda path: (b := gzip.compress(SIMPLE))[:90_000] + b"\0" * 9 + b[90_009:],
        "broken or truncated",
    ),
    "truncated bcf": (lambda path: as_bcf(path, SIMPLE)[:-20_000], "truncated after record"),
    "bcf without its end": (lambda path: as_bcf(path, SIMPLE)[:-28], "truncated after record 8000"),
    "zeros at the end": (lambda path: SIMPLE + b"1\t5\t.\0\0\0\0", ":8004: zero bytes; the file is damaged"),
    "only a header": (lambda path: SIMPLE[:20], "only comments, no records and no #CHROM line"),
    "old line ends": (lambda path: SIMPLE.replace(b"\n", b"\r"), "lines end in CR alone"),
    "garbage": (lambda path: bytes(np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8)), "not text"),
    "words": (lambda path: b"no such bucket\n" * 9, "neither VCF nor a table of variants; its first line is"),
    "fasta": (lambda path: b">1\nACGT\n", "this is FASTA; the genome goes into --fasta"),
    "a web page": (lambda path: b"<!DOCTYPE html>\n<p>404", "this is HTML"),
}


PIPED = ["empty", "truncated gzip", "truncated bcf", "garbage"]


@pytest.mark.parametrize(("kind", "piped"), [*((kind, False) for kind in BROKEN), *((kind, True) for kind in PIPED)])
def test_a_broken_file_is_one_line_and_leaves_nothing(folder, tmp_path, monkeypatch, capfd, kind, piped):
    make, message = BROKEN[kind]
    path = tmp_path / "x"
    path.write_bytes(make(path))
    if piped:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(path.read_bytes())))
    out = tmp_path / "deep" / "o.vcf.gz"
    code, told = score(folder, "-" if piped else path, "--out", out, capfd=capfd)
    errors = [line for line in told.splitlines() if line.startswith("error: ")]
    assert code == 2 and told.splitlines()[-1:] == errors and message in errors[0], told
    assert "stdin" in errors[0] if piped else str(path) in errors[0]
    assert "Traceback" not in told and "[E::" not in told and "[W::" not in told
    assert not out.parent.exists() or not list(out.parent.iterdir())


def test_a_vcf_without_a_header_is_read_by_its_columns(folder, tmp_path, capfd):
    path = tmp_path / "x.vcf"
    path.write_bytes(b"".join(line for line in SIMPLE.splitlines(True)[:13] if line[:1] != b"#"))
    code, told = score(folder, path, "--out", tmp_path / "o.vcf.gz", capfd=capfd)
    assert code == 0 and "has no #CHROM line; read as a VCF, by its columns" in told
    assert [row[3] for row in read(tmp_path / "o.vcf.gz")] == [("scored",)] * 10
    assert (tmp_path / "o.vcf.gz.tbi").is_file()


def variants():
    """Records that can be spelled as a VCF, a BCF or a table, one of them with three ALTs."""
    return [(1, "A", "C"), (3, "G", "GA"), (5, "TGC", "T"), (8, "A", "C,G,T"), (40, "CC", "C"), (61, "T", "A")]


def test_every_kind_of_file_gives_the_same_scores(folder, tmp_path, monkeypatch):
    lines = [f"1\t{pos}\t.\t{ref}\t{alt}\t.\t.\t." for pos, ref, alt in variants()]
    plain = write_vcf(tmp_path / "a.vcf", ["##contig=<ID=1>", *lines])
    text = f"##fileformat=VCFv4.2\n##contig=<ID=1>\n{COLUMNS}\n" + "\n".join(lines) + "\n"
    plain.write_text(text)
    (tmp_path / "b.vcf.gz").write_bytes(gzip.compress(text.encode()))
    bgzipped(tmp_path / "c.vcf.gz", text.encode())
    as_bcf(tmp_path / "d.bcf", text.encode())
    rows = [f"1\t{pos}\t{ref}\t{alt}" for pos, ref, alt in variants()]
    (tmp_path / "e.tsv").write_text("\n".join(["chrom\tpos\tref\talt", *rows]) + "\n")
    (tmp_path / "f.csv").write_text(
        "\n".join(["chrom,pos,ref,alt", *(f'1,{pos},{ref},"{alt}"' for pos, ref, alt in variants())]) + "\n"
    )
    found = {}
    for path in sorted(tmp_path.glob("[a-f].*")):
        out = tmp_path / f"{path.name}.parquet"
        assert score(folder, path, "--out", out, "--background", 0)[0] == 0
        found[path.name] = pq.read_table(out).to_pydict()["GENOLM_MASKED_LLR"]
        if path.name[0] not in "bde":
            continue
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(path.read_bytes())))
        assert score(folder, "-", "--out", tmp_path / "piped.parquet", "--background", 0)[0] == 0
        table = pq.read_table(tmp_path / "piped.parquet").to_pydict()
        assert table["GENOLM_MASKED_LLR"] == found[path.name]
        (tmp_path / "piped.parquet").unlink()
    assert len(found) == 6 and all(values == found["a.vcf"] for values in found.values())
    assert len(found["a.vcf"]) == 8 and None not in found["a.vcf"]


SPELLINGS = [
    [(36, "CC", "C"), (41, "CG", "G"), (35, "TC", "T"), (36, "CCCCCC", "CCCCC")],
    [(41, "C", "CC"), (35, "T", "TC"), (37, "CC", "CCC")],
    [(45, "TA", "TATA"), (42, "G", "GTA"), (52, "A", "ATA"), (43, "TAT", "TATAT")],
    [(42, "GTATA", "GTA"), (43, "TATATA", "TATA"), (51, "TAT", "T")],
    [(3, "G", "A"), (3, "g", "a"), (2, "CG", "CA"), (2, "CGT", "CAT")],
    [(3, "GT", "AA"), (2, "CGTT", "CAAT")],
]


@pytest.mark.parametrize("model", ["masked", "causal"])
def test_spellings_of_a_change_have_one_score(folder, tmp_path, model):
    rows = [(place, *spelling) for place, group in enumerate(SPELLINGS) for spelling in group]
    for _, pos, ref, _ in rows:
        assert REFERENCE[pos - 1 : pos - 1 + len(ref)] == ref.upper()
    path = write_vcf(tmp_path / "x.vcf", [f"1\t{pos}\t.\t{ref}\t{alt}\t.\t.\t." for _, pos, ref, alt in rows])
    assert score(folder, path, "--out", tmp_path / "o.parquet", "--background", 4, model=model)[0] == 0
    table = pq.read_table(tmp_path / "o.parquet").to_pydict()
    column = "GENOLM_MASKED_LLR" if model == "masked" else "GENOLM_LIKELIHOOD"
    by_change = {}
    for (place, *_), *found in zip(rows, table[column], table[f"{column}_STRANDS"], table[f"{column}_Z"], strict=True):
        by_change.setdefault(place, set()).add(tuple(found))
    assert all(len(found) == 1 for found in by_change.values())
    assert len({next(iter(found))[0] for found in by_change.values()}) == len(SPELLINGS)


@pytest.mark.skipif(shutil.which("bcftools") is None, reason="needs bcftools")
def test_what_bcftools_norm_has_normalised_scores_as_before(folder, tmp_path):
    lines = [
        f"1\t{pos}\t.\t{ref}\t{alt}\t.\t.\tFROM={i}"
        for i, (pos, ref, alt) in enumerate(
            [row for group in SPELLINGS for row in group if row[1].isupper()] + variants()
        )
    ]
    head = ['##INFO=<ID=FROM,Number=1,Type=Integer,Description="line">', "##contig=<ID=1>"]
    path = tmp_path / "x.vcf"
    path.write_text("\n".join(["##fileformat=VCFv4.2", *head, COLUMNS, *lines]) + "\n")
    shutil.copy(folder / "g.fa", tmp_path / "g.fa")  # bcftools puts an index beside it
    norm = ["bcftools", "norm", "-m-any", "-f", tmp_path / "g.fa", "-Ov", "-o", tmp_path / "normal.vcf", path]
    subprocess.run(norm, check=True, stderr=subprocess.DEVNULL)
    found = []
    for name in ("x", "normal"):
        out = tmp_path / f"{name}.out.vcf"
        assert score(folder, tmp_path / f"{name}.vcf", "--out", out, "--background", 0)[0] == 0
        with pysam.VariantFile(str(out)) as file:
            found.append(Counter((r.info["FROM"], v) for r in file for v in r.info["GENOLM_MASKED_LLR"]))
    assert found[0] == found[1] and found[0].total() == len(lines) + 2
    assert (tmp_path / "x.vcf").read_text().split(COLUMNS)[1] != (tmp_path / "normal.vcf").read_text().split(COLUMNS)[1]


def test_order_duplicates_and_batches_change_no_score(folder, tmp_path):
    sites = [(pos, alt) for pos in (*range(1, 20), *range(60, 120)) for alt in BASES if alt != REFERENCE[pos - 1]]
    turned = [sites[i] for i in np.random.default_rng(0).permutation(len(sites))]
    found = {}
    for model, column in (("masked", "GENOLM_MASKED_LLR"), ("causal", "GENOLM_LIKELIHOOD")):
        for name, order, batch in (("sorted", sites, 32), ("turned", [*turned, *turned[:20]], 7)):
            lines = [f"1\t{pos}\t.\t{REFERENCE[pos - 1]}\t{alt}\t.\t.\t." for pos, alt in order]
            path, out = write_vcf(tmp_path / f"{name}.vcf", lines), tmp_path / f"{model}-{name}.parquet"
            code, _ = score(folder, path, "--out", out, "--batch-size", batch, model=model)
            table = pq.read_table(out).to_pydict()
            assert code == 0 and list(zip(table["pos"], table["alt"], strict=True)) == order
            found[name] = {}
            for key, value in zip(order, table[column], strict=True):
                assert found[name].setdefault(key, value) == pytest.approx(value, abs=1e-5)
        assert found["sorted"].keys() == found["turned"].keys()
        for key, value in found["sorted"].items():
            assert found["turned"][key] == pytest.approx(value, abs=1e-5, rel=2e-5)  # five digits are written


ALIASES = {
    "1": ["chr1", "NC_000001.11"],
    "chr1": ["1", "NC_000001.11"],
    "NC_000001.11": ["1", "chr1"],
    "chrM": ["MT", "M", "NC_012920.1"],
    "MT": ["chrM", "rCRS"],
}


@pytest.mark.parametrize("held", ALIASES)
def test_other_names_of_a_contig_are_found_and_told_of(folder, tmp_path, capfd, held):
    (tmp_path / "g.fa").write_text(f">{held}\n{REFERENCE}\n")
    lines = [f"{name}\t8\t.\tA\tC\t.\t.\t." for name in (held, *ALIASES[held])]
    path, out = write_vcf(tmp_path / "x.vcf", lines), tmp_path / "o.vcf"
    code, told = score(folder, path, "--out", out, fasta=tmp_path / "g.fa", capfd=capfd)
    assert code == 0
    for name in ALIASES[held]:
        assert told.count(f"contig {name} is {held} of the FASTA") == 1
    assert json.loads((tmp_path / "o.vcf.summary.json").read_text())["contigs"] == dict.fromkeys(ALIASES[held], held)
    found = read(out)
    assert [row[0] for row in found] == [held, *ALIASES[held]] and len({row[4] for row in found}) == 1


def test_a_table_of_names(folder, tmp_path, capfd):
    (tmp_path / "names").write_text("one\t1\n")
    path = write_vcf(tmp_path / "x.vcf", ["one\t8\t.\tA\tC\t.\t.\t."])
    assert score(folder, path, "--out", tmp_path / "a.vcf")[0] == 3
    code, told = score(folder, path, "--out", tmp_path / "b.vcf", "--aliases", tmp_path / "names", capfd=capfd)
    assert code == 0 and "contig one is 1 of the FASTA" in told


WRONG = ["1\t8\t.\tA\tC\t.\t.\t.", "1\t9\t.\tC\tA\t.\t.\t.", "1\t10\t.\tG\tA\t.\t.\t.", "1\t11\t.\tA\tC,<DEL>\t.\t.\t."]
"""REF of the second and of the last is another; the last has two ALTs."""


@pytest.mark.parametrize(
    ("mode", "code", "says", "kept"),
    [
        ("exit", 2, "x.vcf:4: REF is C but the FASTA has A at 1:9. VCF and FASTA may be different", None),
        ("warn", 0, "2 records of 1 not scored; the first: ", [8, 9, 10, 11]),
        ("exclude", 0, "2 records of 1 left out; the first: ", [8, 10]),
        ("set-status", 0, "", [8, 9, 10, 11]),
    ],
)
def test_what_becomes_of_another_reference(folder, tmp_path, capfd, mode, code, says, kept):
    path, out = write_vcf(tmp_path / "x.vcf", WRONG), tmp_path / "o.vcf.gz"
    found, told = score(folder, path, "--out", out, "--check-ref", mode, "--background", 0, capfd=capfd)
    assert found == code and says in told and ("REF is" in told) == (mode != "set-status")
    if kept is None:
        assert sorted(path.name for path in tmp_path.iterdir()) == ["x.vcf"]
        return
    rows = read(out)
    assert [row[1] for row in rows] == kept
    for _, pos, alts, statuses, values in rows:
        wrong = pos in (9, 11)
        assert statuses == (("ref_mismatch" if wrong else "scored"),) * len(alts) and (values is None) == wrong
    summary = json.loads((tmp_path / "o.vcf.gz.summary.json").read_text())
    assert (summary["records"], summary["left_out"]) == (4, 4 - len(kept))
    assert summary["statuses"] == {"ref_mismatch": 3, "scored": 2}


def test_a_region_and_without_samples(folder, tmp_path):
    path = tmp_path / "x.vcf"
    path.write_bytes(nasty_vcf())
    out = tmp_path / "o.vcf"
    assert score(folder, path, "--out", out, "--region", "1:2-3", "--drop-samples", "--background", 0)[0] == 0
    assert {row[1] for row in read(out)} == {2, 3}
    lines = [line for line in out.read_text().splitlines() if not line.startswith("##")]
    assert all(line.count("\t") == 7 for line in lines)
    code, _ = score(folder, path, "--out", tmp_path / "p.vcf", "--region", "7:1-5", "--background", 0)
    assert code == 2 and not list(tmp_path.glob("p.vcf*"))


def test_several_estimators_at_once(folder, tmp_path):
    """Each as when it is asked for alone; what has no meaning for an indel has no value there."""
    path = write_vcf(tmp_path / "x.vcf", [f"1\t{pos}\t.\t{ref}\t{alt}\t.\t.\t." for pos, ref, alt in variants()])
    together = {}
    for model, allowed in (("masked", MASKED), ("causal", CAUSAL)):
        for names in (allowed, allowed[:1], allowed[-1:]):
            out = tmp_path / f"{model}-{'-'.join(names)}.parquet"
            options = [word for name in names for word in ("--estimator", name)]
            assert score(folder, path, "--out", out, "--background", 3, *options, model=model)[0] == 0
            table = pq.read_table(out).to_pydict()
            if names is allowed:
                together = table
            for column in columns_of_estimators(names):
                found, expected = table[f"GENOLM_{column.upper()}"], together[f"GENOLM_{column.upper()}"]
                of_substitutions = column in ("unmasked_llr", "entropy", "influence")
                known = [
                    not of_substitutions or len(ref) == len(alt)
                    for ref, alt in zip(table["ref"], table["alt"], strict=True)
                ]
                assert [value is not None for value in found] == known
                for one, two in zip(found, expected, strict=True):
                    assert one == two or one == pytest.approx(two, rel=2e-5, abs=1e-5)
    out = tmp_path / "o.vcf"
    options = ["--estimator", "masked_llr", "--estimator", "entropy"]
    assert score(folder, path, "--out", out, "--background", 3, *options)[0] == 0
    with pysam.VariantFile(str(out)) as file:
        fields = {key: info for key, info in file.header.info.items() if key.startswith("GENOLM_")}
        assert {info.number for info in fields.values()} == {"A"}
        weights = hashlib.sha256((folder / "masked" / "model.safetensors").read_bytes()).hexdigest()
        sha256 = hashlib.sha256(weights.encode()).hexdigest()[:12]
        for name in ("GENOLM_MASKED_LLR", "GENOLM_ENTROPY"):
            assert f"model {folder / 'masked'}, weights {sha256}, 256 bp, genolm" in fields[name].description
        assert all(len(r.info["GENOLM_MASKED_LLR"]) == len(r.alts) for r in file)


REAL = {
    "sites": (
        "human_chr20_1Mb_1000G_phase3_sites.vcf.gz",
        "human_chr20_1.0-2.0Mb_GRCh37.fa.gz",
        28_998,
        "z:500000-510000",
    ),
    "genotypes": ("mt_1000G_phase1_chrMT.vcf.gz", "human_mt_rCRS_NC_012920.fa.gz", 2834, "MT:100-300"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_files_from_end_to_end(folder, tmp_path, data_dir, capfd, name):
    """Records in are records out, and bcftools and tabix read them."""
    vcf, fasta, number, region = REAL[name]
    save(tmp_path / "m", "masked", {"architecture": "genolm", "mixers": ["convolution"]}, window_tokens=34)
    path, out = data_dir / "variants" / vcf, tmp_path / "o.vcf.gz"
    options = ["--background", 3, "--window", 32, "--batch-size", 256]
    code, told = score(
        tmp_path, path, "--out", out, *options, model="m", fasta=data_dir / "genomes" / fasta, capfd=capfd
    )
    assert code == 0 and f"{number:,} of {number:,} records" in told, told
    with gzip.open(path, "rt") as old, gzip.open(out, "rt") as new:
        before, after = ([line for line in file if line[0] != "#"] for file in (old, new))
    assert len(before) == len(after) == number
    for one, two in zip(before, after, strict=True):
        one, two = one.rstrip("\n").split("\t"), two.rstrip("\n").split("\t")
        assert one[:7] == two[:7] and one[8:] == two[8:] and two[7].startswith(one[7])
        statuses = two[7].rpartition("GENOLM_STATUS=")[2].partition(";")[0].split(",")
        assert len(statuses) == one[4].count(",") + 1
        assert ("GENOLM_MASKED_LLR=" in two[7]) == ("scored" in statuses)
    if shutil.which("bcftools") and shutil.which("tabix"):
        seen = subprocess.run(["bcftools", "view", "-H", out], capture_output=True)
        assert (seen.returncode, seen.stdout.count(b"\n"), seen.stderr) == (0, number, b"")
        chrom, _, span = region.partition(":")
        first, last = map(int, span.split("-"))
        near = subprocess.run(["tabix", out, region], capture_output=True, text=True, check=True).stdout.splitlines()
        inside = [x for x in after if x.startswith(f"{chrom}\t") and first <= int(x.split("\t")[1]) <= last]
        assert inside and [x.rstrip("\n") for x in inside] == [x for x in near if int(x.split("\t")[1]) >= first]
