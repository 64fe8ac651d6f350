"""New sequences by the command: their number, length and names; the same for a seed; mistakes as one line."""

import json
import shutil

import numpy as np
import pytest
from labelled_runs import BERT, GENOLM, letters, pretrain

from genolm import cli

MODELS = {
    "char": (GENOLM, "char", "causal"),
    "kmer": (GENOLM, "kmer3", "causal"),
    "overlapping": ({**BERT, "architecture": "llama"}, "kmer3-overlapping", "causal"),
    "gpt2": ({"architecture": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2}, "char", "causal"),
    "masked": (GENOLM, "char", "masked"),
    "masked-kmer": (BERT, "kmer3", "masked"),
    "masked-overlapping": (BERT, "kmer3-overlapping", "masked"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generate")
    for name, (model, tokenizer, kind) in MODELS.items():
        pretrain(folder, name, model, tokenizer, kind)
    return folder


@pytest.fixture
def generate(capfd, monkeypatch):
    monkeypatch.setitem(cli.VERBS, "generate", "new bases")

    def run(*arguments):
        capfd.readouterr()
        try:
            cli.main(["generate", *map(str, arguments)])
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        return code, "".join(capfd.readouterr())

    return run


def read(path):
    records = path.read_text().split(">")[1:]
    return [(record.split("\n")[0], "".join(record.split("\n")[1:])) for record in records]


@pytest.mark.parametrize("name", ["char", "kmer", "overlapping"])
def test_the_number_of_new_bases_is_exact_whatever_the_batch(folder, generate, tmp_path, name):
    prompts = {"a": "ACGTTGCAT", "b": "ACGTTGCATT", "c": "TTTGGA"}
    (tmp_path / "p.fa").write_text("".join(f">{key} told\n{value.lower()}\n" for key, value in prompts.items()))
    found = {}
    for size in (1, 4, 16):
        out = tmp_path / f"{size}.fa"
        options = ["--prompts", tmp_path / "p.fa", "--num", 3, "--length", 101, "--batch-size", size, "--top-k", 40]
        code, told = generate(folder / name, *options, "--temperature", 0.9, "--seed", 5, "--out", out)
        assert code == 0 and "9 sequences" in told, told
        found[size] = read(out)
    assert found[1] == found[4] == found[16]
    assert [header.split()[0] for header, _ in found[1]] == [f"{key}_{i}" for key in "abc" for i in (1, 2, 3)]
    header = f"b_2 new_bp=101 prompt_bp=10 number=4 seed=5 temperature=0.9 top_k=40 top_p=1 model={folder / name}"
    assert found[1][4][0] == header
    assert all(len(text) == 101 and set(text) <= set("ACGT") for _, text in found[1])
    assert len({text for _, text in found[1]}) == 9
    assert max(map(len, (tmp_path / "1.fa").read_text().replace(header, "").split("\n")[1::3])) == 80


def test_a_seed_and_a_prompt_decide(folder, generate, tmp_path):
    def texts(*options):
        code, told = generate(folder / "char" / "checkpoint", "--length", 40, "--out", tmp_path / "x.fa", *options)
        assert code == 0, told
        return [text for _, text in read(tmp_path / "x.fa")]

    assert texts("--prompt", "ACGT") == texts("--prompt", "acgt") != texts("--prompt", "ACGT", "--seed", 1)
    assert texts("--prompt", "ACGT", "--num", 3)[:1] == texts("--prompt", "ACGT")
    assert texts("--prompt", "ACGT", "--keep-prompt")[0] == "ACGT" + texts("--prompt", "ACGT")[0]
    cold = texts("--prompt", "ACGT", "--num", 3, "--temperature", 0)
    assert len(set(cold)) == 1 and cold == texts("--prompt", "ACGT", "--num", 3, "--top-k", 1)
    free = texts("--num", 20)
    assert all(len(text) == 40 for text in free) and {text[0] for text in free} == set("ACGT")


@pytest.mark.parametrize("name", ["masked", "masked-kmer"])
def test_n_is_filled_and_nothing_else(folder, generate, tmp_path, name):
    prompts = ["ACGTTGNNNNNNATGCNNT", "NNACG", "ACGTACGTRYACGTTTGCN"]
    (tmp_path / "p.fa").write_text("".join(f">p{i}\n{text}\n" for i, text in enumerate(prompts)))
    found = {}
    for size in (1, 8):
        options = ["--prompts", tmp_path / "p.fa", "--num", 2, "--batch-size", size, "--out", tmp_path / "x.fa"]
        code, told = generate(folder / name, *options)
        assert code == 0, told
        found[size] = read(tmp_path / "x.fa")
    assert found[1] == found[8] and found[1][0][0].startswith("p0_1 filled_bp=8 number=0 seed=0 temperature=1 ")
    for i, (_, text) in enumerate(found[1]):
        assert set(text) <= set("ACGT")
        assert all(p in ("N", "R", "Y", c) for p, c in zip(prompts[i // 2], text, strict=True))
    assert found[1][0][1] != found[1][1][1]


def test_a_model_for_pretraining_is_masked(folder, generate, tmp_path):
    """BertForPreTraining holds a masked head, and fills N as the same weights named BertForMaskedLM."""
    shutil.copytree(folder / "masked-kmer" / "checkpoint", tmp_path / "model")
    (tmp_path / "model" / "genolm.json").unlink()
    config = json.loads((tmp_path / "model" / "config.json").read_text()) | {"architectures": ["BertForPreTraining"]}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    texts = []
    for model in (folder / "masked-kmer", tmp_path / "model"):
        code, told = generate(model, "--prompt", "ACGNNNACG", "--num", 3, "--out", tmp_path / "x.fa")
        assert code == 0, told
        texts.append([text for _, text in read(tmp_path / "x.fa")])
    assert texts[0] == texts[1]


def test_intervals_of_a_bed_are_drawn_anew(folder, generate, tmp_path):
    contig = letters(np.random.default_rng(3), 300)
    (tmp_path / "g.fa").write_text(f">other\nACGT\n>one\n{contig}\n")
    (tmp_path / "s.bed").write_text("one\t0\t7\none\t150\t171\none\t296\t300\n")
    options = ["--infill", tmp_path / "s.bed", "--fasta", tmp_path / "g.fa", "--out", tmp_path / "x.fa"]
    for name in ("masked", "masked-kmer"):
        assert generate(folder / name, *options)[0] == 0
        found = read(tmp_path / "x.fa")
        assert [(h.split()[0], len(t)) for h, t in found] == [("one:0-7", 7), ("one:150-171", 21), ("one:296-300", 4)]
        assert generate(folder / name, *options, "--keep-prompt")[0] == 0
        for (_, whole), (_, text), (start, end) in zip(
            read(tmp_path / "x.fa"), found, [(0, 7), (150, 171), (296, 300)], strict=True
        ):
            size = len(text)
            assert len(whole) >= 70 and any(
                whole[at : at + size] == text
                and contig[:start].endswith(whole[:at])
                and contig[end:].startswith(whole[at + size :])
                for at in range(len(whole) - size + 1)
            )
    (tmp_path / "s.bed").write_text("one\t100\t180\n")
    code, told = generate(folder / "masked", *options)
    assert code == 2 and "one:100-180 has 80 bp; the model takes 80, and half is context" in told
    (tmp_path / "s.bed").write_text("one\t290\t310\n")
    assert "ends beyond one, which has 300 bp" in generate(folder / "masked", *options)[1]
    (tmp_path / "s.bed").write_text("two\t290\t310\n")
    assert "has no contig 'two'" in generate(folder / "masked", *options)[1]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("char", ["--prompt", "ACGT"], "--length is missing"),
        ("char", ["--prompt", "ACNGT", "--length", 5], "prompt generated has N; a causal model"),
        ("char", ["--prompt", "ACZGT", "--length", 5], "--prompt: 'Z' at position 3 of the sequence is no nucleotide"),
        ("char", ["--prompt", "A", "--prompts", "x.fa", "--length", 5], "give one of --prompt, --prompts and --infill"),
        ("char", ["--infill", "x.bed", "--fasta", "x.fa"], "--infill is for masked models"),
        ("char", ["--infill", "x.bed"], "--infill and --fasta go together"),
        ("char", ["--prompt", "A", "--length", 5, "--top-p", 0], "top_p is 0.0; it must be above 0"),
        ("overlapping", ["--prompt", "AC", "--length", 5], "the prompt has 2 bp; the tokenizer's tokens are 3 bp long"),
        ("gpt2", ["--prompt", "ACGT", "--length", 500], "has no positions beyond"),
        ("masked", ["--prompt", "ACGT"], "prompt generated has no N"),
        ("masked", ["--prompt", "ACN", "--length", 5], "--length is for causal models"),
        ("masked", [], "this model is masked, and fills N"),
        ("masked", ["--prompt", "ACN" * 100], "has 300 tokens; the model takes 80: shorten it"),
        ("masked-overlapping", ["--prompt", "ACNGT"], "the tokenizer is kmer-overlapping"),
        ("nowhere", ["--prompt", "ACNGT"], "no config.json there"),
    ],
)
def test_a_mistake_is_one_line(folder, generate, tmp_path, name, options, expected):
    code, told = generate(folder / name, *options, "--out", tmp_path / "x.fa")
    last = [line for line in told.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(last) == 1 and expected in last[0], told
    assert not (tmp_path / "x.fa").exists()


def test_rows_longer_than_in_training_give_a_note(folder, generate, tmp_path):
    out = tmp_path / "x.fa"
    code, told = generate(folder / "overlapping", "--prompt", "ACGT", "--length", 150, "--out", out)
    assert code == 0 and "note: " in told and "may be worse" in told and len(read(out)[0][1]) == 150
    code, told = generate(folder / "char", "--prompt", "ACGT", "--length", 5, "--out", tmp_path / "x.txt")
    assert code == 2 and "its name must end in .fa, .fasta or .fna" in told
