"""Start the ranks of an accelerate profile, and check that what runs is what the profile asks for.

accelerate was seen to start one process where two were asked for, and to train DDP where FSDP was asked for, without
a word. So the request travels to every rank, and is compared with what runs before the first step.
"""

import logging
import os
import shlex
import signal
import warnings
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from genolm.config.yaml import SettingsError
from genolm.training.signals import SIGNALS, BatchTooLarge, Stopped

SHIPPED = Path(__file__).parents[2] / "recipes" / "accelerate"
_ENVIRONMENT = "GENOLM_PARALLELISM"
"""Variable that hands the launcher's request to the ranks, as PROCESSES:WRAPPER."""


@dataclass(frozen=True)
class Parallelism:
    """What a profile asks for: the number of processes over all machines, and what wraps the model."""

    processes: int
    wrapper: str

    def __str__(self) -> str:
        return f"{self.processes} processes, {self.wrapper}"


def profile_path(name: str) -> Path:
    """Return the file of a profile: a path, or the name of one of recipes/accelerate."""
    path = Path(name) if Path(name).suffix in (".yaml", ".yml", ".json") else SHIPPED / f"{name}.yaml"
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.yaml"))) or "none here"
        raise SettingsError(f"--launch {name}: no such profile; give a YAML file of accelerate, or one of: {shipped}")
    return path


def profile_words(profile: str, command: list[str]) -> list[str]:
    """Return the words after `accelerate launch` for a profile, what follows its name, and a command of genolm."""
    name, *more = shlex.split(profile) or [""]
    return ["--config_file", str(profile_path(name)), *more, "-m", "genolm", *command]


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


def parallelism_of_profile(profile: str) -> Parallelism:
    """Return what `--launch PROFILE` asks for; nothing is started."""
    return parallelism_of(completed_arguments(profile_words(profile, [])))


def launch(profile: str, command: list[str]) -> int:
    """Run `genolm` under `accelerate launch` and return its exit code, that of the first rank to end.

    SIGTERM and SIGUSR1 are passed to the ranks, which agree on a step, save and end with 75.

    Args:
        profile: name or path, and after a space anything for `accelerate launch`: "ddp --num_processes 4".
        command: what comes after `genolm`.
    """
    import psutil

    passed: list[int] = []

    def pass_to_ranks(number, frame):
        passed.append(number)
        ranks = psutil.Process().children()
        for rank in ranks:
            rank.send_signal(number)
        if not ranks:
            raise SystemExit(Stopped.code)  # nothing has begun

    before = {number: signal.signal(number, pass_to_ranks) for number in SIGNALS}
    try:
        words = profile_words(profile, command)
        _set_environment(completed_arguments(words))
        while (code := _launch_once(words)) == BatchTooLarge.code:
            pass
        # A rank that the signal met before it listened had nothing to save.
        return Stopped.code if passed and code < 0 else code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _set_environment(arguments: Namespace) -> None:
    """Set what the ranks read: the device of DeepSpeed, threads of a CPU, and what the profile asks for."""
    if arguments.use_cpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
        here = max(1, arguments.num_processes // arguments.num_machines)
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // here)))
    requested = parallelism_of(arguments)
    os.environ[_ENVIRONMENT] = f"{requested.processes}:{requested.wrapper}"


def _launch_once(words: list[str]) -> int:
    """Run `accelerate launch` in this process and return the exit code of the first rank to end."""
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the ranks have said it already
    arguments = launch_command_parser().parse_args(words)
    # torch's launcher would take SIGTERM for itself, and end the ranks 30 s after it.
    arguments.signals_to_handle = "SIGINT,SIGHUP,SIGQUIT"
    try:
        launch_command(arguments)
    except ChildFailedError as error:
        return error.get_first_failure()[1].exitcode
    except SignalException as error:  # Ctrl-C
        return 128 + int(error.sigval)
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def requested_parallelism() -> Parallelism | None:
    """Return what the launcher of this process was asked for; None where there was none."""
    if _ENVIRONMENT in os.environ:
        processes, wrapper = os.environ[_ENVIRONMENT].split(":")
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
