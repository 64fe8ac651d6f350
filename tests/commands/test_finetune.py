"""Every kind of task from a table to a run that `genolm compare` reads; and every mistake as one line."""

import json
import os
import re
import shutil
import subprocess
import sys

import labelled_runs
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from labelled_runs import BERT, GENOLM, KINDS, finetune, predictions, pretrain, write_recipe, write_table

from genolm.cli import main
from genolm.metrics.runs import read_run

BASELINE = {"per-base": "resnet", "tracks": "resnet"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetune")
    pretrain(folder, "genolm", GENOLM)
    pretrain(folder, "bert", BERT)
    return folder


def cli(capfd, *arguments):
    """Run a verb in this process; return its exit code and what it printed."""
    capfd.readouterr()
    try:
        main(list(map(str, arguments)))
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    out, err = capfd.readouterr()
    return code, out + err


# What a run leaves


@pytest.fixture(scope="module")
def both(folder):
    """kind → run folders of an adapter and of a baseline, on the same rows."""
    found = {}
    for kind in KINDS:
        table = write_table(folder, kind)
        baseline = {"baseline": BASELINE.get(kind, "deepbind"), "width": 0.1}
        lora = write_recipe(folder, f"{kind}-lora", folder / "genolm", table, kind, method="lora")
        other = write_recipe(folder, f"{kind}-baseline", baseline, table, kind)
        finetune(lora)
        finetune(other)
        found[kind] = [folder / f"{kind}-lora", folder / f"{kind}-baseline"]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_run_leaves(folder, both, kind, capfd):
    for run_dir in both[kind]:
        assert {"recipe.yaml", "provenance.json", "metrics.json", "log.jsonl", "curves.png", "model"} <= set(
            os.listdir(run_dir)
        )
        assert not (run_dir / "checkpoints").exists() and not list(run_dir.glob("*.partial"))
        run = read_run(run_dir)  # which holds the metrics against the predictions
        assert len(run.ids) == 14 and run.metadata["rows"] == {"train": 32, "valid": 14, "test": 14}
        assert read_run(run_dir, "valid").metadata["steps"]["trained"] == 4
        rows = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows if "eval_loss" in row] == [2, 4]
        assert all(np.isfinite(row["loss"]) for row in rows if "loss" in row)
        assert run.metadata["steps"]["best"] in (2, 4)
    code, told = cli(capfd, "compare", *both[kind], "--out", folder / f"{kind}-compared", "--replicates", 100)
    assert code == 0, told
    page = (folder / f"{kind}-compared" / "index.html").read_text()
    for run_dir in both[kind]:
        metadata = read_run(run_dir).metadata
        assert metadata["name"] in page
        assert kind != "binary" or f"{abs(metadata['test']['mcc']['value']):.3f}" in page


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_have_the_shapes_that_are_promised(both, kind):
    sequences = {row["id"]: row["sequence"] for row in table_rows(both[kind][0])}
    for run_dir in both[kind]:
        table = pq.read_table(run_dir / "predictions.parquet")
        assert table.column_names == ["id", "split", "label", "prediction"]
        outputs = {"binary": (), "multiclass": (3,), "multilabel": (2,), "regression": (3,)}
        for name, value in predictions(run_dir).items():
            assert value.shape == outputs.get(kind, (len(sequences[name]), 2))
            assert np.isfinite(value).all()
            if kind in ("multiclass", "per-base"):
                np.testing.assert_allclose(value.sum(-1), 1, atol=1e-6)


def table_rows(run_dir):
    path = yaml.safe_load((run_dir / "recipe.yaml").read_text())["labels"]["table"]
    if path.endswith(".parquet"):
        return pq.read_table(path).to_pylist()
    import csv

    with open(path) as file:
        return list(csv.DictReader(file))


def test_a_fresh_process_predicts_the_same(folder, both):
    """From the adapter on disk, for all sequences that the run predicted."""
    run_dir = both["binary"][0]
    out = folder / "again.parquet"
    env = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(labelled_runs.ROOT)}
    table = write_table(folder, "binary")
    command = [sys.executable, "-W", "error", "-m", "genolm", "predict", run_dir, table, "--out", out]
    done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = pq.read_table(out)
    again = dict(zip(found["id"].to_pylist(), found["probability_1"].to_pylist(), strict=True))
    for name, value in predictions(run_dir).items():
        assert again[name] == pytest.approx(float(value), abs=1e-6)


def test_the_base_is_left_as_it_was_and_an_adapter_is_small(folder, both):
    names = set(os.listdir(both["binary"][0] / "model"))
    assert {"adapter_model.safetensors", "adapter_config.json", "config.json", "genolm.json"} <= names
    assert "model.safetensors" not in names
    about = json.loads((both["binary"][0] / "model" / "genolm.json").read_text())
    from genolm.models.label_folder import weights_sha256

    assert weights_sha256(folder / "genolm" / "checkpoint") == about["base"]["sha256"]


@pytest.mark.parametrize("lora", [{}, {"use_dora": True}, {"use_rslora": True, "r": 4}])
def test_merged_equals_unmerged(folder, tmp_path, capfd, lora):
    table = write_table(tmp_path)
    recipe = write_recipe(tmp_path, "run", folder / "genolm", table, method="lora", merge=True, lora=lora)
    finetune(recipe)
    answers = []
    for name in ("run", "run/model", "run/merged"):
        out = tmp_path / "out.parquet"
        code, told = cli(capfd, "predict", tmp_path / name, table, "--out", out)
        assert code == 0, told
        answers.append(pq.read_table(out).to_pydict())
    assert (tmp_path / "run" / "merged" / "model.safetensors").is_file()
    np.testing.assert_allclose(answers[2]["probability_1"], answers[0]["probability_1"], atol=1e-5)
    assert answers[0]["label"] == answers[1]["label"] == answers[2]["label"]  # of one threshold


@pytest.mark.parametrize("method", ["full", "scratch"])
def test_the_other_methods(folder, tmp_path, method):
    finetune(write_recipe(tmp_path, "run", folder / "bert", write_table(tmp_path), method=method, pooling="attention"))
    assert read_run(tmp_path / "run").metadata["method"] == method
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


# Ways through the recipe


@pytest.mark.parametrize(
    "changes",
    [
        {"imbalance": "weights"},
        {"imbalance": "sampling"},
        {"imbalance": "focal", "focal_gamma": 0.5},
        {"reverse_complement": 0.5, "both_strands": True},
        {"pooling": "attention", "dropout": 0.2},
        {"labels": {"data_fraction": 0.5}},
        {"labels": {"split": {"by": "random", "valid": 0.0, "test": 0.2}}},
        {"labels": {"split": {"by": "fold", "fold": 1}}},
        {"labels": {"split": {"by": "random", "valid": 0.2, "test": 0.0}}},
        {"labels": {"leakage": "drop"}},
        {"training": {"activation_checkpointing": True}},
        {"stopping": {"metric": "loss", "evaluations": 3}},
    ],
)
def test_ways_through_the_recipe(folder, tmp_path, changes):
    recipe = write_recipe(tmp_path, "run", folder / "genolm", write_table(tmp_path), method="lora", **changes)
    metrics = finetune(recipe)
    split = changes.get("labels", {}).get("split", {})
    assert ("valid" in metrics) == (split.get("valid") != 0.0) and ("test" in metrics) == (split.get("test") != 0.0)
    assert (metrics["threshold"] is None) == ("valid" not in metrics)


def test_activation_checkpointing_changes_nothing(folder, tmp_path):
    losses = []
    for name in ("bert", "genolm"):
        for on in (False, True):
            options = {"method": "lora", "lora": {"lora_dropout": 0}, "training": {"activation_checkpointing": on}}
            run = f"{name}-{on}"
            finetune(write_recipe(tmp_path, run, folder / name, write_table(tmp_path), **options))
            rows = [json.loads(line) for line in (tmp_path / run / "log.jsonl").read_text().splitlines()]
            losses.append([row["loss"] for row in rows if "loss" in row])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    np.testing.assert_allclose(losses[2], losses[3], rtol=1e-5)


def test_eight_times_one_is_one_times_eight(folder, tmp_path):
    """Rows of unequal weight, with labels that are not known: the loss is of all eight."""
    table = write_table(tmp_path, "multilabel")
    for size, times in ((8, 1), (1, 8), (2, 4)):
        training = {"per_device_train_batch_size": size, "gradient_accumulation_steps": times}
        options = {"method": "full", "imbalance": "weights", "training": training, "dropout": 0.0}
        finetune(write_recipe(tmp_path, f"{size}", folder / "genolm", table, "multilabel", **options))
    whole = predictions(tmp_path / "8")
    for size in (1, 2):
        for name, value in predictions(tmp_path / str(size)).items():
            np.testing.assert_allclose(value, whole[name], atol=1e-4)


def test_long_rows_are_read_in_windows(folder, tmp_path, capfd):
    rows, label = labelled_runs.planted(48, low=150, high=220)
    table = tmp_path / "long.csv"
    table.write_text("sequence,label\n" + "".join(f"{r},{x}\n" for r, x in zip(rows, label, strict=True)))
    recipe = write_recipe(tmp_path, "run", folder / "bert", table, method="lora")
    code, told = cli(capfd, "finetune", recipe)
    assert code == 2 and "Traceback" not in told
    longest = max(range(48), key=lambda i: len(rows[i]))
    assert f"long.csv:{longest + 2}: a sequence of {len(rows[longest])} bp" in told and "long_inputs: windows" in told
    assert finetune(recipe, "long_inputs=windows")["rows"]["train"] > 30
    code, told = cli(capfd, "predict", tmp_path / "run", table, "--out", tmp_path / "out.csv")
    assert code == 0 and len((tmp_path / "out.csv").read_text().splitlines()) == 49


def test_lower_case_letters_read_the_same(folder, tmp_path):
    table = write_table(tmp_path)
    soft = tmp_path / "soft.csv"
    lines = table.read_text().splitlines()
    soft.write_text("\n".join([lines[0], *(line[:20].lower() + line[20:] for line in lines[1:])]) + "\n")
    for name, path in (("upper", table), ("soft", soft)):
        finetune(write_recipe(tmp_path, name, folder / "genolm", path, method="full"))
    one, two = predictions(tmp_path / "upper"), predictions(tmp_path / "soft")
    assert all((one[name] == two[name]).all() for name in one)


# What is refused


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method=", "set method to lora, full, probe or scratch"),
        ("model={baseline: danq}", "leave it out for a baseline"),
        ("method= model={width: 2}", "model is a block without baseline"),
        ("method= model={baseline: dank}", "did you mean 'danq'"),
        ("method= model={baseline: deepbind, kernal: 3}", "did you mean .?kernel"),
        ("model=", "model is None"),
        ("model=nowhere/", "no config.json there"),
        ("model={folder}", "no config.json there"),
        ("model={folder}/pickled", "holds no model.safetensors; other formats can run code"),
        ("imbalance=weights labels.task=regression", "imbalance is weights, and the task is regression"),
        ("pooling=cls", "puts no token before a sequence; use mean"),
        ("pooling=max", "pooling"),
        ("stopping.metric=r2", "stopping.metric is 'r2'; a binary task has mcc"),
        ("stopping.evaluations=0", "stopping.evaluations"),
        ("labels.table={folder}/none.csv", "none.csv"),
        ("labels.table=", "labels.table|table"),
        ("labels.colums={}", "did you mean 'labels.columns'"),
        ("labels.columns={label: lable}", "no column 'lable'"),
        ("labels.table={folder}/one-class.csv", "one class is no task"),
        ("lora.rank=3", "lora.rank is unknown"),
        ("training.max_steps=0", "it must be at least 1"),
        ("training.learning_rat=1", "did you mean 'learning_rate'"),
        ("method=probe imbalance=focal", "imbalance is focal, which a probe's regression does not have"),
        ("method=probe pooling=attention", "method is probe, which fits one vector a sequence"),
        ("labels.leakage=error labels.table={folder}/leaky.csv", "labels.leakage is error; set drop"),
        ("focal_gamma=-1", "focal_gamma"),
        ("resume=maybe", "resume"),
    ],
)
def test_a_mistake_is_one_line(folder, tmp_path, capfd, override, message):
    (folder / "one-class.csv").write_text("sequence,label\nACGTACGT,a\nGGGTACGT,a\n")
    (folder / "leaky.csv").write_text(
        "sequence,label,split\nACGTACGTA,a,train\nGGGTACGTT,b,train\nACGTACGTA,a,test\nGGTTACCAA,b,test\n"
    )
    if not (folder / "pickled").exists():
        shutil.copytree(folder / "bert" / "checkpoint", folder / "pickled")
        (folder / "pickled" / "model.safetensors").rename(folder / "pickled" / "pytorch_model.bin")
    recipe = write_recipe(tmp_path, "run", folder / "genolm", write_table(tmp_path), method="lora")
    words = [word.replace("{folder}", str(folder)) for word in re.split(r" (?=\w[\w.]*=)", override)]
    code, told = cli(capfd, "finetune", recipe, *words)
    assert code == 2, told
    assert "Traceback" not in told and re.search(message, told.replace("\n", " ")), told
    errors = [line for line in told.splitlines() if line.startswith("error")]
    assert len(errors) == 1


def test_a_finished_run_is_not_trained_anew(both, folder, capfd):
    before = (both["binary"][1] / "metrics.json").read_bytes()
    code, told = cli(capfd, "finetune", folder / "binary-baseline.yaml")
    assert code == 2 and "holds a finished run" in told
    assert (both["binary"][1] / "metrics.json").read_bytes() == before


def test_runs_that_move_together_stay_usable(folder, tmp_path, capfd):
    here = tmp_path / "runs"
    here.mkdir()
    shutil.copytree(folder / "bert", here / "bert")
    table = write_table(tmp_path)
    finetune(write_recipe(here, "lora", here / "bert", table, method="lora"))
    expected = predictions(here / "lora")
    there = tmp_path / "elsewhere"
    here.rename(there)
    code, told = cli(capfd, "predict", there / "lora", table, "--out", tmp_path / "out.parquet")
    assert code == 0, told
    found = pq.read_table(tmp_path / "out.parquet").to_pydict()
    again = dict(zip(found["id"], found["probability_1"], strict=True))
    assert all(again[name] == pytest.approx(float(value), abs=1e-6) for name, value in expected.items())
    (there / "bert").rename(there / "renamed")
    code, told = cli(capfd, "predict", there / "lora", table, "--out", tmp_path / "out.parquet")
    assert code == 2 and "put it back, or move both together" in told.replace("\n", " ") and "Traceback" not in told
    shutil.copytree(folder / "genolm", there / "bert")
    code, told = cli(capfd, "predict", there / "lora", table, "--out", tmp_path / "out.parquet")
    assert code == 2 and "are not those it was trained on" in told.replace("\n", " ")


def test_nothing_but_our_own_words_is_printed(folder, tmp_path):
    """No warning of a library, no table of weights; the bar and what was best are told."""
    recipe = write_recipe(tmp_path, "run", folder / "genolm", write_table(tmp_path), method="lora")
    env = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(labelled_runs.ROOT)}
    done = subprocess.run([sys.executable, "-m", "genolm", "finetune", recipe], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.strip()]
    known = ("leakage", "task", "rows", "model", "steps", "memory", "best ", "training", "predicting", " ")
    assert [line for line in lines if not line.startswith(known)] == [], done.stderr
    assert any("best       step" in line for line in lines)
