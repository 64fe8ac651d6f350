"""Every profile with two real processes: losses of one process, weights that AutoModel reads, exact resume."""

import os
import signal
import subprocess
import sys
from functools import partial

import injections
import numpy as np
import pytest
import runs
import torch
import yaml
from transformers import AutoModelForCausalLM

from genolm.config.yaml import SettingsError
from genolm.training.launch import profile_path
from genolm.training.parallelism import Parallelism, check_parallelism

WRAPPERS = ["ddp", "zero1", "zero2", "zero3", "zero3-offload", "fsdp2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("profiles")
    runs.write_genome(folder)
    recipe = runs.write_recipe(folder, "llama", max_steps=12, save_steps=4, logging_steps=1)
    assert runs.run(recipe, f"run_dir={folder / 'one'}") == [0], runs.output(folder / "one")
    return folder


def logits(checkpoint):
    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    with torch.no_grad():
        return model(torch.arange(48).reshape(2, 24) % 12).logits


@pytest.mark.parametrize(
    "wrapper", [pytest.param(w, marks=[] if w in ("ddp", "zero2", "fsdp2") else pytest.mark.slow) for w in WRAPPERS]
)
def test_two_processes_learn_what_one_learns_and_go_on_exactly(folder, wrapper):
    if wrapper.startswith("zero"):
        pytest.importorskip("deepspeed")
    recipe, batch = folder / "recipe.yaml", "training.per_device_train_batch_size=2"
    options = {"ranks": 2, "profile": f"cpu-{wrapper}", "timeout": 300}
    whole, broken = folder / wrapper, folder / f"{wrapper}-broken"
    assert runs.run(recipe, f"run_dir={whole}", batch, **options) == [0, 0], runs.output(whole)
    one, two = runs.losses(folder / "one"), runs.losses(whole)
    for key in ("loss", "eval_bits_per_base"):
        first, second = ([row[key] for row in rows if key in row] for rows in (one, two))
        np.testing.assert_allclose(first, second, atol=1e-4)
    # Every checkpoint holds whole weights, the same as the final folder and as one process has.
    torch.testing.assert_close(logits(whole / "checkpoints" / "step-12"), logits(whole / "checkpoint"), atol=0, rtol=0)
    torch.testing.assert_close(
        logits(whole / "checkpoint"), logits(folder / "one" / "checkpoint"), atol=1e-4, rtol=1e-4
    )
    assert AutoModelForCausalLM.from_pretrained(whole / "checkpoint").config.architectures == ["LlamaForCausalLM"]
    assert not list((whole / "checkpoints" / "step-12").glob("pytorch_model*"))
    # What was measured while the model was spread over ranks is what the checkpoint gives.
    measured = yaml.safe_load((whole / "metrics.json").read_text())
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(runs.ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "genolm", "evaluate", str(whole)]
    subprocess.run(command, check=True, capture_output=True, env=env)
    again = yaml.safe_load((whole / "metrics.json").read_text())
    bf16 = again["test"]["bits_per_base"]
    assert bf16 == pytest.approx(measured["test"]["bits_per_base"], rel=2e-3)
    # Stopped and gone on.
    stop = partial(injections.signal_at, int(signal.SIGUSR1), 5, 1, "forward")
    assert runs.run(recipe, f"run_dir={broken}", batch, before=stop, **options) == [75, 75], runs.output(broken)
    assert runs.run(recipe, f"run_dir={broken}", batch, **options) == [0, 0], runs.output(broken)
    assert runs.losses(broken) == two
    assert runs.weights(broken) == runs.weights(whole)


@pytest.mark.slow
def test_optimizer_states_are_not_read_under_another_wrapper(folder):
    recipe, changes = folder / "recipe.yaml", ["training.per_device_train_batch_size=2"]
    zero = {"ranks": 2, "profile": "cpu-zero1", "timeout": 300}
    run_dir = folder / "crossed"
    stop = partial(injections.signal_at, int(signal.SIGTERM), 5, 0, "forward")
    assert runs.run(recipe, f"run_dir={run_dir}", *changes, before=stop, **zero) == [75, 75]
    for profile, ranks, message in (
        ("cpu-ddp", 2, "was written under zero1 and cannot resume under ddp"),
        ("cpu-zero2", 2, "was written under zero1 and cannot resume under zero2"),
    ):
        assert runs.run(recipe, f"run_dir={run_dir}", *changes, ranks=ranks, profile=profile) == [2] * ranks
        assert message in runs.output(run_dir)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrapper", "number"),
    [
        ("ddp", signal.SIGTERM),
        ("ddp", signal.SIGUSR1),
        ("zero3", signal.SIGUSR1),
    ],
)
def test_launch_starts_the_ranks_and_hands_signals_on(folder, wrapper, number):
    """Through accelerate's own launcher: a signal to the command, code 75 from it, and the run goes on."""
    run_dir, recipe = folder / f"launched-{wrapper}-{number}", folder / "recipe.yaml"
    command = [sys.executable, "-m", "genolm", "pretrain", str(recipe), f"run_dir={run_dir}"]
    command += ["training.per_device_train_batch_size=2", "training.max_steps=3000", "training.save_steps=1000"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(runs.ROOT), "HF_HUB_OFFLINE": "1"}
    with open(folder / f"{wrapper}.txt", "w") as out:
        process = subprocess.Popen([*command, "--launch", f"cpu-{wrapper}"], stdout=out, stderr=out, env=env)
        try:
            while process.poll() is None and not (run_dir / "log.jsonl").is_file():
                pass
            process.send_signal(number)
            code = process.wait(120)
        finally:
            process.kill()
    told = (folder / f"{wrapper}.txt").read_text()
    assert code == 75, told
    assert "the same command resumes from there" in told and "Traceback" not in told
    (saved,) = (run_dir / "checkpoints").iterdir()
    step = int(saved.name.removeprefix("step-"))
    log = (run_dir / "log.jsonl").read_bytes()
    changed = [f"training.max_steps={step + 2}", "--allow-change", "training.max_steps"]
    done = subprocess.run([*command, *changed, "--launch", f"cpu-{wrapper}"], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert (run_dir / "log.jsonl").read_bytes().startswith(log[: log.rindex(b'{"step"')].rsplit(b"\n", 1)[0])
    assert f"resumed    step {step:,} of {step + 2:,}" in done.stderr


@pytest.mark.slow
def test_a_profile_that_starts_less_than_it_asks_for_is_refused(folder, tmp_path):
    """MULTI_CPU starts one process, through plain `accelerate launch` too."""
    profile = yaml.safe_load((runs.ROOT / "recipes/accelerate/cpu-ddp.yaml").read_text())
    (tmp_path / "lies.yaml").write_text(yaml.safe_dump(profile | {"distributed_type": "MULTI_CPU"}))
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(runs.ROOT), "HF_HUB_OFFLINE": "1"}
    genolm = ["-m", "genolm", "pretrain", str(folder / "recipe.yaml"), f"run_dir={tmp_path / 'run'}"]
    plain = ["-m", "accelerate.commands.launch", "--config_file", str(tmp_path / "lies.yaml")]
    for command in ([*genolm, "--launch", str(tmp_path / "lies.yaml")], [*plain, *genolm]):
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=env)
        assert done.returncode != 0
        assert "the profile asks for 2 processes, ddp; what runs is 1 processes, none" in done.stderr
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_what_one_rank_says_no_other_repeats_as_a_traceback(folder):
    run_dir = folder / "mistaken"
    options = {"ranks": 2, "profile": "cpu-ddp"}
    mistakes = {"data.fasta=missing.fa": "missing.fa: no such file", "training.optm=x": "training.optm is not"}
    for change, told in mistakes.items():
        codes = runs.run(folder / "recipe.yaml", f"run_dir={run_dir}", change, **options)
        assert 2 in codes and told in runs.output(run_dir)
        assert "Traceback" not in runs.output(run_dir)


def test_a_profile_of_another_precision_is_refused(folder):
    run_dir, options = folder / "bf16", {"ranks": 2, "profile": "cpu-ddp", "ACCELERATE_MIXED_PRECISION": "bf16"}
    assert 2 in runs.run(folder / "recipe.yaml", f"run_dir={run_dir}", **options)
    assert "the profile says mixed_precision: bf16, the recipe no" in runs.output(run_dir)


def test_ranks_that_do_not_see_one_folder_are_refused(folder, tmp_path):
    """Two machines without a shared disk: the run folder is another for each rank."""
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text()) | {"run_dir": "run"}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    before = partial(injections.elsewhere, str(tmp_path))
    options = {"ranks": 2, "profile": "cpu-ddp", "before": before}
    codes = runs.run(tmp_path / "r.yaml", **options)
    assert 2 in codes, runs.output(tmp_path / "run")
    assert "ranks [1] do not see run; run_dir must be on a disk that all nodes share" in runs.output(tmp_path / "run")


def test_what_runs_is_compared_with_what_was_asked():
    check_parallelism(None, 1, "none")
    check_parallelism(Parallelism(2, "zero2"), 2, "zero2")
    check_parallelism(Parallelism(2, "zero"), 2, "zero3")
    for processes, wrapper in ((1, "zero2"), (2, "ddp"), (2, "zero3")):
        with pytest.raises(SettingsError, match=f"asks for 2 processes, zero2; what runs is {processes} .*, {wrapper}"):
            check_parallelism(Parallelism(2, "zero2"), processes, wrapper)


def test_every_profile_ships_for_gpus_and_for_two_processes_of_a_cpu():
    for wrapper in WRAPPERS:
        gpus, cpus = (yaml.safe_load(profile_path(name).read_text()) for name in (wrapper, f"cpu-{wrapper}"))
        assert gpus["num_processes"] == 8 and not gpus["use_cpu"]
        assert cpus["num_processes"] == 2 and cpus["use_cpu"]
        same = {"use_cpu", "gpu_ids", "num_processes"}
        assert {k: v for k, v in gpus.items() if k not in same} == {k: v for k, v in cpus.items() if k not in same}
    with pytest.raises(
        SettingsError, match="--launch zero4: no such profile; give a YAML file of accelerate, or one of"
    ):
        profile_path("zero4")
