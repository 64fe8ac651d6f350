"""Bits per base at equal parameters and equal bases: python benchmarks/quality.py --fasta ecoli.fna.gz.

Models of about 5 M parameters are trained by genolm's own code on one genome, and measured over all that is held out:
the last tenth, or the contigs of --test-contigs. A run has one thread, and --jobs of them go on at a time; CPU time in
training is what one quiet core would take. A run that is finished is not repeated; one that was stopped goes on.

    python benchmarks/quality.py --fasta ecoli.fna.gz --models small llama --seeds 0 1 --bases 10e6 --jobs 3
    python benchmarks/quality.py --fasta yeast.fa.gz --test-contigs chrIV --models small-masked modernbert bert-6mer gpn
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

RECIPES = Path(__file__).parents[1] / "recipes"
ROWS = r"(tables\.\d+|tokens|embed_tokens|tok_embeddings|word_embeddings|position_embeddings)\.weight$"
"""Names of parameters that are looked up, row by row."""


@dataclass(frozen=True)
class Entry:
    """A recipe, and what is changed in it."""

    recipe: str
    changes: list[str] = field(default_factory=list)
    window_bp: int = 512
    batch: int = 4
    masked: bool = False


# All have the training block of the quickstart recipes, whose learning rate and initial deviation were tuned for Llama;
# masked peers the best rate of 5e-4, 1.5e-3 and 3e-3 after half a million bases of E. coli.
PEER_RATE = "training.learning_rate=5e-4"
ENTRIES = {
    "small": Entry("genolm/small-causal.yaml"),
    "small-tables": Entry(
        "genolm/small-causal.yaml",
        [
            "model.hidden_size=192",
            "model.intermediate_size=512",
            "model.num_attention_heads=3",
            "model.kmer_embeddings=[2, 4, 6, 8]",
            "model.kmer_embedding_size=32",
        ],
    ),
    "llama": Entry("quickstart/causal.yaml", ["model.num_hidden_layers=6"]),
    "small-masked": Entry("genolm/small-masked.yaml", masked=True),
    "modernbert": Entry(
        "quickstart/masked.yaml",
        [PEER_RATE, "model.num_hidden_layers=6", "model.intermediate_size=704"],
        masked=True,
    ),
    "bert-6mer": Entry(
        "quickstart/masked.yaml",
        [
            PEER_RATE,
            "tokenizer=kmer6",
            "model={architecture: bert, hidden_size: 256, intermediate_size: 1024, num_hidden_layers: 5, "
            "num_attention_heads: 4, initializer_range: 0.06}",
        ],
        window_bp=1024,
        batch=2,
        masked=True,
    ),
    "gpn": Entry(
        "quickstart/masked.yaml",
        [
            PEER_RATE,
            "model={architecture: genolm, mixers: [convolution], hidden_size: 192, intermediate_size: 768, "
            "num_hidden_layers: 9, mlp: gelu, norm: layernorm, bias: true, convolution_first_size: 9, "
            "initializer_range: 0.02}",
        ],
        masked=True,
    ),
}


def command_of(name: str, seed: int, asked: argparse.Namespace) -> tuple[Path, list[str]]:
    """Return the run folder and the words of `--one`."""
    entry = ENTRIES[name]
    run_dir = asked.out / f"{asked.fasta.name.split('.')[0]}-{name}-{asked.bases:.0f}-seed{seed}"
    held_out = f"{{contigs: [{', '.join(asked.test_contigs)}]}}" if asked.test_contigs else "{fraction: 0.1}"
    steps = max(1, round(asked.bases / (entry.window_bp * entry.batch)))
    changes = [f"run_dir={run_dir}", f"seed={seed}", f"data.fasta={asked.fasta.resolve()}", f"data.test={held_out}"]
    changes += [
        "data.valid={fraction: 0}",
        "training.warmup_steps=50",
        f"data.window_bp={entry.window_bp}",
        f"training.max_steps={steps}",
    ]
    changes += [f"training.per_device_train_batch_size={entry.batch}", *entry.changes]
    if asked.quick:
        changes += ["evaluation.max_bp=4096", "evaluation.markov_orders=[2, 4]"]
    return run_dir, [str(RECIPES / entry.recipe), *changes]


def run_one(recipe: str, changes: list[str]) -> None:
    """Train in this process on one thread, and note the CPU time of training alone."""
    import torch

    from genolm.commands import pretrain
    from genolm.recipe import PretrainRecipe
    from genolm.settings import load_settings
    from genolm.training import run

    torch.set_num_threads(1)
    settings = load_settings(PretrainRecipe, recipe, changes)
    train, note = run.train, Path(settings.run_dir) / "cpu.json"
    before = json.loads(note.read_text())["training_seconds"] if note.is_file() else 0.0

    def timed(*args):
        start = time.process_time()
        try:
            return train(*args)
        finally:
            note.write_text(json.dumps({"training_seconds": before + time.process_time() - start}))

    run.train = timed
    pretrain.run(settings)


def start(name: str, seed: int, asked: argparse.Namespace) -> None:
    """Run one model in a process of its own, unless it is there."""
    run_dir, words = command_of(name, seed, asked)
    if (run_dir / "metrics.json").is_file():
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(RECIPES.parent)}
    with (run_dir / "output.txt").open("w") as output:
        done = subprocess.run([sys.executable, __file__, "--one", *words], env=env, stdout=output, stderr=output)
    if done.returncode:
        print(f"{run_dir} failed: {(run_dir / 'output.txt').read_text()[-1000:]}", file=sys.stderr)


def row_of(name: str, seed: int, asked: argparse.Namespace) -> tuple[str, dict[str, float]] | None:
    """Return a line of the table, and the Markov ladder on the same bases."""
    run_dir, _ = command_of(name, seed, asked)
    if not (run_dir / "metrics.json").is_file():
        return None
    entry, metrics = ENTRIES[name], json.loads((run_dir / "metrics.json").read_text())
    test = metrics["test"]
    bits = test["masked_bits_per_base" if entry.masked else "bits_per_base"]
    interval = "" if test["interval"] is None else " ({:.4f} … {:.4f})".format(*test["interval"])
    seconds = json.loads((run_dir / "cpu.json").read_text())["training_seconds"]
    total, looked_up = parameters(run_dir / "checkpoint")
    cells = [name, seed, f"{total / 1e6:.2f} M", f"{(total - looked_up) / 1e6:.2f} M", f"{asked.bases / 1e6:g} M"]
    cells += [f"{seconds / 60:.1f}", f"{bits:.4f}{interval}"]
    return "| " + " | ".join(map(str, cells)) + " |", metrics.get("markov", {})


def parameters(checkpoint: Path) -> tuple[int, int]:
    """Return how many parameters a model has, and how many of them are rows that are looked up."""
    from math import prod

    from safetensors import safe_open

    with safe_open(checkpoint / "model.safetensors", "pt") as file:
        sizes = {name: prod(file.get_slice(name).get_shape()) for name in file.keys()}
    return sum(sizes.values()), sum(n for name, n in sizes.items() if re.search(ROWS, name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fasta", type=Path, help="the genome")
    parser.add_argument("--test-contigs", nargs="*", default=[], help="held out; the last tenth where none is named")
    parser.add_argument("--models", nargs="+", default=["small", "llama"], choices=list(ENTRIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--bases", type=float, default=10e6, help="seen in training, repeats counted")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    parser.add_argument("--quick", action="store_true", help="two steps and a few bases, to see that all of it runs")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        return run_one(asked.one[0], asked.one[1:])
    if asked.fasta is None:
        parser.error("--fasta is not given")
    if asked.quick:
        asked.bases = 8192
    runs = [(name, seed) for seed in asked.seeds for name in asked.models]
    with ThreadPoolExecutor(asked.jobs) as pool:
        list(pool.map(lambda run: start(*run, asked), runs))
    masked = {ENTRIES[name].masked for name in asked.models} == {True}
    print(f"| model | seed | parameters | without tables | bases | CPU min | {'masked ' * masked}bits per base |")
    print("|---|---|---|---|---|---|---|")
    ladder: dict[str, float] = {}
    for name, seed in sorted(runs, key=lambda run: asked.models.index(run[0])):
        row = row_of(name, seed, asked)
        if row is not None:
            ladder = row[1] or ladder
            print(row[0])
    if ladder and not masked:
        order = min(ladder, key=lambda key: ladder[key])
        print(f"| best Markov order, {order} | | | | | | {ladder[order]:.4f} |")


if __name__ == "__main__":
    main()
