"""Real training runs in real processes, forked from a server that has imported everything once: 1 s a run, not 4."""

import functools
import hashlib
import json
import logging
import multiprocessing
import os
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["imported"])
TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def write_genome(folder: Path, length: int = 9000) -> Path:
    sequence = "".join(np.random.default_rng(0).choice(list("ACGTacgtN"), length))
    (folder / "g.fa").write_text(f">one\n{sequence}\n")
    return folder / "g.fa"


def write_recipe(folder: Path, architecture: str = "bert", name: str = "recipe", **training) -> Path:
    """A tiny model with dropout, small enough for hundreds of steps in a few seconds."""
    values = {
        "run_dir": str(folder / "run"),
        "data": {
            "fasta": str(folder / "g.fa"),
            "window_bp": 64,
            "test": {"fraction": 0.2},
            "valid": {"fraction": 0.1},
            "soft_masked_weight": 0.5,
        },
        "objective": {"kind": "masked" if architecture == "bert" else "causal"},
        "model": {"architecture": architecture, **TINY},
        "training": {
            "max_steps": 40,
            "logging_steps": 3,
            "bf16": False,
            "learning_rate": 1e-3,
            "save_steps": 10,
            "per_device_train_batch_size": 4,
            **training,
        },
        "evaluation": {"markov_orders": [1], "max_bp": 1000, "every_steps": 15, "valid_bp": 500},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def _write_to(out: str) -> None:
    """Send whatever this process prints to the end of a file."""
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", 1)


def _run_script(path: str, arguments: list[str], out: str) -> None:
    _write_to(out)
    sys.argv = [path, *arguments]
    sys.path.insert(0, str(Path(path).parent))
    try:
        runpy.run_path(path, run_name="__main__")
    finally:
        sys.stdout.flush()


def _child(arguments: list[str], out: str, env: dict[str, str], before: Callable | None) -> None:
    os.environ.update({"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"} | env)
    _write_to(out)
    if before is not None:
        before()
    from genolm.cli import main

    try:
        main(arguments)
    finally:
        sys.stdout.flush()


def _ensure_server() -> None:
    """Start the server where it finds what to import."""
    from multiprocessing import forkserver

    mine = {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)]), "LD_PRELOAD": killer()}
    before = {key: os.environ.get(key) for key in mine}
    os.environ.update(mine)
    try:
        forkserver.ensure_running()
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


@functools.cache
def killer() -> str:
    """The library of kill_at.c, compiled; empty where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return ""
    library = Path(tempfile.mkdtemp()) / "kill_at.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(ROOT / "tests" / "kill_at.c"), "-ldl"]
    subprocess.run(command, check=True)
    return str(library)


def fork(function: Callable, *arguments) -> BaseProcess:
    """Start a function in a process that has imported everything already."""
    _ensure_server()
    process = SERVER.Process(target=function, args=arguments)
    process.start()
    return process


def start(
    recipe: Path,
    *changes: str,
    ranks: int = 1,
    profile: str = "",
    before: Callable | None = None,
    command: str = "pretrain",
    **env: str,
):
    """Start a command in one process, or in one for each rank, and return the processes; output: `*.out`."""
    run_dir = next((c.partition("=")[2] for c in changes if c.startswith("run_dir=")), str(recipe.parent / "run"))
    processes = []
    shared = profile_env(profile, ranks) if profile else {}
    for rank in range(ranks):
        mine = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if profile else {}
        arguments = ([command, str(recipe), *changes], f"{run_dir}.{rank}.out", shared | mine | env, before)
        processes.append(fork(_child, *arguments))
    return processes


def verb(arguments: list[str], out: Path, timeout: float = 120, folder: Path | None = None, **env: str) -> int | None:
    """Run any verb in a folder, in a process of its own, without a terminal; its output goes to a file."""
    before = functools.partial(os.chdir, folder) if folder else None
    process = fork(_child, arguments, str(out), env, before)
    return finish([process], timeout)[0]


def script(path: Path, arguments: list[str], out: Path, timeout: float = 60) -> int | None:
    """Run a Python file to its end in a process of its own; its output goes to a file."""
    return finish([fork(_run_script, str(path), arguments, str(out))], timeout)[0]


def profile_env(profile: str, ranks: int) -> dict[str, str]:
    """What `accelerate launch` would put into the environment of each rank."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    from genolm.training.parallelism import parallelism_of

    logging.getLogger("accelerate.commands.launch").setLevel(logging.ERROR)
    path = ROOT / "recipes" / "accelerate" / f"{profile}.yaml"
    words = ["--config_file", str(path), "--num_processes", str(ranks), "-m", "genolm"]
    arguments, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    requested = parallelism_of(arguments)
    if arguments.use_deepspeed:
        arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        env = prepare_deepspeed_cmd_env(arguments)[1]
    else:
        env = prepare_multi_gpu_env(arguments)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {key: value for key, value in env.items() if os.environ.get(key) != value}
    env |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1"}
    return env | {
        "MASTER_PORT": str(port),
        "DS_ACCELERATOR": "cpu",
        "GENOLM_PARALLELISM": f"{ranks}:{requested.wrapper}",
    }


def finish(processes: list[BaseProcess], timeout: float = 120) -> list[int | None]:
    """Wait for all ranks and return their exit codes; -9 for SIGKILL."""
    end = time.monotonic() + timeout
    for process in processes:
        process.join(max(0.1, end - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        if process.exitcode is None:
            process.kill()
            process.join()
    return codes


def run(recipe: Path, *changes: str, timeout: float = 120, **options) -> list[int | None]:
    return finish(start(recipe, *changes, **options), timeout)


def losses(run_dir: Path) -> list[dict]:
    """The log without what a clock decides."""
    rows = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.endswith("_second") and "runtime" not in k} for row in rows]


def weights(run_dir: Path) -> str:
    return hashlib.sha256((run_dir / "checkpoint" / "model.safetensors").read_bytes()).hexdigest()


def output(run_dir: Path) -> str:
    return "".join(path.read_text() for path in sorted(run_dir.parent.glob(f"{run_dir.name}.*.out")))
