"""A run that is killed or stopped at any moment ends as if it had not been."""

import json
import os
import random
import shutil
import signal
import time
from functools import partial

import injections
import numpy as np
import pytest
import runs
import yaml

from genolm.models.build import SUGGESTED
from genolm.tokenizers.build import build_tokenizer, load_spec

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="signals of POSIX systems")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    runs.write_genome(folder)
    return folder


@pytest.fixture(scope="module")
def long(folder):
    """A recipe of 400 steps with dropout, and its unbroken run."""
    recipe = runs.write_recipe(folder, max_steps=400, save_steps=25)
    assert runs.run(recipe, f"run_dir={folder / 'long'}") == [0], runs.output(folder / "long")
    return recipe


@pytest.fixture(scope="module")
def short(folder):
    """Changes that make a run of 40 steps, saved at 10, 20, 30 and 40, and the unbroken run."""
    recipe = runs.write_recipe(folder, name="short")
    changes = ["training.max_steps=40", "training.save_steps=10", "training.save_total_limit=4"]
    assert runs.run(recipe, *changes, f"run_dir={folder / 'short'}") == [0], runs.output(folder / "short")
    return recipe, changes


def same(run_dir, unbroken) -> bool:
    assert runs.losses(run_dir) == runs.losses(unbroken)
    return runs.weights(run_dir) == runs.weights(unbroken)


def wait_for_step(process, run_dir, step) -> None:
    """Return once the log tells of a step, or the process has ended."""
    log = run_dir / "log.jsonl"
    while process.is_alive():
        lines = log.read_text().splitlines() if log.is_file() else []
        if lines and lines[-1].endswith("}") and json.loads(lines[-1])["step"] >= step:
            return
        time.sleep(0.001)


@pytest.mark.parametrize(
    "number", [2, pytest.param(10, marks=pytest.mark.slow), pytest.param(50, marks=pytest.mark.nightly)]
)
def test_sigkill_at_random_times(folder, long, number):
    chance = random.Random(number)
    killed = 0
    for i in range(number):
        run_dir = folder / f"killed-{number}-{i}"
        (process,) = runs.start(long, f"run_dir={run_dir}")
        wait_for_step(process, run_dir, chance.randrange(-30, 396))
        time.sleep(chance.random() * 0.05)
        process.kill()
        killed += runs.finish([process]) == [-9]
        assert runs.run(long, f"run_dir={run_dir}") == [0], runs.output(run_dir)
        assert same(run_dir, folder / "long"), i
        shutil.rmtree(run_dir)
    assert killed >= number * 0.9


def base(folder, unbroken, name):
    """A run folder as it is before its save at step 20: what came later is taken away."""
    run_dir = folder / name
    shutil.copytree(unbroken, run_dir)
    for gone in ("step-20", "step-30", "step-40"):
        shutil.rmtree(run_dir / "checkpoints" / gone)
    shutil.rmtree(run_dir / "checkpoint")
    return run_dir


@pytest.mark.parametrize("some", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_sigkill_inside_a_save(folder, short, some):
    if not runs.killer():
        pytest.skip("no C compiler for kill_at.c")
    recipe, changes = short
    changes = [*changes, "training.save_total_limit=1"]
    report = folder / "report"
    run_dir = base(folder, folder / "short", f"counted-{some}")
    counting = partial(injections.count, str(run_dir / "checkpoints"), str(report))
    assert runs.run(recipe, *changes, f"run_dir={run_dir}", before=counting) == [0], runs.output(run_dir)
    # Three saves, at 20, 30 and 40: the first is a third of it all.
    operations, written = (int(number) // 3 for number in report.read_text().split())
    assert operations > 30 and written > 50_000
    points = [{"operation": i} for i in range(1, operations + 1)]
    points += [{"after_bytes": int(i)} for i in np.linspace(1, written - 1, 20)]
    if some:
        points = points[3::9][:5] + points[-8::4]
    for i, point in enumerate(points):
        run_dir = base(folder, folder / "short", f"cut-{some}-{i}")
        deadly = partial(injections.arm, str(run_dir / "checkpoints"), **point)
        assert runs.run(recipe, *changes, f"run_dir={run_dir}", before=deadly) == [-9], (point, runs.output(run_dir))
        assert runs.run(recipe, *changes, f"run_dir={run_dir}") == [0], (point, runs.output(run_dir))
        assert same(run_dir, folder / "short"), point
        left = sorted(path.name for path in (run_dir / "checkpoints").iterdir())
        assert left == ["step-40"], (point, left)
        shutil.rmtree(run_dir)


def damage(path, how):
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)


@pytest.mark.parametrize("how", ["missing", "truncated", "flipped"])
def test_every_file_at_fault_is_named_and_fallen_back_from(folder, short, how):
    from genolm.training.checkpoint import CheckpointError, newest_valid, verify

    root = folder / f"damaged-{how}"
    shutil.copytree(folder / "short" / "checkpoints", root)
    names = sorted(path.name for path in (root / "step-40").iterdir())
    assert {"manifest.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"} < set(names)
    for name in names:
        path = root / "step-40" / name
        whole = path.read_bytes()
        damage(path, how)
        with pytest.raises(CheckpointError, match=name):
            verify(root / "step-40")
        found, manifest, faults = newest_valid(root)
        assert found == root / "step-30" and manifest["step"] == 30
        assert len(faults) == 1 and str(path) in faults[0]
        path.write_bytes(whole)
    assert verify(root / "step-40")["samples"] == 160
    (root / "step-40" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="pytorch_model.bin: not in manifest.json"):
        verify(root / "step-40")


def test_a_run_falls_back_aloud_and_never_starts_afresh_in_silence(folder, short):
    recipe, changes = short
    run_dir = folder / "fallen"
    shutil.copytree(folder / "short", run_dir)
    shutil.rmtree(run_dir / "checkpoint")
    (run_dir / "checkpoints" / "step-40" / "optimizer.pt").unlink()
    assert runs.run(recipe, *changes, f"run_dir={run_dir}") == [0]
    assert "skipping invalid checkpoint" in runs.output(run_dir) and "step-40/optimizer.pt: missing" in runs.output(
        run_dir
    )
    assert "step 30 of 40" in runs.output(run_dir)
    assert same(run_dir, folder / "short")
    for step in (10, 20, 30, 40):
        (run_dir / "checkpoints" / f"step-{step}" / "optimizer.pt").unlink()
    assert runs.run(recipe, *changes, f"run_dir={run_dir}") == [2]
    assert "no checkpoint in" in runs.output(run_dir) and "is valid" in runs.output(run_dir)


@pytest.mark.parametrize(
    ("limit", "left"), [(1, [20]), (2, [20, 10]), (3, [20, 10, 5]), (4, [30, 20, 10, 5]), (None, 4), (-1, 4), (0, 4)]
)
def test_the_limit_never_costs_the_last_valid_one(tmp_path, limit, left):
    """Step 30 was skipped as invalid, and the run has come to 20 again: 30 goes first."""
    from genolm.training.checkpoint import prune, steps

    for step in (5, 10, 20, 30):
        (tmp_path / f"step-{step}").mkdir()
    prune(tmp_path, limit, newest=20)
    assert steps(tmp_path) == (left if isinstance(left, list) else [30, 20, 10, 5])


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ("training.learning_rate=0.01", 2, "training.learning_rate: 0.001 → 0.01"),
        ("seed=3", 2, "seed: 0 → 3. To resume, change back"),
        ("model.hidden_size=32", 2, "model.hidden_size: 16 → 32"),
        ("resume=never", 2, "resume is never, and"),
        ("training.per_device_train_batch_size=8", 2, "its updates are of 4 windows; 8 a device on 1 ranks"),
        ("training.save_steps=7", 0, "resumed"),
        ("training.weight_decay=0.01", 0, "resumed"),
        ("training.bf16=true", 2, "training.bf16: False → True"),
        ("training.dataloader_num_workers=1", 0, "resumed"),
    ],
)
def test_a_recipe_that_does_not_match(folder, short, change, code, message):
    recipe, changes = short
    run_dir = base(folder, folder / "short", f"changed-{change.partition('=')[0]}-{code}")
    assert runs.run(recipe, *changes, f"run_dir={run_dir}", change) == [code], runs.output(run_dir)
    assert message in runs.output(run_dir).replace("\n", " ")
    assert "Traceback" not in runs.output(run_dir)


def test_a_safe_key_may_change_when_it_is_named(folder, short):
    recipe, changes = short
    run_dir = base(folder, folder / "short", "allowed")
    changed = [*changes, f"run_dir={run_dir}", "training.learning_rate=0.01"]
    assert runs.run(recipe, *changed, "--allow-change", "model.hidden_size") == [2]
    assert "a checkpoint means nothing under another model.hidden_size" in runs.output(run_dir)
    assert runs.run(recipe, *changed, "--allow-change", "training.learning_rat") == [2]
    assert "no such key; did you mean 'training.learning_rate'?" in runs.output(run_dir)
    assert runs.run(recipe, *changed, "training.max_steps=8", "--allow-change", "training.max_steps") == [2]
    assert runs.run(recipe, *changed, "--allow-change", "training.learning_rate") == [0], runs.output(run_dir)
    assert "allowed: training.learning_rate: 0.001 → 0.01" in runs.output(run_dir)
    # And it does what it says: the schedule is ten times as high from there on.
    rates = [[row["learning_rate"] for row in runs.losses(d) if "loss" in row] for d in (folder / "short", run_dir)]
    assert rates[1][:3] == rates[0][:3]
    np.testing.assert_allclose(rates[1][4:], np.array(rates[0][4:]) * 10, rtol=1e-6)


def test_what_is_learnt_from_may_not_change_behind_a_name(folder, short, tmp_path):
    recipe, changes = short
    folders = []
    for letters in ("ACGT", "CAGT"):
        tokenizer = build_tokenizer(load_spec("char"))
        tokenizer.save_pretrained(tmp_path / letters)
        folders.append(tmp_path / letters / "tokenizer.json")
    swapped = json.loads(folders[1].read_text())
    vocabulary = swapped["model"]["vocab"]
    vocabulary["A"], vocabulary["C"] = vocabulary["C"], vocabulary["A"]
    run_dir, used = folder / "renamed", tmp_path / "ACGT"
    stop = partial(injections.signal_at, int(signal.SIGTERM), 5, 0, "forward")
    given = [*changes, f"run_dir={run_dir}", f"tokenizer={used}"]
    assert runs.run(recipe, *given, before=stop) == [75], runs.output(run_dir)
    folders[0].write_text(json.dumps(swapped))
    assert runs.run(recipe, *given) == [2]
    assert "the tokenizer of this run differ in content" in runs.output(run_dir)


def test_a_finished_run_is_not_trained_anew_in_silence(folder, short):
    recipe, changes = short
    run_dir = folder / "finished"
    shutil.copytree(folder / "short", run_dir)
    shutil.rmtree(run_dir / "checkpoints")
    log = (run_dir / "log.jsonl").read_bytes()
    assert runs.run(recipe, *changes, f"run_dir={run_dir}") == [2]
    assert "holds the model of this recipe, and no checkpoint to resume from: `genolm evaluate" in runs.output(run_dir)
    assert (run_dir / "log.jsonl").read_bytes() == log


RENAMED = ["esm", "gpt_neox"]
"""transformers writes some of their weights under other names."""
KINDS = ["genolm", "mamba2"]
"""With these, one of each kind of state: masked and causal attention, a convolution, a state space."""
NIGHTLY = sorted({*SUGGESTED["causal"], *SUGGESTED["masked"]} - {*RENAMED, *KINDS})


@pytest.mark.parametrize(
    "architecture",
    [
        *RENAMED,
        *(pytest.param(name, marks=pytest.mark.slow) for name in KINDS),
        *(pytest.param(name, marks=pytest.mark.nightly) for name in NIGHTLY),
    ],
)
def test_every_architecture_goes_on_exactly(tmp_path, architecture):
    runs.write_genome(tmp_path)
    recipe = runs.write_recipe(tmp_path, "llama", max_steps=8, save_steps=100)
    values = yaml.safe_load(recipe.read_text())
    heads, one = {"num_attention_heads": 2}, {"hidden_size": 16, "num_hidden_layers": 1}
    sizes = {
        "mamba2": {**one, "state_size": 8, "num_heads": 4, "head_dim": 8, "n_groups": 1},
        "gpt2": {**one, **heads},
        "qwen3": {**runs.TINY, "num_key_value_heads": 2},
        "olmo2": {**runs.TINY, "num_key_value_heads": 2},
    }.get(architecture, runs.TINY)
    values["model"] = {"architecture": architecture, **sizes}
    values["objective"] = {"kind": "causal" if architecture in SUGGESTED["causal"] else "masked"}
    recipe.write_text(yaml.safe_dump(values))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert runs.run(recipe, f"run_dir={whole}") == [0], runs.output(whole)
    stop = partial(injections.signal_at, int(signal.SIGTERM), 4, 0, "forward")
    assert runs.run(recipe, f"run_dir={broken}", before=stop) == [75], runs.output(broken)
    assert runs.run(recipe, f"run_dir={broken}") == [0], runs.output(broken)
    assert same(broken, whole)


def test_a_folder_is_trained_in_by_one_run_at_a_time(folder, long):
    run_dir = folder / "shared"
    first = runs.start(long, f"run_dir={run_dir}")
    wait_for_step(first[0], run_dir, 3)
    assert runs.run(long, f"run_dir={run_dir}") == [2]
    assert "another process is at work in" in runs.output(run_dir)
    assert runs.finish(first) == [0]
    assert same(run_dir, folder / "long")


def test_other_letters_are_refused(folder, short):
    recipe, changes = short
    run_dir = base(folder, folder / "short", "other-letters")
    other = folder / "other"
    other.mkdir()
    runs.write_genome(other, length=9100)
    assert runs.run(recipe, *changes, f"run_dir={run_dir}", f"data.fasta={other / 'g.fa'}") == [2]
    assert "was trained on something else: the genome" in runs.output(run_dir)
    # The same letters from elsewhere are the same.
    moved = base(folder, folder / "short", "moved")
    (folder / "moved-here").mkdir()
    shutil.copy(folder / "g.fa", folder / "moved-here")
    assert runs.run(recipe, *changes, f"run_dir={moved}", f"data.fasta={folder / 'moved-here' / 'g.fa'}") == [0]
    run_dir = base(folder, folder / "short", "swapped")
    shutil.rmtree(run_dir / "genome")
    kept = (folder / "g.fa").read_bytes()
    shutil.copy(other / "g.fa", folder / "g.fa")
    try:
        assert runs.run(recipe, *changes, f"run_dir={run_dir}") == [2]
        assert "was trained on something else: the genome and the splits of this run" in runs.output(run_dir)
    finally:
        (folder / "g.fa").write_bytes(kept)


MOMENTS = ["random", "forward", "evaluation", "save"]


def stopped(folder, long, i, chance, ranks=1):
    """Stop a run once, hold it to code 75 and a valid checkpoint, and run it to its end."""
    from genolm.training.checkpoint import newest_valid

    moment, number = MOMENTS[i % 4], (signal.SIGTERM, signal.SIGUSR1)[i // 4 % 2]
    run_dir = folder / f"stopped-{ranks}-{i}"
    options = {"ranks": ranks, "profile": "cpu-ddp"} if ranks > 1 else {}
    batch = f"training.per_device_train_batch_size={4 // ranks}"
    target = chance.randrange(ranks)
    step = chance.choice([0, chance.randrange(1, 300)])
    before = None
    if moment != "random":
        before = partial(injections.signal_at, int(number), step, target, moment)
    processes = runs.start(long, f"run_dir={run_dir}", batch, before=before, **options)
    if moment == "random":
        wait_for_step(processes[0], run_dir, max(step, 3))
        time.sleep(chance.random() * 0.02)
        os.kill(processes[target].pid, number)
    assert runs.finish(processes) == [75] * ranks, (moment, runs.output(run_dir))
    found, manifest, faults = newest_valid(run_dir / "checkpoints")
    assert found is not None and not faults
    assert manifest["step"] > (step if moment == "forward" else 0)
    assert runs.run(long, f"run_dir={run_dir}", batch, **options) == [0] * ranks, runs.output(run_dir)
    return run_dir


@pytest.mark.parametrize(
    "number", [2, pytest.param(8, marks=pytest.mark.slow), pytest.param(40, marks=pytest.mark.nightly)]
)
def test_sigterm_and_sigusr1_at_any_moment(folder, long, number):
    chance = random.Random(number)
    for i in range(number):
        run_dir = stopped(folder, long, i + (number == 2) * 3, chance)
        assert same(run_dir, folder / "long"), i
        shutil.rmtree(run_dir)


@pytest.mark.parametrize(
    "number", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(8, marks=pytest.mark.nightly)]
)
def test_a_signal_to_one_rank_of_two_stops_both(folder, long, number):
    chance = random.Random(number)
    options = {"ranks": 2, "profile": "cpu-ddp"}
    unbroken, batch = folder / f"two-{number}", "training.per_device_train_batch_size=2"
    assert runs.run(long, f"run_dir={unbroken}", batch, **options) == [0, 0], runs.output(unbroken)
    for i in range(number):
        run_dir = stopped(folder, long, i + (number == 1), chance, ranks=2)
        assert same(run_dir, unbroken), i
        shutil.rmtree(run_dir)


def test_data_loader_workers_do_not_die_of_the_signal(folder, long):
    import psutil

    run_dir = folder / "workers"
    # Forked, as from the command line; a process of our server would start them through a server of its own.
    workers = ["training.dataloader_num_workers=2", "training.dataloader_multiprocessing_context=fork"]
    for step, number in ((50, signal.SIGTERM), (200, signal.SIGUSR1)):
        (process,) = runs.start(long, f"run_dir={run_dir}", *workers)
        wait_for_step(process, run_dir, step)
        children = psutil.Process(process.pid).children()
        assert len(children) >= 2
        for child in children:
            child.send_signal(number)
        # A scheduler's signal reaches them first; the run goes on until it has its own.
        wait_for_step(process, run_dir, step + 60)
        assert all(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
        os.kill(process.pid, number)
        assert runs.finish([process]) == [75], runs.output(run_dir)
    assert runs.run(long, f"run_dir={run_dir}", *workers) == [0], runs.output(run_dir)
    assert same(run_dir, folder / "long")


def test_two_runs_are_bit_equal(folder, long):
    assert runs.run(long, f"run_dir={folder / 'again'}") == [0]
    assert same(folder / "again", folder / "long")
    kept = ["training.max_steps=200", "deterministic=true"]
    for name in ("first", "second"):
        assert runs.run(long, f"run_dir={folder / name}", *kept) == [0], runs.output(folder / name)
    assert same(folder / "first", folder / "second")


@pytest.mark.parametrize(
    "profile",
    ["cpu-ddp", *(pytest.param(f"cpu-{w}", marks=pytest.mark.slow) for w in ("fsdp2", "zero1", "zero2", "zero3"))],
)
def test_ranks_may_change_at_one_global_batch(folder, profile):
    """1 → 2 → 4 → 1 ranks, ten steps each, against one process throughout; without dropout, which knows its rank."""
    place = folder / f"elastic-{profile}"
    place.mkdir()
    runs.write_genome(place)
    recipe = runs.write_recipe(place, "llama", save_steps=10, logging_steps=1, weight_decay=0.5)
    assert runs.run(recipe, f"run_dir={place / 'one'}") == [0], runs.output(place / "one")
    changing = place / "changing"
    for ranks, steps in ((1, 10), (2, 20), (4, 30), (1, 40)):
        options = {"ranks": ranks, "profile": profile, "timeout": 300} if ranks > 1 or profile != "cpu-ddp" else {}
        batch = f"training.per_device_train_batch_size={4 // ranks}"
        stop = partial(injections.signal_at, int(signal.SIGTERM), steps - 1, 0, "forward") if steps < 40 else None
        codes = runs.run(recipe, f"run_dir={changing}", batch, before=stop, **options)
        assert codes == [75 if steps < 40 else 0] * ranks, runs.output(changing)
        assert (changing / "checkpoints" / f"step-{steps}").is_dir()
    one, other = runs.losses(place / "one"), runs.losses(changing)
    assert [row["samples"] for row in one] == [row["samples"] for row in other]
    for key in ("loss", "eval_bits_per_base"):
        np.testing.assert_allclose([r[key] for r in one if key in r], [r[key] for r in other if key in r], rtol=1e-5)
