"""`genolm score` from files to files: every record, the same bytes however it ran, and mistakes in one line."""

import contextlib
import json
import os
import random
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pysam
import pytest
import runs
from scoring import BASES, CONTIGS, other_base, record, save, score, write_vcf

from genolm.cli import main
from genolm.genome.store import prepare_store
from genolm.models.language_model import open_language_model
from genolm.variants.alleles import Allele, Contigs, resolve_allele
from genolm.variants.likelihood import score_alleles


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("score")
    (folder / "g.fa").write_text("".join(f">{name}\n{bases}\n" for name, bases in CONTIGS.items()))
    save(folder / "masked", "masked", {"architecture": "genolm", "mixers": ["attention"]})
    save(folder / "causal", "causal", {"architecture": "genolm", "mixers": ["fir", "attention"]})
    return folder


def mixed():
    ref = CONTIGS["chr1"][99]
    return [
        record("chr1", 100, alt=",".join(base for base in BASES if base != ref)),
        record("1", 200),
        record("chr1", 300, size=3, alt=CONTIGS["chr1"][299]),
        record("chr1", 400, alt=CONTIGS["chr1"][399] + "GATTACA"),
        record("chr1", 500, ref=other_base(CONTIGS["chr1"][499])),
        record("chr1", 600, alt="<DEL>,*"),
        record("chr2", 1),
        record("chr2", 400),
        record("chr2", 9000, ref="A"),
        record("chr3", 5, ref="A", alt="C"),
        record("chr1", 700, alt="."),
    ]


STATUSES = ["scored"] * 6 + [
    "ref_mismatch",
    "symbolic",
    "star",
    "scored",
    "scored",
    "beyond_contig",
    "contig_missing",
    "missing",
]


@pytest.mark.parametrize("model", ["masked", "causal"])
def test_every_record_with_scores_or_the_reason(folder, tmp_path, capfd, model):
    path = write_vcf(tmp_path / "x.vcf", mixed())
    name = "likelihood" if model == "causal" else "masked_llr"
    for out in ("y.vcf.gz", "y.tsv", "y.parquet"):
        code, told = score(folder, path, "--out", tmp_path / out, "--background", 4, model=model, capfd=capfd)
        assert code == 0 and "11 of 11 records" in told and "contig 1 is chr1 of the FASTA" in told
        summary = json.loads((tmp_path / f"{out}.summary.json").read_text())
        assert summary["statuses"]["scored"] == 8 and summary["alts"] == 14
        assert (tmp_path / f"{out}.png").read_bytes().startswith(b"\x89PNG")
        assert not (tmp_path / f"{out}.parts").exists()
    with pysam.VariantFile(str(tmp_path / "y.vcf.gz")) as file:
        read = list(file)
        described = file.header.info[f"GENOLM_{name.upper()}"].description
    assert "positive favours ALT" in described and "66 bp" in described
    assert [r.pos for r in read] == [int(line.split("\t")[1]) for line in mixed()]
    assert [s for r in read for s in r.info["GENOLM_STATUS"]] == STATUSES
    table = pq.read_table(tmp_path / "y.parquet").to_pydict()
    assert table["GENOLM_STATUS"] == STATUSES
    store = prepare_store({"g": [folder / "g.fa"]}, tmp_path / "store")
    language, contigs = open_language_model(str(folder / model)), Contigs(store)
    lines = [line.split("\t") for line in mixed()]
    alleles = [
        a
        for f in lines
        for alt in f[4].split(",")
        if (a := resolve_allele(contigs, store, f[0], int(f[1]), f[3], alt, 16)[1])
    ]
    direct = score_alleles(
        language.model, language.encoder, store, alleles, causal=language.causal, window_bp=66, estimators=[name]
    )
    found = np.array(table[f"GENOLM_{name.upper()}"], dtype=float)
    np.testing.assert_allclose(found[np.isfinite(found)], direct.values[name], rtol=1e-4)
    assert np.isfinite(found).tolist() == [status == "scored" for status in STATUSES]
    assert np.isfinite(np.array(table[f"GENOLM_{name.upper()}_Z"], dtype=float)).sum() == 2  # the indels
    assert table["GENOLM_CUT"] == [None] * 9 + [1, 1] + [None] * 3
    text = (tmp_path / "y.tsv").read_text().splitlines()
    assert len(text) == 15 and text[0].split("\t")[:5] == ["chrom", "pos", "id", "ref", "alt"]


def test_only_what_grows_with_an_indel_stands_among_random_ones(folder, tmp_path):
    path = write_vcf(tmp_path / "x.vcf", [record("chr1", 500), record("chr1", 600, size=2, alt="A")])
    options = [word for name in ("masked_llr", "entropy", "embedding") for word in ("--estimator", name)]
    assert score(folder, path, "--out", tmp_path / "y.tsv", "--background", 2, *options)[0] == 0
    names = (tmp_path / "y.tsv").read_text().split("\n")[0].split("\t")
    assert [name for name in names if name.endswith("_Z")] == ["GENOLM_MASKED_LLR_Z"]


def test_from_stdin(folder, tmp_path, monkeypatch):
    path = write_vcf(tmp_path / "x.vcf", mixed())
    for name, source in (("a.tsv", path), ("b.tsv", "-")):
        with path.open() as file:
            monkeypatch.setattr(sys, "stdin", file)
            assert score(folder, source, "--out", tmp_path / name, "--background", 0)[0] == 0
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "b.tsv").read_bytes()


def test_what_becomes_of_another_reference(folder, tmp_path, capfd):
    path = write_vcf(tmp_path / "x.vcf", mixed())
    out = tmp_path / "y.vcf"
    code, told = score(folder, path, "--out", out, "--check-ref", "exit", capfd=capfd)
    assert code == 2 and f"{path}:7: REF is" in told and not out.exists()
    code, told = score(
        folder, path, "--out", tmp_path / "z.vcf", "--check-ref", "exclude", "--background", 0, capfd=capfd
    )
    assert code == 0 and "10 of 11 records" in told and "1 record of chr1 left out" in told
    assert len([x for x in (tmp_path / "z.vcf").read_text().splitlines() if x[0] != "#"]) == 10


def test_a_file_of_which_nothing_can_be_scored_is_told_by_its_exit_code(folder, tmp_path):
    path = write_vcf(tmp_path / "x.vcf", [record("chr9", 5, ref="A", alt="C")])
    assert score(folder, path, "--out", tmp_path / "y.vcf")[0] == 3
    assert "GENOLM_STATUS=contig_missing" in (tmp_path / "y.vcf").read_text()
    assert score(folder, write_vcf(tmp_path / "none.vcf", []), "--out", tmp_path / "none.out.vcf")[0] == 0


def test_mistakes_are_one_line(folder, tmp_path, capfd):
    path = write_vcf(tmp_path / "x.vcf", mixed())
    there = tmp_path / "there.tsv"
    there.write_text("mine")
    cases = [
        ((tmp_path / "none.vcf", "--out", tmp_path / "a.tsv"), {}, "none.vcf"),
        ((path, "--out", tmp_path / "a.txt"), {}, "its name must end in"),
        ((path, "--out", there), {}, "is there already"),
        (
            (path, "--out", tmp_path / "b.tsv", "--estimator", "llr"),
            {},
            "estimator 'llr' is not available for masked models",
        ),
        (
            (path, "--out", tmp_path / "c.tsv", "--estimator", "masked_llr"),
            {"model": "causal"},
            "not available for causal models",
        ),
        ((path, "--out", tmp_path / "d.tsv", "--window", 512), {}, "--window 512: the model takes 4 to"),
        ((path, "--out", tmp_path / "e.tsv"), {"model": "g.fa"}, "g.fa"),
        ((path, "--out", tmp_path / "f.tsv", "--check-ref", "no"), {}, "allowed are exit, warn"),
        ((folder / "g.fa", "--out", tmp_path / "g.tsv"), {}, "g.fa"),
        ((path, "--out", tmp_path / "h.tsv", "--trust-remote-code", "--model", "some/model"), {}, "--revision"),
    ]
    for arguments, options, message in cases:
        if "--model" in arguments:
            options = {"model": "masked"}
            code = 0
            try:
                main(["score", *map(str, arguments), "--fasta", str(folder / "g.fa")])
            except SystemExit as error:
                code = error.code
            told = capfd.readouterr().err
        else:
            code, told = score(folder, *arguments, **options, capfd=capfd)
        assert code == 2 and message in told and "Traceback" not in told, (arguments, told)
    assert there.read_text() == "mine" and not list(tmp_path.glob("[a-h].tsv"))


@pytest.fixture(scope="module")
def many(folder):
    """1,200 single bases and some indels, and what scoring them in one go gives."""
    numbers = random.Random(0)
    lines = []
    for _ in range(1200):
        pos = numbers.randrange(1, 2990)
        size = numbers.choice([1] * 20 + [2, 3])
        lines.append(record("chr1", pos, size=size, alt=other_base(CONTIGS["chr1"][pos - 1], numbers.randrange(1, 4))))
    path = write_vcf(folder / "many.vcf", lines)
    assert score(folder, path, "--out", folder / "many.out.vcf", "--background", 20)[0] == 0
    return path, (folder / "many.out.vcf").read_bytes()


@pytest.mark.parametrize("number", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_and_started_again_it_ends_with_the_same_bytes(folder, tmp_path, many, number):
    path, expected = many
    chance, out = random.Random(number), tmp_path / "out.vcf"
    options = [
        "score",
        str(path),
        "--fasta",
        str(folder / "g.fa"),
        "--model",
        str(folder / "masked"),
        "--out",
        str(out),
    ]
    options += ["--background", "20"]
    runs._ensure_server()
    for i in range(number):
        process = runs.SERVER.Process(target=runs._child, args=(options, str(tmp_path / f"{i}.txt"), {}, None))
        process.start()
        time.sleep(chance.random() * 4)
        process.kill()
        process.join()
        if out.exists() and not out.with_name("out.vcf.parts").exists():
            assert out.read_bytes() == expected
            out.unlink()
    with contextlib.suppress(SystemExit):
        main(options)
    assert out.read_bytes() == expected and not out.with_name("out.vcf.parts").exists()


def test_an_unfinished_job_is_not_mixed_with_another(folder, tmp_path, many, monkeypatch, capfd):
    import genolm.variants.job as scoring_job

    path, expected = many
    out, real, calls = tmp_path / "out.vcf", scoring_job.score_alleles, []

    def stops(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(scoring_job, "score_alleles", stops)
    code, told = score(folder, path, "--out", out, "--background", 20, capfd=capfd)
    assert code == 75 and "the same command resumes" in told and not out.exists()
    code, told = score(folder, path, "--out", out, "--background", 20, "--window", 32, capfd=capfd)
    assert code == 2 and "window_bp was 66 and is now 32" in told
    calls[:] = [1] * 5
    assert score(folder, path, "--out", out, "--background", 20)[0] == 0
    assert out.read_bytes() == expected
    # 3 stretches and 2 lengths of deletions, of which the first stretch was done.
    assert len(calls) - 5 == 2 + 2


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(folder, tmp_path, many, project_dir):
    path, expected = many
    profile = project_dir / "recipes/accelerate/cpu-ddp.yaml"
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(profile),
        "-m",
        "genolm",
        "score",
    ]
    options = [
        "--fasta",
        folder / "g.fa",
        "--model",
        folder / "masked",
        "--out",
        tmp_path / "out.vcf",
        "--background",
        20,
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(project_dir), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*command, str(path), *map(str, options)], capture_output=True, text=True, env=env, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.vcf").read_bytes() == expected
    (tmp_path / "out.vcf").unlink()
    words = [*command, str(tmp_path / "none.vcf"), *map(str, options)]
    done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=300)
    # The launcher has words of its own.
    assert done.returncode and "[rank1]" not in done.stderr
    assert f"error: {tmp_path / 'none.vcf'}: no such file" in done.stderr


@pytest.mark.parametrize(
    ("objective", "block", "tokenizer", "tokens"),
    [
        ("masked", {"architecture": "bert"}, "dnabert-6", 64),
        ("masked", {"architecture": "esm"}, "nucleotide-transformer-v2", 32),
        ("masked", {"architecture": "modernbert"}, "char", 64),
        ("causal", {"architecture": "llama", "num_key_value_heads": 2}, "kmer3", 32),
        (
            "causal",
            {"architecture": "mamba2", "num_heads": 4, "head_dim": 8, "state_size": 8, "n_groups": 1},
            "hyenadna",
            64,
        ),
    ],
)
def test_models_of_transformers_are_read_by_their_files(folder, tmp_path, objective, block, tokenizer, tokens):
    language = open_language_model(str(save(tmp_path / "m", objective, block, tokenizer, tokens)), window_bp=48)
    assert language.causal == (objective == "causal")
    store = prepare_store({"g": [folder / "g.fa"]}, tmp_path / "store")
    bases = CONTIGS["chr1"]
    alleles = [
        Allele(0, 100, bases[100], other_base(bases[100])),
        Allele(0, 200, bases[200:202], ""),
        Allele(0, 300, "", "GT"),
    ]
    name = "likelihood" if language.causal else "masked_llr"
    one, many = (
        score_alleles(
            language.model,
            language.encoder,
            store,
            part,
            causal=language.causal,
            window_bp=48,
            estimators=[name],
            max_tokens=language.max_tokens,
        )
        for part in (alleles[:1], alleles)
    )
    assert np.isfinite(many.values[name]).all() and np.abs(many.values[name]).min() > 1e-6
    assert one.values[name][0] == pytest.approx(many.values[name][0], abs=1e-5)


def test_a_folder_of_somebody_else_is_left_alone(folder, tmp_path, capfd):
    path = write_vcf(tmp_path / "x.vcf", mixed())
    mine = tmp_path / "y.vcf.parts"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    code, told = score(folder, path, "--out", tmp_path / "y.vcf", capfd=capfd)
    assert code == 2 and "y.vcf.parts holds 'thesis.txt'" in told and (mine / "thesis.txt").read_text() == "mine"
    code, told = score(folder, path, "--out", tmp_path / "z.vcf", "--step", 17, capfd=capfd)
    assert code == 2 and "--step 17: at most a quarter of the window, 16 of 66 bp" in told
    assert not (tmp_path / "z.vcf.parts").exists()
    assert score(folder, path, "--out", tmp_path / "z.vcf", "--step", 16, "--background", 0)[0] == 0


def test_an_indexed_fasta_is_read_where_it_lies(folder, tmp_path, monkeypatch):
    """The same scores as from a FASTA that is prepared, and not a byte of the genome is written again."""
    import genolm.variants.job as scoring_job

    indexed = tmp_path / "g.fa"
    indexed.write_bytes((folder / "g.fa").read_bytes())
    pysam.faidx(str(indexed))
    vcf = write_vcf(tmp_path / "in.vcf", mixed())
    listings = []
    end = scoring_job.ResultShards.end
    monkeypatch.setattr(
        scoring_job.ResultShards,
        "end",
        lambda self: (listings.append({p.name for p in self.folder.iterdir()}), end(self)),
    )
    for fasta, name in ((folder / "g.fa", "prepared"), (indexed, "indexed")):
        assert score(folder, vcf, "--out", tmp_path / f"{name}.vcf", model="causal", fasta=fasta)[0] == 0
    assert (tmp_path / "indexed.vcf").read_bytes() == (tmp_path / "prepared.vcf").read_bytes()
    assert "genome" in listings[0] and "genome" not in listings[1]
    assert sorted(path.name for path in tmp_path.glob("g.fa*")) == ["g.fa", "g.fa.fai"]
