"""Check that a run is as parallel as its accelerate profile asks for, and complete what a profile cannot say.

accelerate was seen to start one process where two were asked for, and to train DDP where FSDP was asked for, without
a word. So the request travels to every rank, and is compared with what runs before the first step.

    python -m genolm.training.parallelism CHECKPOINT FOLDER

converts a DeepSpeed checkpoint for another number of ranks.
"""

import logging
import os
import shutil
import subprocess
import sys
import warnings
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from genolm.config.yaml import SettingsError

ENVIRONMENT = "GENOLM_PARALLELISM"
"""Variable that hands the launcher's request to the ranks, as PROCESSES:WRAPPER."""


@dataclass(frozen=True)
class Parallelism:
    """What a profile asks for: the number of processes over all machines, and what wraps the model."""

    processes: int
    wrapper: str

    def __str__(self) -> str:
        return f"{self.processes} processes, {self.wrapper}"


def completed_arguments(words: list[str]) -> Namespace:
    """Return the arguments of `accelerate launch` as it completes them."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    logging.getLogger("accelerate.commands.launch").setLevel(logging.ERROR)  # it logs every default
    return _validate_launch_command(launch_command_parser().parse_args(words))[0]


def parallelism_of(arguments: Namespace) -> Parallelism:
    """Return what completed arguments of `accelerate launch` ask for."""
    processes = int(arguments.num_processes or 1)
    if arguments.use_deepspeed:
        return Parallelism(processes, "zero" if arguments.zero_stage is None else f"zero{arguments.zero_stage}")
    if arguments.use_fsdp:
        return Parallelism(processes, f"fsdp{arguments.fsdp_version}")
    return Parallelism(processes, "ddp" if processes > 1 else "none")


def requested_parallelism() -> Parallelism | None:
    """Return what the launcher of this process was asked for; None where there was none."""
    if ENVIRONMENT in os.environ:
        processes, wrapper = os.environ[ENVIRONMENT].split(":")
        return Parallelism(int(processes), wrapper)
    return _parallelism_of_parent()


def _parallelism_of_parent() -> Parallelism | None:
    """Read the command line of a plain `accelerate launch` that started this process."""
    import psutil

    try:
        parent = psutil.Process().parent()
        words = parent.cmdline() if parent is not None else []
    except psutil.Error:  # some machines hide what others run
        return None
    # python accelerate launch …, accelerate-launch …, python -m accelerate.commands.launch …
    heads = [Path(word).name for word in words[:3]]
    start = next((i for i, head in enumerate(heads) if head.startswith("accelerate")), None)
    if start is None:
        return None
    rest = words[start + 1 :]
    try:
        return parallelism_of(completed_arguments(rest[1:] if rest[:1] == ["launch"] else rest))
    except (SystemExit, ValueError, OSError):  # something else of that name
        return None


def check_parallelism(requested: Parallelism | None, processes: int, wrapper: str) -> None:
    """Refuse to train under anything but what the profile asks for."""
    running = Parallelism(processes, wrapper)
    if requested is not None and not (requested.processes == processes and wrapper.startswith(requested.wrapper)):
        raise SettingsError(
            f"the profile asks for {requested}; what runs is {running}. accelerate does this where it does not support "
            "the combination, as MULTI_CPU, or FSDP on CPUs of some versions; choose another profile"
        )


def check_precision(trainer) -> None:
    """Refuse a profile that computes in another precision than the recipe says."""
    of_recipe = "bf16" if trainer.args.bf16 else "fp16" if trainer.args.fp16 else "no"
    of_profile = trainer.accelerator.mixed_precision
    if not trainer.is_deepspeed_enabled and of_profile != of_recipe:
        raise SettingsError(
            f'the profile says mixed_precision: {of_profile}, the recipe {of_recipe}; set the profile\'s to "no"'
        )


def check_state_dict(fsdp_plugin) -> None:
    """Refuse sharded checkpoints, accelerate's default: torch opens them with pickle, which can run code."""
    kind = fsdp_plugin.state_dict_type.name
    if kind != "FULL_STATE_DICT":
        raise SettingsError(f"fsdp_state_dict_type is {kind}; set it to FULL_STATE_DICT in the profile")


def shard_on_cpu() -> None:
    """Let accelerate wrap with FSDP2 on CPUs, where it would train DDP without a word.

    It turns into FSDP only what it takes for GPUs. Call this once the processes have met, before the trainer is made.
    """
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    state = PartialState._shared_state
    fsdp = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if fsdp and state.get("distributed_type") == DistributedType.MULTI_CPU:
        state["distributed_type"] = DistributedType.MULTI_GPU


@contextmanager
def whole_model() -> Iterator[None]:
    """Make a model whole on every rank, for DeepSpeed to shard later: sharded at once, ZeRO-3 draws other weights."""
    from transformers.integrations import deepspeed

    config, deepspeed._hf_deepspeed_config_weak_ref = deepspeed._hf_deepspeed_config_weak_ref, None
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = config


def complete_profile(trainer) -> None:
    """Set in DeepSpeed and FSDP what a profile cannot say; call this before training."""
    plugins = trainer.accelerator.state
    if trainer.is_deepspeed_enabled:
        # Its own Adam multiplies up powers of beta, and takes them anew after a resume: not the same bits.
        plugins.deepspeed_plugin.deepspeed_config["zero_force_ds_cpu_optimizer"] = False
        # DeepSpeed uses names that torch is about to change, and warns at every call.
        warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)
    if trainer.is_fsdp_enabled:
        # Tied weights are wrapped by themselves; within a layer, as in BERT, they would be so twice.
        names, tied = set(trainer.model._no_split_modules or ()), trainer.model.get_input_embeddings()
        layers = (m for m in trainer.model.modules() if type(m).__name__ in names)
        wrapped = {type(m).__name__ for m in layers if not any(part is tied for part in m.modules())}
        plugins.fsdp_plugin.transformer_cls_names_to_wrap = sorted(wrapped)


@contextmanager
def ends_in_one_group(model) -> Iterator[None]:
    """Hide embeddings from accelerate while it wraps with FSDP2, where more than their weights is tied, as BERT's bias.

    It gives the ends of a model groups of their own, and torch refuses a tensor in two groups.
    """
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    of_ends = {id(p) for end in ends if end is not None for p in end.parameters()}
    others = {id(p) for m in model.modules() if all(m is not end for end in ends) for p in m.parameters(recurse=False)}
    hidden = ("get_input_embeddings", "get_output_embeddings") if of_ends & others else ()
    for name in hidden:
        setattr(model, name, lambda: None)
    try:
        yield
    finally:
        for name in hidden:
            delattr(model, name)


def expected_wrapper(trainer) -> str:
    """Return what a trainer will wrap its model in: none, ddp, fsdp1, fsdp2, zero1, zero2 or zero3."""
    plugins = trainer.accelerator.state
    if trainer.is_deepspeed_enabled:
        return f"zero{plugins.deepspeed_plugin.zero_stage}"
    if trainer.is_fsdp_enabled:
        return f"fsdp{plugins.fsdp_plugin.fsdp_version}"
    return "ddp" if trainer.args.world_size > 1 else "none"


def wrapper_of(trainer) -> str:
    """Return what a trainer has wrapped its model in, read from the model itself."""
    wrapped = trainer.model_wrapped
    if trainer.is_deepspeed_enabled:
        return f"zero{wrapped.zero_optimization_stage()}"
    if isinstance(wrapped, FSDPModule):
        return "fsdp2"
    inner = getattr(wrapped, "_orig_mod", wrapped)
    return "ddp" if isinstance(inner, DistributedDataParallel) else "none"


def convert(checkpoint: Path) -> Path:
    """Write a folder beside a ZeRO checkpoint, from which any number of ranks can resume, and return it.

    ZeRO's optimizer states are sharded for the ranks that wrote them. DeepSpeed's converter merges them into its
    universal format, a file for each weight; an engine with `load_universal` shards them anew. The converter runs in a
    process of its own: a rank has a process group.

    Raises:
        ValueError: DeepSpeed's converter failed; with its last message.
    """
    folder = checkpoint.with_name(f"{checkpoint.name}.universal")
    shutil.rmtree(folder, ignore_errors=True)
    env = {key: value for key, value in os.environ.items() if key not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    command = [sys.executable, "-m", "genolm.training.parallelism", str(checkpoint), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=env | {"DS_ACCELERATOR": "cpu"})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"{checkpoint}: DeepSpeed cannot convert it for another number of ranks: {last}")
    return folder


def to_universal(checkpoint: Path, folder: Path) -> None:
    """Write what DeepSpeed and Trainer read of a checkpoint, in the universal format."""
    from deepspeed.checkpoint.ds_to_universal import main

    tag = (checkpoint / "latest").read_text().strip()
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns(tag), copy_function=os.link)
    for name in ("latest", "latest_universal"):
        (folder / name).unlink(missing_ok=True)  # a link to the checkpoint's own
        (folder / name).write_text(f"{tag}_universal")
    main(
        Namespace(
            input_folder=str(checkpoint / tag),
            output_folder=str(folder / f"{tag}_universal"),
            num_extract_workers=1,
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=True,
            inject_missing_state=True,  # Trainer's checkpoints do not describe themselves to the converter
        )
    )


def separate_step_counters(optimizer: torch.optim.Optimizer) -> None:
    """Give every part of the weights a step counter of its own.

    ZeRO-3 of DeepSpeed 0.19 loads one for all, which Adam then raises once for each. It also gives every group the
    weight decay of the first; the trainer sets those again.
    """
    for state in optimizer.state.values():
        if torch.is_tensor(state.get("step")):
            state["step"] = state["step"].clone()


if __name__ == "__main__":
    to_universal(Path(sys.argv[1]), Path(sys.argv[2]))
