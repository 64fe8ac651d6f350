"""genolm benchmark: suites are checked whole, runs go on where they stopped, a failure stops no other, one page."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from motif_tables import motif_table

from genolm.benchmarking import suite as suites
from genolm.benchmarking.jobs import last_line
from genolm.benchmarking.suite import changed, merge_blocks, read_suite, select
from genolm.commands.benchmark import benchmark
from genolm.finetuning.build import check_finetune_recipe

TRAINING = {"max_steps": 20, "per_device_train_batch_size": 16, "learning_rate": 1e-2, "use_cpu": True}


def write_suite(folder, **changes):
    table = folder / "motif.csv"
    if not table.is_file():
        motif_table(table)
    values = {
        "defaults": {"training": TRAINING, "stopping": {"evaluations": 2}},
        "tasks": {"motif": {"labels": {"table": str(table)}}},
        "methods": {"kmer": {"model": {"baseline": "kmer-logistic", "k_max": 3}}},
    } | changes
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def run(path, out, *overrides, jobs=1, only="", dry_run=False):
    benchmark(str(path), out, list(overrides), jobs, only, dry_run)


@pytest.mark.parametrize("name", ["gue", "genomic_benchmarks", "nucleotide_transformer"])
def test_every_recipe_of_the_shipped_suites_is_one(project_dir, tmp_path, name):
    runs = read_suite(project_dir / "recipes" / "benchmarks" / f"{name}.yaml", [], tmp_path)
    assert len({run.task for run in runs}) == {"gue": 28, "genomic_benchmarks": 9, "nucleotide_transformer": 18}[name]
    assert len({run.folder for run in runs}) == len(runs)
    for run in runs:
        if run.recipe.seed == 0:  # seeds differ in nothing that is checked
            check_finetune_recipe(run.recipe)
    local = f"tasks.{runs[0].task}.labels.table={{train: a.csv, test: b.csv}}"
    path = project_dir / "recipes" / "benchmarks" / f"{name}.yaml"
    assert read_suite(path, [local], tmp_path)[0].recipe.labels.table == {"train": "a.csv", "test": "b.csv"}


def test_recipes_are_put_together_from_defaults_task_and_method(tmp_path):
    path = write_suite(
        tmp_path,
        defaults={"model": "runs/first", "training": {"max_steps": 5, "learning_rate": 1e-3}},
        tasks={"one": {"labels": {"table": "x.csv", "columns": {"label": "y"}}, "training": {"max_steps": 7}}},
        methods={"lora": {"method": "lora"}, "cnn": {"model": {"baseline": "danq"}, "training": {"max_steps": 9}}},
        seeds=[3, 4],
        data_fractions=[0.1, 1.0],
    )
    runs = read_suite(path, ["defaults.training.learning_rate=1e-4"], tmp_path / "out")
    assert len(runs) == 8
    lora, cnn = runs[0].recipe, runs[-1].recipe
    assert (lora.model, lora.method, lora.name, lora.task_name, lora.seed) == ("runs/first", "lora", "lora", "one", 3)
    assert lora.training == {"max_steps": 7, "learning_rate": 1e-4}
    assert lora.labels.columns == {"label": "y"} and lora.labels.data_fraction == 0.1
    assert (cnn.model, cnn.method, cnn.training["max_steps"]) == ({"baseline": "danq"}, None, 9)
    assert cnn.labels.data_fraction == 1.0 and cnn.seed == 4
    folders = [run.folder.relative_to(tmp_path).as_posix() for run in runs]
    assert folders[0] == "out/runs/one/lora-0.1-seed3" and folders[-1] == "out/runs/one/cnn-seed4"


def test_a_model_and_a_table_are_taken_whole():
    under = {"model": {"baseline": "danq", "width": 2}, "labels": {"table": {"train": "a"}, "task": "binary"}}
    over = {"model": {"baseline": "deepsea"}, "labels": {"table": {"test": "b"}}}
    assert merge_blocks(under, over) == {
        "model": {"baseline": "deepsea"},
        "labels": {"table": {"test": "b"}, "task": "binary"},
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": []}, "seeds is empty"),
        ({"seeds": [0, 0]}, "each may be there once"),
        ({"data_fractions": [2.0]}, "data_fractions is 2.0; allowed: 1e-06 to 1"),
        ({"tasks": {"a/b": {"labels": {"table": "x.csv"}}}}, "tasks.a/b: the name becomes a folder"),
        ({"defaults": {"seed": 1}}, "defaults.seed cannot be set: set seeds"),
        ({"tasks": {"a": {"labels": {"table": "x.csv", "data_fraction": 0.5}}}}, "set data_fractions"),
        ({"methods": {"a": {"modell": 1}}}, "unknown key 'modell'; did you mean 'model'?"),
        ({"methods": {"a": {"model": {"baseline": "danqq"}}}}, "method a: model: baseline 'danqq' is unknown"),
        ({"methods": {"a": {"model": {"baseline": "danq", "width": -1}}}}, "method a: model: .*width is -1"),
        ({"methods": {"a": {"model": "/nowhere", "method": "full"}}}, "method a: model /nowhere: no config.json"),
        ({"methods": {"a": {"model": "o/n", "method": "lora", "lora": {"rr": 1}}}}, "lora.rr is unknown"),
        ({"defaults": {"training": {"max_step": 3}}}, "training.max_step is not a field"),
        ({"defaults": {"stopping": {"metric": "mmc"}}}, "stopping.metric is 'mmc'"),
        ({"tasks": {"a": {"labels": {"table": "none.csv"}}}}, "task a, method kmer: labels: none.csv: no such file"),
    ],
)
def test_a_wrong_suite_starts_nothing(tmp_path, changes, message):
    if "lora" in message:
        pytest.importorskip("peft")
    path = write_suite(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        run(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_runs_in_one_folder_are_refused(tmp_path):
    methods = {name: {"model": {"baseline": "danq"}} for name in ("danq", "danq-0.1")}
    path = write_suite(tmp_path, methods=methods, data_fractions=[0.1, 1.0])
    with pytest.raises(ValueError, match="would share .*danq-0.1-seed0; rename a method"):
        read_suite(path, [], tmp_path)


def test_only_some(tmp_path):
    methods = {name: {"model": {"baseline": name}} for name in ("danq", "deepsea")}
    tasks = {name: {"labels": {"table": "x.csv"}} for name in ("one", "two")}
    runs = read_suite(write_suite(tmp_path, tasks=tasks, methods=methods), [], tmp_path)
    assert len(select(runs, "")) == 4
    assert [(r.task, r.method) for r in select(runs, "two,danq")] == [("two", "danq")]
    assert [(r.task, r.method) for r in select(runs, "deepsea")] == [("one", "deepsea"), ("two", "deepsea")]
    with pytest.raises(ValueError, match="--only danqq: did you mean 'danq'"):
        select(runs, "danqq")


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    run(write_suite(tmp_path, seeds=[0, 1]), tmp_path / "out", dry_run=True)
    told = capsys.readouterr().out
    assert told.count("left    ") == 2 and "motif/kmer-seed1" in told
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").touch()
    with pytest.raises(ValueError, match=r"holds 'thesis.doc', which does not belong to a benchmark"):
        run(write_suite(tmp_path), tmp_path / "out")


def test_the_last_words_of_a_run(tmp_path):
    path = tmp_path / "output.txt"
    assert last_line(path) == ""
    path.write_text("rows 3\n  0%|   | 0/9 [00:00<?, ?step/s]ended: step 3: loss nan\n 10%|   | 1/9 [00:01]\n")
    assert last_line(path) == "ended: step 3: loss nan"
    path.write_text("Traceback:\n  x\nRuntimeError: no\n\r 10%|   | 1/9 [00:01<00:02]\n")
    assert last_line(path) == "RuntimeError: no"


def test_what_changed_since_a_run(tmp_path):
    path = write_suite(tmp_path)
    recipe = read_suite(path, [], tmp_path / "out")[0].recipe
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(suites.to_dict(recipe) | {"run_dir": "moved"}))
    assert changed(recipe, tmp_path / "r.yaml") == ""
    other = read_suite(path, ["methods.kmer.model.k_max=4"], tmp_path / "out")[0].recipe
    assert changed(other, tmp_path / "r.yaml") == "model.k_max was 3 and is now 4"


@pytest.mark.slow
def test_a_suite_from_start_to_page(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    methods = {
        "kmer": {"model": {"baseline": "kmer-logistic", "k_max": 3}},
        "bound": {"model": {"baseline": "deepbind", "width": 0.25}, "training": {"max_steps": 40}},
        "broken": {"model": {"baseline": "deepbind"}, "pooling": "cls", "labels": {"split": {"by": "contig"}}},
    }
    path, out = write_suite(tmp_path, methods=methods, data_fractions=[0.5, 1.0]), tmp_path / "out"
    with pytest.raises(SystemExit) as stop:
        run(path, out, "data_fractions=[1.0]", jobs=2)
    told = capsys.readouterr()
    assert stop.value.code == 1
    assert "1 of 3 runs failed" in told.err and "motif broken seed 0: error: " in told.err
    assert "done    motif kmer seed 0: mcc " in told.err
    found = json.loads((out / "compare" / "metrics.json").read_text())
    assert {row["name"] for row in found["tasks"][0]["runs"]} == {"kmer", "bound"}
    assert (out / "compare" / "index.html").is_file()
    # Nothing that is done runs again; what was asked for besides does, and stands on the page.
    before = (out / "runs" / "motif" / "kmer-seed0" / "metrics.json").stat().st_mtime_ns
    run(path, out, only="kmer")
    assert (out / "runs" / "motif" / "kmer-seed0" / "metrics.json").stat().st_mtime_ns == before
    found = json.loads((out / "compare" / "metrics.json").read_text())
    assert [row["data_fraction"] for row in found["tasks"][0]["fractions"]] == [0.5, 1.0]
    with pytest.raises(ValueError, match="kmer-0.5-seed0 is finished, but model.k_max was 3 and is now 4"):
        run(path, out, "methods.kmer.model.k_max=4", only="kmer")


@pytest.mark.slow
def test_killed_it_goes_on(tmp_path):
    """SIGTERM ends the run with it, after a checkpoint; SIGKILL takes it along too; the next start goes on."""
    steps = {"defaults": {"training": TRAINING | {"max_steps": 4000}, "stopping": {"evaluations": 2, "patience": 0}}}
    path, out = write_suite(tmp_path, **steps), tmp_path / "out"
    command = [sys.executable, "-m", "genolm", "benchmark", str(path), "--out", str(out), "--jobs", "1"]
    folder = out / "runs" / "motif" / "kmer-seed0"
    for number, code in ((signal.SIGTERM, 75), (signal.SIGKILL, -signal.SIGKILL)):
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        until = time.monotonic() + 120
        while not (folder / "output.txt").is_file() or b"step/s" not in (folder / "output.txt").read_bytes():
            assert process.poll() is None and time.monotonic() < until, process.stderr.read()
            time.sleep(0.1)
        process.send_signal(number)
        _, told = process.communicate(timeout=120)
        assert process.returncode == code, told
        while (folder / "output.txt").read_bytes().count(b"ended: after step") == 0:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert not (folder / "metrics.json").exists() and list((folder / "checkpoints").iterdir())
    run(path, out)
    assert (folder / "metrics.json").is_file()
    logged = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert logged == sorted(logged) and logged[-1] == 4000
