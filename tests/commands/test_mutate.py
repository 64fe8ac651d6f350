"""`genolm mutate` from files to files: every change once, as `genolm score` says, and mistakes in one line."""

import csv
import re

import numpy as np
import pytest
import torch

from genolm.cli import main
from genolm.genome.store import prepare_store
from genolm.models.build import build_model
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.variants.alleles import Contigs
from genolm.variants.saturation import (
    Span,
    changes_of,
    entropy,
    information,
    locate_regions,
    log_probabilities,
    pieces_of,
)

BASES = "ACGT"
CHR1 = "".join(np.random.default_rng(1).choice(list(BASES), 600))
CHR1 = CHR1[:200] + "GAAAAC" + CHR1[206:300] + "NNr" + CHR1[303:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mutate")
    (folder / "g.fa").write_text(f">chr1\n{CHR1[:100]}{CHR1[100:150].lower()}{CHR1[150:]}\n>chr2\nACGTACGT\n")
    made = build_tokenizer(load_spec("char"))
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    for objective in ("masked", "causal"):
        torch.manual_seed(0)
        model = build_model(size | {"architecture": "genolm", "mixers": ["attention"]}, made, objective, 66)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape) * 0.2)
        model.save_pretrained(folder / objective)
        made.save_pretrained(folder / objective)
    return folder


def mutate(folder, *arguments, model="masked", capfd=None, verb="mutate"):
    code = 0
    try:
        main([verb, *map(str, arguments), "--fasta", str(folder / "g.fa"), "--model", str(folder / model)])
    except SystemExit as error:
        code = error.code
    told = capfd.readouterr() if capfd else None
    return code, told and told.out + told.err


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.mark.parametrize("model", ["masked", "causal"])
def test_every_change_once_and_as_genolm_score_says(folder, tmp_path, capfd, model):
    out = tmp_path / "out"
    code, told = mutate(
        folder, "--region", "1:196-206", "--region", "chr1:1-3", "--deletions", "--out", out, model=model, capfd=capfd
    )
    assert code == 0 and "56 changes of 14 bases" in told and "contig 1 is chr1 of the FASTA" in told
    names = ["chr1_1-3.png", "chr1_196-206.png", "index.html", "mutations.tsv"]
    assert sorted(path.name for path in out.iterdir()) == names
    rows = table(out / "mutations.tsv")
    wanted = [*range(1, 4), *range(196, 207)]
    assert [(int(row["pos"]), row["alt"]) for row in rows] == [
        (pos, alt) for pos in wanted for alt in "ACGT-" if alt != CHR1[pos - 1]
    ]
    assert all(row["ref"] == CHR1[int(row["pos"]) - 1] and row["chrom"] == "chr1" for row in rows)
    assert all((row["GENOLM_CUT"] == "1") == (int(row["pos"]) < 33) for row in rows)
    # The same changes as a VCF, deletions with the base before, or at the start of the contig the one after.
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for row in rows:
        pos, ref, alt = int(row["pos"]), row["ref"], row["alt"]
        if alt == "-":
            pos = max(pos - 1, 1)
            ref = CHR1[pos - 1 : pos + 1]
            alt = ref[0] if int(row["pos"]) > 1 else ref[1]
        lines.append(f"chr1\t{pos}\t.\t{ref}\t{alt}\t.\t.\t.")
    (tmp_path / "x.vcf").write_text("\n".join(lines) + "\n")
    code, told = mutate(
        folder,
        tmp_path / "x.vcf",
        "--out",
        tmp_path / "y.tsv",
        "--background",
        0,
        model=model,
        capfd=capfd,
        verb="score",
    )
    assert code == 0, told
    column = "GENOLM_LIKELIHOOD" if model == "causal" else "GENOLM_MASKED_LLR"
    for name in (column, f"{column}_STRANDS"):
        scored = [float(row[name]) for row in table(tmp_path / "y.tsv")]
        np.testing.assert_allclose([float(row[name]) for row in rows], scored, rtol=6e-5, atol=2e-5)  # of five digits
    # Deletions of any base of a repeat are one.
    assert len({row[column] for row in rows if row["alt"] == "-" and 202 <= int(row["pos"]) <= 205}) == 1


def test_the_page_shows_what_the_table_says(folder, tmp_path):
    out = tmp_path / "out"
    assert mutate(folder, "--region", "chr1:298-306", "--out", out)[0] == 0
    page = (out / "index.html").read_text()
    rows = table(out / "mutations.tsv")
    assert len(rows) == 6 * 3 and not {int(row["pos"]) for row in rows} & {301, 302, 303}
    shown = dict(re.findall(r"<title>chr1:(\d+ \w→\w) ([+−][\d.]+)</title>", page))
    assert len(shown) == 18
    for row in rows:
        value = float(shown[f"{row['pos']} {row['ref']}→{row['alt']}"].replace("−", "-"))
        assert value == pytest.approx(float(row["GENOLM_MASKED_LLR"]), abs=0.0051)
    assert page.count(", not scored</title>") == 12 and page.count(", the reference</title>") == 6
    assert "66 bp around each base" in page and "masked_llr: " in page and str(folder / "masked") in page
    assert "drawn minus their mean" not in page


def test_regions_of_a_file_that_overlap_are_scored_once_and_shown_each(folder, tmp_path, capfd):
    (tmp_path / "x.bed").write_text("chr1\t10\t16\tone\nchr1\t13\t18\tother\nchr1\t10\t16\tagain\n")
    out = tmp_path / "out"
    code, told = mutate(
        folder, "--regions", tmp_path / "x.bed", "--estimator", "unmasked_llr", "--estimator", "entropy", "--out", out,
        capfd=capfd,
    )  # fmt: skip
    assert code == 0 and "24 changes of 8 bases" in told
    rows = table(out / "mutations.tsv")
    assert [int(row["pos"]) for row in rows] == [pos for pos in range(11, 19) for _ in range(3)]
    assert 0 < float(rows[0]["GENOLM_ENTROPY"]) < np.log(4) + 1e-6
    assert len(list(out.glob("*.png"))) == 2 and (out / "index.html").read_text().count("<section>") == 2


def test_an_interrupted_job_goes_on(folder, tmp_path, monkeypatch, capfd):
    import genolm.variants.job as scoring_job

    arguments = ["--region", "chr1:50-250", "--out"]
    assert mutate(folder, *arguments, tmp_path / "whole")[0] == 0
    real, calls = scoring_job.score_alleles, []

    def stops(*args, **options):
        calls.append(1)
        if len(calls) == 10:  # of 8 in the first piece
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(scoring_job, "score_alleles", stops)
    out = tmp_path / "out"
    code, told = mutate(folder, *arguments, out, capfd=capfd)
    assert code == 75 and "the same command resumes" in told
    code, told = mutate(folder, *arguments, out, "--deletions", capfd=capfd)
    assert code == 2 and "deletions was False and is now True" in told
    del calls[:]
    calls += [1] * 20
    assert mutate(folder, *arguments, out)[0] == 0
    assert len(calls) == 20 + 5  # 73 bases of the second piece, 16 at a time
    for name in ("mutations.tsv", "index.html", "chr1_50-250.png"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_mistakes_are_one_line(folder, tmp_path, capfd):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_text("x")
    (tmp_path / "x.bed").write_text("chr1\t10\t700\n")
    (tmp_path / "empty.bed").write_text("")
    cases = [
        ([], "no region was given; set --region"),
        (["--region", "chr9:1-5"], "--region chr9:1-5: the FASTA has no contig 'chr9'; it has chr1, chr2"),
        (["--region", "chr1:590-601"], "ends beyond chr1, which has 600 bp"),
        (["--region", "chr1:9-5"], "1 <= start <= end must hold"),
        (["--regions", tmp_path / "x.bed"], "x.bed: chr1:11-700 (1-based) ends beyond chr1"),
        (["--regions", tmp_path / "empty.bed"], "empty.bed: no regions in it"),
        (["--regions", tmp_path / "none.bed"], "none.bed: no such file"),
        (["--region", "chr1", "--max-bp", 599], "600 bp in all regions"),
        (["--region", "chr1:5", "--estimator", "entropy"], "the first one is drawn"),
        (["--region", "chr1:5", "--estimator", "llr"], "estimator 'llr' is not available for masked models"),
    ]
    for number, (arguments, message) in enumerate(cases):
        out = tmp_path / f"out{number}"
        code, told = mutate(folder, *arguments, "--out", out, capfd=capfd)
        assert code == 2 and message in told and "Traceback" not in told, (arguments, told)
        assert not (out / "mutations.tsv").exists()
    # What a refused start has left is no obstacle.
    assert mutate(folder, "--region", "chr1:5", "--out", tmp_path / "out8")[0] == 0
    code, told = mutate(folder, "--region", "chr1:5", "--out", tmp_path / "there", capfd=capfd)
    assert code == 2 and "is there already" in told and (tmp_path / "there" / "mine").read_text() == "x"


def test_regions_merged_and_cut(folder, tmp_path):
    store = prepare_store({"g": [folder / "g.fa"]}, tmp_path / "store")
    spans = locate_regions(store, Contigs(store), ["chr2", "1:5-10", "chr1:11-20", "chr1:30-40"])
    assert spans == [Span(1, 0, 8), Span(0, 4, 10), Span(0, 10, 20), Span(0, 29, 40)]
    assert pieces_of(spans) == [Span(0, 4, 20), Span(0, 29, 40), Span(1, 0, 8)]
    assert pieces_of([Span(0, 4, 20)], 7) == [Span(0, 4, 11), Span(0, 11, 18), Span(0, 18, 20)]


def test_changes_are_the_same_however_a_region_is_cut(folder, tmp_path):
    store = prepare_store({"g": [folder / "g.fa"]}, tmp_path / "store")
    whole, _ = changes_of(store, Span(0, 195, 310), deletions=True)
    cut = [changes_of(store, piece, deletions=True)[0] for piece in pieces_of([Span(0, 195, 310)], 3)]
    assert whole == [allele for piece in cut for allele in piece]
    assert len(whole) == 4 * (115 - 3)
    assert {allele.start for allele in whole if not allele.alt and 201 <= allele.start < 205} == {201}


def test_distributions_of_a_base_by_hand():
    llr = np.log([[np.nan, 2.0, 1.0, 4.0], [1.0, 1.0, 1.0, np.nan], [np.nan] * 4])
    logs = log_probabilities(llr, np.array([0, 3, 4]))
    np.testing.assert_allclose(np.exp(logs[:2]), [[1 / 8, 2 / 8, 1 / 8, 4 / 8], [1 / 4] * 4])
    assert np.isnan(logs[2]).all()
    np.testing.assert_allclose(entropy(logs)[:2] / np.log(2), [1.75, 2])
    np.testing.assert_allclose(information(logs)[0], [0.25 / 8, 0.25 / 4, 0.25 / 8, 0.25 / 2])
