"""genolm sweep: what may be searched, what is tried, what is written, and that the test rows stay unseen."""

import csv
import json

import pyarrow.parquet as pq
import pytest
import yaml
from motif_tables import motif_table

from genolm.benchmarking.sweep_space import Range, extremes, read_space
from genolm.commands.sweep import sweep
from genolm.config.finetune import FinetuneRecipe
from genolm.config.yaml import load_settings

pytest.importorskip("optuna")
SPACE = {"model.kernel": [5, 11], "training.learning_rate": {"low": "1e-3", "high": 0.1, "log": True}}


def write_recipe(folder, sweep=SPACE, **changes):
    table = folder / "motif.csv"
    if not table.is_file():
        motif_table(table)
    values = {
        "run_dir": "unused",
        "labels": {"table": str(table)},
        "model": {"baseline": "deepbind", "width": 0.25},
        "stopping": {"evaluations": 2},
        "training": {"max_steps": 20, "per_device_train_batch_size": 16, "use_cpu": True},
    } | changes
    if sweep is not None:
        values["sweep"] = sweep
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def run(path, out, *overrides, space=None, trials=2, jobs=1, metric=None, seed=0):
    sweep(str(path), out, list(overrides), space, trials, jobs, metric, seed)


def test_a_space_is_read_dotted_or_nested():
    space = read_space(
        {"model.width": {"low": 1, "high": 4}, "training": {"learning_rate": ["1e-3", 0.1]}}, {}, "", "x"
    )
    assert space == {"model.width": Range(1, 4), "training.learning_rate": [1e-3, 0.1]}
    assert space["model.width"].whole and not Range(1, 2.5).whole
    assert extremes(space) == [
        ("model.width", 1), ("model.width", 4), ("training.learning_rate", 1e-3), ("training.learning_rate", 0.1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "nothing to search"),
        ({"model.kernel": 5}, "model.kernel is 5; give a range, .* or a list of two or more"),
        ({"model.kernel": [5]}, "two or more choices"),
        ({"model.kernel": [5, 5]}, "choices that differ"),
        ({"model.kernel": {"low": 5}}, "model.kernel: key 'high' is missing"),
        ({"model.kernel": {"low": 5, "high": 9, "lgo": True}}, "unknown key 'lgo'; did you mean 'lo"),
        ({"model.kernel": {"low": 9, "high": 5}}, "high is 5; it must be above low, which is 9"),
        ({"model.width": {"low": 0, "high": 5, "log": True}}, "on a log scale it must be above 0"),
        ({"model.kernel": {"low": "a", "high": 5}}, "low is 'a'; it must be a number"),
        ({"labels.data_fraction": [0.1, 1.0]}, "labels.data_fraction cannot be searched: it decides the rows"),
        ({"seed": [0, 1]}, "seed cannot be searched"),
        ({"modell.width": [1, 2]}, "unknown key 'modell'; did you mean 'model'?"),
        ({"model.kernle": [5, 7]}, "has no option 'kernle'; did you mean 'kernel'?"),
        ({"model.kernel": {"low": 2.5, "high": 5}}, "kernel of deepbind is 2.5; give a whole number"),
        ({"model.width": {"low": -1.0, "high": 5.0}}, "model.width = -1.0 cannot be tried: .*width is -1.0"),
        ({"dropout": [0.1, "much"]}, "dropout = 'much' cannot be tried: .*it must be a number"),
        ({"training.learning_rat": [0.1, 0.2]}, "did you mean 'learning_rate'?"),
        ({"training.learning_rate": [0.1, "much"]}, "training.learning_rate is 'much'; it must be a number"),
    ],
)
def test_a_wrong_space_tries_nothing(tmp_path, space, message):
    with pytest.raises(ValueError, match=message):
        run(write_recipe(tmp_path, space), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"sweep": None}, {}, "what to search is missing"),
        ({}, {"space": "space.yaml"}, "what to search is there twice"),
        ({}, {"metric": "r2"}, "--metric is 'r2'; a binary task has mcc"),
        ({"labels": {"table": "none.csv"}}, {}, "none.csv: no such file"),
        ({"training": {"max_step": 3}}, {}, "training.max_step is not a field"),
    ],
)
def test_a_wrong_recipe_tries_nothing(tmp_path, changes, options, message):
    with pytest.raises(ValueError, match=message):
        run(write_recipe(tmp_path, **changes), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_no_valid_rows_is_said_at_once(tmp_path):
    with pytest.raises(ValueError, match="no rows are valid"):
        path = write_recipe(tmp_path)
        run(path, tmp_path / "out", "labels.split={by: random, valid: 0}")


def test_the_quickstart_recipe_is_read(project_dir, tmp_path):
    path = project_dir / "recipes" / "quickstart" / "sweep.yaml"
    table = motif_table(tmp_path / "motif.csv", 20)
    with pytest.raises(ValueError, match="--metric is 'none'"):
        run(path, tmp_path / "out", f"labels.table={table}", metric="none")


@pytest.mark.slow
def test_a_sweep_goes_on_and_leaves_the_test_rows_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path, out = write_recipe(tmp_path), tmp_path / "out"
    run(path, out, trials=1)
    first = list(csv.reader((out / "trials.csv").read_text().splitlines()))
    run(path, out, trials=3, jobs=2)
    rows = list(csv.reader((out / "trials.csv").read_text().splitlines()))
    assert rows[:2] == first and len(rows) == 4
    assert rows[0] == ["trial", "state", "mcc", "seconds", "model.kernel", "training.learning_rate", "reason"]
    assert all(row[1] == "done" and row[4] in ("5", "11") and 1e-3 <= float(row[5]) <= 0.1 for row in rows[1:])
    for trial in sorted((out / "trials").iterdir()):
        about = json.loads((trial / "metrics.json").read_text())
        assert "test" not in about and about["valid"]["mcc"] is not None
        assert set(pq.read_table(trial / "predictions.parquet")["split"].to_pylist()) == {"valid"}
    best = max(rows[1:], key=lambda row: float(row[2]))
    assert [path.parent.name for path in (out / "trials").glob("*/model")] == [f"{int(best[0]):04d}"]
    recipe = load_settings(FinetuneRecipe, out / "best.yaml")
    assert recipe.predict_test and recipe.model["kernel"] == int(best[4])
    assert recipe.training["learning_rate"] == float(best[5]) and recipe.run_dir == str(out / "best")
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert f"trial {best[0]}" in capsys.readouterr().out
    assert not list(out.rglob("*.pkl"))
    with pytest.raises(ValueError, match="whose seed was another: 0, now 1"):
        run(path, out, seed=1)
    with pytest.raises(ValueError, match="whose recipe was another: model.width 0.25, now 0.5"):
        run(path, out, "model.width=0.5")


@pytest.mark.slow
def test_a_failed_trial_counts_and_the_sweep_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = write_recipe(tmp_path, {"pooling": ["mean", "cls"], "training.learning_rate": [1e-3, 1e30]})
    run(path, tmp_path / "out", trials=4, jobs=2)
    rows = list(csv.DictReader((tmp_path / "out" / "trials.csv").read_text().splitlines()))
    for row in rows:
        assert (row["state"] == "failed") == (row["training.learning_rate"] == "1e+30"), row
        assert row["reason"].startswith("ended: step") == (row["state"] == "failed")
    assert {row["state"] for row in rows} == {"done", "failed"}
    run(path, tmp_path / "out", trials=9)  # there is no more to try
    tried = list(csv.DictReader((tmp_path / "out" / "trials.csv").read_text().splitlines()))
    assert tried == rows and len({(row["pooling"], row["training.learning_rate"]) for row in rows}) == 4


@pytest.mark.slow
def test_all_failed_is_an_error_with_the_last_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = write_recipe(tmp_path, {"training.learning_rate": [1e29, 1e30]})
    with pytest.raises(ValueError, match="all 1 trials failed, the last one with: ended: "):
        run(path, tmp_path / "out", trials=1)
    assert (tmp_path / "out" / "trials.csv").is_file() and not (tmp_path / "out" / "best.yaml").exists()
