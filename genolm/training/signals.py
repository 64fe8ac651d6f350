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

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn, TypeVar

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
Result = TypeVar("Result")


class Ended(Exception):
    """A run that ended early.

    Attributes:
        code: the exit code.
        together: whether every rank raised it.
    """

    code: int
    together = True


class Stopped(Ended):
    """All ranks agreed to stop; what there is, is saved."""

    code = 75  # EX_TEMPFAIL of sysexits.h


class NotFinite(Ended):
    """A loss or a gradient is NaN or infinite; the weights are those before the update."""

    code = 70  # EX_SOFTWARE


class OutOfMemory(Ended):
    """The micro-batch does not fit; the message says what to change."""

    code = 71  # EX_OSERR
    together = False


class Refit(Ended):
    """The micro-batch does not fit, and the next start will take a smaller one."""

    code = 72
    together = False


def lost_ranks(error: RuntimeError) -> bool:
    """Say whether an error is that the ranks cannot talk: mostly one has gone, and has said why."""
    from torch.distributed import DistError

    words = ("Connection closed by peer", "Connection reset", "gloo", "NCCL", "Broken pipe")
    many = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return many and (isinstance(error, DistError) or any(word in str(error) for word in words))


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
    from accelerate import PartialState  # late: signals are listened for before torch is there

    state = PartialState()
    if state.num_processes > 1:
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
        """Catch the signals, and give them back to whoever had them."""

        def remember(number, frame):
            self.signal = signal.Signals(number)

        before = {number: signal.signal(number, remember) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def ignore_stop_signals(worker: int = 0) -> None:
    """Leave stopping to the main process: schedulers signal data loader workers too, whose death would be ours."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def with_exit_code(run: Callable[[], Any]) -> None:
    """Call a run, say in one line what ended it early, and end the process with the code that says the same."""
    code = 0
    try:
        run()
    except Ended as ended:
        if not ended.together or os.environ.get("RANK", "0") == "0":
            print(f"ended: {ended}", file=sys.stderr)
        code = ended.code
        if not ended.together and "WORLD_SIZE" in os.environ:
            end_alone(code)
    except RuntimeError as error:
        if not lost_ranks(error):
            raise
        reason = " ".join(str(error).split())[:300]
        print(f"rank {os.environ['RANK']}: another rank has ended, or cannot be reached: {reason}", file=sys.stderr)
        end_alone(1)
    end_together(code)


def until_it_fits(attempt: Callable[[StopRequest, ExitStack], Result]) -> Result:
    """Call an attempt, and again each time that it notes a smaller micro-batch for the next.

    Signals are listened for from here on, before torch is imported.
    """
    with StopRequest().listening() as stop, ExitStack() as held:
        from accelerate.utils.memory import clear_device_cache

        while True:
            try:
                return attempt(stop, held)
            except Refit as error:
                if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # the others wait for this rank: a launcher's task
                    raise
                print(error, file=sys.stderr)
            clear_device_cache(garbage_collection=True)  # what the attempt before held
