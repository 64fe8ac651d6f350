"""Figures of a run: the values and labels of their lines, before they are saved."""

import matplotlib.image
import numpy as np
import pytest

from genolm.reports.figures import learning_curve, loss_curve, running_mean, score_histogram, series, sweep_figure


def rows(key):
    rng = np.random.default_rng(0)
    training = [
        {"step": step, "loss": 1.0, key: 1.9 + 1.2 * np.exp(-step / 40) + rng.normal(0, 0.01)}
        for step in range(10, 2000, 10)
    ]
    return [*training, {"step": 1000, f"eval_{key}": 1.91}, {"step": 1990, f"eval_{key}": 1.905}, {"step": 1990}]


def lines_of(axes):
    """Label → (x, y) of each named line."""
    return {
        line.get_label(): (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist())
        for line in axes.lines
        if not line.get_label().startswith("_")
    }


def legend_covers_nothing(axes):
    """Whether the legend lies outside the plot."""
    axes.figure.draw_without_rendering()
    return not axes.get_legend().get_window_extent().overlaps(axes.get_window_extent().shrunk(1, 0.99))


@pytest.mark.parametrize(
    ("objective", "key"), [("causal", "bits_per_base"), ("masked", "masked_bits_per_base")], ids=["causal", "masked"]
)
def test_the_loss_curve_shows_the_log_the_best_markov_model_and_the_floor(drawn, objective, key):
    log = rows(key)
    baselines = {"0": 2.0, "4": 1.944, "10": 2.003} if objective == "causal" else None
    loss_curve(log, "loss.png", objective, baselines=baselines, floor=1.89)
    (axes,) = drawn[0].axes
    lines = lines_of(axes)
    assert lines["held out: 1.905 at the end"] == ([1000, 1990], [1.91, 1.905])
    assert lines["floor: 1.890"][1] == [1.89, 1.89]
    assert ("best Markov model, order 4: 1.944" in lines) == (objective == "causal")
    training = [row[key] for row in log[:199]]
    pale = axes.lines[0]
    assert pale.get_ydata().tolist() == training and pale.get_xdata().tolist() == list(range(10, 2000, 10))
    (name,) = (name for name in lines if name.startswith("training"))
    assert name.endswith(f": {training[-1]:.3f} at the end") and ("hidden" in name) == (objective == "masked")
    assert lines[name][1] == running_mean(np.array(training)).tolist()
    low, high = axes.get_ylim()
    assert low < 1.89 and 2 < high < max(training)  # the first steep fall is cut
    assert axes.get_xlabel() == "training step" and legend_covers_nothing(axes)


@pytest.mark.parametrize("log", [[], [{"step": 1, "bits_per_base": 2.0}], [{"train_runtime": 3.0}]])
def test_short_runs_are_drawn_too(tmp_path, log):
    loss_curve(log, tmp_path / "loss.png", "causal")
    assert matplotlib.image.imread(tmp_path / "loss.png").shape == (660, 1080, 4)


def test_wrong_objective_is_refused(tmp_path):
    with pytest.raises(ValueError, match="allowed: causal, masked"):
        loss_curve([], tmp_path / "loss.png", "mlm")


def test_running_mean_by_hand():
    assert running_mean(np.array([1.0, 3.0, 5.0, 7.0]), fraction=0.5).tolist() == [1, 2, 4, 6]
    assert running_mean(np.array([4.0])).tolist() == [4]


def test_the_learning_curve_shows_losses_and_the_metrics_that_were_measured(drawn):
    log = [{"step": step, "epoch": step / 50, "loss": 1 / step} for step in range(1, 100)]
    learning_curve(log, "curves.png")
    assert len(drawn[0].axes) == 1
    log += [{"step": 50, "eval_loss": 0.5, "eval_mcc": 0.4, "eval_auroc": float("nan")}, {"step": 99, "eval_mcc": 0.6}]
    learning_curve(log, "curves.png")
    loss, metrics = drawn[1].axes
    assert lines_of(loss)["held out: 0.500 at best, step 50"] == ([50], [0.5])
    assert "training: 0.010 at the end" in lines_of(loss)
    assert lines_of(metrics) == {"MCC: 0.600 at best, step 99": ([50, 99], [0.4, 0.6])}
    assert legend_covers_nothing(loss) and legend_covers_nothing(metrics)


@pytest.mark.parametrize("log", [[], [{"step": 1, "loss": 2.0}], [{"step": 1, "eval_mcc": 0.1}]])
def test_short_fine_tuning_is_drawn_too(tmp_path, log):
    learning_curve(log, tmp_path / "curves.png")
    assert matplotlib.image.imread(tmp_path / "curves.png").shape[1] == 1080


def test_series_takes_rows_that_have_both():
    log = [
        {"step": 1, "epoch": 0.5, "a": 2.0},
        {"step": 2, "a": 3.0},
        {"epoch": 1.0, "a": None},
        {"epoch": 2, "a": np.nan},
    ]
    assert [part.tolist() for part in series(log, "a", "epoch")] == [[0.5], [2.0]]


def test_the_histogram_counts_each_kind_of_variant(drawn):
    scores = np.array([-1.0, 0.0, 1.0, 2.0, np.nan, 0.5])
    score_histogram([(scores, np.array([0, 0, 1, -2, 0, 0]))], "masked_llr", "x.png")
    (axes,) = drawn[0].axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["substitutions: 3", "insertions: 1", "deletions: 1"]
    assert sum(bar.get_height() for bar in axes.patches) == 5
    assert axes.get_title() == "masked LLR of 5 alternative alleles" and axes.get_xlabel() == "masked LLR, nats"
    score_histogram([], "likelihood", "x.png")
    assert [text.get_text() for text in drawn[1].axes[0].texts] == ["nothing was scored"]


def test_a_sweep_shows_each_trial_the_best_and_readable_ticks(drawn):
    values = [0.2, None, 0.5, 0.4]
    parameters = {
        "learning_rate": [1e-4, 3e-4, 2.5e-4, 1e-3],
        "kernel": [9, 11, 20, 15],
        "method": ["a", "b", "a", "b"],
    }
    sweep_figure(values, parameters, "x.png", "MCC", logarithmic=["learning_rate"])
    trials, rate, kernel, method = drawn[0].axes[:4]
    assert trials.lines[0].get_ydata().tolist() == [0.2, 0.2, 0.5, 0.5]
    for axes, name in ((rate, "learning_rate"), (kernel, "kernel")):
        points, best = axes.collections
        x = np.asarray(points.get_offsets())[:, 0]
        assert x.tolist() == [parameters[name][k] for k in (0, 2, 3)] or x.tolist() == parameters[name]
        assert np.asarray(best.get_offsets()).tolist() == [[parameters[name][2], 0.5]]
    drawn[0].draw_without_rendering()
    shown = [text for text in rate.get_xticklabels(which="both") if text.get_text() and text.get_visible()]
    low, high = rate.get_xlim()
    boxes = [text.get_window_extent() for text in shown if low <= text.get_position()[0] <= high]
    assert len(boxes) >= 2 and not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
    assert all(float(tick).is_integer() for tick in kernel.get_xticks())
    assert [text.get_text() for text in method.get_xticklabels()] == ["a", "b"]
