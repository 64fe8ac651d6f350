"""Every comparison, one after the other, into benchmarks/RESULTS.md: python benchmarks/run.py [--genome FILE ...].

Each row is a script of this folder that prints its own table; here stand its aim, its command and what it printed,
under the machine and the versions. A row that fails is written down as such, and the others go on. Peers that are no
part of genolm come with `pip install -r benchmarks/requirements.txt`; without them their lines are missing. --gpu takes
the rows that ask for a GPU, into RESULTS-gpu.md.

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
        "training_step.py --sizes 5 25 --windows 512 4096 --rounds 5",
        "At equal parameters the products of matrices are those of the others, and a CPU with AMX does them in a third "
        "of a step; the rest is memory that is read and written, of which attention over 512 bases is little. To equal "
        "loss it is another matter: small-causal is after 2 M bases of E. coli where Llama is after 10 M (quality.py).",
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
        "Variants against a straight scorer",
        "straight: 4 times on dense, 2 times on isolated single bases, masked and causal, level on indels at least; "
        "GPN's protocol: 3 times on dense, level on isolated ones; scores within 1e-3",
        "scoring.py --sites 64 --rounds 5",
        "A causal model reads what follows a variant once for REF and once for each ALT. By rows alone no exact scorer "
        "is more than 2.4 times as fast on dense variants, 4 times where their windows are shared (dense-64), and 1.33 "
        "times on isolated ones; the rest is layers that are not run.",
    ),
    "start": Row(
        "From the command to the first step",
        "at most half the time of transformers' example script and of a plain scoring script",
        "start_time.py --rounds 5",
        "A step and a score need torch and transformers' modelling code, on either side: their import alone takes two "
        "thirds of the time. What genolm does besides for one variant is a histogram of the scores.",
    ),
    "bits": Row(
        "Bits per base after ten minutes of a core",
        "best of all, and below the best single Markov order",
        "quality.py {held_out} --models small llama small-masked gpn modernbert bert-6mer --seeds 0 --minutes 10 "
        "--jobs 6",
        "The mixture of Markov orders counts all of the genome in seconds and remembers its repeats, to 16 bases; in "
        "ten minutes of a core a model sees a quarter of yeast once. Masked bits are no code length: they compare with "
        "each other alone.",
    ),
}


GPU_ROWS = {
    "mfu": Row(
        "Model FLOPs utilization",
        "45 % at 110 M parameters, 55 % at 350 M",
        "mfu.py",
    ),
    "mixers": Row("Mixers beside attention", "linear in the length", "mixers.py --device cuda"),
    "scoring-small": Row(
        "Variants a second, small",
        "beside 406 a second of a 1 B model at 256 bp on a GH200",
        "scoring.py --device cuda --bf16 --sites 512 --window 512 2048 8192 --recipe small",
    ),
    "scoring-base": Row(
        "Variants a second, base",
        "beside 406 a second of a 1 B model at 256 bp on a GH200",
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
            parser.error(f"--only {name}: that row {'asks for no GPU; leave out' if options.gpu else 'needs'} --gpu")
    held = sections(out, rows)
    for name in [name for name in rows if name in (options.only or rows)]:
        row = rows[name]
        told, began = [], time.perf_counter()
        for words in commands(row, options.genome):
            shown = shlex.join(Path(word).name if Path(word).is_file() else word for word in words)
            print(f"{row.title}: python benchmarks/{shown}", flush=True)
            told.append(f"$ python benchmarks/{shown}\n{output_of(words)}")
        minutes = (time.perf_counter() - began) / 60
        text = "\n\n".join(told)
        held[name] = (
            f"## {row.title}\n\nAim: {row.aim}. Took {minutes:.1f} minutes; {versions(options.gpu)}\n\n"
            f"```text\n{text}\n```\n" + (f"\n{row.reason}\n" if row.reason else "")
        )
        # Written after each row: a run that is stopped leaves what it has measured.
        out.write_text("# Measured side by side\n\n" + "\n".join(held[key] for key in rows if key in held))


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
    found = []
    for given in genomes or [""]:
        path, _, contigs = given.partition(":")
        genome = f"--fasta {shlex.quote(path)}" if path else ""
        held_out = f"{genome} --test-contigs {shlex.quote(contigs)}" if contigs else genome
        found.append(shlex.split(row.command.format(genome=genome, held_out=held_out)))
    return found if "{held_out}" in row.command else found[:1]


def sections(path: Path, rows: dict[str, Row]) -> dict[str, str]:
    """Return the rows that an earlier run has written."""
    if not path.is_file():
        return {}
    parts = {part.splitlines()[0]: f"## {part}" for part in path.read_text().split("\n## ")[1:]}
    found = {name: parts[row.title] for name, row in rows.items() if row.title in parts}
    return {name: part.rstrip() + "\n" for name, part in found.items()}


def versions(gpu: bool) -> str:
    """Return date, machine and versions, in one line."""
    model = next((line.split(":")[1].strip() for line in cpu_lines() if line.startswith("model name")), "unknown CPU")
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    today = datetime.datetime.now(datetime.UTC).date()
    where = f"{os.cpu_count()} cores of {model}"
    if gpu:
        import torch

        where = f"{torch.cuda.get_device_name()}, {where}"
    return f"{today}, {where}, Python {platform.python_version()}, {', '.join(found)}."


def cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


if __name__ == "__main__":
    main()
