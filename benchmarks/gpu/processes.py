"""Commands of genolm as processes, and what their run folders hold."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch
from harness import DATA, DRY, RECIPES, ROOT, model_block


def start(words, log, **env):
    """Start `genolm …` in a process group of its own."""
    environment = os.environ | {k: str(v) for k, v in env.items()}
    with open(log, "ab") as out:
        command = [sys.executable, "-m", "genolm", *map(str, words)]
        return subprocess.Popen(
            command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=environment
        )


def finish(process, seconds):
    """Wait for a process; end it and its children where it takes too long."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        end_all(process)
        return "too slow"


def end_all(process):
    """End a process and all its children: a launcher's ranks are in process groups of their own."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        for one in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_words(path, num=400):
    text = Path(path).read_text(errors="replace").replace("\r", "\n") if Path(path).is_file() else ""
    lines = [
        line
        for line in text.splitlines()
        if line.strip() and "it/s" not in line and "step/s" not in line and "s/step" not in line
    ]
    return " | ".join(lines[-6:])[-num:]


def log_rows(run_dir):
    path = Path(run_dir) / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.is_file() else []


def losses(run_dir):
    return {row["step"]: row["loss"] for row in log_rows(run_dir) if "loss" in row}


def weights_digest(run_dir):
    """Return a hash of the weights that a run saved."""
    path = Path(run_dir) / "checkpoint" / "model.safetensors"
    if not path.is_file():
        return None
    from safetensors.torch import load_file

    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def recipe_words(size, objective, run_dir, **changes):
    """Return the arguments of `genolm pretrain` on the simulated genome; tiny in a dry run."""
    genome = DATA / "genome.fa"
    words = ["pretrain", RECIPES / f"{size}-{objective}.yaml", f"data.fasta={genome}", f"run_dir={run_dir}"]
    settings = {"training.logging_steps": 1, "training.warmup_steps": 10, "evaluation.max_bp": 2000 if DRY else 40_000}
    if DRY:
        block = model_block(size, objective)
        own = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "filter_groups")
        settings |= {f"model.{key}": block[key] for key in (*own, "ssm_head_dim", "ssm_state_size", "ssm_chunk_size")}
        settings |= {"data.window_bp": 128, "training.use_cpu": "true"}
    return words + [f"{key}={value}" for key, value in (settings | changes).items()]
