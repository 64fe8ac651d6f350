import numpy as np
import pytest

from genolm.evaluation.figures import loss_curve, running_mean


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
