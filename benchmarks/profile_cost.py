"""Memory, speed and losses of every distributed profile, two processes on CPUs: python benchmarks/profile_cost.py.

One process with the same global batch is run first; a tiny model measures the memory of Python and its libraries.
In float32 the losses of all steps must be the one process's, which ends with an error where one is 1e-3 away.
Speeds come from runs one after the other, the median over steps: read them as ratios, and run it twice.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from genolm.genome.simulate import simulate, write_fasta

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart" / "causal.yaml"
PROFILES = ["cpu-ddp", "cpu-zero1", "cpu-zero2", "cpu-zero3", "cpu-zero3-offload", "cpu-fsdp2"]
MOST = 1e-3
"""How far a loss may be from the one process's, in nats."""


def run(
    folder: Path, name: str, steps: int, hidden: int, layers: int, batch: int, launch: list[str]
) -> tuple[float, float, list[float]]:
    """Return the peak GiB of a rank, tokens per second, and the loss of each step."""
    command = [sys.executable, "-m", "genolm", "pretrain", str(RECIPE), f"data.fasta={folder / 'g.fa'}"]
    command += [f"run_dir={folder / name}", f"training.max_steps={steps}", "training.logging_steps=1"]
    command += [f"training.per_device_train_batch_size={batch}", "training.bf16=false", "training.warmup_steps=0"]
    command += [f"model.hidden_size={hidden}", f"model.intermediate_size={hidden * 4}"]
    command += [f"model.num_hidden_layers={layers}", "evaluation.every_steps=0", "evaluation.max_bp=2000"]
    done = subprocess.run([*command, "evaluation.markov_orders=[1]", *launch], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr[-2000:]}")
    size, unit = re.search(r"memory +([0-9.]+) (GiB|MiB)", done.stderr).groups()
    rows = [json.loads(line) for line in (folder / name / "log.jsonl").read_text().splitlines()]
    logged = [row for row in rows if "tokens_per_second" in row]
    speed = statistics.median(row["tokens_per_second"] for row in logged[1:])
    return float(size) / (1 if unit == "GiB" else 1024), speed, [row["loss"] for row in logged]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_fasta(folder / "g.fa", simulate(1_000_000).records)
        libraries, _, _ = run(folder, "tiny", 2, 64, 1, 2, [])
        size = (options.steps, options.hidden, options.layers)
        one, speed, losses = run(folder, "one", *size, 4, [])
        parameters = json.loads((folder / "one" / "checkpoint" / "genolm.json").read_text())["num_parameters"]
        print(f"{parameters:,} parameters in float32; Python and its libraries hold {libraries:.2f} GiB of each rank")
        print(f"losses of {len(losses)} steps in float32, {losses[0]:.4f} to {losses[-1]:.4f} in one process")
        print(f"{'one process':<20}{one:6.2f} GiB   1.00 of the speed")
        apart = {}
        for profile in PROFILES:
            gib, tokens_per_second, others = run(folder, profile, *size, 2, ["--launch", profile])
            apart[profile] = max(abs(a - b) for a, b in zip(losses, others, strict=True))
            print(f"{profile:<20}{gib:6.2f} GiB   {tokens_per_second / speed:.2f} of the speed   ", end="")
            print(f"losses at most {apart[profile]:.1e} away", flush=True)
        wrong = [profile for profile in PROFILES if not apart[profile] <= MOST]
        if wrong:
            sys.exit(f"losses are more than {MOST} away from one process's: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
