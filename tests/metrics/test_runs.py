"""Run folders that cannot be compared are refused, by an error that says why."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finetuned_runs import NAMES, make_run, make_study

from genolm.labels.dataset import Labelled, Task
from genolm.metrics.comparison import compare_runs, overall_finding, task_finding
from genolm.metrics.prediction_metrics import compute_metrics
from genolm.metrics.runs import group_runs, read_run, write_predictions


def edit_rows(folder, change):
    """Apply change to the list of prediction rows of a run, each a dict."""
    path = folder / "predictions.parquet"
    rows = pq.read_table(path).to_pylist()
    pq.write_table(pa.Table.from_pylist(change(rows)), path)


def edit_metadata(folder, **changes):
    path = folder / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return [make_run(folder / name, name, num_rows=80) for name in ("lora", "danq")]


@pytest.fixture
def pair(two, tmp_path):
    return [shutil.copytree(run, tmp_path / run.name) for run in two]


@pytest.mark.parametrize("kind", NAMES)
def test_a_run_folder_is_read_back(tmp_path, kind):
    folder = make_run(tmp_path / "run", "lora", kind, num_rows=40)
    run = read_run(folder)
    assert (run.name, run.task, run.kind, run.fraction, len(run.ids)) == ("lora", "", kind, 1.0, 40)
    found = compute_metrics(
        kind, run.labels, run.predictions, run.metadata["threshold"], NAMES[kind] if kind in ("tracks",) else None
    )
    for name, value in json.loads((folder / "metrics.json").read_text())["test"].items():
        if "/" not in name:
            assert found[name] == pytest.approx(value["value"], abs=1e-12)
    assert len(read_run(folder, "valid").ids) == 10


def test_order_of_rows_does_not_matter(pair):
    edit_rows(pair[1], lambda rows: rows[::-1])
    first, second = map(read_run, pair)
    assert (first.ids == second.ids).all() and (first.labels == second.labels).all()
    group_runs([first, second])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-2], r"of 80 and 78 ids, 2 only in .*lora \(test-78, test-79\).* split differently"),
        (
            lambda rows: [row | {"id": "x" + row["id"]} for row in rows],
            r"80 only in .*\(test-0, test-1, test-10, …\), 80 only in",
        ),
        (
            lambda rows: [row | {"label": 1 - row["label"]} if row["id"] == "test-7" else row for row in rows],
            r"labels of 1 of 80 rows \(test-7; test-7: [01] and [01]\)\. They come from different tables",
        ),
    ],
)
def test_runs_on_different_rows_are_refused(pair, change, message):
    edit_rows(pair[1], change)
    edit_metadata(pair[1], test={}, valid={})
    with pytest.raises(ValueError, match=message):
        compare_runs([read_run(run) for run in pair])


def test_runs_of_different_tasks_are_refused(pair):
    edit_metadata(pair[1], task={"kind": "binary", "names": ["no enhancer", "enhancer"]})
    with pytest.raises(ValueError, match="have different tasks"):
        compare_runs([read_run(run) for run in pair])


def test_tasks_of_different_names_are_compared_separately(tmp_path):
    runs = [make_run(tmp_path / "a", "lora", task_name="promoters", num_rows=60)]
    runs += [make_run(tmp_path / "b", "lora", "regression", task_name="activity", num_rows=50)]
    found = compare_runs([read_run(run) for run in runs], num_replicates=100)
    assert [task["task_name"] for task in found["tasks"]] == ["promoters", "activity"]
    assert [task["rows"] for task in found["tasks"]] == [60, 50]
    assert found["finding"] == "2 tasks, one run each: nothing to compare."


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: shutil.rmtree(run), "has no metrics.json"),
        (lambda run: (run / "predictions.parquet").unlink(), "has no predictions.parquet; did the run finish"),
        (lambda run: (run / "metrics.json").write_text('{"name": '), "metrics.json is damaged"),
        (lambda run: (run / "metrics.json").write_text("[]"), "is damaged: not a JSON object"),
        (lambda run: edit_metadata(run, seed="x"), "key 'seed' is 'x'"),
        (lambda run: edit_metadata(run, task={"kind": "rank"}), "task kind is 'rank'; allowed: binary"),
        (lambda run: edit_metadata(run, task={"kind": "binary"}), "task names are None; allowed: a list"),
        (lambda run: (run / "predictions.parquet").write_bytes(b"PAR1 cut"), "predictions.parquet is damaged"),
        (lambda run: (run / "log.jsonl").write_text('{"step": 1}\n{"st'), r"log.jsonl:2 is damaged"),
        (lambda run: edit_rows(run, lambda rows: [*rows, rows[-1]]), "id 'test-79' occurs twice in split test"),
        (lambda run: edit_rows(run, lambda rows: [row | {"split": "train"} for row in rows]), "its splits: train"),
        (lambda run: edit_rows(run, lambda rows: [{"id": row["id"]} for row in rows]), "lacks column 'split'"),
        (
            lambda run: edit_rows(run, lambda rows: [row | {"prediction": 2.0} for row in rows]),
            "row 0: prediction is 2.0",
        ),
        (
            lambda run: edit_rows(run, lambda rows: [row | {"prediction": [0.5]} for row in rows]),
            "prediction does not fit a binary task: it holds list",
        ),
        (
            lambda run: edit_rows(run, lambda rows: [row | {"prediction": "high"} for row in rows]),
            "prediction does not fit a binary task: it holds string, not numbers",
        ),
        (
            lambda run: edit_rows(run, lambda rows: [row | {"prediction": 1 - row["prediction"]} for row in rows]),
            "but its metrics.json has .* different runs",
        ),
    ],
)
def test_damaged_runs_are_refused(pair, damage, message):
    damage(pair[0])
    with pytest.raises(ValueError, match=message) as error:
        read_run(pair[0])
    assert str(pair[0]) in str(error.value)


def test_names_of_targets_must_be_as_many_as_targets(tmp_path):
    run = make_run(tmp_path / "a", "lora", "regression", num_rows=40)
    edit_metadata(run, task={"kind": "regression", "names": ["one"]})
    with pytest.raises(ValueError, match="predictions.parquet: 1 names for 2 targets"):
        read_run(run)


def test_a_run_without_a_log_or_recipe_is_read(pair):
    for name in ("log.jsonl", "recipe.yaml", "provenance.json"):
        (pair[0] / name).unlink()
    run = read_run(pair[0])
    assert (run.log, run.recipe, run.versions) == ([], "", {})


def test_seeds_are_replicates(tmp_path):
    runs = [read_run(run) for run in make_study(tmp_path, seeds=2, num_rows=60, fractions=(0.5,))]
    (groups,) = group_runs(runs).values()
    assert {key: len(found) for key, found in groups.items() if key[0] == "lora"} == {
        ("lora", 1.0): 2,
        ("lora", 0.5): 2,
    }
    (task,) = compare_runs(runs, num_replicates=100)["tasks"]
    lora = next(row for row in task["runs"] if row["name"] == "lora")
    assert (lora["seeds"], lora["data_fraction"]) == ([0, 1], 1.0)
    assert lora["metrics"]["mcc"]["value"] == pytest.approx(
        np.mean([run.metadata["test"]["mcc"]["value"] for run in groups["lora", 1.0]])
    )
    assert lora["seconds"]["train"] == pytest.approx(np.mean([310, 341]))
    assert {(row["name"], row["data_fraction"]) for row in task["fractions"]} == {
        (name, share) for name in ("lora", "danq", "deepbind") for share in (0.5, 1.0)
    }


def test_one_name_for_different_configurations_is_refused(tmp_path):
    first = read_run(make_run(tmp_path / "a", "lora", num_rows=40))
    again = read_run(make_run(tmp_path / "b", "lora", num_rows=40))
    with pytest.raises(ValueError, match="both named 'lora' with seed 0; leave one out"):
        group_runs([first, again])
    other = read_run(make_run(tmp_path / "c", "lora", num_rows=40, seed=1, method="full"))
    with pytest.raises(ValueError, match="their method differs: 'lora' and 'full'"):
        group_runs([first, other])


def test_the_baseline_and_the_metric_are_chosen(tmp_path):
    runs = [read_run(run) for run in make_study(tmp_path, seeds=1, num_rows=200)]
    (task,) = compare_runs(runs, num_replicates=100)["tasks"]
    baselines = [row["name"] for row in task["runs"] if row["method"] == "baseline"]
    assert task["baseline"] == baselines[0]
    values = [row["metrics"]["mcc"]["value"] for row in task["runs"]]
    assert values == sorted(values, reverse=True)
    (task,) = compare_runs(runs, against="probe", metric="auroc", num_replicates=100)["tasks"]
    assert (task["baseline"], task["metric"]) == ("probe", "auroc")
    lora = next(row for row in task["runs"] if row["name"] == "lora")
    probe = next(row for row in task["runs"] if row["name"] == "probe")
    assert probe["difference"] is None
    for key, found in lora["difference"].items():
        assert found["value"] == pytest.approx(lora["metrics"][key]["value"] - probe["metrics"][key]["value"])
    with pytest.raises(ValueError, match="--against esm: no such run; its runs: "):
        compare_runs(runs, against="esm")
    with pytest.raises(ValueError, match="--metric is 'r2'; a binary task has mcc, auroc"):
        compare_runs(runs, metric="r2")


def row(name, value, difference):
    return {
        "name": name,
        "metrics": {"mcc": {"value": value, "low": value - 0.1, "high": value + 0.1}},
        "difference": difference and {"mcc": dict(zip(("value", "low", "high"), difference, strict=True))},
    }


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row("danq", 0.5, None)], "danq reaches 0.500 MCC (0.400 … 0.600)."),
        (
            [
                row("lora", 0.531, (0.031, 0.012, 0.049)),
                row("danq", 0.5, None),
                row("basset", 0.49, (-0.01, -0.03, 0.01)),
            ],
            "lora beats danq by 0.031 MCC (0.012 … 0.049); basset is indistinguishable from danq.",
        ),
        (
            [row("lora", 0.6, (0.1, 0.05, 0.15)), row("full", 0.58, (0.08, 0.01, 0.1)), row("danq", 0.5, None)],
            "lora beats danq by 0.100 MCC (0.050 … 0.150); so does full.",
        ),
        (
            [row("danq", 0.5, None), row("a", 0.4, (-0.1, -0.2, -0.05)), row("b", 0.3, (-0.2, -0.3, -0.15))],
            "a and b fall behind danq.",
        ),
        ([row("danq", 0.5, None), row("a", np.nan, (np.nan,) * 3)], "a could not be measured by MCC."),
    ],
)
def test_the_finding_by_hand(rows, said):
    assert task_finding({"metric": "mcc", "baseline": "danq", "runs": rows}) == said


def test_a_smaller_error_is_better(tmp_path):
    runs = [read_run(run) for run in make_study(tmp_path, "regression", seeds=1, num_rows=400)]
    (task,) = compare_runs(runs, metric="mse", against="kmer-logistic", num_replicates=100)["tasks"]
    values = [row["metrics"]["mse"]["value"] for row in task["runs"]]
    assert values == sorted(values)
    best = task["runs"][0]
    assert best["difference"]["mse"]["value"] < 0
    assert task["finding"].startswith(f"{best['name']} beats kmer-logistic by 0.")


@pytest.mark.parametrize(
    ("lora", "danq", "said"),
    [
        ([0.1, 0.2, 0.0], None, "lora beats cnn on 2 of 3 tasks and is indistinguishable on 1."),
        ([0.1, -0.1, 0.0], None, "lora beats cnn on 1 of 3 tasks, is indistinguishable on 1 and falls behind on 1."),
        (
            [0.0, -0.1, 0.0],
            None,
            "No run beats cnn: at best, lora is indistinguishable on 2 of 3 tasks and falls behind on 1.",
        ),
        (None, [0.1, 0.1, 0.1], "danq beats cnn on 3 of 3 tasks."),
        ([0.0] * 3, [0.1] * 3, "No run beats cnn: at best, lora is indistinguishable on 3 of 3 tasks."),
    ],
)
def test_the_finding_of_several_tasks_by_hand(lora, danq, said):
    tasks = []
    for k in range(3):
        rows = [row("cnn", 0.5, None) | {"method": "baseline"}]
        for name, method, by in (("lora", "lora", lora), ("danq", "baseline", danq)):
            if by is not None:
                rows.append(row(name, 0.5 + by[k], (by[k], by[k] - 0.05, by[k] + 0.05)) | {"method": method})
        tasks.append({"metric": "mcc", "baseline": "cnn", "runs": rows})
    assert overall_finding(tasks) == said


CASES = {
    "binary": ([0, 1], [np.array(0.2), np.array(0.9)], pa.int64(), pa.float64()),
    "multiclass": ([0, 2], [np.array([0.2, 0.3, 0.5])] * 2, pa.int64(), pa.list_(pa.float64())),
    "multilabel": ([[0.0, np.nan], [1, 1]], [np.array([0.1, 0.2])] * 2, pa.list_(pa.float64()), pa.list_(pa.float64())),
    "regression": ([[0.5], [np.nan]], [np.array([0.1])] * 2, pa.list_(pa.float64()), pa.list_(pa.float64())),
    "per-base": (
        [np.array([0, 1, -100]), np.array([1])],
        [np.full((3, 2), 0.5), np.full((1, 2), 0.5)],
        pa.list_(pa.int64()),
        pa.list_(pa.list_(pa.float64())),
    ),
    "tracks": (
        [np.array([[0.0], [np.nan]]), np.array([[1.0]])],
        [np.full((2, 1), 0.5), np.full((1, 1), 0.25)],
        pa.list_(pa.list_(pa.float64())),
        pa.list_(pa.list_(pa.float64())),
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_every_kind_is_written_as_it_is(tmp_path, kind):
    labels, values, label_type, prediction_type = CASES[kind]
    held = np.empty(2, dtype=object)
    held[:] = labels
    held = held if kind in ("per-base", "tracks") else np.array(labels)
    text = np.array(["a", "b"])
    names = ("x",) if kind == "regression" or kind == "tracks" else ("x", "y", "z")[: 3 if kind == "multiclass" else 2]
    part = Labelled(Task(kind, names), text, ["ACG", "A"], held, text, text)
    path = tmp_path / "predictions.parquet"
    write_predictions(path, [("valid", part, values), ("test", part.select([1]), values[1:])])
    table = pq.read_table(path)
    assert table["id"].to_pylist() == ["a", "b", "b"] and table["split"].to_pylist() == ["valid", "valid", "test"]
    assert table.schema.field("label").type == label_type
    assert table.schema.field("prediction").type == prediction_type
    for found, expected in zip(table["label"].to_pylist(), [*labels, labels[1]], strict=True):
        np.testing.assert_array_equal(np.array(found), np.array(expected))
    for found, expected in zip(table["prediction"].to_pylist(), [*values, values[1]], strict=True):
        np.testing.assert_array_equal(np.array(found), expected)
    assert list(tmp_path.iterdir()) == [path]
