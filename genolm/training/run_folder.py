"""Run a Trainer in a run folder: lock it, choose the checkpoint to resume from, train, and say what stopped it."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from transformers import TrainingArguments

from genolm.config.console import did_you_mean
from genolm.config.files import folder_lock, refuse_links
from genolm.config.yaml import SettingsError
from genolm.models.precision import set_deterministic
from genolm.training.arguments import training_arguments, uses_cpu
from genolm.training.checkpoint import newest_valid, remove_leftovers, steps
from genolm.training.loop_callbacks import rewind_log, samples_per_step
from genolm.training.memory import (
    FITTED,
    fitted,
    gibibytes,
    keep_freed_pages,
    out_of_memory,
    peak_bytes,
    trim_freed_pages,
)
from genolm.training.parallelism import convert, expected_wrapper, shard_on_cpu
from genolm.training.signals import RunStopped, Stopped
from genolm.training.trainer import WeightedTrainer


def open_run(
    run_dir: Path, training: dict[str, Any], seed: int, exit_stack: ExitStack, *, deterministic: bool, fit_batch: bool
) -> tuple[TrainingArguments, PartialState]:
    """Check the training block, meet the other ranks, and take the run folder for this run alone.

    Args:
        run_dir: folder of the run, made if need be.
        training: fields of transformers.TrainingArguments.
        seed: of the run.
        exit_stack: keeps the folder locked as long as it is open.
        deterministic: only operations that give the same bits twice.
        fit_batch: take the micro-batch that an earlier start noted to fit.
    """
    cpu = uses_cpu(training)
    if cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed, where installed, warns that it found no GPU
    arguments = training_arguments(training, run_dir, seed)
    if fit_batch:
        smaller = fitted(run_dir, arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps)
        arguments = training_arguments(training | smaller, run_dir, seed)
        if smaller:
            print(f"fitted     {smaller} as noted in {run_dir / FITTED}", file=sys.stderr)
    state = PartialState(cpu=cpu)
    shard_on_cpu()
    set_deterministic(deterministic)
    if arguments.n_gpu > 1:
        raise SettingsError(f"{arguments.n_gpu} GPUs, one process: use --launch ddp, or CUDA_VISIBLE_DEVICES=0")
    if state.is_main_process:
        run_dir.mkdir(parents=True, exist_ok=True)
        refuse_links(run_dir)
        exit_stack.enter_context(folder_lock(run_dir))
    check_shared(run_dir, state)
    return arguments, state


def check_shared(run_dir: Path, state) -> None:
    """Refuse a run folder that is not the same for all ranks: checkpoints would lack what some of them write."""
    token = [os.urandom(8).hex()]
    broadcast_object_list(token)
    path = run_dir / f".shared-{token[0]}"
    if state.is_main_process:
        path.touch()
    state.wait_for_everyone()
    blind = [rank for rank, seen in enumerate(gather_object([path.exists()])) if not seen]
    if state.is_main_process:
        path.unlink()
    if blind:
        raise SettingsError(f"ranks {blind} do not see {run_dir}; run_dir must be on a disk that all nodes share")


def train_in_folder(
    trainer: WeightedTrainer, checkpoint: Path | None, manifest: dict[str, Any], fit_batch: bool
) -> int:
    """Train to the last step and return the peak memory of a rank, in bytes.

    Raises:
        RunStopped: saying in one line what stopped the run.
        SettingsError: an optimizer that is not installed.
    """
    assert trainer.payload is not None
    keep_freed_pages()
    try:
        trainer.resume(checkpoint, manifest)
    except RunStopped:
        raise
    except ImportError as error:  # an optimizer that is not installed
        raise SettingsError(f"training: {error}") from error
    except Exception as error:
        raise out_of_memory(error, trainer, fit_batch, trainer.payload.root.parent) from None
    finally:
        trim_freed_pages()
    peak = max(gather_object([peak_bytes()]))
    if trainer.is_world_process_zero():
        kind = "GPU" if trainer.args.device.type == "cuda" else "main"
        print(f"memory     {gibibytes(peak)} of {kind} memory at most on a rank", file=sys.stderr)
    if trainer.stopped:
        raise Stopped(f"after step {trainer.state.global_step:,}, which is saved; the same command resumes from there")
    return peak


Result = TypeVar("Result")

MAY_CHANGE = re.compile(r"(training|evaluation)\..*|deterministic")
"""Keys that `--allow-change` may name: the checkpoint still fits, and the run means what it meant."""
MAY_NOT = {"training.optim", "training.optim_args", "training.fp16"}
"""Keys of the training block that decide what is in a checkpoint."""
ELSEWHERE = re.compile(
    r"training\.(per_device_train_batch_size|gradient_accumulation_steps)|data\.(fasta|sha256|rename_duplicates)(\..*)?"
)
"""Keys that are not compared: what they make is, the size of an update and the sequence."""


def resume_checkpoint(
    trainer: WeightedTrainer, resume: str, allow_change: Sequence[str] = ()
) -> tuple[Path | None, dict[str, Any]]:
    """Return the checkpoint to resume from and its manifest; None and an empty one where the run starts.

    Invalid checkpoints are skipped with a note, and the log is cut to where the checkpoint was written.

    Args:
        trainer: as it is about to run.
        resume: "auto", or "never" to refuse where there are checkpoints.
        allow_change: keys that may differ from the recipe of the checkpoint.

    Raises:
        SettingsError: the checkpoint is of another recipe, batch, genome or wrapper; or none is valid.
    """
    assert trainer.payload is not None
    root, log, run = trainer.payload.root, trainer.payload.log, trainer.payload.manifest
    if steps(root) and resume == "never":
        raise SettingsError(f"resume is never, and {root} holds checkpoints; set another run_dir, or remove {root}")
    remove_leftovers(root)
    folder, manifest, faults = newest_valid(root)
    for fault in faults:
        print(f"skipping invalid checkpoint: {fault}", file=sys.stderr)
    if folder is None:
        if steps(root):
            raise SettingsError(f"no checkpoint in {root} is valid; to start from nothing, remove {root}")
        rewind_log(log, 0)
        return None, {}
    changed = check_same_recipe(manifest["flat_recipe"], run["flat_recipe"], allow_change, folder)
    for change in changed:
        print(f"allowed: {change}", file=sys.stderr)
    max_steps = run["flat_recipe"]["training.max_steps"]
    if manifest["step"] > max_steps > 0:
        raise SettingsError(f"{folder} is of step {manifest['step']:,}, beyond training.max_steps, {max_steps:,}")
    check_batch(manifest, trainer.args, folder)
    check_data(manifest, run["fingerprints"], folder)
    wrapper, num_ranks = expected_wrapper(trainer), trainer.args.world_size
    check_wrapper(manifest, wrapper, folder)
    for name, version in manifest["versions"].items():
        if run["versions"].get(name) != version:
            print(f"note: written with {name} {version}, here is {run['versions'].get(name)}", file=sys.stderr)
    rewind_log(log, manifest["log_bytes"])
    if wrapper.startswith("zero") and manifest["world_size"] != num_ranks:
        print(f"converting {folder} of {manifest['world_size']} ranks for {num_ranks}", file=sys.stderr)
        folder = convert(folder)
    return folder, manifest | {"changed": changed}


def on_all_ranks(function: Callable[[], Result], main: bool) -> Result:
    """Call a function on the main rank, and return its result, or raise its error, on all of them."""
    outcome: list[Any] = [None]
    if main:
        try:
            outcome = [function()]
        except (ValueError, OSError) as error:
            outcome = [error]
    broadcast_object_list(outcome)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def check_same_recipe(before: dict[str, Any], now: dict[str, Any], allowed: Sequence[str], where: Path) -> list[str]:
    """Refuse a recipe under which a checkpoint would mean something else; return what was allowed to change.

    Args:
        before: dotted key → value of the recipe that wrote the checkpoint, without keys that have no effect.
        now: the same of the recipe to resume with.
        allowed: keys of `--allow-change`.
        where: the checkpoint, for the message.

    Raises:
        SettingsError: naming every key that differs, and what can be done.
    """
    # But for the model's, both sides have all keys; one that is missing is of another version of what is installed.
    keys = [key for key in {**before, **now} if (key in before and key in now) or key.startswith("model.")]
    changed = {
        key: f"{key}: {before.get(key, 'not set')} → {now.get(key, 'not set')}"
        for key in keys
        if before.get(key) != now.get(key) and not ELSEWHERE.fullmatch(key)
    }
    for key in allowed:
        if key not in now:
            hint = did_you_mean(key, now, "recipe.yaml in the run folder lists them")
            raise SettingsError(f"--allow-change {key}: no such key; {hint}")
        if key in MAY_NOT or not MAY_CHANGE.fullmatch(key):
            raise SettingsError(
                f"--allow-change {key}: a checkpoint means nothing under another {key}; set another run_dir"
            )
    refused = [key for key in changed if key not in allowed]
    if refused:
        if all(MAY_CHANGE.fullmatch(key) and key not in MAY_NOT for key in refused):
            remedy = f"add {' '.join(f'--allow-change {key}' for key in refused)}, change back, or set another run_dir"
        else:
            remedy = "change back, or set another run_dir for a new run"
        differences = "; ".join(changed[key] for key in refused)
        raise SettingsError(f"{where} is of another recipe: {differences}. To resume, {remedy}")
    return list(changed.values())


def check_batch(manifest: dict[str, Any], arguments: Any, where: Path) -> None:
    """Refuse another global batch, and say which accumulation keeps it."""
    before, now = manifest["samples_per_step"], samples_per_step(arguments)
    if before == now:
        return
    per_device, num_ranks = arguments.per_device_train_batch_size, arguments.world_size
    accumulation, rest = divmod(before, per_device * num_ranks)
    if accumulation and not rest:
        remedy = f"Set training.gradient_accumulation_steps={accumulation}"
    else:
        remedy = f"Choose training.per_device_train_batch_size so that it times {num_ranks} divides {before}"
    raise SettingsError(
        f"{where}: its updates are of {before} windows; {per_device} a device on {num_ranks} ranks, accumulated as "
        f"now, are {now}. {remedy}"
    )


def check_data(manifest: dict[str, Any], fingerprints: dict[str, str], where: Path) -> None:
    """Refuse other genomes, splits, tokenizers or datasets than those trained on, whatever their names."""
    before = manifest["fingerprints"]
    other = [name for name in fingerprints if name in before and before[name] != fingerprints[name]]
    if other:
        raise SettingsError(
            f"{where} was trained on something else: the {' and the '.join(other)} of this run differ in content from "
            "what they were. Give the same files, or set another run_dir"
        )


def check_wrapper(manifest: dict[str, Any], wrapper: str, where: Path) -> None:
    """Refuse optimizer states that this wrapper cannot read.

    One process and DDP write the same files. FSDP2 and each stage of DeepSpeed read their own.
    """
    before = {"ddp": "none"}.get(manifest["wrapper"], manifest["wrapper"])
    if before != {"ddp": "none"}.get(wrapper, wrapper):
        raise SettingsError(
            f"{where} was written under {manifest['wrapper']} and cannot resume under {wrapper}; use the profile that "
            "wrote it"
        )
