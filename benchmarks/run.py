"""Every comparison, one after the other, into benchmarks/RESULTS.md: python benchmarks/run.py [--genome FILE].

Each row is a script of this folder that prints its own table; here stand its aim, its command and what it printed,
under the machine and the versions. A row that fails is written down as such, and the others go on. Peers that are no
part of genolm come with `pip install -r benchmarks/requirements.txt`; without them their lines are missing.
"""

import argparse
import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
PACKAGES = "torch transformers tokenizers accelerate deepspeed peft numpy pyfaidx rustbpe sentencepiece".split()


@dataclass(frozen=True)
class Row:
    """A comparison: what it is called, what it should reach, and the words after `python benchmarks/`."""

    title: str
    aim: str
    command: str


ROWS = {
    "batches": Row(
        "FASTA to masked batches, one core",
        "30 times pyfaidx with `tokenizers`, 50 times HyenaDNA's way, 30 times `tokenizers` on letters and on 6-mers",
        "batch_speed.py {genome}",
    ),
    "bpe": Row(
        "Learning byte pairs",
        "3 times `tokenizers` at half its memory, level with rustbpe; linear in one unbroken stretch",
        "bpe_speed.py {genome} --rounds 5",
    ),
    "training": Row(
        "A training step",
        "2.5 times the stock Trainer at its defaults, 1.15 times with bf16 and torch.compile",
        "training_step.py --rounds 5",
    ),
    "trainer": Row("The trainer against a bare loop", "0.97 of its speed or more", "step_overhead.py"),
    "profiles": Row(
        "Two processes: DDP, ZeRO, FSDP2", "memory and speed of each; losses equal to 1e-4", "profile_cost.py"
    ),
    "lora": Row(
        "LoRA against full fine-tuning and PEFT by hand",
        "the step time of PEFT by hand, at most 60 % of full fine-tuning's memory",
        "lora_step.py --rounds 5",
    ),
    "scoring": Row(
        "Variants against a straight scorer",
        "4 times on dense, 2 times on isolated single bases, masked and causal",
        "scoring.py --sites 64 --rounds 5",
    ),
    "start": Row("From the command to the first step", "seconds", "start_time.py"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genome", help="FASTA, plain or gzip; else simulated ones")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), help="these rows; the others stay as they were")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    genome = f"--fasta {shlex.quote(options.genome)}" if options.genome else ""
    held = sections(options.out)
    for name in options.only or ROWS:
        row = ROWS[name]
        words = shlex.split(row.command.format(genome=genome))
        print(f"{row.title}: python benchmarks/{shlex.join(words)}", flush=True)
        began = time.perf_counter()
        done = subprocess.run([sys.executable, str(HERE / words[0]), *words[1:]], text=True, capture_output=True)
        minutes = (time.perf_counter() - began) / 60
        told = done.stdout.rstrip() if done.returncode == 0 else f"failed: {done.stderr.strip()[-1500:]}"
        print(told, flush=True)
        shown = row.command.format(genome="--fasta GENOME" if genome else "").strip()
        held[name] = (
            f"## {row.title}\n\nAim: {row.aim}.\n\n`python benchmarks/{shown}`, {minutes:.1f} minutes, {versions()}\n\n"
            f"```text\n{told}\n```\n"
        )
        # Written after each row: a run that is stopped leaves what it has measured.
        options.out.write_text("# Measured side by side\n\n" + "\n".join(held[key] for key in ROWS if key in held))


def sections(path: Path) -> dict[str, str]:
    """Return the rows that an earlier run has written."""
    if not path.is_file():
        return {}
    parts = {part.splitlines()[0]: f"## {part}" for part in path.read_text().split("\n## ")[1:]}
    found = {name: parts[row.title] for name, row in ROWS.items() if row.title in parts}
    return {name: part.rstrip() + "\n" for name, part in found.items()}


def versions() -> str:
    """Return date, machine and versions, in one line."""
    model = next((line.split(":")[1].strip() for line in cpu_lines() if line.startswith("model name")), "unknown CPU")
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    today = datetime.datetime.now(datetime.UTC).date()
    return f"{today}, {os.cpu_count()} cores of {model}, Python {platform.python_version()}, {', '.join(found)}."


def cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


if __name__ == "__main__":
    main()
