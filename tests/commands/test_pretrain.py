"""From a FASTA to a checkpoint that plain transformers opens, for each kind of tokenizer and each objective."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from genolm.cli import main
from genolm.commands.evaluate import evaluate
from genolm.config.pretrain import PretrainRecipe
from genolm.config.yaml import SettingsError, load_settings
from genolm.models.precision import has_fast_bf16
from genolm.pretraining import run_pretraining

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
RUNS = {
    "char-causal": ("char", "causal", "llama"),
    "char-masked": ("char", "masked", "bert"),
    "kmer3-masked": ("kmer3", "masked", "modernbert"),
    "kmer3-overlapping-masked": ("kmer3-overlapping", "masked", "esm"),
    "bpe512-causal": ("bpe512", "causal", "llama"),
}
TEXT = "ACGTTGCAGGATTACAGTACCA"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrain")
    rng = np.random.default_rng(0)
    with (folder / "g.fa").open("w") as file:
        for name, length in (("one", 12_000), ("two", 6_000), ("three", 3_000), ("tiny", 40), ("tinier", 30)):
            file.write(
                f">{name}\n{''.join(rng.choice(list('ACGTacgtN'), length, p=[0.15] * 4 + [0.09] * 4 + [0.04]))}\n"
            )
    return folder


def recipe_of(folder, name, **changes):
    tokenizer, kind, architecture = RUNS[name]
    values = {
        "run_dir": str(folder / name),
        "data": {
            "fasta": str(folder / "g.fa"),
            "window_bp": 96,
            "valid": {"contigs": ["three"]},
            "test": {"contigs": ["two"]},
        },
        "tokenizer": tokenizer,
        "objective": {"kind": kind},
        "model": {"architecture": architecture, **SMALL},
        "training": {"max_steps": 3, "per_device_train_batch_size": 4, "logging_steps": 1, "learning_rate": "1e-3"},
        "evaluation": {"every_steps": 2, "valid_bp": 1000, "markov_orders": [0, 2]},
    } | changes
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def load(folder, name, *overrides, **changes):
    return load_settings(PretrainRecipe, recipe_of(folder, name, **changes), overrides)


@pytest.fixture(scope="module")
def runs(folder):
    return {name: run_pretraining(load(folder, name)) for name in RUNS}


def logits_of(checkpoint, causal, text):
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = (AutoModelForCausalLM if causal else AutoModelForMaskedLM).from_pretrained(checkpoint).eval()
    with torch.no_grad():
        return model(torch.tensor([tokenizer(text)["input_ids"]])).logits


ELSEWHERE = """
import sys
sys.modules["genolm"] = None
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer
for folder, causal, text, out in {jobs!r}:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = (AutoModelForCausalLM if causal else AutoModelForMaskedLM).from_pretrained(folder).eval()
    with torch.no_grad():
        torch.save(model(torch.tensor([tokenizer(text)["input_ids"]])).logits, out)
"""


def test_a_checkpoint_loads_without_genolm_and_gives_the_same_logits(folder, runs):
    jobs = []
    for name, (tokenizer, kind, _) in RUNS.items():
        spelled = " ".join(TEXT[i : i + 3] for i in range(len(TEXT) - 2))
        text = spelled if tokenizer == "kmer3-overlapping" else TEXT
        jobs.append((str(folder / name / "checkpoint"), kind == "causal", text, str(folder / f"{name}.pt")))
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE.format(jobs=jobs)],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    for checkpoint, causal, _, out in jobs:
        # With genolm, raw DNA goes in for every kind.
        torch.testing.assert_close(torch.load(out, weights_only=True), logits_of(checkpoint, causal, TEXT))


@pytest.mark.parametrize("name", RUNS)
def test_what_a_run_leaves(folder, runs, name):
    where = folder / name
    log = [json.loads(line) for line in (where / "log.jsonl").read_text().splitlines()]
    bits = "bits_per_base" if RUNS[name][1] == "causal" else "masked_bits_per_base"
    assert [row["step"] for row in log if bits in row] == [1, 2, 3]
    assert [row["step"] for row in log if f"eval_{bits}" in row] == [2]
    metrics = json.loads((where / "metrics.json").read_text())
    assert metrics == runs[name]
    assert metrics["test"]["interval"] is None  # a test contig of 6 kb is one block
    # Near the start: about log2 of the vocabulary a token, and k tokens stand for one base where they overlap.
    assert 0.5 < metrics["test"][bits] < (3 * 6.5 if "overlapping" in name else 5)
    assert set(metrics["test"]["classes"]) == {"repeat", "unique"}
    assert set(metrics["markov"]) == {"0", "2"}
    assert (where / "loss.png").read_bytes()[:4] == b"\x89PNG"
    about = json.loads((where / "checkpoint" / "genolm.json").read_text())
    assert about["metrics"] == metrics
    assert about["recipe"]["model"]["architecture"] == RUNS[name][2]
    assert len(about["data"]["inputs"][0]["sha256"]) == 64
    assert yaml.safe_load((where / "recipe.yaml").read_text())["training"]["max_steps"] == 3


def test_a_second_run_prepares_nothing_and_gives_the_same_bytes(folder, runs):
    where = folder / "char-causal"
    before = (where / "genome" / "letters.arrow").stat().st_mtime_ns
    weights = (where / "checkpoint" / "model.safetensors").read_bytes()
    run_pretraining(load(folder, "char-causal"))
    assert (where / "genome" / "letters.arrow").stat().st_mtime_ns == before
    assert (where / "checkpoint" / "model.safetensors").read_bytes() == weights


def test_the_model_of_another_recipe_is_not_overwritten(folder, runs):
    checkpoint = folder / "char-causal" / "checkpoint" / "model.safetensors"
    before = checkpoint.stat().st_mtime_ns
    with pytest.raises(SettingsError, match="is of another recipe: training.max_steps: 3 → 2"):
        run_pretraining(load(folder, "char-causal", "training.max_steps=2"))
    (folder / "char-causal" / "checkpoints").rename(folder / "taken-away")
    with pytest.raises(SettingsError, match="holds a model of another recipe.*set another run_dir"):
        run_pretraining(load(folder, "char-causal", "training.max_steps=2"))
    (folder / "taken-away").rename(folder / "char-causal" / "checkpoints")
    assert checkpoint.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["char-causal", "char-masked"])
def test_evaluating_a_finished_run_again_gives_the_same_bytes(folder, tmp_path, name):
    """In the number format and batches of the training, also where this machine would choose another format."""
    where = tmp_path / "run"
    run_pretraining(load(folder, name, f"run_dir={where}", f"training.bf16={str(not has_fast_bf16()).lower()}"))
    before = (where / "metrics.json").read_bytes()
    (where / "metrics.json").unlink()
    evaluate(str(where))
    assert (where / "metrics.json").read_bytes() == before


def test_an_evaluation_with_changes_leaves_the_metrics_of_the_run(folder, runs, capsys):
    (folder / "genes.bed").write_text("two\t100\t900\tgene\n")
    where = folder / "char-masked"
    before = (where / "metrics.json").read_bytes()
    regions = str(folder / "genes.bed")
    evaluate(str(where), [f"evaluation.regions={regions}"])
    out = capsys.readouterr().out
    (path,) = where.glob("evaluation-*.json")
    assert "gene" in out and f"written: {path}" in out
    measured = json.loads(path.read_text())
    assert measured["changes"] == {"evaluation.regions": regions}
    assert measured["test"]["masked_bits_per_base"] == runs["char-masked"]["test"]["masked_bits_per_base"]
    assert 0 < measured["test"]["classes"]["gene"]["num_bases"] < 800
    evaluate(str(where), [f"evaluation.regions={regions}"], folder / "genes.json")
    assert json.loads((folder / "genes.json").read_text()) == measured
    assert (where / "metrics.json").read_bytes() == before


@pytest.mark.parametrize("change", ["data.fasta=other.fa", "model.hidden_size=64", "training.max_steps=7"])
def test_a_change_that_evaluation_does_not_use_is_refused(folder, runs, change):
    key = change.partition("=")[0]
    with pytest.raises(SettingsError, match=rf"{key} .* no effect on an evaluation; keys that have: data.test, "):
        evaluate(str(folder / "char-causal"), [change])


@pytest.mark.parametrize("option", ["--markov-orders", "--higher-is", "--replicates", "--seed"])
def test_options_of_variants_are_refused_for_a_run(folder, option, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(folder / "char-causal"), option, "3"])
    assert stop.value.code == 2 and f"No such option: {option}" in capsys.readouterr().err


def test_evaluate_warns_of_bases_that_were_trained_on(folder, runs, capsys):
    evaluate(str(folder / "char-causal"), ["data.test.contigs=[two, one]"])
    assert "warning: 12,000 of these 18,000 bp were in the training regions" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_a_streamed_dataset_trains_too(folder, tmp_path, suffix, kind):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(1)
    rows = ["".join(rng.choice(list("ACGT"), n)) for n in (500, 30, 40, 1200, 96, 700)] * 5
    for name, some in (("train", rows), ("test", rows[:3])):
        if suffix == "parquet":
            pq.write_table(pa.table({"dna": some}), tmp_path / f"{name}.parquet")
        else:
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"dna": s}) + "\n" for s in some))
    dataset = {
        "path": str(tmp_path / f"train.{suffix}"),
        "test_path": str(tmp_path / f"test.{suffix}"),
        "column": "dna",
    }
    name = "bpe512-causal" if kind == "causal" else "char-masked"
    metrics = run_pretraining(
        load(folder, name, run_dir=str(tmp_path / "run"), data={"dataset": dataset, "window_bp": 96})
    )
    assert 400 < metrics["test"]["num_bases"] < 570 or kind == "masked"
    assert (tmp_path / "run" / "checkpoint" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.fasta=", "data.fasta is not set"),
        ("data.fasta=missing.fa", "missing.fa: no such file"),
        ("data.windo_bp=3", "did you mean 'data.window_bp'"),
        ("data.test.contigs=[four]", "no contig is named 'four'"),
        ("training.lr_scheduler_type=liner", "transformers refuses"),
        ("training.learning_rat=1", "did you mean 'learning_rate'"),
        ("training.learning_rate=fast", "it must be a number"),
        ("training.max_steps=5.5", "it must be a whole number"),
        ("training.max_steps=0", "it must be at least 1"),
        ("training.gradient_accumulation_steps=0", "it must be at least 1"),
        ("training.save_strategy=epoch", "allowed: steps, no"),
        ("training.ignore_data_skip=true", "cannot be set: a run resumes with the samples it has not seen"),
        ("training.report_to=tensorboard", "transformers refuses|tensorboard"),
        ("training.optim=adamw_bnb_8bit", "training: "),
        ("training.log_level=bogus", "transformers refuses"),
        ("training.output_dir=x", "training.output_dir cannot be set: set run_dir"),
        ("tokenizer=kmer66", "no tokenizer"),
        ("model.architecture=lama", "did you mean 'llama'"),
        ("model.hidden_sise=3", "did you mean 'hidden_size'"),
        ("model.architecture=bert", "cannot learn|is an encoder"),
        ("objective.kind=masked", "cannot learn a masked objective"),
        ("objective.mask_rate=2", "allowed: 0 to 1"),
    ],
)
def test_a_wrong_recipe_is_one_error(folder, tmp_path, override, message):
    with pytest.raises(ValueError, match=message):
        run_pretraining(load(folder, "char-causal", f"run_dir={tmp_path}", override))


def test_a_streamed_dataset_needs_a_number_of_steps(folder, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"sequence": "ACGTTGACCATG"}\n')
    data = {"dataset": {"path": str(tmp_path / "x.jsonl")}}
    with pytest.raises(SettingsError, match="max_steps is not set"):
        run_pretraining(load(folder, "char-causal", "training.max_steps=-1", run_dir=str(tmp_path / "r"), data=data))
