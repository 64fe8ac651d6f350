import numpy as np
import pytest

from genolm.reports.figures import learning_curve, loss_curve, running_mean, series


def rows(key):
    rng = np.random.default_rng(0)
    train = [
        {"step": step, "loss": 1.0, key: 1.9 + 1.2 * np.exp(-step / 40) + rng.normal(0, 0.01)}
        for step in range(10, 2000, 10)
    ]
    return [*train, {"step": 1000, f"eval_{key}": 1.91}, {"step": 1990, f"eval_{key}": 1.905}, {"step": 1990}]


@pytest.mark.parametrize(
    ("objective", "key"), [("causal", "bits_per_base"), ("masked", "masked_bits_per_base")], ids=["causal", "masked"]
)
def test_curve_is_drawn(tmp_path, objective, key):
    import matplotlib.image

    baselines = {"0": 2.0, "4": 1.944, "10": 2.003} if objective == "causal" else None
    loss_curve(rows(key), tmp_path / "loss.png", objective, baselines=baselines, floor=1.89)
    assert matplotlib.image.imread(tmp_path / "loss.png").shape == (660, 1080, 4)


@pytest.mark.parametrize("log", [[], [{"step": 1, "bits_per_base": 2.0}], [{"train_runtime": 3.0}]])
def test_short_runs_are_drawn_too(tmp_path, log):
    loss_curve(log, tmp_path / "loss.png", "causal")
    assert (tmp_path / "loss.png").stat().st_size > 0


def test_wrong_objective_is_refused(tmp_path):
    with pytest.raises(ValueError, match="allowed: causal, masked"):
        loss_curve([], tmp_path / "loss.png", "mlm")


def test_running_mean_by_hand():
    assert running_mean(np.array([1.0, 3.0, 5.0, 7.0]), share=0.5).tolist() == [1, 2, 4, 6]
    assert running_mean(np.array([4.0])).tolist() == [4]


def test_learning_curve_is_drawn(tmp_path):
    import matplotlib.image

    log = [{"step": step, "epoch": step / 50, "loss": 1 / step} for step in range(1, 100)]
    learning_curve(log, tmp_path / "loss.png")
    assert matplotlib.image.imread(tmp_path / "loss.png").shape == (600, 1080, 4)
    log += [{"step": 50, "eval_loss": 0.5, "eval_mcc": 0.4, "eval_auroc": float("nan")}, {"step": 99, "eval_mcc": 0.6}]
    learning_curve(log, tmp_path / "curves.png")
    assert matplotlib.image.imread(tmp_path / "curves.png").shape == (960, 1080, 4)


@pytest.mark.parametrize("log", [[], [{"step": 1, "loss": 2.0}], [{"step": 1, "eval_mcc": 0.1}]])
def test_short_fine_tuning_is_drawn_too(tmp_path, log):
    learning_curve(log, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 0


def test_series_takes_rows_that_have_both():
    log = [
        {"step": 1, "epoch": 0.5, "a": 2.0},
        {"step": 2, "a": 3.0},
        {"epoch": 1.0, "a": None},
        {"epoch": 2, "a": np.nan},
    ]
    assert [part.tolist() for part in series(log, "a", "epoch")] == [[0.5], [2.0]]
