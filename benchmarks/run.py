"""Every comparison, one after the other, into benchmarks/RESULTS.md: python benchmarks/run.py [--genome FILE ...].

Each row is a script of this folder that prints its own table; the file records its aim, command, output,
machine and versions. A row that fails is recorded, and the others still run. Install other software
with `pip install -r benchmarks/requirements.txt`; otherwise its lines are missing. --gpu takes
the rows that need a GPU, into RESULTS-gpu.md; gpu/check.py compares a GPU's results with the CPU's.

    python benchmarks/run.py --genome ecoli.fna.gz yeast.fa.gz:chrIV     # held out: the last tenth; chrIV
    python benchmarks/run.py --only bpe batches
"""

import argparse
import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = "torch transformers tokenizers accelerate datasets deepspeed peft numpy pysam".split()
PACKAGES += "pyfaidx rustbpe sentencepiece".split()  # peers


@dataclass(frozen=True)
class Row:
    """A comparison: what it is called, what it should reach, and the words after `python benchmarks/`.

    `{genome}` stands for the first genome; a row with `{held_out}` is run for each, with what is held out of it.
    `reason` says what keeps a figure from its aim.
    """

    title: str
    aim: str
    command: str
    reason: str = ""


ROWS = {
    "batches": Row(
        "FASTA to masked batches, one core",
        "30 times pyfaidx with `tokenizers`, 50 times HyenaDNA's loader, 30 times `tokenizers` on bases and 6-mers",
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
        "training_step.py --sizes 5 25 --windows 512 4096 --rounds 5",
        "At equal parameters all models do the same matrix products, which take a third of a step on a CPU with AMX; "
        "the rest is memory traffic, of which attention over 512 bases is a small part. At equal loss the result "
        "differs: small-causal reaches after 2 M bases of E. coli what Llama reaches after 10 M (quality.py).",
    ),
    "trainer": Row("The trainer against a bare loop", "0.97 of its speed or more", "step_overhead.py"),
    "profiles": Row(
        "Two processes: DDP, ZeRO, FSDP2", "memory and speed of each; losses equal to 1e-4", "profile_cost.py"
    ),
    "lora": Row(
        "LoRA against full fine-tuning and PEFT by hand",
        "the step time of PEFT by hand, at most 60 % of full fine-tuning's memory",
        "lora_step.py --rows 2 --steps 5 --rounds 5",
    ),
    "scoring": Row(
        "Variants compared with a straightforward scorer",
        "straight: 4 times on dense, 2 times on isolated single bases, masked and causal, level on indels at least; "
        "GPN's protocol: 3 times on dense, level on isolated ones; scores within 1e-3",
        "scoring.py --sites 64 --rounds 5",
        "A causal model must read the bases after a variant once for REF and once for each ALT. By sharing rows "
        "alone, an exact scorer is at most 2.4 times as fast on dense variants, 4 times where windows are shared "
        "(dense-64), and 1.33 times on isolated ones; the rest comes from skipped layers.",
    ),
    "start": Row(
        "From the command to the first step",
        "at most half the time of transformers' example script and of a plain scoring script",
        "start_time.py --rounds 5",
        "Both sides import torch and transformers' modelling code, which takes two thirds of the time. For one "
        "variant genolm also draws a histogram of the scores.",
    ),
    "bits": Row(
        "Bits per base after ten minutes on one core",
        "best of all, and below the best single Markov order",
        "quality.py {held_out} --models small llama small-masked gpn modernbert bert-6mer --seeds 0 --minutes 10 "
        "--jobs 6",
        "The mixture of Markov orders counts the whole genome in seconds and memorises repeats of up to 16 bases; in "
        "ten minutes on one core a model sees a quarter of yeast once. Masked bits are not a code length: compare "
        "them only with each other.",
    ),
}


GPU_ROWS = {
    "mfu": Row(
        "Model FLOPs utilization",
        "45 % at 110 M parameters, 55 % at 350 M",
        "mfu.py",
    ),
    "mixers": Row("Mixers compared with attention", "linear in the length", "mixers.py --device cuda"),
    "scoring-small": Row(
        "Variants a second, small",
        "compared with 406 per second of a 1 B model at 256 bp on a GH200",
        "scoring.py --device cuda --bf16 --sites 512 --window 512 2048 8192 --recipe small",
    ),
    "scoring-base": Row(
        "Variants a second, base",
        "compared with 406 per second of a 1 B model at 256 bp on a GH200",
        "scoring.py --device cuda --bf16 --sites 512 --window 512 2048 8192 --recipe base",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genome", nargs="+", default=[], help="FASTA, plain or gzip, and :CONTIG to hold out")
    parser.add_argument("--gpu", action="store_true", help="the rows of a GPU")
    parser.add_argument(
        "--only", nargs="+", choices=[*ROWS, *GPU_ROWS], help="these rows; the others stay as they were"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = GPU_ROWS if options.gpu else ROWS
    out = options.out or HERE / ("RESULTS-gpu.md" if options.gpu else "RESULTS.md")
    for name in options.only or ():
        if name not in rows:
            parser.error(f"--only {name}: that row {'needs no GPU; leave out' if options.gpu else 'needs'} --gpu")
    sections_by_row = sections(out, rows)
    for name in [name for name in rows if name in (options.only or rows)]:
        row = rows[name]
        outputs, began = [], time.perf_counter()
        for words in commands(row, options.genome):
            shown = shlex.join(Path(word).name if Path(word).is_file() else word for word in words)
            print(f"{row.title}: python benchmarks/{shown}", flush=True)
            outputs.append(f"$ python benchmarks/{shown}\n{output_of(words)}")
        minutes = (time.perf_counter() - began) / 60
        text = "\n\n".join(outputs)
        sections_by_row[name] = (
            f"## {row.title}\n\nAim: {row.aim}. Took {minutes:.1f} minutes; {versions(options.gpu)}\n\n"
            f"```text\n{text}\n```\n" + (f"\n{row.reason}\n" if row.reason else "")
        )
        # Written after each row: a run that is stopped leaves what it has measured.
        out.write_text(
            "# Measured side by side\n\n" + "\n".join(sections_by_row[key] for key in rows if key in sections_by_row)
        )


def output_of(words: list[str]) -> str:
    """Run a script of this folder; print what it prints as it comes, and return it, or how it failed."""
    command, lines = [sys.executable, "-u", str(HERE / words[0]), *words[1:]], []
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line)
        errors.seek(0)
        if process.returncode:
            lines.append(f"failed: {errors.read().strip()[-1500:]}")
            print(lines[-1], flush=True)
    return "".join(lines).rstrip()


def commands(row: Row, genomes: list[str]) -> list[list[str]]:
    """Return the words of each run of a row: one, or one a genome."""
    words_of_runs = []
    for given in genomes or [""]:
        path, _, contigs = given.partition(":")
        genome = f"--fasta {shlex.quote(path)}" if path else ""
        held_out = f"{genome} --test-contigs {shlex.quote(contigs)}" if contigs else genome
        words_of_runs.append(shlex.split(row.command.format(genome=genome, held_out=held_out)))
    return words_of_runs if "{held_out}" in row.command else words_of_runs[:1]


def sections(path: Path, rows: dict[str, Row]) -> dict[str, str]:
    """Return the rows that an earlier run has written."""
    if not path.is_file():
        return {}
    parts = {part.splitlines()[0]: f"## {part}" for part in path.read_text().split("\n## ")[1:]}
    kept = {name: parts[row.title] for name, row in rows.items() if row.title in parts}
    return {name: part.rstrip() + "\n" for name, part in kept.items()}


def versions(gpu: bool) -> str:
    """Return date, machine and versions, in one line."""
    model = next((line.split(":")[1].strip() for line in cpu_lines() if line.startswith("model name")), "unknown CPU")
    packages = []
    for name in PACKAGES:
        try:
            packages.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    today = datetime.datetime.now(datetime.UTC).date()
    where = f"{os.cpu_count()} cores of {model}"
    if gpu:
        import torch

        where = f"{torch.cuda.get_device_name()}, {where}"
    return f"{today}, {where}, Python {platform.python_version()}, {', '.join(packages)}."


def cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


if __name__ == "__main__":
    main()
