"""The file `log.jsonl` of a run: one JSON object a line, made durable with each checkpoint and cut when resuming."""

import os
import sys
from pathlib import Path


def samples_per_step(args) -> int:
    """Return the global batch size: samples that one update consumes over all ranks."""
    return args.train_batch_size * args.gradient_accumulation_steps * args.world_size


def sync_log(path: Path) -> int:
    """Make a log durable and return its length in bytes; 0 where there is none."""
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path.stat().st_size


def rewind_log(path: Path, num_bytes: int) -> None:
    """Cut a log to its length at the resumed checkpoint: the run writes the rest again."""
    if not path.is_file():
        if num_bytes:
            print(f"note: {path} does not exist any more; the log starts anew", file=sys.stderr)
        return
    size = path.stat().st_size
    if size < num_bytes:
        print(f"note: {path} has {size:,} bytes, {num_bytes:,} were written; the log has a gap", file=sys.stderr)
        num_bytes = path.read_bytes().rfind(b"\n") + 1
    os.truncate(path, num_bytes)
