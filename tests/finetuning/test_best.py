"""The best model is kept, training stops in time, and neither a kill nor a signal changes what comes out."""

import json
import math
import random
import signal
import time
from functools import partial

import injections
import numpy as np
import pytest
import runs
from labelled_runs import BERT, finetune, predictions, pretrain, write_recipe, write_table
from sklearn.metrics import log_loss

from genolm.finetuning.best import BestModel, choose_thresholds, evaluate_predictions
from genolm.labels.dataset import Labelled, Task

posix = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="signals of POSIX systems")


def rows(kind="binary", labels=(0, 1, 1, 0), names=("no", "yes")):
    text = np.array([f"r{i}" for i in range(len(labels))])
    return Labelled(Task(kind, names), text, ["ACGT"] * len(labels), np.array(labels), text, text)


class Control:
    should_training_stop = False


class State:
    global_step = 0


def best_of(values, patience, log, metric="loss", kept=None):
    """Feed the measurement a probability for class 1 of every row; return the callback and what was kept."""
    kept = [] if kept is None else kept
    turn = iter(values)
    current = []

    def predict(model):
        current.append(next(turn))
        return [np.array(current[-1])] * 4

    best = BestModel(predict, rows(labels=(1, 1, 1, 0)), metric, patience, lambda: kept.append(current[-1]), log)
    return best, kept


def train(best, num, every=10, start=0):
    """Do as the Trainer and the log do; return the step at which training stopped."""
    state, control = State(), Control()
    state.global_step = start
    best.on_train_begin(None, state, control)
    for step in range(start + 1, num * every + 1):
        best.on_step_begin(None, state, control)
        state.global_step = step
        if step % every == 0:
            found = best(None)
            with best.log.open("a") as file:
                file.write(json.dumps({"step": step, **{f"eval_{k}": round(v, 5) for k, v in found.items()}}) + "\n")
        best.on_step_end(None, state, control)
        if control.should_training_stop:
            return step
    return num * every


def test_it_stops_when_it_should_and_keeps_the_best(tmp_path):
    best, kept = best_of([0.5, 0.6, 0.7, 0.4, 0.3, 0.72, 0.2], 2, tmp_path / "log")
    assert train(best, 7) == 50  # two without a better one; that the sixth would have been better is not known
    assert kept == [0.5, 0.6, 0.7] and best.best_step == 30 and best.done
    assert "step 30, loss 0." in best.summary(70)
    assert "stopped after step 50 of 70: none better in 2 evaluations" in best.summary(70)
    best, kept = best_of([0.5, 0.6, 0.7, 0.4, 0.3, 0.72, 0.2], 0, tmp_path / "other")
    assert train(best, 7) == 70 and kept == [0.5, 0.6, 0.7, 0.72] and not best.done
    assert "stopped" not in best.summary(70)


def test_what_was_best_is_learnt_from_the_log(tmp_path):
    values = [0.5, 0.7, 0.6, 0.4, 0.3, 0.2]
    whole, kept = best_of(values, 3, tmp_path / "whole")
    assert train(whole, 6) == 50
    for cut in range(1, 5):
        best, again = best_of(values[:cut], 3, tmp_path / f"cut-{cut}")
        train(best, cut)
        best, again = best_of(values[cut:], 3, tmp_path / f"cut-{cut}", kept=again)
        assert train(best, 6, start=10 * cut) == 50
        assert again == kept and (best.best_step, best.since) == (20, 3)
        assert (tmp_path / f"cut-{cut}").read_text() == (tmp_path / "whole").read_text()


def test_a_metric_that_is_not_defined_never_stops_a_run(tmp_path):
    text = np.array(["a", "b"])
    one_class = Labelled(Task("binary", ("no", "yes")), text, ["A", "C"], np.array([1, 1]), text, text)
    kept = []
    best = BestModel(lambda _: [np.array(0.5)] * 2, one_class, "auroc", 2, lambda: kept.append(1), tmp_path / "log")
    assert train(best, 5) == 50 and len(kept) == 5
    assert "not defined" in best.summary(50)


def test_measures_by_hand():
    probabilities = [np.array(x) for x in (0.2, 0.6, 0.9, 0.4)]
    found = evaluate_predictions(rows(), probabilities, 0.5)
    assert found["loss"] == pytest.approx(log_loss([0, 1, 1, 0], [0.2, 0.6, 0.9, 0.4]))
    assert found["mcc"] == 1 and found["auroc"] == 1
    assert 0.4 < choose_thresholds(rows(), probabilities) <= 0.6
    numbers = rows("regression", [[1.0, np.nan], [3.0, 5.0]], ("x", "y"))
    found = evaluate_predictions(numbers, [np.array([2.0, 0.0]), np.array([3.0, 7.0])], None)
    assert found["loss"] == pytest.approx((1 + 0 + 4) / 3)
    many = rows("multilabel", [[1.0, np.nan], [0.0, 1.0], [1.0, 0.0]], ("x", "y"))
    values = [np.array([0.8, 0.5]), np.array([0.1, 0.7]), np.array([0.6, 0.2])]
    assert evaluate_predictions(many, values, choose_thresholds(many, values))["loss"] == pytest.approx(
        -np.log([0.8, 0.9, 0.7, 0.6, 0.8]).mean()
    )
    classes = rows("multiclass", [2, 0], ("a", "b", "c"))
    values = [np.array([0.1, 0.2, 0.7]), np.array([0.0, 0.5, 0.5])]
    assert evaluate_predictions(classes, values, None)["loss"] == pytest.approx((-math.log(0.7) - math.log(1e-12)) / 2)


# Real runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("best")
    pretrain(folder, "bert", BERT)
    table = write_table(folder)
    training = {"max_steps": 60, "save_steps": 10, "learning_rate": 0.05, "logging_steps": 4}
    options = {"training": training, "stopping": {"evaluations": 12, "patience": 0}, "dropout": 0.1}
    for method in ("lora", "full"):
        finetune(write_recipe(folder, method, folder / "bert", table, method=method, **options))
    baseline = {"baseline": "deepbind", "width": 0.5}
    finetune(write_recipe(folder, "baseline", baseline, table, **options))
    stopping = {"evaluations": 12, "patience": 2, "metric": "loss"}
    finetune(write_recipe(folder, "early", folder / "bert", table, method="full", **(options | {"stopping": stopping})))
    return folder


def same(run_dir, unbroken):
    assert runs.losses(run_dir) == runs.losses(unbroken)
    one, two = predictions(run_dir), predictions(unbroken)
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name])
    left, right = (json.loads((d / "metrics.json").read_text()) for d in (run_dir, unbroken))
    assert left["steps"] == right["steps"] and left["test"] == right["test"]


def test_the_kept_model_is_the_best_of_the_log_and_not_the_last(folder):
    for name, metric in (("full", "mcc"), ("lora", "mcc"), ("early", "loss")):
        metrics = json.loads((folder / name / "metrics.json").read_text())
        evaluated = {r["step"]: r[f"eval_{metric}"] for r in runs.losses(folder / name) if f"eval_{metric}" in r}
        sign = -1 if metric == "loss" else 1
        best = max(evaluated, key=lambda step: (sign * evaluated[step], -step))
        assert metrics["steps"]["best"] == best
        assert metrics["valid"][metric] == pytest.approx(evaluated[best], abs=1e-4)
    assert json.loads((folder / "early" / "metrics.json").read_text())["steps"]["trained"] < 60


def wait_for_step(process, run_dir, step):
    log = run_dir / "log.jsonl"
    while process.is_alive():
        lines = log.read_text().splitlines() if log.is_file() else []
        if lines and lines[-1].endswith("}") and json.loads(lines[-1])["step"] >= step:
            return
        time.sleep(0.001)


@posix
@pytest.mark.parametrize("name", ["lora", "full", "baseline", "early"])
@pytest.mark.parametrize("number", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_a_killed_run_ends_as_one_that_was_not(folder, name, number):
    chance = random.Random(number)
    for i in range(number):
        run_dir = folder / f"killed-{name}-{number}-{i}"
        recipe, last = folder / f"{name}.yaml", 20 if name == "early" else 58
        (process,) = runs.start(recipe, f"run_dir={run_dir}", command="finetune")
        wait_for_step(process, run_dir, chance.randrange(8, last))
        time.sleep(chance.random() * 0.02)
        process.kill()
        codes = runs.finish([process])
        if codes == [-9]:
            assert runs.run(recipe, f"run_dir={run_dir}", command="finetune") == [0], runs.output(run_dir)
        same(run_dir, folder / name)


@posix
@pytest.mark.parametrize("name", ["lora", "early"])
def test_a_signal_ends_with_75_and_the_run_goes_on(folder, name):
    run_dir, recipe = folder / f"stopped-{name}", folder / f"{name}.yaml"
    stop = partial(injections.signal_at, int(signal.SIGTERM), 13, 0, "forward")
    options = {"command": "finetune"}
    assert runs.run(recipe, f"run_dir={run_dir}", before=stop, **options) == [75], runs.output(run_dir)
    assert "the same command resumes from there" in runs.output(run_dir).replace("\n", " ")
    assert not (run_dir / "metrics.json").exists()
    assert runs.run(recipe, f"run_dir={run_dir}", "seed=1", **options) == [2]
    assert "seed: 0 → 1" in runs.output(run_dir)
    assert runs.run(recipe, f"run_dir={run_dir}", **options) == [0], runs.output(run_dir)
    same(run_dir, folder / name)


@posix
def test_a_run_killed_after_it_stopped_early_ends_alike(folder):
    """Training is done, a checkpoint is at its last step, and predictions are not written yet."""
    run_dir, recipe = folder / "late", folder / "early.yaml"
    trained = json.loads((folder / "early" / "metrics.json").read_text())["steps"]["trained"]
    changes = [f"run_dir={run_dir}", f"training.save_steps={trained}"]
    assert runs.run(recipe, *changes, command="finetune", before=injections.killed_at_the_end) == [-9]
    assert (run_dir / "checkpoints" / f"step-{trained}").is_dir()
    assert runs.run(recipe, *changes, command="finetune") == [0], runs.output(run_dir)
    one, two = predictions(run_dir), predictions(folder / "early")
    assert all((one[name] == two[name]).all() for name in two)
