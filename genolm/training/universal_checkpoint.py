"""Convert a DeepSpeed checkpoint for another number of ranks, through its universal format.

    python -m genolm.training.universal_checkpoint CHECKPOINT FOLDER

ZeRO's optimizer states are sharded for the ranks that wrote them. DeepSpeed's converter merges them, a file for each
weight; an engine with `load_universal` shards them anew. It runs in a process of its own: a rank has a process group.
"""

import os
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import torch


def convert(checkpoint: Path) -> Path:
    """Write a folder beside a ZeRO checkpoint, from which any number of ranks can resume, and return it.

    Raises:
        ValueError: DeepSpeed's converter failed; with its last message.
    """
    folder = checkpoint.with_name(f"{checkpoint.name}.universal")
    shutil.rmtree(folder, ignore_errors=True)
    env = {key: value for key, value in os.environ.items() if key not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    command = [sys.executable, "-m", "genolm.training.universal_checkpoint", str(checkpoint), str(folder)]
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
