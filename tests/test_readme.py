"""The README is true: each of its commands runs, its keys, tokenizers and folders are those that there are."""

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

from genolm.config import finetune as finetune_config
from genolm.config import pretrain as pretrain_config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


COMMANDS = [line for block in blocks("bash") for line in block.splitlines() if line]
ENV = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
# What shortens a command, so that all of them run in a test.
STEPS = ["training.max_steps=2", "training.per_device_train_batch_size=2"]
TINY = {
    "pretrain": [*STEPS, "evaluation.max_bp=2000", "evaluation.markov_orders=[2]", "model.num_hidden_layers=1"],
    "finetune": [*STEPS, "stopping.evaluations=1"],
    "demo": ["--steps", "2"],
    "scan": ["--window", "64"],
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
    """A folder in which commands of the README run once each, after those that write what they read."""

    folder: Path
    failed: dict[str, str] = field(default_factory=dict)

    def make(self, paths: set[str], before: int) -> None:
        """Run the earlier commands that first write any of these paths."""
        for number, line in enumerate(COMMANDS[:before]):
            written = output(shlex.split(line))
            if written in paths and not (self.folder / written).exists():
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
    folder = tmp_path_factory.mktemp("readme")
    sequence = "".join(np.random.default_rng(0).choice(list("ACGT"), 40_000))
    (folder / "genome.fa").write_text(f">one\n{sequence}\n")
    (folder / "genes.bed").write_text("one\t37000\t37200\tgene\n")
    # Two classes that composition tells apart, within the 512 bp of the models above.
    rows = [(np.random.default_rng(i).choice(list("ACGT" if i % 2 else "ACGTTT"), 120), i % 2) for i in range(80)]
    (folder / "labels.csv").write_text("sequence,label\n" + "".join(f"{''.join(x)},{y}\n" for x, y in rows))
    (folder / "new.fa").write_text(f">new\n{sequence[:200]}\n")
    alts = dict(zip("ACGT", "CGTA", strict=True))
    variants = [(at, sequence[at - 1], alts[sequence[at - 1]]) for at in range(1000, 1020)]
    columns = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    records = "".join(f"one\t{at}\t.\t{ref}\t{alt}\t.\t.\t.\n" for at, ref, alt in variants)
    (folder / "variants.vcf").write_text(columns + records)
    labelled = "".join(f"one\t{at}\t{ref}\t{alt}\t{at % 2}\n" for at, ref, alt in variants)
    (folder / "labelled.tsv").write_text("chrom\tpos\tref\talt\tpathogenic\n" + labelled)
    (folder / "recipes").symlink_to(ROOT / "recipes")
    return Workshop(folder)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=COMMANDS)
def test_a_command_runs(workshop, number):
    workshop.run(number)


@pytest.mark.slow
def test_the_python_code_runs(workshop):
    (code,) = blocks("python")
    workshop.make({"runs/first"}, len(COMMANDS))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=workshop.folder, env=os.environ | ENV
    )
    assert done.returncode == 0, done.stderr
    assert "torch.Size([1, 10, 16])" in done.stdout


@pytest.mark.parametrize("name", [*sorted(path.name for path in (ROOT / "benchmarks").glob("*.py")), "gpu/check.py"])
def test_a_benchmark_starts(name, tmp_path):
    code = runs.script(ROOT / "benchmarks" / name, ["--help"], tmp_path / "out")
    text = (tmp_path / "out").read_text()
    assert code == 0 and text.startswith("usage: "), text


def test_every_folder_has_its_line():
    listing = blocks("text")[0]
    listed = re.findall(r"^  (\w+)/ ", listing.split("genolm/ ", 1)[1], re.MULTILINE)
    folders = {path.parent.name for path in (ROOT / "genolm").glob("*/__init__.py")}
    assert set(listed) == folders and len(listed) == len(folders)


def words_in_code(text: str) -> set[str]:
    """Every whole word that stands in backticks."""
    return {word for span in re.findall(r"`([^`]+)`", text) for word in re.findall(r"\w+", span)}


def part(heading: str) -> str:
    return README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def first_column(text: str) -> str:
    return "\n".join(re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE))


def row(text: str, key: str) -> str:
    """The meaning of a key, in the table row that it opens."""
    return re.search(rf"^\| `{re.escape(key)}`.*?\|(.*)$", text, re.MULTILINE)[1]


def paragraph(text: str, opening: str) -> str:
    """From a bold opening to the next empty line."""
    return text.split(f"**{opening}**", 1)[1].split("\n\n", 1)[0]


def places() -> dict[type, str]:
    """Where the README documents the keys of each part of a recipe."""
    pretrain, finetune = part("Pretrain"), part("Fine-tune, and compare with CNNs")
    keys = first_column(pretrain)
    return {
        pretrain_config.DataRecipe: "\n".join(re.findall(r"`data\.\w+`", keys)),
        pretrain_config.SplitRecipe: row(pretrain, "data.valid"),
        pretrain_config.SamplingRecipe: row(pretrain, "data.sampling"),
        pretrain_config.DatasetRecipe: row(pretrain, "data.dataset"),
        pretrain_config.ObjectiveRecipe: row(pretrain, "objective"),
        pretrain_config.EvaluationRecipe: row(pretrain, "evaluation"),
        pretrain_config.PretrainRecipe: "\n".join(re.findall(r"`\w+`", keys)) + "`data`",
        finetune_config.LabelsRecipe: paragraph(finetune, "Tables") + paragraph(finetune, "Splits"),
        finetune_config.RowSplitRecipe: paragraph(finetune, "Splits"),
        finetune_config.StoppingRecipe: row(finetune, "stopping"),
        finetune_config.FinetuneRecipe: first_column(finetune) + paragraph(finetune, "Methods") + "`labels`",
    }


@pytest.mark.parametrize("kind", places(), ids=lambda kind: kind.__name__)
def test_every_recipe_key_is_documented(kind):
    missing = {key.name for key in fields(kind)} - words_in_code(places()[kind])
    assert not missing


def test_every_tokenizer_is_documented():
    specs = "\n".join(re.findall(r"^\| (`[^|]+) \|", part("Tokenizers"), re.MULTILINE))
    for first, last in re.findall(r"`([\w-]+)` … `([\w-]+)`", specs):
        low, high = (int(re.search(r"\d", name)[0]) for name in (first, last))
        specs += "".join(f"`{first.replace(str(low), str(k), 1)}`" for k in range(low, high + 1))
    specs = specs.replace("`-v2`", "`nucleotide-transformer-v2`")
    listed = set(re.findall(r"`([\w-]+)`", specs))
    assert listed == {path.stem for path in (ROOT / "tokenizer_configs").glob("*.yaml")}
