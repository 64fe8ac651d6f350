"""The README tells the truth: its commands run, its list of folders is whole."""

import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

# What shortens a command of the README, so that all of them run in a test.
SHORTER = [
    *("training.max_steps=2", "training.per_device_train_batch_size=2", "evaluation.max_bp=2000"),
    *("evaluation.markov_orders=[2]", "model.num_hidden_layers=1"),
]


def blocks(readme: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_every_command_of_the_readme_runs(project_dir, tmp_path):
    readme = (project_dir / "README.md").read_text()
    letters = "".join(np.random.default_rng(0).choice(list("ACGT"), 40_000))
    (tmp_path / "genome.fa").write_text(f">one\n{letters}\n")
    (tmp_path / "genes.bed").write_text("one\t37000\t37200\tgene\n")
    # Two classes that letters tell apart, within the 512 bp of the models above.
    rows = [(np.random.default_rng(i).choice(list("ACGT" if i % 2 else "ACGTTT"), 120), i % 2) for i in range(80)]
    (tmp_path / "labels.csv").write_text("sequence,label\n" + "".join(f"{''.join(x)},{y}\n" for x, y in rows))
    (tmp_path / "new.fa").write_text(f">new\n{letters[:200]}\n")
    variants = [
        ("one", at, letters[at - 1], "ACGT"[("ACGT".index(letters[at - 1]) + 1) % 4]) for at in range(1000, 1020)
    ]
    columns = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    rows = [f"{chrom}\t{at}\t.\t{ref}\t{alt}\t.\t.\t.\n" for chrom, at, ref, alt in variants]
    (tmp_path / "variants.vcf").write_text(columns + "".join(rows))
    rows = [f"{chrom}\t{at}\t{ref}\t{alt}\t{at % 2}\n" for chrom, at, ref, alt in variants]
    (tmp_path / "labelled.tsv").write_text("chrom\tpos\tref\talt\tpathogenic\n" + "".join(rows))
    (tmp_path / "recipes").symlink_to(project_dir / "recipes")
    env = os.environ | {"PYTHONPATH": str(project_dir), "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1"}
    lines = [line for block in blocks(readme, "bash") for line in block.splitlines() if line]
    assert len(lines) >= 9
    for line in lines:
        words = shlex.split(line)
        if "pretrain" in words:
            words += SHORTER
        elif "finetune" in words:
            words += ["training.max_steps=2", "training.per_device_train_batch_size=2", "stopping.evaluations=1"]
        elif "demo" in words:
            words += ["--steps", "2"]
        starts = {"genolm": ["-m", "genolm"], "accelerate": ["-m", "accelerate.commands.accelerate_cli"]}
        command = [sys.executable, *starts[words[0]], *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=300)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    for code in blocks(readme, "python"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        assert "torch.Size([1, 10, 16])" in done.stdout


@pytest.mark.slow
def test_every_benchmark_starts(project_dir):
    paths = sorted((project_dir / "benchmarks").glob("*.py"))
    assert len(paths) >= 7
    env = os.environ | {"PYTHONPATH": str(project_dir)}
    for path in paths:
        done = subprocess.run([sys.executable, str(path), "--help"], capture_output=True, text=True, env=env)
        assert done.returncode == 0, f"{path.name}: {done.stderr}"


def test_every_folder_has_its_line(project_dir):
    listing = blocks((project_dir / "README.md").read_text(), "text")[0]
    listed = re.findall(r"^  (\w+)/ ", listing.split("genolm/ ", 1)[1], re.MULTILINE)
    folders = {path.parent.name for path in (project_dir / "genolm").glob("*/__init__.py")}
    assert set(listed) == folders and len(listed) == len(folders)


def test_every_recipe_key_is_told(project_dir):
    readme = (project_dir / "README.md").read_text()
    from dataclasses import fields

    from genolm.config import recipes as recipe

    pretraining = ("DataRecipe", "ObjectiveRecipe", "EvaluationRecipe", "PretrainRecipe")
    for name in (*pretraining, "LabelsRecipe", "RowSplitRecipe", "StoppingRecipe", "FinetuneRecipe"):
        for field in fields(getattr(recipe, name)):
            assert field.name in readme, f"{field.name} of {name}"


def test_every_tokenizer_is_told(project_dir):
    readme = (project_dir / "README.md").read_text()
    for path in (project_dir / "tokenizer_configs").glob("*.yaml"):
        stem = re.sub(r"\d", "", path.stem) if path.stem.startswith(("kmer", "dnabert")) else path.stem
        stem = stem.replace("nucleotide-transformer-v2", "nucleotide-transformer-v1`, `-v2")
        assert stem in re.sub(r"(kmer|dnabert-)\d", r"\1", readme), path.stem
