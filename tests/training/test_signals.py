"""What stops a run before an update: numbers that are not finite, memory that is not there, disks that are full."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import injections
import numpy as np
import pytest
import runs
from safetensors.numpy import load_file

from genolm.training.signals import NotFinite, OutOfMemory


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stops")
    runs.write_genome(folder)
    runs.write_recipe(folder, logging_steps=1)
    return folder


BAD = {"nan": math.nan, "inf": math.inf}


@pytest.mark.parametrize(
    ("where", "value", "profile"),
    [
        ("loss", "nan", ""),
        ("loss", "inf", ""),
        ("gradient", "nan", ""),
        ("gradient", "inf", ""),
        ("loss", "inf", "cpu-ddp"),
        ("gradient", "nan", "cpu-ddp"),
        *[
            pytest.param(where, value, profile, marks=pytest.mark.slow)
            for profile in ("cpu-ddp", "cpu-zero1", "cpu-zero2", "cpu-zero3", "cpu-fsdp2")
            for where in ("loss", "gradient")
            for value in BAD
            if (where, value, profile) not in [("loss", "inf", "cpu-ddp"), ("gradient", "nan", "cpu-ddp")]
        ],
    ],
)
def test_what_is_not_finite_stops_all_ranks_before_the_update(folder, where, value, profile):
    ranks = 2 if profile else 1
    run_dir = folder / f"{where}-{value}-{profile}"
    batch = f"training.per_device_train_batch_size={4 // ranks}"
    poison = partial(injections.not_finite, where, BAD[value], 14, ranks - 1)
    codes = runs.run(folder / "recipe.yaml", f"run_dir={run_dir}", batch, before=poison, ranks=ranks, profile=profile)
    assert codes == [NotFinite.code] * ranks, runs.output(run_dir)
    assert "step 14 (samples 52 to 55)" in runs.output(run_dir) and "Traceback" not in runs.output(run_dir)
    rows = runs.losses(run_dir)
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 14))
    assert all(math.isfinite(v) for row in rows for v in row.values() if isinstance(v, float))
    # What is on disk is finite, and the batch is the one that the sample numbers give.
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == ["step-10"]
    assert all(np.isfinite(v).all() for v in load_file(run_dir / "checkpoints/step-10/model.safetensors").values())
    about = json.loads((run_dir / "not-finite/step-14/about.json").read_text())
    assert about["samples"] == [52, 56] and len(about["loss"]) == ranks
    batches = [load_file(run_dir / f"not-finite/step-14/rank-{rank}.safetensors") for rank in range(ranks)]
    assert np.concatenate([batch["0.input_ids"] for batch in batches]).shape == (4, 64)
    # Without the fault the run goes on from there.
    options = {"ranks": ranks, "profile": profile}
    codes = runs.run(folder / "recipe.yaml", f"run_dir={run_dir}", batch, "training.max_steps=40", **options)
    assert codes == [0] * ranks, runs.output(run_dir)


def test_the_batch_of_the_folder_reproduces_the_step(folder):
    """The tensors that were kept are those of the samples that are named."""
    from genolm.config.pretrain import PretrainRecipe
    from genolm.config.yaml import load_settings
    from genolm.pretraining.build import make_corpus, open_genomes, open_tokenizer

    run_dir = folder / "reproduced"
    poison = partial(injections.not_finite, "loss", math.nan, 5, 0)
    assert runs.run(folder / "recipe.yaml", f"run_dir={run_dir}", before=poison) == [NotFinite.code]
    recipe = load_settings(PretrainRecipe, folder / "recipe.yaml", [f"run_dir={run_dir}"])
    store, regions = open_genomes(recipe)
    corpus, collate = make_corpus(recipe, store, regions["train"], open_tokenizer(recipe, store, regions))
    first, end = json.loads((run_dir / "not-finite/step-5/about.json").read_text())["samples"]
    batch, kept = collate(range(first, end)), load_file(run_dir / "not-finite/step-5/rank-0.safetensors")
    for name, value in batch.items():
        np.testing.assert_array_equal(kept[f"0.{name}"], value.numpy())


def test_out_of_memory_says_what_to_change(folder):
    run_dir, scarce = folder / "scarce", partial(injections.out_of_memory, 1)
    assert runs.run(folder / "recipe.yaml", f"run_dir={run_dir}", before=scarce) == [OutOfMemory.code]
    told = runs.output(run_dir)
    assert "training.per_device_train_batch_size=2 training.gradient_accumulation_steps=2, or fit_batch=true" in told
    assert "MiB for weights, gradients and optimizer" in told and "Traceback" not in told


@pytest.mark.parametrize("profile", ["", pytest.param("cpu-ddp", marks=pytest.mark.slow)])
def test_fit_batch_keeps_the_global_batch_and_the_losses(folder, profile):
    ranks = 2 if profile else 1
    recipe = runs.write_recipe(folder, "llama", name="fit", logging_steps=1, per_device_train_batch_size=8 // ranks)
    options = {"ranks": ranks, "profile": profile}
    plenty, scarce = folder / f"plenty-{profile}", folder / f"fitted-{profile}"
    assert runs.run(recipe, f"run_dir={plenty}", **options) == [0] * ranks
    hungry = partial(injections.out_of_memory, 2 // ranks)
    if not profile:
        assert runs.run(recipe, f"run_dir={scarce}", "fit_batch=true", before=hungry) == [0], runs.output(scarce)
        assert "starting again with training.per_device_train_batch_size=4" in runs.output(scarce)
        assert "starting again with training.per_device_train_batch_size=2" in runs.output(scarce)
    else:
        # The launcher starts again until it fits; here, the test does.
        codes = []
        while codes != [0, 0]:
            codes = runs.run(recipe, f"run_dir={scarce}", "fit_batch=true", before=hungry, **options)
            assert codes == [0, 0] or 72 in codes, runs.output(scarce)
    one, other = runs.losses(plenty), runs.losses(scarce)
    assert [row["samples"] for row in one] == [row["samples"] for row in other]
    np.testing.assert_allclose(
        [r["loss"] for r in one if "loss" in r], [r["loss"] for r in other if "loss" in r], rtol=1e-5
    )


def test_a_disk_that_is_full_at_the_end_is_one_line_and_loses_nothing(folder):
    run_dir = folder / "full-at-the-end"
    assert runs.run(folder / "recipe.yaml", f"run_dir={run_dir}", before=injections.scarce_at_the_end) == [2]
    told = runs.output(run_dir)
    assert "checkpoint could not be written: [Errno 28] No space left on device" in told and "Traceback" not in told
    assert runs.run(folder / "recipe.yaml", f"run_dir={run_dir}") == [0]
    assert "step 40 of 40" in runs.output(run_dir)


@pytest.mark.parametrize("content", ["", "{}", '{"per_device_train_batch_size": "x"}'])
def test_a_spoilt_note_of_what_fits_is_named(folder, tmp_path, content):
    (tmp_path / "fitted_batch.json").write_text(content)
    assert runs.run(folder / "recipe.yaml", f"run_dir={tmp_path}", "fit_batch=true") == [2]
    assert "fitted_batch.json: not what genolm writes; remove it" in runs.output(tmp_path)


def test_memory_that_lacks_before_the_first_batch_is_told(folder):
    run_dir = folder / "early"
    assert runs.run(folder / "recipe.yaml", f"run_dir={run_dir}", before=injections.no_memory_at_all) == [
        OutOfMemory.code
    ]
    assert "out of memory with 4 windows at a time" in runs.output(run_dir)


def test_a_real_refusal_of_memory_is_recognised(folder):
    """The machine's own: a limit on the address space of the process."""
    import resource

    import torch

    from genolm.training.memory import is_out_of_memory

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 36, hard))
    try:
        with pytest.raises(RuntimeError) as caught:
            torch.empty(1 << 38)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))


def test_the_estimate_of_memory_frees_what_it_computes():
    """And the failed pass before it: the frames of its error hold what it had computed."""
    import gc
    import weakref

    import torch

    from genolm.training.memory import estimate, out_of_memory

    made = []

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.map = torch.nn.Linear(4, 4)

        def forward(self, input_ids, fails=False):
            states = self.map(torch.nn.functional.one_hot(input_ids, 4).float()).exp()
            made.append(weakref.ref(states))
            if fails:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return SimpleNamespace(logits=states)

    model, ids = Model(), torch.zeros(2, 3, dtype=torch.long)
    assert "a window" in estimate(model, {"input_ids": ids}, 2, False)
    try:
        model(ids, fails=True)
    except torch.OutOfMemoryError as error:
        arguments = SimpleNamespace(
            per_device_train_batch_size=2, gradient_accumulation_steps=1, world_size=1, bf16=False
        )
        trainer = SimpleNamespace(model=model, args=arguments, last_batches=[{"input_ids": ids}])
        stopped = out_of_memory(error, trainer, False, Path())
        assert made[1]() is None, "the failed pass is held while memory is estimated"
    assert "per_device_train_batch_size=1" in str(stopped)
    gc.collect()
    assert [reference() for reference in made] == [None] * 3


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB of our own; needs the right to mount one."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(where)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small file system")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


def fill(path, left):
    """Fill a file system up to some bytes."""
    free = shutil.disk_usage(path).free
    (path / "filler").write_bytes(b"x" * max(0, free - left))


@pytest.mark.parametrize(
    "number", [1, pytest.param(3, marks=pytest.mark.slow), pytest.param(10, marks=pytest.mark.nightly)]
)
@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_disk_that_takes_no_more_keeps_the_previous_checkpoint(folder, small_disk, fault, number):
    from genolm.training.checkpoint import verify

    base, recipe = folder / f"disk-{fault}-{number}", folder / "recipe.yaml"
    saved = ["training.max_steps=20", "training.save_total_limit=3"]
    assert runs.run(recipe, *saved, f"run_dir={base}") == [0]
    for i in range(number):
        run_dir = base.with_name(f"{base.name}-{i}")
        shutil.copytree(base, run_dir)
        shutil.rmtree(run_dir / "checkpoints")
        shutil.rmtree(run_dir / "checkpoint")
        for gone in small_disk.iterdir():
            shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        (run_dir / "checkpoints").symlink_to(small_disk)
        shutil.copytree(base / "checkpoints" / "step-10", small_disk / "step-10")
        if fault == "full":
            fill(small_disk, 8192 * i)
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        try:
            assert runs.run(recipe, *saved, f"run_dir={run_dir}") == [2], (i, runs.output(run_dir))
        finally:
            subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
        told = runs.output(run_dir)
        assert "step-20: the checkpoint could not be written" in told and "step 10 is left as it was" in told
        assert ("no space left on the device" if fault == "full" else "Read-only file system") in told
        assert "Traceback" not in told
        assert verify(small_disk / "step-10")["step"] == 10
        assert not (small_disk / "step-20").exists()
        (small_disk / "filler").unlink(missing_ok=True)
        assert runs.run(recipe, *saved, f"run_dir={run_dir}") == [0], runs.output(run_dir)
        assert runs.weights(run_dir) == runs.weights(base)


def test_signals_can_be_imported_where_there_is_no_sigusr1():
    """As on Windows."""
    code = "import signal\ndel signal.SIGUSR1\nfrom genolm.training.signals import SIGNALS\nprint(*SIGNALS)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == [str(int(signal.SIGTERM))], done.stderr
