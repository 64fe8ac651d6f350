"""Run `genolm finetune` in processes of their own, a few at a time.

Memory, GPUs and crashes of a run are its own. When the command is stopped, each run is asked to save a checkpoint and
stop, and is waited for.
"""

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from genolm.config.files import folder_lock
from genolm.config.yaml import SettingsError

PATIENCE = 120.0
"""Seconds to wait for a run to save itself, and for another process in its folder."""


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        folder: of the run.
        recipe: of `genolm finetune`.
        number: of the run, for whoever started it.
    """

    folder: Path
    recipe: Path
    number: int

    @property
    def output(self) -> Path:
        """File with the output of the run."""
        return self.folder / "output.txt"


def run_with_table(
    jobs: Iterable[Job],
    at_once: int,
    ended: Callable[[Job, int, float], str],
    table: Callable[[set[int]], Table],
) -> None:
    """Run jobs, print how each ended, and show a table below that in a terminal.

    Args:
        jobs: the next one is made only when there is room for it.
        at_once: processes at a time; 0 for one a GPU. Where there are several GPUs, each process gets one.
        ended: a job that ended, its exit code and its seconds → what to print about it.
        table: numbers of the running jobs → the table.

    Raises:
        SystemExit: 75 after Ctrl-C, SIGTERM or SIGUSR1, once all jobs have saved themselves.
    """
    console, gpus = Console(stderr=True, soft_wrap=True, highlight=False), visible_gpus()
    at_once = at_once or max(1, len(gpus))
    threads = max(1, len(os.sched_getaffinity(0)) // at_once) if hasattr(os, "sched_getaffinity") else 1
    waiting, running = iter(jobs), {}
    with Live(console=console, auto_refresh=False, transient=True) as live:
        try:
            with _signals_interrupt(), _all_ended(running):
                while True:
                    for slot in set(range(at_once)) - set(running):
                        if (job := next(waiting, None)) is None:
                            break
                        gpu = gpus[slot % len(gpus)] if len(gpus) > 1 else None
                        running[slot] = (job, _start(job, threads, gpu), time.perf_counter())
                    if not running:
                        return
                    if console.is_terminal:
                        live.update(table({job.number for job, _, _ in running.values()}), refresh=True)
                    time.sleep(0.1)
                    for slot, (job, process, began) in list(running.items()):
                        if (code := process.poll()) is not None:
                            del running[slot]
                            console.print(ended(job, code, time.perf_counter() - began), markup=False)
        except KeyboardInterrupt:
            live.stop()
            print("stopped: running jobs are saved; the same command resumes from there", file=sys.stderr)
            raise SystemExit(75) from None


def visible_gpus() -> list[str]:
    """Return the GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip() and name.strip() != "-1"]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


def last_line(path: Path) -> str:
    """Return the last line that a run printed; its last error where there is any."""
    try:
        text = path.read_bytes()[-20_000:].decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
    errors = [match[1] for line in lines if (match := re.search(r"(?:^|\] *)((?:error|ended): .*)", line))]
    rest = [line for line in lines if not re.search(r"\d%\|", line)]  # of a progress bar
    return (errors or rest or [""])[-1]


def _start(job: Job, threads: int, gpu: str | None) -> subprocess.Popen:
    # A process of an earlier start may be saving itself there.
    with contextlib.suppress(SettingsError):
        if (job.folder / ".lock").is_file():
            with folder_lock(job.folder, PATIENCE):
                pass
    env = {"OMP_NUM_THREADS": str(threads)} | os.environ | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})
    job.folder.mkdir(parents=True, exist_ok=True)
    job.output.unlink(missing_ok=True)  # were it a link, what it points to would be written
    with job.output.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "genolm", "finetune", str(job.recipe)],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is ours to hand on
            preexec_fn=_stop_with_parent if sys.platform == "linux" else None,
        )


def _stop_with_parent() -> None:
    """Ask the system to send SIGTERM when the parent has ended. Source: prctl(2), PR_SET_PDEATHSIG."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@contextmanager
def _all_ended(running: dict[int, tuple[Job, subprocess.Popen, float]]) -> Iterator[None]:
    """At the end ask processes to save and stop, and wait for them; those that do not are ended."""
    try:
        yield
    finally:
        processes = [process for _, process, _ in running.values()]
        try:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(PATIENCE)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            for process in processes:
                process.kill()
                process.wait()


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Treat the signals of schedulers as Ctrl-C."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
