import os
import subprocess
import sys

import pytest

from genolm.cli import VERBS


def genolm(*arguments, **env):
    return subprocess.run(
        [sys.executable, "-m", "genolm", *arguments], capture_output=True, text=True, env=os.environ | env
    )


def test_help_lists_the_verbs_and_imports_next_to_nothing():
    code = (
        "import sys\nfrom genolm.cli import main\nmain(['--help'])\n"
        "print([m for m in ('torch', 'transformers', 'numpy', 'typer') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
    for verb in VERBS:
        assert f"\n  {verb} " in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_helps_with_an_example(verb):
    done = genolm(verb, "--help", COLUMNS="100", TERM="dumb")
    assert done.returncode == 0, done.stderr
    assert f"Example: genolm {verb}" in done.stdout


def test_env_tells_versions():
    done = genolm("env")
    assert done.returncode == 0, done.stderr
    for word in ("genolm", "transformers", "platform", "bf16", "gpu"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pretrian"], "'pretrian' is no verb; did you mean 'pretrain'?"),
        (["pretrain", "none.yaml"], "none.yaml: no such file"),
        (["prepare", "none.fa", "--out", "x"], "none.fa: no such file"),
        (["evaluate", "nowhere"], "nowhere has no checkpoint"),
        (["tokenizer", "kmer99", "--out", "x"], "'kmer99' is no tokenizer"),
        (["tokenizer", "bpe4096", "--out", "x"], "add --fasta"),
        (["tokenizer", "char", "--fasta", "g.fa", "--out", "x"], "learns nothing from genomes"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message, tmp_path):
    done = subprocess.run([sys.executable, "-m", "genolm", *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_prepare_and_tokenizer_do_what_they_say(tmp_path):
    (tmp_path / "g.fa").write_text(">c1\nACGTTGCANN\n>c2\nttga\n")
    done = genolm("prepare", f"mine={tmp_path / 'g.fa'}", "--out", str(tmp_path / "store"))
    assert done.returncode == 0, done.stderr
    assert "mine: g.fa, 14 bp: A 3, C 2, G 3, T 4, N 2" in done.stdout
    done = genolm("tokenizer", "kmer3", "--out", str(tmp_path / "tokenizer"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tokenizer" / "tokenizer.json").is_file()
    assert "kmer, 76 entries" in done.stdout  # 7 special tokens, 64 3-mers, A C G T N
