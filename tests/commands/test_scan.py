"""`genolm scan` from regions to a track: one value a base, sorted, the same in every format and however it ran."""

import contextlib
import csv
import sys

import numpy as np
import pyBigWig
import pytest
import torch

from genolm.cli import main
from genolm.models.build import build_model
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.variants.tracks import TrackRun, runs_of, write_track

BASES = "ACGT"
CHR1 = "".join(np.random.default_rng(1).choice(list(BASES), 600))
CHR1 = CHR1[:300] + "NNN" + CHR1[303:]
CHR10 = "".join(np.random.default_rng(2).choice(list(BASES), 100))
BED = "chr2\t0\t4\n1\t295\t306\nchr10\t50\t52\nchr1\t300\t310\nchr1\t100\t250\n"
WANTED = (
    [("chr1", k) for k in range(100, 250)]
    + [("chr1", k) for k in (*range(295, 300), *range(303, 310))]
    + [("chr10", 50), ("chr10", 51)]
    + [("chr2", k) for k in range(4)]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan")
    # The order of the FASTA is not that of the names.
    (folder / "g.fa").write_text(f">chr2\nACGTACGT\n>chr1\n{CHR1}\n>chr10\n{CHR10}\n")
    (folder / "x.bed").write_text(BED)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    for name, objective, tokenizer in (
        ("masked", "masked", "char"),
        ("causal", "causal", "char"),
        ("kmer", "masked", "kmer3"),
    ):
        made = build_tokenizer(load_spec(tokenizer))
        torch.manual_seed(0)
        model = build_model(size | {"architecture": "genolm", "mixers": ["attention"]}, made, objective, 66)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape) * 0.2)
        model.save_pretrained(folder / name)
        made.save_pretrained(folder / name)
    return folder


def scan(folder, *arguments, model="masked", bed="x.bed", capfd=None):
    code = 0
    options = ["--fasta", folder / "g.fa", "--model", folder / model, "--window", 66]
    try:
        main(["scan", str(folder / bed), *map(str, arguments), *map(str, options)])
    except SystemExit as error:
        code = error.code
    told = capfd.readouterr() if capfd else None
    return code, told and told.out + told.err


def bedgraph(path):
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    assert all(int(end) == int(start) + 1 for _, start, end, _ in lines)
    return [(chrom, int(start)) for chrom, start, _, _ in lines], np.array([float(line[3]) for line in lines])


def mutations(folder, tmp_path, model, *estimators):
    """What `genolm mutate` says of the same bases: base → ALT → row."""
    options = [x for name in estimators for x in ("--estimator", name)]
    out = tmp_path / f"mutate-{model}"
    common = ["--fasta", folder / "g.fa", "--model", folder / model, "--window", 66]
    with contextlib.suppress(SystemExit):
        main(["mutate", "--regions", str(folder / "x.bed"), *options, "--out", str(out), *map(str, common)])
    found = {}
    with (out / "mutations.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            found.setdefault((row["chrom"], int(row["pos"]) - 1), {})[row["alt"]] = row
    return found


@pytest.mark.parametrize("model", ["masked", "causal", "kmer"])
def test_values_are_those_of_every_change(folder, tmp_path, capfd, model):
    estimator = "likelihood" if model == "causal" else "masked_llr"
    changes = mutations(folder, tmp_path, model, estimator, *(["entropy"] if model == "masked" else []))
    llrs = {at: [float(row[f"GENOLM_{estimator.upper()}"]) for row in alts.values()] for at, alts in changes.items()}
    out = tmp_path / "max.bedgraph"
    code, told = scan(folder, "--value", "max_llr", "--out", out, model=model, capfd=capfd)
    assert code == 0 and "168 of 171 bases" in told and "3 without a value" in told
    assert "contig 1 is chr1 of the FASTA" in told
    places, values = bedgraph(out)
    assert places == WANTED
    np.testing.assert_allclose(values, [max(llrs[at]) for at in places], rtol=1e-4, atol=2e-5)
    assert scan(folder, "--out", tmp_path / "entropy.bedgraph", model=model)[0] == 0
    places, values = bedgraph(tmp_path / "entropy.bedgraph")
    assert places == WANTED
    if model == "masked":
        expected = [float(next(iter(changes[at].values()))["GENOLM_ENTROPY"]) for at in places]
    else:
        p = np.exp([[0, *llrs[at]] for at in places])
        p /= p.sum(1, keepdims=True)
        expected = -(p * np.log(p)).sum(1)
    np.testing.assert_allclose(values, expected, rtol=2e-4, atol=2e-5)
    assert len(set(values.tolist())) > 150 and not list(tmp_path.glob("*.parts"))


def test_a_bigwig_holds_the_same(folder, tmp_path):
    for name in ("y.bw", "y.bedgraph"):
        assert scan(folder, "--out", tmp_path / name)[0] == 0
    places, values = bedgraph(tmp_path / "y.bedgraph")
    with pyBigWig.open(str(tmp_path / "y.bw")) as file:
        assert list(file.chroms().items()) == [("chr1", 600), ("chr10", 100), ("chr2", 8)]
        found = {name: np.array(file.values(name, 0, length)) for name, length in file.chroms().items()}
        assert file.header()["nBasesCovered"] == 168
        assert file.stats("chr1", 0, 600)[0] == pytest.approx(values[:162].mean(), rel=1e-5)
    assert [(name, int(k)) for name in found for k in np.flatnonzero(np.isfinite(found[name]))] == WANTED == places
    np.testing.assert_allclose([found[name][k] for name, k in places], values, rtol=1e-5)


def test_an_interrupted_job_goes_on_and_ends_with_the_same_bytes(folder, tmp_path, monkeypatch, capfd):
    import genolm.variants.job as scoring_job

    assert scan(folder, "--out", tmp_path / "whole.bw")[0] == 0
    real, calls = scoring_job.score_alleles, []

    def stops(*args, **options):
        calls.append(1)
        if len(calls) == 10:  # after chr2 and 128 bases of chr1
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(scoring_job, "score_alleles", stops)
    out = tmp_path / "out.bw"
    code, told = scan(folder, "--out", out, capfd=capfd)
    assert code == 75 and "the same command resumes" in told and not out.exists()
    code, told = scan(folder, "--out", out, "--value", "max_llr", capfd=capfd)
    assert code == 2 and "estimators was ['entropy'] and is now ['masked_llr']" in told
    del calls[:]
    calls += [1] * 20
    code, told = scan(folder, "--out", out, capfd=capfd)
    assert code == 0 and "resuming" in told
    assert len(calls) == 20 + 4  # of chr1 22 bases in 2 calls and 15 in 1, then chr10
    assert out.read_bytes() == (tmp_path / "whole.bw").read_bytes()


def test_mistakes_are_one_line(folder, tmp_path, monkeypatch, capfd):
    (folder / "nine.bed").write_text("chr9\t0\t5\n")
    (folder / "bad.bed").write_text("chr1\t0\tfive\n")
    (tmp_path / "there.bdg").write_text("mine")
    cases = [
        (["--out", tmp_path / "y.txt"], {}, "its name must end in .bw, .bigwig"),
        (["--out", tmp_path / "y.bdg", "--value", "llr"], {}, "--value llr: allowed are entropy, max_llr"),
        (["--out", tmp_path / "there.bdg"], {}, "is there already"),
        (["--out", tmp_path / "y.bdg"], {"bed": "nine.bed"}, "nine.bed: chr9:1-5 (1-based): the FASTA has no contig"),
        (["--out", tmp_path / "y.bdg"], {"bed": "bad.bed"}, "bad.bed:1: '0' and 'five' must be whole numbers"),
        (["--out", tmp_path / "y.bdg"], {"bed": "none.bed"}, "none.bed: no such file"),
    ]
    for arguments, options, message in cases:
        code, told = scan(folder, *arguments, **options, capfd=capfd)
        assert code == 2 and message in told and "Traceback" not in told, told
    assert (tmp_path / "there.bdg").read_text() == "mine"
    monkeypatch.setitem(sys.modules, "pyBigWig", None)
    code, told = scan(folder, "--out", tmp_path / "y.bw", capfd=capfd)
    assert code == 2 and "pip install 'genolm[bigwig]'" in told and not list(tmp_path.glob("y.bw*"))
    assert scan(folder, "--out", tmp_path / "y.bdg")[0] == 0


def test_runs_have_no_gaps():
    values = np.array([np.nan, 1, 2, np.nan, np.nan, 3, 4])
    assert [(run.start, run.values.tolist()) for run in runs_of("c", 10, values)] == [(11, [1, 2]), (15, [3, 4])]
    assert list(runs_of("c", 0, np.full(3, np.nan))) == []


@pytest.mark.parametrize("name", ["x.bw", "x.bdg"])
def test_neighbouring_runs_and_no_runs(tmp_path, name):
    runs = [
        TrackRun("a", 3, np.array([1.0, 2.0])),
        TrackRun("a", 5, np.array([3.0])),
        TrackRun("b", 0, np.array([-4.0])),
    ]
    assert write_track(tmp_path / name, {"b": 2, "a": 9}, runs) == 4
    assert write_track(tmp_path / f"no.{name}", {"b": 2, "a": 9}, []) == 0
    if name == "x.bdg":
        rows = [("a", 3, 1), ("a", 4, 2), ("a", 5, 3), ("b", 0, -4)]
        expected = "".join(f"{chrom}\t{start}\t{start + 1}\t{value}\n" for chrom, start, value in rows)
        assert (tmp_path / name).read_text() == expected
    else:
        with pyBigWig.open(str(tmp_path / name)) as file:
            assert file.intervals("a") == ((3, 4, 1.0), (4, 5, 2.0), (5, 6, 3.0))
            assert file.values("b", 0, 1) == [-4.0]
        with pyBigWig.open(str(tmp_path / f"no.{name}")) as file:
            assert file.chroms() == {"a": 9, "b": 2}
