import gzip
import itertools
import random
import shutil
import subprocess
from collections import Counter

import pytest

from genolm.genome.store import prepare_store
from genolm.variants.alleles import (
    CHECK_REF,
    STATUSES,
    Allele,
    Contigs,
    ReferenceCheck,
    read_aliases,
    resolve_allele,
)


def make_store(folder, **contigs):
    """Prepare contigs of one genome; __ in a name stands for a dot."""
    fasta = folder / "genome.fa"
    fasta.write_text("".join(f">{name.replace('__', '.')}\n{letters}\n" for name, letters in contigs.items()))
    return prepare_store({"g": [fasta]}, folder / "store")


def named(folder, names):
    (folder / "names.fa").write_text("".join(f">{name}\nACGT\n" for name in names))
    return prepare_store({"g": [folder / "names.fa"]}, folder / "names")


def apply(letters, start, ref, alt):
    return letters[:start] + alt + letters[start + len(ref) :]


REFERENCE = "ACGTACGTTTTTTGCACACANNRACgtgtgtAAAC"
#            0         10        20        30


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    store = make_store(tmp_path_factory.mktemp("known"), chr1=REFERENCE)
    return Contigs(store), store


@pytest.mark.parametrize(
    ("pos", "ref", "alt", "expected", "kind"),
    [
        (3, "G", "A", (2, "G", "A"), "snv"),
        (3, "g", "a", (2, "G", "A"), "snv"),
        (2, "CGT", "CAT", (2, "G", "A"), "snv"),
        (2, "CG", "TA", (1, "CG", "TA"), "mnv"),
        (2, "CGT", "TGA", (1, "CGT", "TGA"), "mnv"),
        (8, "TTTTTT", "TTTTT", (7, "T", ""), "deletion"),
        (12, "TT", "T", (7, "T", ""), "deletion"),
        (7, "GT", "G", (7, "T", ""), "deletion"),
        (7, "G", "GT", (7, "", "T"), "insertion"),
        (13, "T", "TT", (7, "", "T"), "insertion"),
        (13, "TG", "TTTG", (7, "", "TT"), "insertion"),
        (17, "CAC", "C", (14, "CA", ""), "deletion"),  # CACACA from 14
        (14, "GCACAC", "GCAC", (14, "CA", ""), "deletion"),
        (15, "CA", "CACA", (14, "", "CA"), "insertion"),
        (26, "GTGTGT", "GTGT", (25, "GT", ""), "deletion"),  # soft-masked letters are bases
        (3, "GT", "C", (2, "GT", "C"), "delins"),
        (3, "GTA", "GCTTA", (3, "", "CT"), "insertion"),
        (3, "G", "TTTT", (2, "G", "TTTT"), "delins"),
        (1, "A", "AA", (0, "", "A"), "insertion"),  # before the first base
        (1, "AC", "C", (0, "A", ""), "deletion"),
        (35, "C", "CC", (34, "", "C"), "insertion"),  # the last base
        (32, "AAA", "A", (31, "AA", ""), "deletion"),
        (23, "RAC", "RC", None, "ambiguous"),
        (24, "A", "AA", (23, "", "A"), "insertion"),  # does not move over R
    ],
)
def test_what_is_scored_of_a_record(known, pos, ref, alt, expected, kind):
    contigs, store = known
    status, allele = resolve_allele(contigs, store, "chr1", pos, ref, alt, 100)
    if expected is None:
        assert (status, allele) == (kind, None)
        return
    assert (status, allele) == ("scored", Allele(0, *expected))
    assert allele.kind == kind
    assert REFERENCE[allele.start : allele.end].upper() == allele.ref


@pytest.mark.parametrize(
    ("name", "pos", "ref", "alt", "status"),
    [
        ("chr1", 1, "C", "T", "ref_mismatch"),
        ("chr1", 1, "C", "<DEL>", "ref_mismatch"),
        ("chr1", 1, "ACGA", "A", "ref_mismatch"),
        ("chr1", 23, "C", "T", "ref_mismatch"),  # R is A or G
        ("chr1", 23, "A", "T", "ambiguous"),
        ("chr1", 21, "A", "T", "ambiguous"),
        ("chr1", 1, "N", "T", "ambiguous"),
        ("chr1", 1, "N", "<DEL>", "symbolic"),
        ("chr1", 1, "Y", "T", "ref_mismatch"),
        ("chr1", 1, "A", "N", "ambiguous"),
        ("chr1", 1, "A", "Ry", "ambiguous"),
        ("chr2", 1, "A", "C", "contig_missing"),
        ("chr1", 36, "A", "C", "beyond_contig"),
        ("chr1", 35, "CA", "C", "beyond_contig"),
        ("chr1", 1 << 60, "A", "C", "beyond_contig"),
        ("chr1", 1, "A", "*", "star"),
        ("chr1", 1, "A", "<*>", "star"),
        ("chr1", 1, "A", "<NON_REF>", "star"),
        ("chr1", 1, "A", "<INS:ME:ALU>", "symbolic"),
        ("chr1", 1, "A", "A<ctg1>", "symbolic"),
        ("chr1", 1, "A", "G]17:198982]", "breakend"),
        ("chr1", 1, "A", "[<c>:9[T", "breakend"),
        ("chr1", 1, "A", ".T", "breakend"),
        ("chr1", 1, "A", "T.", "breakend"),
        ("chr1", 1, "A", ".", "missing"),
        ("chr1", 1, "A", "A", "same"),
        ("chr1", 1, "A", "a", "same"),
        ("chr1", 21, "N", "n", "same"),
        ("chr1", 1, "A", "A" + "G" * 11, "too_long"),
        ("chr1", 8, "TTTTTTGCACACA", "T", "too_long"),
        ("chr1", 0, "A", "C", "malformed"),
        ("chr1", None, "A", "C", "malformed"),
        ("chr1", 1, "", "C", "malformed"),
        ("chr1", 1, ".", "C", "malformed"),
        ("chr1", 1, "A1", "C", "malformed"),
        ("chr1", 1, "A", "", "malformed"),
        ("chr1", 1, "A", "-", "malformed"),
        ("chr1", 1, "A", "C C", "malformed"),
        ("chr1", 1, "A", "..", "malformed"),
        ("chr1", 1, "A", "é", "malformed"),
    ],
)
def test_why_a_record_is_not_scored(known, name, pos, ref, alt, status):
    assert status in STATUSES
    assert resolve_allele(*known, name, pos, ref, alt, 10) == (status, None)


def test_the_longest_allele_is_counted_once_trimmed(known):
    for alt, status in (("A" + "G" * 10, "scored"), ("A" + "G" * 11, "too_long")):
        assert resolve_allele(*known, "chr1", 1, "A", alt, 10)[0] == status
    assert resolve_allele(*known, "chr1", 1, REFERENCE[:20], REFERENCE[:19] + "T", 1)[0] == "scored"


@pytest.mark.parametrize("seed", range(3))
def test_alleles_are_equal_just_where_the_sequences_are(tmp_path, seed):
    """Every spelling of every change of a short sequence, rich in repeats, part soft-masked, in two parts by an N."""
    letters = random.Random(seed)
    reference = (
        "".join(letters.choice("AACca") for _ in range(6))
        + "N" * (seed % 2)
        + "".join(letters.choice("ACC") for _ in range(5))
    )
    store = make_store(tmp_path, c=reference)
    contigs = Contigs(store)
    alts = ["".join(word) for size in range(1, 5) for word in itertools.product("AC", repeat=size)]
    by_sequence, by_allele = {}, {}
    for start, size, alt in itertools.product(range(len(reference)), range(1, 6), alts):
        ref = reference[start : start + size]
        if len(ref) < size or "N" in ref:
            continue
        status, allele = resolve_allele(contigs, store, "c", start + 1, ref, alt, 100)
        sequence = apply(reference.upper(), start, ref, alt)
        assert (status == "same") == (sequence == reference.upper())
        if allele is not None:
            assert apply(reference.upper(), allele.start, allele.ref, allele.alt) == sequence
            assert reference[allele.start : allele.end].upper() == allele.ref
            by_sequence.setdefault(sequence, set()).add(allele)
            by_allele.setdefault(allele, set()).add(sequence)
    assert len(by_sequence) > 200
    assert [found for found in by_sequence.values() if len(found) > 1] == []
    assert [found for found in by_allele.values() if len(found) > 1] == []


@pytest.mark.parametrize("unit", ["A", "AC", "ACGTTGCAAG"])
def test_a_long_repeat_is_crossed_to_its_left_end(tmp_path, unit):
    copies = 30_000 // len(unit)
    store = make_store(tmp_path, c="G" + "T" + unit * copies + "GG")
    contigs = Contigs(store)
    last = 2 + len(unit) * copies
    assert resolve_allele(contigs, store, "c", last, unit[-1], unit[-1] + unit, 50)[1] == Allele(0, 2, "", unit)
    before = last - len(unit)
    assert resolve_allele(contigs, store, "c", before, unit[-1] + unit, unit[-1], 50)[1] == Allele(0, 2, unit, "")


def test_a_repeat_that_begins_the_contig(tmp_path):
    store = make_store(tmp_path, c="ACACACG")
    contigs = Contigs(store)
    assert resolve_allele(contigs, store, "c", 4, "CAC", "C", 50)[1] == Allele(0, 0, "AC", "")
    assert resolve_allele(contigs, store, "c", 5, "A", "ACA", 50)[1] == Allele(0, 0, "", "AC")
    assert resolve_allele(contigs, store, "c", 5, "AC", "A", 50)[1] == Allele(0, 5, "C", "")


@pytest.mark.parametrize(
    ("name", "held", "found"),
    [
        ("1", ["chr1", "chr2"], "chr1"),
        ("chr2", ["1", "2"], "2"),
        ("Chr2", ["chr1", "chr2"], "chr2"),
        ("chrX", ["chrX", "X"], "chrX"),
        ("MT", ["chr1", "chrM"], "chrM"),
        ("chrM", ["MT"], "MT"),
        ("M", ["chrMT"], "chrMT"),
        ("chrMT", ["NC_012920.1"], "NC_012920.1"),
        ("MT", ["rCRS"], "rCRS"),
        ("NC_012920.1", ["M"], "M"),
        ("NC_000001.11", ["chr1"], "chr1"),
        ("NC_000001.10", ["1"], "1"),
        ("NC_000023.11", ["chrX"], "chrX"),
        ("Y", ["NC_000024.10"], "NC_000024.10"),
        ("NC_060948.1", ["chrY"], "chrY"),
        ("NC_000001", ["NC_000001.11"], "NC_000001.11"),
        ("NC_000001.10", ["NC_000001.11"], None),  # GRCh37 is not GRCh38
        ("NC_000009.11", ["NC_000009.12"], None),
        ("NC_060925.1", ["NC_000001.11"], None),
        ("1", ["NC_000001.11", "NC_000002.12"], "NC_000001.11"),
        ("chr", ["r", "chr1"], None),
        ("NC_000025.1", ["chr25", "25"], None),
        ("X", ["chr23"], None),
        ("z", ["chrz"], "chrz"),
    ],
)
def test_other_names_of_a_contig(tmp_path, name, held, found):
    contigs = Contigs(named(tmp_path, held))
    number = contigs.number(name)
    assert (None if number is None else held[number]) == found
    assert contigs.used == ({name: found} if found not in (None, name) else {})
    assert contigs.missing == ([name] if found is None else [])
    contigs.number(name)
    assert len(contigs.missing) == (found is None)


def test_a_name_that_fits_two_contigs_is_an_error(tmp_path):
    contigs = Contigs(named(tmp_path, ["NC_000001.10", "NC_000001.11", "chr2", "2"]))
    with pytest.raises(ValueError, match=r"'chr1' of the VCF fits two .*, NC_000001.10 and NC_000001.11"):
        contigs.number("chr1")
    assert contigs.number("NC_000001.11") == 1
    assert contigs.number("chr2") == 2
    with pytest.raises(ValueError, match="'Chr2' of the VCF fits two .*, chr2 and 2"):
        contigs.number("Chr2")


def test_a_contig_of_two_genomes_is_an_error(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.fa").write_text(">chr1\nACGT\n")
    contigs = Contigs(prepare_store({"a": [tmp_path / "a.fa"], "b": [tmp_path / "b.fa"]}, tmp_path / "store"))
    with pytest.raises(ValueError, match="chr1 of a and chr1 of b; give a FASTA of one genome"):
        contigs.number("chr1")


def test_the_table_of_names_wins(tmp_path):
    (tmp_path / "names.tsv").write_text("# VCF\tFASTA\nchr1\tscaffold_7\nchr9\tgone\n\r\nA B\tchr1\n")
    store = named(tmp_path, ["chr1", "scaffold_7", "chr9"])
    contigs = Contigs(store, read_aliases(tmp_path / "names.tsv"))
    assert [contigs.number(name) for name in ("chr1", "1", "A B", "chr9")] == [1, 0, 0, None]
    assert contigs.used == {"chr1": "scaffold_7", "1": "chr1", "A B": "chr1"}
    with pytest.raises(ValueError, match="none of the contigs in the table of names, such as 'x'"):
        Contigs(store, {"chr1": "x"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("chr1 1\n", ":1: two columns"),
        ("#x\nchr1\t1\t2\n", ":2: two columns"),
        ("chr1\t\n", ":1: two columns"),
        ("a\tb\na\tc\n", ":2: 'a' is 'c' here and 'b' above"),
        ("# nothing\n", "no names in it"),
    ],
)
def test_a_table_of_names_that_cannot_be_read(tmp_path, text, says):
    (tmp_path / "names.tsv").write_text(text)
    with pytest.raises(ValueError, match=says):
        read_aliases(tmp_path / "names.tsv")


def test_what_is_done_about_another_reference(tmp_path):
    store = make_store(tmp_path, chr1="A" * 40, chr2="A" * 40)
    contigs = Contigs(store)
    with pytest.raises(ValueError, match=r"^calls.vcf:9: REF is G but the FASTA has A at 1:1. VCF and FASTA may"):
        ReferenceCheck("exit").meet("calls.vcf:9", contigs, store, "1", 1, "G")
    for mode, said in (("warn", "not scored"), ("exclude", "left out")):
        check = ReferenceCheck(mode)
        for line, name in ((4, "chr1"), (5, "chr1"), (6, "chr2")):
            check.meet(f"v:{line}", contigs, store, name, 1, "C" * 30)
        first, second = check.notes()
        assert first.startswith(f"2 records of chr1 {said}; the first: v:4: REF is CCCCCCCCCCCCCCCCC… (30 letters) but")
        assert second.startswith(f"1 record of chr2 {said}; the first: v:6")
    assert not ReferenceCheck("set-status").notes()
    with pytest.raises(ValueError, match="--check-ref fix: allowed are exit, warn, exclude, set-status"):
        ReferenceCheck("fix")
    assert len(CHECK_REF) == 4


def rows(path):
    """Yield the first five columns of a VCF, a row for each ALT."""
    with gzip.open(path, "rt") as file:
        for line in file:
            if line[0] != "#":
                chrom, pos, _, ref, alts = line.split("\t", 5)[:5]
                for alt in alts.split(","):
                    yield chrom, int(pos), ref, alt


def test_a_real_stretch_of_chromosome_20(data_dir, tmp_path):
    store = prepare_store({"human": [data_dir / "genomes/human_chr20_1.0-2.0Mb_GRCh37.fa.gz"]}, tmp_path / "store")
    contigs = Contigs(store)
    vcf = data_dir / "variants/human_chr20_1Mb_1000G_phase3_sites.vcf.gz"
    found = [resolve_allele(contigs, store, *row, 1000) for row in rows(vcf)]
    assert len(found) >= 28_998 + 138
    assert set(Counter(status for status, _ in found)) == {"scored", "symbolic"}
    kinds = Counter(allele.kind for _, allele in found if allele)
    assert kinds["insertion"] > 300 and kinds["deletion"] > 500 and kinds["snv"] > 27_000
    assert contigs.used == {} and contigs.missing == []


@pytest.mark.skipif(shutil.which("bcftools") is None, reason="needs bcftools")
def test_insertions_and_deletions_stand_where_bcftools_norm_puts_them(data_dir, tmp_path):
    fasta = tmp_path / "z.fa"
    fasta.write_bytes(gzip.decompress((data_dir / "genomes/human_chr20_1.0-2.0Mb_GRCh37.fa.gz").read_bytes()))
    vcf = data_dir / "variants/human_chr20_1Mb_1000G_phase3_sites.vcf.gz"
    out = tmp_path / "normalised.vcf.gz"
    subprocess.run(
        ["bcftools", "norm", "-m-any", "-f", fasta, "-Oz", "-o", out, vcf], check=True, stderr=subprocess.DEVNULL
    )
    store = prepare_store({"human": [fasta]}, tmp_path / "store")
    contigs = Contigs(store)
    theirs = [(row, resolve_allele(contigs, store, *row, 1000)[1]) for row in rows(out)]
    ours = [resolve_allele(contigs, store, *row, 1000)[1] for row in rows(vcf)]
    assert Counter(allele for _, allele in theirs) == Counter(ours)
    moved = 0
    for (_, pos, ref, alt), allele in theirs:
        if allele is not None and allele.kind in ("insertion", "deletion"):
            assert (allele.start, allele.ref, allele.alt) == (pos, ref[1:], alt[1:])  # but for the anchor base
            moved += 1
    assert moved > 900


def test_the_mitochondrial_genome_under_another_name(data_dir, tmp_path):
    store = prepare_store({"human": [data_dir / "genomes/human_mt_rCRS_NC_012920.fa.gz"]}, tmp_path / "store")
    contigs = Contigs(store)
    found = [
        resolve_allele(contigs, store, *row, 1000) for row in rows(data_dir / "variants/mt_1000G_phase1_chrMT.vcf.gz")
    ]
    counts = Counter(status for status, _ in found)
    assert len(found) > 2834 and counts["ref_mismatch"] == 0 and counts["contig_missing"] == 0
    assert counts["scored"] > 2834
    assert contigs.used == {"MT": "rCRS"}
