"""Start the ranks of an accelerate profile in this process, and pass them its signals."""

import logging
import os
import shlex
import signal
from argparse import Namespace
from pathlib import Path

from genolm.config.shipped import shipped_folder
from genolm.config.yaml import SettingsError
from genolm.training.parallelism import ENVIRONMENT, Parallelism, completed_arguments, parallelism_of
from genolm.training.signals import SIGNALS, BatchTooLarge, Stopped


def profile_path(name: str) -> Path:
    """Return the file of a profile: a path, or the name of one of recipes/accelerate."""
    profiles = shipped_folder("recipes") / "accelerate"
    path = Path(name) if Path(name).suffix in (".yaml", ".yml", ".json") else profiles / f"{name}.yaml"
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in profiles.glob("*.yaml"))) or "none here"
        raise SettingsError(f"--launch {name}: no such profile; give a YAML file of accelerate, or one of: {shipped}")
    return path


def profile_words(profile: str, command: list[str]) -> list[str]:
    """Return the words after `accelerate launch` for a profile, what follows its name, and a command of genolm."""
    name, *more = shlex.split(profile) or [""]
    return ["--config_file", str(profile_path(name)), *more, "-m", "genolm", *command]


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
    os.environ[ENVIRONMENT] = f"{requested.processes}:{requested.wrapper}"


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
