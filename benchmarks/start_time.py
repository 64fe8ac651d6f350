"""From the command to the first result, compared with scripts that do the same: python benchmarks/start_time.py.

    help              `genolm --help` and `genolm pretrain --help`; of transformers' example script all its options
    first step        from the command to the first training step on 12 Mb that an earlier run has prepared, or turned
                      into blocks of tokens: ModernBERT of the quickstart, 512 bases, batches of 8
    first run         the same with nothing prepared
    one variant       from the command to its end, for a VCF of one record: a prepared genome, or a FASTA with its
                      index; the scores are compared

The scripts are benchmarks/peers/example_mlm.py and one_variant.py, which say what they leave out. Commands alternate,
ours and theirs, each a process of its own, imports included; the median of their ratios, ours to theirs, counts.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pysam

from genolm.genome.simulate import write_fasta

HERE = Path(__file__).parent
RECIPE = HERE.parent / "recipes" / "quickstart" / "masked.yaml"
GENOLM = [sys.executable, "-m", "genolm"]
EXAMPLE = [sys.executable, str(HERE / "peers" / "example_mlm.py")]
PLAIN = [sys.executable, str(HERE / "peers" / "one_variant.py")]
FIRST_STEP = re.compile(rb"\| 0/1 \[")
"""The Trainer's bar before a first and only step; bars of `datasets` count other things."""
ALLOWED = 1e-3
"""Nats by which the scores may differ."""


def seconds(command: list[str], environment: dict[str, str], until: re.Pattern | None = None) -> tuple[float, str]:
    """Run a command to its end; return the time to the end, or until its stderr shows something, and its stdout."""
    began, errors, shown = time.perf_counter(), b"", None
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, env=os.environ | environment
    )
    assert process.stderr is not None and process.stdout is not None
    # What either of them writes to stdout here fits into a pipe.
    while chunk := process.stderr.read(256):
        errors += chunk
        if until and shown is None and until.search(errors):
            shown = time.perf_counter() - began
    output = process.stdout.read().decode()
    if process.wait() or (until and shown is None):
        sys.exit(f"{' '.join(command)}\n{output[-1000:]}\n{errors.decode()[-3000:]}")
    return shown or time.perf_counter() - began, output


def show(name: str, ours: list[float], theirs: list[float]) -> None:
    """Print a row: medians, and the median of the ratios of the rounds."""
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(f"{name:<34} {statistics.median(ours):>9.2f} {statistics.median(theirs):>9.2f} {ratio:>7.2f}", flush=True)


def helps(rounds: int, environment: dict[str, str]) -> None:
    """Measure the time of --help."""
    times: dict[str, list[float]] = {"genolm --help": [], "genolm pretrain --help": [], "example": []}
    for _ in range(rounds):
        for name, series in times.items():
            command = [*EXAMPLE, "--help"] if name == "example" else [*GENOLM, *name.split()[1:]]
            series.append(seconds(command, environment)[0])
    for name in list(times)[:2]:
        show(name, times[name], times["example"])


def first_steps(folder: Path, rounds: int, environment: dict[str, str]) -> None:
    """Measure the way to a first step, with nothing prepared and with everything."""
    times: dict[str, list[tuple[float, float]]] = {"first run": [], "first step": []}
    for number in range(rounds):
        for name, series in times.items():
            if name == "first run":
                shutil.rmtree(folder / "datasets", ignore_errors=True)
            run = [
                "pretrain",
                str(RECIPE),
                f"data.fasta={folder}/g.fa",
                f"run_dir={folder}/run",
                "training.max_steps=1",
            ]
            run += ["evaluation.max_bp=2000", "evaluation.markov_orders=[]"]
            if name == "first run":
                shutil.rmtree(folder / "run", ignore_errors=True)
            else:  # what is prepared stays, and the model goes
                for made in ("checkpoint", "checkpoints"):
                    shutil.rmtree(folder / "run" / made, ignore_errors=True)
            ours = seconds([*GENOLM, *run], environment, FIRST_STEP)[0]
            model = str(folder / "run" / "checkpoint")
            example = ["--config_name", model, "--tokenizer_name", model, "--train_file", str(folder / "g.txt")]
            example += ["--output_dir", str(folder / f"example{number}"), "--do_train", "--max_steps", "1"]
            example += ["--per_device_train_batch_size", "8", "--save_strategy", "no", "--report_to", "none"]
            series.append((ours, seconds([*EXAMPLE, *example], environment, FIRST_STEP)[0]))
    show("first step, prepared", *map(list, zip(*times["first step"], strict=True)))
    show("first step, first run", *map(list, zip(*times["first run"], strict=True)))


def first_variant(folder: Path, contig: str, rounds: int, environment: dict[str, str]) -> None:
    """Measure one variant, with the model and the genome of the last run."""
    pos = 1_000_000
    ref = contig[pos - 1]
    alt = "ACGT"["ACGT".index(ref) - 1]
    vcf, scored, model = folder / "one.vcf", folder / "scored.tsv", str(folder / "run" / "checkpoint")
    head = "##fileformat=VCFv4.2\n##contig=<ID=one>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    vcf.write_text(f"{head}one\t{pos}\t.\t{ref}\t{alt}\t.\t.\t.\n")
    pysam.faidx(str(folder / "g.fa"))
    score = ["score", str(vcf), "--fasta", str(folder / "run" / "genome"), "--model", model, "--out", str(scored)]
    times = []
    for _ in range(rounds):
        for path in folder.glob("scored.tsv*"):
            path.unlink()
        ours = seconds([*GENOLM, *score], environment)[0]
        theirs, output = seconds([*PLAIN, str(vcf), str(folder / "g.fa"), model], environment)
        times.append((ours, theirs))
        columns, values = (line.split("\t") for line in scored.read_text().splitlines() if not line.startswith("##"))
        series = float(dict(zip(columns, values, strict=True))["GENOLM_MASKED_LLR"])
        if not abs(series - float(output.split("\t")[2])) <= ALLOWED:
            sys.exit(f"genolm scores {series}, the script {output.strip()}: nothing is timed")
    show("one variant, scored", *map(list, zip(*times, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        letters = np.frombuffer(b"ACGT", dtype=np.uint8)[np.random.default_rng(0).integers(0, 4, 12_000_000)]
        write_fasta(folder / "g.fa", [("one", letters)])
        (folder / "g.txt").write_bytes(b"".join((folder / "g.fa").read_bytes().partition(b"\n")[2:]))
        environment = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "datasets")}
        print(f"{'seconds':<34} {'genolm':>9} {'script':>9} {'ratio':>7}")
        helps(options.rounds, environment)
        first_steps(folder, options.rounds, environment)
        first_variant(folder, letters.tobytes().decode(), options.rounds, environment)


if __name__ == "__main__":
    main()
