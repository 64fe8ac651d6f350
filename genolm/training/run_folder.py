"""What every training run does around its Trainer: one run a folder, what to go on from, what ended it."""

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from transformers import TrainingArguments

from genolm.config.files import folder_lock, refuse_links
from genolm.config.yaml import SettingsError
from genolm.models.precision import set_deterministic
from genolm.training import malloc
from genolm.training.arguments import training_arguments, uses_cpu
from genolm.training.checkpoint import steps
from genolm.training.launch import shard_on_cpu, wrapper_to_be
from genolm.training.log import samples_per_step
from genolm.training.memory import FITTED, ended_by, fitted, gibibytes, peak_bytes
from genolm.training.resume import Now, choose
from genolm.training.signals import Ended, Stopped
from genolm.training.trainer import WeightedTrainer


def open_run(
    run_dir: Path, training: dict[str, Any], seed: int, held: ExitStack, *, deterministic: bool, fit_batch: bool
) -> tuple[TrainingArguments, PartialState]:
    """Check the training block, meet the other ranks, and take the run folder for this run alone.

    Args:
        run_dir: folder of the run, made if need be.
        training: fields of transformers.TrainingArguments.
        seed: of the run.
        held: keeps the folder locked as long as it is open.
        deterministic: only operations that give the same bits twice.
        fit_batch: take the micro-batch that an earlier start found to fit.
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
        held.enter_context(folder_lock(run_dir))
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


def find_checkpoint(
    trainer: WeightedTrainer, resume: str, allow_change: Sequence[str] = ()
) -> tuple[Path | None, dict[str, Any]]:
    """Return the checkpoint to go on from and its manifest; None and nothing where the run starts.

    Args:
        trainer: as it is about to run.
        resume: "auto", or "never" to refuse where there are checkpoints.
        allow_change: keys that may differ from the recipe of the checkpoint.
    """
    assert trainer.saving is not None
    root, arguments, manifest = trainer.saving.root, trainer.args, trainer.saving.manifest
    if steps(root) and resume == "never":
        raise SettingsError(f"resume is never, and {root} holds checkpoints; set another run_dir, or remove {root}")
    now = Now(
        recipe=manifest["flat_recipe"],
        allowed=allow_change,
        fingerprints=manifest["fingerprints"],
        versions=manifest["versions"],
        samples_per_step=samples_per_step(arguments),
        per_device=arguments.per_device_train_batch_size,
        world_size=arguments.world_size,
        wrapper=wrapper_to_be(trainer),
    )
    return choose(root, trainer.saving.log, now)


def train(trainer: WeightedTrainer, checkpoint: Path | None, manifest: dict[str, Any], fit_batch: bool) -> int:
    """Train to the last step and return the most memory a rank held, in bytes.

    Whatever ends it before is said in one line.
    """
    assert trainer.saving is not None
    malloc.keep()
    try:
        trainer.resume(checkpoint, manifest)
    except Ended:
        raise
    except ImportError as error:  # an optimizer that is not installed
        raise SettingsError(f"training: {error}") from error
    except Exception as error:
        raise ended_by(error, trainer, fit_batch, trainer.saving.root.parent) from None
    finally:
        malloc.give_back()
    most = max(gather_object([peak_bytes()]))
    if trainer.is_world_process_zero():
        kind = "GPU" if trainer.args.device.type == "cuda" else "main"
        print(f"memory     {gibibytes(most)} of {kind} memory at most on a rank", file=sys.stderr)
    if trainer.stopped:
        raise Stopped(f"after step {trainer.state.global_step:,}, which is saved; the same command goes on from there")
    return most
