"""The documentation is true: its commands run, its keys, tokenizers, folders and links are those that there are."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pytest
import runs

from genolm.cli import VERBS
from genolm.config import finetune as finetune_config
from genolm.config import pretrain as pretrain_config

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MKDOCS = (ROOT / "mkdocs.yml").read_text()
NAV = [path for path in re.findall(r"(\S+\.md)$", MKDOCS, re.MULTILINE) if (DOCS / path).exists()]
PAGES = {"README.md": (ROOT / "README.md").read_text()} | {path: (DOCS / path).read_text() for path in NAV}
# Blocks of shell that cannot run here: several nodes, what needs `make`, pip or the network.
NOT_RUN = {
    **{"README.md": 2, "index.md": 2, "how-to/many-gpus.md": 1, "how-to/score-variants.md": 1},
    "how-to/own-models.md": 2,  # they need the modules above them; tests/test_plugins.py runs the like
}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


LINES = [line for text in PAGES.values() for block in blocks(text, "bash") for line in block.splitlines() if line]
COMMANDS = list(dict.fromkeys(LINES))
SUITE = next(block for block in blocks(PAGES["how-to/benchmarks.md"], "yaml") if "methods:" in block)
ENV = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
# What shortens a command, so that all of them run in a test.
STEPS = ["training.max_steps=2", "training.per_device_train_batch_size=2"]
TINY = {
    "pretrain": [*STEPS, "evaluation.max_bp=2000", "evaluation.markov_orders=[2]", "model.num_hidden_layers=1"],
    "finetune": [*STEPS, "stopping.evaluations=1"],
    "demo": ["--steps", "2"],
    "scan": ["--window", "64"],
    "mutate": ["--window", "64"],
    "benchmark": ["seeds=[0]"],
    "sweep": [*STEPS, "stopping.evaluations=1"],
}


def output(words: list[str]) -> str:
    """What a command writes: its run_dir, or its --out."""
    run_dir = next((word.partition("=")[2] for word in words if word.startswith("run_dir=")), "")
    return run_dir or (words[words.index("--out") + 1] if "--out" in words else "")


def inputs(words: list[str]) -> set[str]:
    """Every path that a command may read, which includes a run folder that it resumes."""
    return {word.rpartition("=")[2] for word in words}


@dataclass
class Workshop:
    """A folder in which commands of the documentation run once each, after those that write what they read."""

    folder: Path
    failed: dict[str, str] = field(default_factory=dict)

    def make(self, paths: set[str], before: int) -> None:
        """Run the earlier commands that first write any of these paths, or the folder of one."""
        for number, line in enumerate(COMMANDS[:before]):
            written = output(shlex.split(line))
            read = written and any(path == written or path.startswith(f"{written}/") for path in paths)
            if read and not (self.folder / written).exists():
                self.run(number)

    def run(self, number: int) -> None:
        line = COMMANDS[number]
        if line not in self.failed:
            program, command, *rest = shlex.split(line)
            assert program == "genolm"
            self.make(inputs(rest), number)
            words, out = [command, *rest, *TINY.get(command, [])], self.folder / f"{number}.out"
            code = runs.verb(words, out, timeout=300, folder=self.folder, **ENV)
            self.failed[line] = f"exit code {code}\n{out.read_text()}" if code else ""
        assert not self.failed[line], f"{line}\n{self.failed[line]}"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    sequence = "".join(np.random.default_rng(0).choice(list("ACGT"), 40_000))
    (folder / "genome.fa").write_text(f">chr1\n{sequence}\n")
    (folder / "other.fa").write_text(f">chr2\n{sequence[::-1][:20_000]}\n")
    (folder / "genes.bed").write_text("chr1\t37000\t37100\tgene\n")
    reads = "".join(f"{sequence[at : at + 600]}\n" for at in range(0, 30_000, 600))
    (folder / "reads.csv").write_text(f"sequence\n{reads}")
    (folder / "labels.csv").write_text(labelled_rows(80))
    (folder / "held-out.csv").write_text(labelled_rows(40, seed=1000))
    (folder / "renamed.csv").write_text(labelled_rows(80).replace("sequence,label", "dna,active", 1))
    (folder / "suite.yaml").write_text(SUITE)
    (folder / "new.fa").write_text(f">new\n{sequence[:200]}\n")
    alts = dict(zip("ACGT", "CGTA", strict=True))
    variants = [(at, sequence[at - 1], alts[sequence[at - 1]]) for at in range(1000, 1020)]
    columns = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    records = "".join(f"chr1\t{at}\t.\t{ref}\t{alt}\t.\t.\t.\n" for at, ref, alt in variants)
    (folder / "variants.vcf").write_text(columns + records)
    labelled = "".join(f"chr1\t{at}\t{ref}\t{alt}\t{at % 2}\n" for at, ref, alt in variants)
    (folder / "labelled.tsv").write_text("chrom\tpos\tref\talt\tpathogenic\n" + labelled)
    return Workshop(folder)


def labelled_rows(number: int, seed: int = 0) -> str:
    """Two classes that composition tells apart, shorter than a row of the models above."""
    rows = [
        (np.random.default_rng(seed + i).choice(list("ACGT" if i % 2 else "ACGTTT"), 120), i % 2) for i in range(number)
    ]
    return "sequence,label\n" + "".join(f"{''.join(x)},{y}\n" for x, y in rows)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=COMMANDS)
def test_a_command_runs(workshop, number):
    workshop.run(number)


def test_blocks_that_do_not_run_are_counted():
    counted = {path: len(blocks(text, "sh")) for path, text in PAGES.items() if blocks(text, "sh")}
    assert counted == NOT_RUN
    others = {word for text in PAGES.values() for word in re.findall(r"^```(\w+)", text, re.MULTILINE)}
    assert others <= {"bash", "sh", "python", "py", "yaml", "text", "bibtex"}


PYTHON = [(path, code) for path, text in PAGES.items() for code in blocks(text, "python")]


@pytest.mark.slow
@pytest.mark.parametrize("path, code", PYTHON, ids=[path for path, _ in PYTHON])
def test_the_python_code_runs(workshop, path, code):
    if "import genolm" in code:
        pytest.importorskip("genolm.api")
    workshop.make(set(re.findall(r"runs/\w+", code)), len(COMMANDS))
    short = [sys.executable, "-c", code.replace("100}", "2}")]
    done = subprocess.run(short, capture_output=True, text=True, cwd=workshop.folder, env=os.environ | ENV)
    assert done.returncode == 0, done.stderr
    assert "AutoModel" not in code or "torch.Size([1, 10, 16])" in done.stdout


@pytest.mark.slow
def test_the_site_builds_without_warnings_and_without_the_network(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | ENV)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.relative_to(tmp_path / "site").as_posix(): path.read_text() for path in tmp_path.rglob("*.html")}
    assert {"index.html", "reference/commands.html", "how-to/finetune.html"} <= pages.keys()
    fetched = {
        found for text in pages.values() for found in re.findall(r'<(?:script|link|img)[^>]+"https?:[^"]+"', text)
    }
    assert not any(fetched)
    assert "kmer-logistic" in (tmp_path / "site" / "search" / "search_index.js").read_text()


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_and_option_has_a_meaning(generate):
    page = generate.commands_page()
    assert re.findall(r"^## genolm (\S+)$", page, re.MULTILINE) == list(VERBS)
    options = re.findall(r"^\| (`--[^|]+) \|.*\| (.*) \|$", page, re.MULTILINE)
    assert len(options) > 100 and all(meaning for _, meaning in options)
    assert "| `--steps` | integer | `1400` | Training steps. |" in page


def test_every_recipe_key_has_a_meaning(generate):
    page = generate.recipe_keys_page()
    rows = {row[0]: row[1:] for row in re.findall(r"^\| `([\w.]+)` \| (.*) \| (.*) \| (.*) \|$", page, re.MULTILINE)}
    assert rows["data.window_bp"] == ("integer", "`512`", "window length in bp.")
    assert rows["run_dir"][1] == "required" and rows["resume"][0] == "`auto`, `never`"
    assert {"data.valid.contigs", "labels.split.stratified", "model.ssm_state_size", "methods"} <= rows.keys()
    assert not [key for key, row in rows.items() if not row[2]]


def test_the_readme_is_short_and_its_files_exist():
    text = PAGES["README.md"]
    assert len(text.encode()) <= 8192
    linked = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
    assert linked and not [path for path in linked if "://" not in path and not (ROOT / path).exists()]


def test_pictures_are_small():
    sizes = {path.name: path.stat().st_size for path in (DOCS / "images").iterdir()}
    assert max(sizes.values()) < 150_000 and sum(sizes.values()) < 1_000_000


@pytest.mark.parametrize("name", [*sorted(path.name for path in (ROOT / "benchmarks").glob("*.py")), "gpu/check.py"])
def test_a_benchmark_starts(name, tmp_path):
    code = runs.script(ROOT / "benchmarks" / name, ["--help"], tmp_path / "out")
    text = (tmp_path / "out").read_text()
    assert code == 0 and text.startswith("usage: "), text


def test_every_folder_has_its_line():
    listing = blocks(PAGES["reference/layout.md"], "text")[0]
    listed = re.findall(r"^  (\w+)/ ", listing.split("genolm/ ", 1)[1], re.MULTILINE)
    folders = {path.parent.name for path in (ROOT / "genolm").glob("*/__init__.py")}
    assert set(listed) == folders and len(listed) == len(folders)


def words_in_code(text: str) -> set[str]:
    """Every whole word that stands in backticks."""
    return {word for span in re.findall(r"`([^`]+)`", text) for word in re.findall(r"\w+", span)}


def part(page: str, heading: str) -> str:
    return PAGES[page].split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def first_column(text: str) -> str:
    return "\n".join(re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE))


def row(text: str, key: str) -> str:
    """The meaning of a key, in the table row that it opens."""
    return re.search(rf"^\| `{re.escape(key)}`.*?\|(.*)$", text, re.MULTILINE)[1]


def places() -> dict[type, str]:
    """Where the pages document the keys of each part of a recipe."""
    pretrain, finetune = part("how-to/pretrain.md", "Keys"), part("how-to/finetune.md", "Keys")
    tables, splits = part("how-to/finetune.md", "Tables"), part("how-to/finetune.md", "Splits")
    keys = first_column(pretrain)
    return {
        pretrain_config.DataRecipe: "\n".join(re.findall(r"`data\.\w+`", keys)),
        pretrain_config.SplitRecipe: row(pretrain, "data.valid"),
        pretrain_config.SamplingRecipe: row(pretrain, "data.sampling"),
        pretrain_config.DatasetRecipe: row(pretrain, "data.dataset"),
        pretrain_config.ObjectiveRecipe: row(pretrain, "objective"),
        pretrain_config.EvaluationRecipe: row(pretrain, "evaluation"),
        pretrain_config.PretrainRecipe: "\n".join(re.findall(r"`\w+`", keys)) + "`data`",
        finetune_config.LabelsRecipe: tables + splits + part("how-to/finetune.md", "Leakage"),
        finetune_config.RowSplitRecipe: splits,
        finetune_config.StoppingRecipe: row(finetune, "stopping"),
        finetune_config.FinetuneRecipe: first_column(finetune),
    }


@pytest.mark.parametrize("kind", places(), ids=lambda kind: kind.__name__)
def test_every_recipe_key_is_documented(kind):
    missing = {key.name for key in fields(kind)} - words_in_code(places()[kind])
    assert not missing


def test_every_tokenizer_is_documented():
    specs = "\n".join(re.findall(r"^\| (`[^|]+) \|", PAGES["how-to/tokenizers.md"], re.MULTILINE))
    for first, last in re.findall(r"`([\w-]+)` … `([\w-]+)`", specs):
        low, high = (int(re.search(r"\d", name)[0]) for name in (first, last))
        specs += "".join(f"`{first.replace(str(low), str(k), 1)}`" for k in range(low, high + 1))
    specs = specs.replace("`-v2`", "`nucleotide-transformer-v2`")
    listed = set(re.findall(r"`([\w-]+)`", specs))
    assert listed == {path.stem for path in (ROOT / "tokenizer_configs").glob("*.yaml")}


def test_every_exit_code_is_documented():
    source = (ROOT / "genolm" / "training" / "signals.py").read_text()
    codes = set(re.findall(r"^\| (\d+) \|", source, re.MULTILINE))
    assert codes <= set(re.findall(r"^\| (\d+) \|", PAGES["reference/exit-codes.md"], re.MULTILINE))


TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


@pytest.mark.nightly
def test_every_tutorial_runs(tmp_path, monkeypatch):
    """In their order and one folder, as later ones go on with what the first has made."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert len(TUTORIALS) >= 4
    for path in TUTORIALS:
        book = nbformat.read(path, as_version=4)
        stored = [len(cell.outputs) for cell in book.cells if cell.cell_type == "code"]
        assert any(stored), f"{path.name} holds no outputs; run it before it is committed"
        NotebookClient(book, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
