"""From the command to the first step on a prepared genome, and `genolm --help`: python benchmarks/start_time.py.

A 12 Mb genome is simulated and prepared first; what is timed is a second run, imports included.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from genolm.genome.simulate import write_fasta

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart" / "causal.yaml"


def first_step(arguments: list[str]) -> float:
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "genolm", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, bufsize=0
    )
    seen, seconds = b"", float("nan")
    assert process.stderr is not None
    while chunk := process.stderr.read(256):
        seen += chunk
        if b"| 0/" in seen and np.isnan(seconds):  # the bar of the first step
            seconds = time.perf_counter() - began
    assert process.wait() == 0, seen.decode()
    return seconds


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        letters = np.frombuffer(b"ACGT", dtype=np.uint8)[np.random.default_rng(0).integers(0, 4, 12_000_000)]
        write_fasta(f"{folder}/g.fa", [("one", letters)])
        run = ["pretrain", str(RECIPE), f"data.fasta={folder}/g.fa", f"run_dir={folder}/run", "training.max_steps=1"]
        run += ["evaluation.max_bp=2000", "evaluation.markov_orders=[]"]
        times = [first_step(run) for _ in range(4)]
        print(f"first run, genome prepared on the way: {times[0]:.2f} s to the first step")
        print(f"prepared: {np.median(times[1:]):.2f} s (median of {len(times) - 1})")
    helps = []
    for _ in range(7):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "genolm", "--help"], check=True, stdout=subprocess.DEVNULL)
        helps.append(time.perf_counter() - began)
    print(f"genolm --help: {np.median(helps):.3f} s")


if __name__ == "__main__":
    main()
