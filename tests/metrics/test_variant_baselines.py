"""Baselines by independent truth: the Markov ratio against whole sequences scored letter by letter."""

import gzip
import math
import sys
from collections import Counter

import numpy as np
import pysam
import pytest

from genolm.genome.alphabet import to_array
from genolm.genome.fasta import read_contigs
from genolm.genome.store import prepare_store
from genolm.metrics import markov
from genolm.metrics.variant_baselines import (
    fit_markov,
    from_reference,
    gc_around,
    track_values,
    transversions,
)
from genolm.metrics.variant_table import Variants

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def variants(*rows):
    """(chrom, 0-based start, ref, alt) as Variants."""
    chrom, start, ref, alt = (np.array(column, dtype=object) for column in zip(*rows, strict=True))
    labels = np.arange(len(rows)) % 2
    return Variants(chrom, start.astype(np.int64), ref, alt, labels, "binary", {}, None, len(rows), {})


def fasta(folder, **records):
    path = folder / "g.fa"
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in records.items()))
    return path


def reverse(sequence):
    return sequence.translate(COMPLEMENT)[::-1]


def log_probability(sequence, order, counts):
    """Sum of log p(letter | letters before it), letter by letter, by the definition at the top of markov.py."""
    total = 0.0
    for i, letter in enumerate(sequence):
        if letter == "N":
            continue
        length = min(order, i, len(sequence[:i]) - 1 - sequence[:i].rfind("N"))
        context = sequence[i - length : i]
        seen = sum(counts[context + other] for other in "ACGT")
        total += math.log((counts[context + letter] + 1) / (seen + 4))
    return total


def kmer_counts(sequence, order):
    """Counts of every k-mer that `markov.fit` counts: each base once at the longest context, and its shorter ones."""
    counts = Counter()
    for strand in (sequence, reverse(sequence)):
        for i in range(len(strand)):
            for length in range(order + 1):
                if i >= length and "N" not in strand[i - length : i + 1]:
                    counts[strand[i - length : i + 1]] += 1
    return counts


@pytest.fixture(scope="module")
def genome():
    rng = np.random.default_rng(0)
    sequence = "".join(rng.choice(list("ACGT"), 600, p=[0.4, 0.1, 0.2, 0.3]))
    return sequence[:300] + "NN" + sequence[302:]


PLACES = [
    *[(300 + offset, 1, "") for offset in range(3, 9)],  # just behind an N
    (0, 1, "A"),  # the first base of the contig, and the last
    (599, 1, "T"),
    (100, 1, "ACGTA"),
    (200, 6, "A"),
    (250, 4, "TTTT"),
    (50, 3, "GGGGG"),
    (590, 9, "C"),
    (2, 1, "CA"),
]


@pytest.mark.parametrize("order", [0, 1, 2, 4])
def test_the_markov_ratio_is_that_of_whole_sequences(tmp_path, genome, order):
    rows = []
    for start, length, alt in PLACES:
        ref = genome[start : start + length]
        alt = alt or "ACGT"["ACGT".index(ref) - 1]
        rows.append(("chr1", start, ref, alt if alt != ref else "G" + alt))
    path = fasta(tmp_path, chr1=genome.lower())
    found, reasons = from_reference(variants(*rows), path, fit_markov([path], [order, 5]))
    assert set(reasons) == {""}
    counts = kmer_counts(genome, order)
    for (_, start, ref, alt), value in zip(rows, found[f"markov-{order}"], strict=True):
        changed = genome[:start] + alt + genome[start + len(ref) :]
        expected = sum(
            log_probability(strand(changed), order, counts) - log_probability(strand(genome), order, counts)
            for strand in (str, reverse)
        )
        assert value == pytest.approx(expected, abs=2e-4), (start, ref, alt)


def test_a_change_and_its_undoing_are_opposite(genome):
    """On the genome with ALT, the ratio of going back to REF is minus the first one."""
    from genolm.metrics.variant_baselines import markov_llr

    ladder = markov.fit([to_array(genome)], [3])
    for start, ref, alt in [(70, genome[70:74], "T"), (80, genome[80], genome[80] + "CC"), (90, genome[90:93], "ACA")]:
        changed = genome[:start] + alt + genome[start + len(ref) :]
        there = markov_llr(ladder, to_array(genome), variants(("1", start, ref, alt)), np.array([0]))[3]
        back = markov_llr(ladder, to_array(changed), variants(("1", start, alt, ref)), np.array([0]))[3]
        assert there[0] == pytest.approx(-back[0], abs=1e-4) and there[0] != 0


def test_spellings_of_one_deletion_agree(tmp_path):
    path = fasta(tmp_path, one="GATTACACACACAGGTCCATAGGATC")
    spelled = [("one", 4, "ACA", "A"), ("one", 5, "CA", ""), ("one", 6, "ACAC", "AC"), ("one", 10, "ACA", "A")]
    spelled[1] = ("one", 9, "CACA", "CA")
    found, _ = from_reference(variants(*spelled), path, fit_markov([path], [2]))
    assert np.ptp(found["markov-2"]) < 1e-4 and abs(found["markov-2"][0]) > 0.1


@pytest.mark.parametrize(
    ("ref", "alt", "value"),
    [
        ("A", "G", 0),
        ("C", "T", 0),
        ("A", "C", 1),
        ("G", "T", 1),
        ("AC", "GA", 1),
        ("CAT", "CGT", 0),  # one transition between shared letters
        ("CAT", "AAG", 2),
        ("A", "AT", 1),
        ("ATTT", "A", 3),
        ("ACG", "T", 3),
        ("ACACA", "ACA", 2),
    ],
)
def test_transversions(ref, alt, value):
    assert transversions([ref], [alt])[0] == value


def test_gc_of_101_bp():
    sequence = "G" * 40 + "A" * 100 + "n" * 200
    found = gc_around(to_array(sequence), np.array([0, 50, 90, 139, 250]))
    # 51 bases of which 40; 40 of 101; none of 101 - 1; none; nothing known.
    np.testing.assert_allclose(found, [40 / 51, 40 / 101, 0, 0, np.nan])


def test_why_a_row_has_no_baseline(tmp_path):
    path = fasta(tmp_path, chr1="ACGTACGTAC", MT="GGGGG")
    rows = [
        ("1", 0, "A", "C"),
        ("chr1", 1, "G", "C"),
        ("chr1", 8, "ACG", "A"),
        ("X", 0, "A", "C"),
        ("chrM", 4, "G", "A"),
    ]
    found, reasons = from_reference(variants(*rows), path, None)
    assert list(reasons) == [
        "",
        "REF differs from --fasta",
        "beyond the end of its contig",
        "contig not in --fasta",
        "",
    ]
    assert list(found) == ["gc"]
    np.testing.assert_allclose(found["gc"], [0.5, np.nan, np.nan, np.nan, 1])


def test_names_that_need_a_table(tmp_path):
    path = fasta(tmp_path, weird="ACGT", more="ACGT")
    rows = variants(("chrM", 1, "C", "T"), ("chrM", 2, "G", "T"))
    with pytest.raises(ValueError, match="variants are on chrM, its contigs are weird, more; --aliases FILE maps them"):
        from_reference(rows, path, None)
    _, reasons = from_reference(rows, path, None, {"chrM": "weird"})
    assert set(reasons) == {""}


def test_another_assembly_is_an_error(tmp_path):
    path = fasta(tmp_path, chr1="ACGTACGTAC")
    rows = variants(("1", 0, "C", "A"), ("1", 1, "G", "A"), ("1", 2, "G", "A"))
    with pytest.raises(
        ValueError, match=r"2 of 3 variants have another REF than --fasta: at 1:1 REF is C, chr1 of .* has A"
    ):
        from_reference(rows, path, None)


def test_two_contigs_of_one_name(tmp_path):
    path = fasta(tmp_path, chrM="ACGT", MT="ACGT")
    with pytest.raises(ValueError, match="contigs 'chrM' and 'MT' are both 'MT'"):
        from_reference(variants(("M", 0, "A", "C")), path, None)


def test_contigs_come_whole_and_training_may_repeat_a_name(tmp_path):
    path = tmp_path / "t.fa"
    path.write_text(">a x\nACG\nTTT\n>a y\nGG\n")
    records = list(read_contigs(path, rename=True))
    assert [(name, bytes(part), line) for name, part, line in records] == [("a", b"ACGTTT", 1), ("a#2", b"GG", 4)]
    with pytest.raises(ValueError, match="already on line 1"):
        list(read_contigs(path))
    assert fit_markov([path, path], [0]).dense[0].sum() == 2 * 2 * 8


def test_an_indexed_or_prepared_genome_gives_the_same_and_reads_only_contigs_with_variants(tmp_path, genome):
    path = fasta(tmp_path, chr1=genome, chr2=genome[::-1])
    rows = variants(("1", 100, genome[100], "ACGT"["ACGT".index(genome[100]) - 1]), ("1", 9, genome[9:12], genome[9]))
    plain, reasons = from_reference(rows, path, ladder := fit_markov([path], [3]))
    assert set(reasons) == {""}
    store = prepare_store({"g": [path]}, tmp_path / "prepared")
    pysam.faidx(str(path))
    for other in (path, store.folder):
        baselines, _ = from_reference(rows, other, ladder)
        assert baselines.keys() == plain.keys()
        for name, values in plain.items():
            np.testing.assert_array_equal(baselines[name], values)
    text = path.read_text().replace(genome[::-1], "*" * len(genome))  # not a nucleotide, in the contig without variants
    path.write_text(text)
    pysam.faidx(str(path))
    np.testing.assert_array_equal(from_reference(rows, path, None)[0]["gc"], plain["gc"])


pyBigWig = pytest.importorskip("pyBigWig")


def write(path, tracks):
    """Write contig → one value per base, NaN where there is none, as a bigWig."""
    with pyBigWig.open(str(path), "w") as file:
        file.addHeader([(name, len(values)) for name, values in tracks.items()])
        for name, values in tracks.items():
            at = np.flatnonzero(~np.isnan(values))
            file.addEntries([name] * len(at), at.tolist(), ends=(at + 1).tolist(), values=values[at].tolist())
    return path


def values(path, *starts, chrom="chr1", length=1):
    return list(track_values(path, [chrom] * len(starts), np.array(starts), np.full(len(starts), length)))


def test_places_are_0_based_and_those_without_a_value_are_nan(tmp_path):
    path = write(tmp_path / "t.bw", {"chr1": np.array([np.nan, 1, 2, 3, np.nan, 5]), "chrM": np.array([0.5, 7])})
    nan = np.nan
    np.testing.assert_array_equal(values(path, 0, 1, 2, 4, 5, 6, -1, chrom="1"), [nan, 1, 2, nan, 5, nan, nan])
    np.testing.assert_array_equal(values(path, 0, 1, chrom="MT"), [0.5, 7])
    np.testing.assert_array_equal(values(path, 0, chrom="chr9"), [nan])


def test_the_mean_over_ref_leaves_out_bases_without_a_value(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=300).astype(np.float32).astype(np.float64)
    truth[rng.random(300) < 0.2] = np.nan
    path = write(tmp_path / "t.bw", {"chr1": truth})
    start, length = rng.integers(0, 299, 100), rng.integers(1, 20, 100)
    covered = [truth[a : a + n][~np.isnan(truth[a : a + n])] for a, n in zip(start, length, strict=True)]
    expected = [part.mean() if len(part) else np.nan for part in covered]
    np.testing.assert_allclose(track_values(path, ["chr1"] * 100, start, length), expected, rtol=1e-12)


@pytest.mark.parametrize("text", ["fixedStep chrom=chr1 start=1 step=1\n1\n", "chr1\t0\t1\t2\n", ">chr1\nACGT\n", ""])
@pytest.mark.parametrize("name", ["t.wigFix", "t.wigFix.gz"])
def test_another_format_is_named_with_the_way_to_convert_it(tmp_path, text, name):
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    with pytest.raises(ValueError, match=rf"{name}: not a bigWig; convert a wig with UCSC's wigToBigWig"):
        values(tmp_path / name, 1)


def test_a_missing_file_a_folder_a_torn_file_and_a_missing_reader(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"none.bw: no such file"):
        values(tmp_path / "none.bw", 1)
    with pytest.raises(ValueError, match="a folder, not a track"):
        values(tmp_path, 1)
    path = tmp_path / "t.bw"
    path.write_bytes(bytes.fromhex("26fc8f88") + b"\0" * 60)
    with pytest.raises(ValueError, match=r"t.bw: damaged bigWig"):
        values(path, 1)
    monkeypatch.setitem(sys.modules, "pyBigWig", None)  # as if not installed
    with pytest.raises(ValueError, match=r"t.bw: pyBigWig is not installed; pip install 'genolm\[bigwig\]'"):
        values(path, 1)
