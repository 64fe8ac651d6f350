"""Run a Trainer in a run folder: lock the folder, check that all ranks share it, train, and say what stopped it."""

import os
import sys
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
from genolm.training.memory import FITTED, fitted, gibibytes, out_of_memory, peak_bytes
from genolm.training.parallelism import shard_on_cpu
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
    malloc.keep_freed_pages()
    try:
        trainer.resume(checkpoint, manifest)
    except RunStopped:
        raise
    except ImportError as error:  # an optimizer that is not installed
        raise SettingsError(f"training: {error}") from error
    except Exception as error:
        raise out_of_memory(error, trainer, fit_batch, trainer.payload.root.parent) from None
    finally:
        malloc.trim_freed_pages()
    peak = max(gather_object([peak_bytes()]))
    if trainer.is_world_process_zero():
        kind = "GPU" if trainer.args.device.type == "cuda" else "main"
        print(f"memory     {gibibytes(peak)} of {kind} memory at most on a rank", file=sys.stderr)
    if trainer.stopped:
        raise Stopped(f"after step {trainer.state.global_step:,}, which is saved; the same command resumes from there")
    return peak
