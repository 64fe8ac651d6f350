"""Tracks: a bigWig gives the values that a plain array gives."""

import gzip
import sys

import numpy as np
import pytest

from genolm.metrics.variant_tracks import track_values

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
