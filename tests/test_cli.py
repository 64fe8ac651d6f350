import inspect
import os
import platform
import subprocess
import sys
from importlib import import_module

import pytest

from genolm import __version__
from genolm.cli import VERBS, main


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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_kept_for_the_next_tensor():
    """Page faults of ten tensors of 64 MB, one after the other: those of one, or of all ten."""
    code = (
        "import resource\nfrom genolm.training import memory\nmemory.keep_freed_pages()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for size in range(10): b'x' * (2**26 - size)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )
    faults = []
    for env in ({}, {"MALLOC_ARENA_MAX": "8"}):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean | env, check=True)
        faults.append(int(done.stdout))
    assert faults[0] < faults[1] / 3


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_kept_memory_is_given_back_between_parts():
    code = (
        "import resource\nfrom genolm.training import memory\nmemory.keep_freed_pages()\n"
        "held = lambda: int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize() >> 20\n"
        "blocks = [b'x' * 2**26 for _ in range(4)]\ndel blocks\n"
        "kept = held()\nmemory.trim_freed_pages()\nprint(kept - held())"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean, check=True)
    assert int(done.stdout) > 200


def test_env_tells_versions():
    done = genolm("env")
    assert done.returncode == 0, done.stderr
    for word in ("genolm", "transformers", "platform", "bf16", "gpu"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pretrian"], "unknown command 'pretrian'; did you mean 'pretrain'?"),
        (["pretrain", "none.yaml"], "none.yaml: no such file"),
        (["prepare", "none.fa", "--out", "x"], "none.fa: no such file"),
        (["evaluate", "nowhere"], "nowhere has no checkpoint"),
        (["evaluate", "--variants", "v.tsv", "--label", "x"], "genolm evaluate-variants TABLE --label COLUMN"),
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


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Run main() here, in an empty folder; give exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")  # main sets it where it is not set
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("GENOLM_DEBUG", raising=False)

    def call(*arguments):
        try:
            main(list(arguments))
            status = 0
        except SystemExit as stop:
            status = stop.code
        done = capsys.readouterr()
        return status, done.out, done.err

    return call


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_help_in_any_form(call, arguments):
    status, out, err = call(*arguments)
    assert (status, err) == (0, "") and out.startswith("Usage: genolm COMMAND")
    for verb, text in VERBS.items():
        assert f"\n  {verb} " in out and text in out


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_version(call, flag):
    assert call(flag) == (0, f"genolm {__version__}\n", "")


def test_every_file_of_commands_is_a_verb_and_the_other_way_round(project_dir):
    files = {path.stem for path in (project_dir / "genolm" / "commands").glob("[!_]*.py")}
    names = {verb.replace("-", "_") for verb in VERBS}
    assert files == names
    for name in names:
        assert inspect.isfunction(getattr(import_module(f"genolm.commands.{name}"), name))


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("evalute", "did you mean 'evaluate'?"),
        (
            "--verbose",
            "commands: recipes, prepare, tokenizer, pretrain, evaluate, evaluate-variants, finetune",
        ),
        ("os", "commands: recipes, prepare, "),
        ("", "commands: recipes, prepare, "),
    ],
)
def test_an_unknown_verb_is_one_clear_error(call, word, hint):
    status, out, err = call(word)
    assert (status, out) == (2, "") and len(err.splitlines()) == 1
    assert err.startswith(f"error: unknown command {word!r}; {hint}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare"], "Missing argument"),
        (["prepare", "g.fa"], "Missing option '--out'"),
        (["prepare", "g.fa", "--uot", "x"], "No such option: --uot"),
        (["prepare", "g.fa", "--out"], "'--out' requires an argument"),
        (["env", "more"], "unexpected extra argument"),
        (["demo", "--steps", "many"], "Invalid value for '--steps'"),
    ],
)
def test_wrong_arguments_are_told_without_a_traceback(call, tmp_path, arguments, message):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert message in " ".join(err.split()) and "Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tokenizer", "kmer99", "--out", "x"], "'kmer99' is no tokenizer"),
        (["tokenizer", "bpe4096", "--out", "x"], "add --fasta"),
        (["tokenizer", "char", "--fasta", "g.fa", "--out", "x"], "learns nothing from genomes"),
    ],
)
def test_a_wrong_tokenizer_is_one_line(call, tmp_path, arguments, message):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "") and err.startswith("error: ") and len(err.splitlines()) == 1
    assert message in err and not list(tmp_path.iterdir())


RECIPE = "run_dir: x\ndata: {fasta: none.fa}\nobjective: {kind: causal}\nmodel: {architecture: llama}\n"


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (RECIPE + "sed: 1\n", [], "r.yaml:5: unknown key 'sed'; did you mean 'seed'?"),
        (RECIPE, ["data.window_bp=4"], "override 'data.window_bp=4': data.window_bp is 4; allowed: at least 8"),
        (RECIPE, ["seed"], "override 'seed': write key=value, as in training.max_steps=100"),
        ("seed: [1\n", [], "r.yaml: not YAML: "),
    ],
)
def test_a_wrong_recipe_is_one_line(call, tmp_path, text, overrides, message):
    (tmp_path / "r.yaml").write_text(text)
    status, out, err = call("pretrain", "r.yaml", *overrides)
    assert (status, out) == (2, "") and err.startswith(f"error: {message}") and len(err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]


def test_debug_shows_where_it_happened(call, monkeypatch):
    monkeypatch.setenv("GENOLM_DEBUG", "1")
    with pytest.raises(ValueError, match="none.yaml: no such file"):
        call("pretrain", "none.yaml")


def test_a_fault_of_ours_is_no_users_mistake(call, monkeypatch):
    monkeypatch.setattr("genolm.commands.pretrain.load_settings", lambda *a: {}["fault"])
    with pytest.raises(KeyError, match="fault"):
        call("pretrain", "none.yaml")


def test_a_hash_without_its_url_is_told_as_such(call, tmp_path):
    (tmp_path / "g.fa").write_text(">a\nACGT\n")
    status, _, err = call("prepare", "g.fa", "--out", "store", "--sha256", "abc")
    assert status == 2 and "URL=HEX" in err


def test_a_name_must_not_be_empty(call, tmp_path):
    (tmp_path / "g.fa").write_text(">a\nACGT\n")
    assert call("prepare", "=g.fa", "--out", "store")[0] == 2


def test_recipes_are_found_by_name_from_anywhere(call, tmp_path, monkeypatch):
    from genolm.config.shipped import find_recipe, recipe_names

    monkeypatch.chdir(tmp_path)
    status, out, _ = call("recipes")
    assert status == 0 and len(out.splitlines()) == len(recipe_names()) > 40
    assert out.startswith("quickstart/baseline  ")
    one = find_recipe("quickstart/causal")
    assert find_recipe("recipes/quickstart/causal.yaml") == find_recipe("quickstart/causal.yaml") == one
    assert call("recipes", "show", "quickstart/causal") == (0, one.read_text(), "")
    assert call("recipes", "copy", "quickstart/causal")[0] == 0
    assert (tmp_path / "causal.yaml").read_text() == one.read_text()
    status, _, err = call("recipes", "copy", "quickstart/causal")
    assert status == 2 and "causal.yaml exists already" in err
    status, _, err = call("pretrain", "quickstart/casual")
    assert status == 2 and "did you mean 'quickstart/causal'?" in err
    assert [path.name for path in tmp_path.iterdir()] == ["causal.yaml"]


def test_every_folder_of_the_package_is_in_the_wheel(project_dir):
    import tomllib

    setup = tomllib.loads((project_dir / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        ".".join(path.parent.relative_to(project_dir).parts) for path in project_dir.glob("genolm/**/__init__.py")
    }
    recipes = {f"genolm.recipes.{path.name}" for path in (project_dir / "recipes").iterdir() if path.is_dir()}
    assert set(setup["packages"]) == folders | recipes | {"genolm.recipes", "genolm.tokenizer_configs"}
