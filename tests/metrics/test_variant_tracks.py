"""Tracks: every format gives the values that a plain array gives."""

import gzip
import sys
import types

import numpy as np
import pytest

from genolm.metrics import variant_tracks
from genolm.metrics.variant_tracks import track_name, track_values


def write(folder, text, name="t.wig"):
    path = folder / name
    if name.endswith(".gz"):
        with gzip.open(path, "wt") as file:
            file.write(text)
    else:
        path.write_text(text)
    return path


def values(path, *places, chrom="chr1", length=1):
    places = np.array(places)
    return list(track_values(path, [chrom] * len(places), places, np.full(len(places), length)))


def same(found, expected):
    np.testing.assert_array_equal(found, expected)


def test_fixed_step_is_1_based(tmp_path):
    path = write(tmp_path, "track type=wiggle_0\nfixedStep chrom=chr1 start=3 step=1\n0.5\n-2\n1e-1\n")
    same(values(path, 0, 1, 2, 3, 4, 5), [np.nan, np.nan, 0.5, -2, 0.1, np.nan])


def test_fixed_step_with_gaps_and_spans(tmp_path):
    path = write(
        tmp_path, "fixedStep chrom=chr1 start=1 step=5 span=2\n1\n2\nfixedStep chrom=chr1 start=21 step=1\n3\n"
    )
    same(values(path, *range(8), 19, 20, 21), [1, 1, *[np.nan] * 3, 2, 2, np.nan, np.nan, 3, np.nan])
    wide = write(tmp_path, "fixedStep chrom=chr1 start=1 step=1 span=2\n1\n2\n", "wide.wig")
    same(values(wide, 0, 1, 2, 3), [1, 2, 2, np.nan])  # of two values the later one


def test_variable_step(tmp_path):
    path = write(tmp_path, "variableStep chrom=chr1 span=2\n10 1.5\n20 2.5\n# note\nvariableStep chrom=chr2\n5 9\n")
    same(values(path, 8, 9, 10, 11, 19, 20, 21), [np.nan, 1.5, 1.5, np.nan, 2.5, 2.5, np.nan])
    same(values(path, 4, chrom="2"), [9])


def test_bedgraph_is_0_based_and_half_open(tmp_path):
    text = 'browser position chr1\ntrack type=bedGraph name="x"\nchr1\t2\t4\t1.5\n\n1 4 5 2\nchr2 0 9 7\n'
    path = write(tmp_path, text, "t.bedGraph.gz")
    same(values(path, 1, 2, 3, 4, 5), [np.nan, 1.5, 1.5, 2, np.nan])
    same(values(path, 8, chrom="chr2"), [7])


def test_the_mean_over_ref_leaves_out_bases_without_a_value(tmp_path):
    path = write(tmp_path, "fixedStep chrom=chrM start=1 step=1\n1\n2\n6\n")
    same(values(path, 0, 1, 2, 3, chrom="MT", length=2), [1.5, 4, 6, np.nan])
    same(values(path, 0, chrom="chr1"), [np.nan])


@pytest.mark.parametrize("block", [1, 7, 1 << 17])
def test_every_format_agrees_with_an_array(tmp_path, monkeypatch, block):
    monkeypatch.setattr(variant_tracks, "_LINES_AT_ONCE", block)
    rng = np.random.default_rng(0)
    truth = np.round(rng.normal(size=300), 3)
    truth[rng.random(300) < 0.2] = np.nan
    fixed, variable, bed = "", "variableStep chrom=1\n", ""
    for place, value in enumerate(truth):
        if np.isnan(value):
            continue
        if place == 0 or np.isnan(truth[place - 1]):
            fixed += f"fixedStep chrom=chr1 start={place + 1} step=1\n"
        fixed += f"{value}\n"
        variable += f"{place + 1}\t{value}\n"
        bed += f"chr1\t{place}\t{place + 1}\t{value}\n"
    start, length = rng.integers(0, 280, 100), rng.integers(1, 20, 100)
    known = [truth[a : a + n][~np.isnan(truth[a : a + n])] for a, n in zip(start, length, strict=True)]
    expected = [part.mean() if len(part) else np.nan for part in known]
    for name, text in (("f.wig", fixed), ("v.wig.gz", variable), ("b.bedGraph", bed)):
        found = track_values(write(tmp_path, text, name), ["chr1"] * 100, start, length)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_bigwig_is_read_where_its_reader_is_there(tmp_path, monkeypatch):
    path = tmp_path / "t.bw"
    path.write_bytes(bytes.fromhex("26fc8f88") + b"\0" * 60)
    monkeypatch.setitem(sys.modules, "pyBigWig", None)  # as if not installed
    with pytest.raises(ValueError, match=r"t.bw: a bigWig is read by pyBigWig, .* pip install pyBigWig"):
        values(path, 1)
    truth = np.array([np.nan, 1, 2, 3, np.nan, 5])

    class File:
        def chroms(self):
            return {"chr1": 6, "chr2": 3}

        def values(self, name, start, end):
            assert name == "chr1" and 0 <= start < end <= 6
            return list(truth[start:end])

        def close(self):
            pass

    reader = types.ModuleType("pyBigWig")
    reader.open = lambda name: File()
    monkeypatch.setitem(sys.modules, "pyBigWig", reader)
    same(values(path, 0, 1, 2, 4, 5, 6, 900, chrom="1"), [np.nan, 1, 2, np.nan, 5, np.nan, np.nan])
    same(values(path, 1, 3, length=3), [2, 4])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fixedStep chrom=chr1 start=1 step=1\n1\n0.5.5\n3\n", r"t.wig:3: got '0.5.5' where a number should be"),
        ("variableStep chrom=chr1\n1 2\n# note\n5\n", r"t.wig:4: got '5' where 2 numbers should be"),
        ("chr1 1 2 3\nchr1 5 4 1\n", "t.wig:2: the end is not behind the start"),
        ("chr1 1 2 3\nchr1 x 4 1\n", "t.wig:2: got 'x 4 1' where 3 numbers should be"),
        ("fixedStep chrom=chr1 step=1\n1\n", "t.wig:1: start is None; allowed: whole numbers from 1"),
        ("fixedStep chrom=chr1 start=0 step=1\n1\n", "t.wig:1: start is '0'"),
        ("fixedStep start=1\n1\n", "t.wig:1: the declaration names no chrom="),
        (">chr1\nACGT\n", "t.wig:1: '>chr1' is neither wig nor bedGraph"),
        ("0.1\n0.2\n", "t.wig:1: '0.1' is neither wig nor bedGraph"),
        ("# nothing\n", "t.wig: holds no track"),
    ],
)
def test_a_mistake_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        values(write(tmp_path, text), 1)


def test_no_file_a_folder_and_a_torn_archive(tmp_path):
    with pytest.raises(ValueError, match="none.wig: no such file"):
        values(tmp_path / "none.wig", 1)
    with pytest.raises(ValueError, match="a folder, not a track"):
        values(tmp_path, 1)
    path = write(tmp_path, "fixedStep chrom=chr1 start=1 step=1\n" + "0.1234\n" * 5000, "t.wig.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"t.wig.gz:\d+: broken or truncated gzip"):
        values(path, 1)


@pytest.mark.parametrize(
    ("path", "name"), [("a/phyloP.wigFix.gz", "phyloP"), ("b.bw", "b"), ("c", "c"), ("d.e.bedGraph", "d.e")]
)
def test_track_names(path, name):
    assert track_name(path) == name


def test_real_phylop(data_dir):
    """The file has a value a base from the first on, so that line and place go together."""
    path = data_dir / "variants" / "mt_chrM_phyloP100way.wigFix.gz"
    with gzip.open(path, "rt") as file:
        truth = np.array([float(line) for line in list(file)[1:]])
    assert len(truth) == 16569
    found = track_values(path, ["MT"] * 16570, np.arange(16570), np.ones(16570, dtype=int))
    np.testing.assert_array_equal(found[:-1], truth)
    assert np.isnan(found[-1])
