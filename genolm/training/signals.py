"""Why a run stops before its end, and the exit code that tells a scheduler what to do about it.

| exit code | meaning |
|---|---|
| 0 | done |
| 2 | a mistake to correct: recipe, input, profile, full disk |
| 70 | a loss or gradient was not finite; the folder `not-finite/` reproduces it |
| 71 | out of memory; the message says what to change |
| 72 | a smaller micro-batch was noted for the next start (`--launch` starts again by itself) |
| 75 | stopped by SIGTERM or SIGUSR1 after a checkpoint: run the same command again |
"""

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Concatenate, NoReturn, ParamSpec, TypeVar, cast

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Signals that ask a run to stop; Windows has no SIGUSR1."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class RunStopped(Exception):
    """A run that stopped before its end.

    Attributes:
        code: the exit code.
        on_all_ranks: whether every rank raised it.
    """

    code: int
    on_all_ranks = True


class Stopped(RunStopped):
    """All ranks agreed to stop after a checkpoint."""

    code = 75  # EX_TEMPFAIL of sysexits.h


class NotFinite(RunStopped):
    """A loss or a gradient is NaN or infinite; the weights are those before the update."""

    code = 70  # EX_SOFTWARE


class OutOfMemory(RunStopped):
    """The micro-batch does not fit; the message says what to change."""

    code = 71  # EX_OSERR
    on_all_ranks = False


class BatchTooLarge(RunStopped):
    """The micro-batch does not fit, and the next start will take a smaller one."""

    code = 72
    on_all_ranks = False


def num_ranks() -> int:
    """Return the number of ranks, read from the environment: no library need be imported yet."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def lost_ranks(error: RuntimeError) -> bool:
    """Return whether an error says that the ranks cannot communicate: mostly, one has exited and said why."""
    if num_ranks() == 1:
        return False
    from torch.distributed import DistError

    words = ("Connection closed by peer", "Connection reset", "gloo", "NCCL", "Broken pipe")
    return isinstance(error, DistError) or any(word in str(error) for word in words)


def end_alone(code: int) -> NoReturn:
    """End this process at once: what is left of the group would only complain."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def end_together(code: int) -> None:
    """End this process, with the other ranks where there are any.

    They wait for each other, so that the launcher ends none of them. DeepSpeed was seen to abort 4 of 40 runs while
    Python took it apart, so that is not waited for.
    """
    if num_ranks() > 1:
        from accelerate import PartialState

        state = PartialState()
        state.wait_for_everyone()
        state.destroy_process_group()
        end_alone(code)
    if code:
        raise SystemExit(code)


class StopRequest:
    """Remembers the signal that asked this rank to stop, if any."""

    def __init__(self):
        self.signal: signal.Signals | None = None

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Catch the signals, and restore their handlers afterwards."""

        def remember(number, frame):
            self.signal = signal.Signals(number)

        before = {number: signal.signal(number, remember) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def ignore_stop_signals(worker: int = 0) -> None:
    """Leave stopping to the main process: schedulers signal data loader workers too, whose death would end the run."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def exit_codes(run: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Make a run print in one line what stopped it early, and end the process with the exit code of that.

    With several ranks the process ends in any case, together with the others.
    """

    @functools.wraps(run)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        code, result = 0, None
        try:
            result = run(*args, **kwargs)
        except RunStopped as stopped:
            if not stopped.on_all_ranks or os.environ.get("RANK", "0") == "0":
                print(f"ended: {stopped}", file=sys.stderr)
            code = stopped.code
            if not stopped.on_all_ranks and "WORLD_SIZE" in os.environ:
                end_alone(code)
        except RuntimeError as error:
            if not lost_ranks(error):
                raise
            reason = " ".join(str(error).split())[:300]
            print(f"rank {os.environ['RANK']}: another rank has ended, or cannot be reached: {reason}", file=sys.stderr)
            end_alone(1)
        end_together(code)
        return cast(Result, result)

    return wrapped


def retry_with_smaller_batch(
    run_once: Callable[Concatenate[StopRequest, ExitStack, Parameters], Result],
) -> Callable[Parameters, Result]:
    """Make a run start again each time that it noted a smaller micro-batch for the next start.

    Args:
        run_once: takes the request to stop and a stack of contexts that are closed when it ends, then its own
            arguments. Signals are listened for before it is called, so it is best to import torch within it.
    """

    @functools.wraps(run_once)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with StopRequest().listening() as stop:
            from accelerate.utils.memory import clear_device_cache

            while True:
                try:
                    with ExitStack() as exit_stack:
                        return run_once(stop, exit_stack, *args, **kwargs)
                except BatchTooLarge as error:
                    if num_ranks() > 1:  # the others wait for this rank: starting again is the launcher's task
                        raise
                    print(error, file=sys.stderr)
                clear_device_cache(garbage_collection=True)  # of the start before

    del wrapped.__wrapped__  # type: ignore[attr-defined]  # whose first two parameters are filled in
    return wrapped
