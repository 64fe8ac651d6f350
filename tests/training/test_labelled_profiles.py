"""Fine-tuning in two real processes: what one process learns, adapters that are whole, and exact resume."""

import json
import signal
from functools import partial

import injections
import numpy as np
import pytest
import runs
from labelled_runs import BERT, finetune, predictions, pretrain, write_recipe, write_table
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    # Each rank draws its own dropout: of the backbone as of the adapter there is none.
    pretrain(folder, "bert", BERT | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    for kind, num in (("binary", 90), ("per-base", 60)):
        table = write_table(folder, kind, num)
        training = {"max_steps": 8, "save_steps": 4, "logging_steps": 1}
        options = {"training": training, "lora": {"lora_dropout": 0}}
        recipe = write_recipe(folder, kind, folder / "bert", table, kind, method="lora", **options)
        finetune(recipe)
    baseline = {"baseline": "deepbind", "width": 0.5}
    finetune(write_recipe(folder, "baseline", baseline, folder / "binary-0.csv", dropout=0.0, training=training))
    return folder


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "wrapper"),
    [
        ("binary", "ddp"),
        pytest.param("baseline", "ddp", marks=SLOW),
        pytest.param("per-base", "ddp", marks=SLOW),
        pytest.param("binary", "zero2", marks=SLOW),
        pytest.param("binary", "zero3", marks=SLOW),
        pytest.param("binary", "fsdp2", marks=SLOW),
        pytest.param("baseline", "zero2", marks=SLOW),
    ],
)
def test_two_ranks_learn_what_one_learns_and_go_on(folder, name, wrapper):
    if wrapper.startswith("zero"):
        pytest.importorskip("deepspeed")
    recipe, one = folder / f"{name}.yaml", folder / name
    batch = "training.per_device_train_batch_size=2"
    options = {"ranks": 2, "profile": f"cpu-{wrapper}", "timeout": 300, "command": "finetune"}
    run_dir = folder / f"{name}-{wrapper}"
    assert runs.run(recipe, f"run_dir={run_dir}", batch, **options) == [0, 0], runs.output(run_dir)
    told = runs.output(run_dir)
    assert "Traceback" not in told, told
    assert "Warning" not in told or wrapper.startswith("zero"), told  # DeepSpeed calls torch by old names
    for key in ("loss", "eval_loss"):
        first, second = ([row[key] for row in runs.losses(d) if key in row] for d in (one, run_dir))
        np.testing.assert_allclose(first, second, atol=2e-4)
    whole = predictions(one)
    for row, value in predictions(run_dir).items():
        np.testing.assert_allclose(value, whole[row], atol=1e-3)
    left, right = (json.loads((d / "metrics.json").read_text()) for d in (one, run_dir))
    assert left["parameters"] == right["parameters"] and left["rows"] == right["rows"]
    if name != "baseline":
        state, expected = (load_file(d / "model" / "adapter_model.safetensors") for d in (run_dir, one))
        assert state.keys() == expected.keys()
        for key, value in state.items():
            assert value.shape == expected[key].shape and value.numel() and float(value.abs().max()) > 0, key
    # Stopped, and gone on.
    broken = folder / f"{name}-{wrapper}-broken"
    stop = partial(injections.signal_at, int(signal.SIGUSR1), 5, 1, "forward")
    assert runs.run(recipe, f"run_dir={broken}", batch, before=stop, **options) == [75, 75], runs.output(broken)
    assert runs.run(recipe, f"run_dir={broken}", batch, **options) == [0, 0], runs.output(broken)
    assert runs.losses(broken) == runs.losses(run_dir)
    again = predictions(broken)
    assert all((again[row] == value).all() for row, value in predictions(run_dir).items())


def test_a_probe_is_fitted_in_one_process(folder):
    options = {"ranks": 2, "profile": "cpu-ddp", "command": "finetune"}
    codes = runs.run(folder / "binary.yaml", f"run_dir={folder / 'probe'}", "method=probe", **options)
    assert 2 in codes and "Traceback" not in runs.output(folder / "probe")
    assert "in one process" in runs.output(folder / "probe").replace("\n", " ")
