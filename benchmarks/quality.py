"""Bits per base at equal parameters, and equal bases or equal time: python benchmarks/quality.py --fasta ecoli.fna.gz.

Models of about 5 M parameters are trained by genolm's own code on one genome, and measured over all that is held out:
the last tenth, or the contigs of --test-contigs. A run has one thread, and --jobs of them run at a time; CPU time in
training is what one quiet core would take. A finished run is not repeated; a stopped one resumes.
With --minutes a short run of each model measures how many bases it sees in that time, and its schedule ends there. The
Markov models, orders 0 to 16 and their mixture, are fitted to the same training sequence.

    python benchmarks/quality.py --fasta ecoli.fna.gz --models small llama --seeds 0 1 --bases 10e6 --jobs 3
    python benchmarks/quality.py --fasta yeast.fa.gz --test-contigs chrIV --models small-masked modernbert bert-6mer gpn
    python benchmarks/quality.py --fasta ecoli.fna.gz --models small llama gpn --seeds 0 --minutes 10 --jobs 4
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

from genolm.genome.simulate import simulate, write_fasta

RECIPES = Path(__file__).parents[1] / "recipes"
ROWS = r"(tables\.\d+|tokens|embed_tokens|tok_embeddings|word_embeddings|position_embeddings)\.weight$"
"""Names of parameters that are looked up, row by row."""
PROBE_STEPS = 60


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


def run_folder(name: str, seed: int, options: argparse.Namespace) -> Path:
    much = f"{options.minutes:g}min" if options.minutes else f"{options.bases:.0f}"
    return options.out / f"{options.fasta.name.split('.')[0]}-{name}-{much}-seed{seed}"


def command_of(name: str, seed: int, options: argparse.Namespace, run_dir: Path, bases: float) -> list[str]:
    """Return the words of `--one`."""
    entry = ENTRIES[name]
    held_out = f"{{contigs: [{', '.join(options.test_contigs)}]}}" if options.test_contigs else "{fraction: 0.1}"
    steps = max(1, round(bases / (entry.window_bp * entry.batch)))
    changes = [f"run_dir={run_dir}", f"seed={seed}", f"data.fasta={options.fasta.resolve()}", f"data.test={held_out}"]
    changes += [
        "data.valid={fraction: 0}",
        "training.warmup_steps=50",
        f"data.window_bp={entry.window_bp}",
        f"training.max_steps={steps}",
    ]
    changes += [f"training.per_device_train_batch_size={entry.batch}", *entry.changes]
    if options.quick:
        changes += ["evaluation.max_bp=4096", "evaluation.markov_orders=[2, 4]"]
    elif (name, seed) == (reference(options), options.seeds[0]):
        changes += [f"evaluation.markov_orders={list(range(17))}", "evaluation.markov_mixture=true"]
    else:
        changes += ["evaluation.markov_orders=[]"]
    return [str(RECIPES / entry.recipe), *changes]


def reference(options: argparse.Namespace) -> str | None:
    """Return the causal model that Markov models are compared with: their bits are code lengths, as its are."""
    return next((name for name in options.models if not ENTRIES[name].masked), None)


def bases_in(name: str, seed: int, options: argparse.Namespace) -> float:
    """Return the number of bases a model sees in --minutes on one core, from a short run."""
    entry, run_dir = ENTRIES[name], run_folder(name, seed, options)
    run_dir = run_dir.with_name(f"{run_dir.name}-probe")
    bases = PROBE_STEPS * entry.window_bp * entry.batch
    child(run_dir, command_of(name, seed, argparse.Namespace(**vars(options) | {"quick": True}), run_dir, bases))
    return 60 * options.minutes * bases / json.loads((run_dir / "cpu.json").read_text())["training_seconds"]


def run_one(recipe: str, changes: list[str]) -> None:
    """Train in this process on one thread, and note the CPU time of training alone."""
    import torch

    from genolm.commands import pretrain
    from genolm.config.pretrain import PretrainRecipe
    from genolm.config.yaml import load_settings
    from genolm.pretraining import run

    torch.set_num_threads(1)
    settings = load_settings(PretrainRecipe, recipe, changes)
    train, note = run.train_in_folder, Path(settings.run_dir) / "cpu.json"
    before = json.loads(note.read_text())["training_seconds"] if note.is_file() else 0.0

    def timed(*args):
        start = time.process_time()
        try:
            return train(*args)
        finally:
            note.write_text(json.dumps({"training_seconds": before + time.process_time() - start}))

    run.train_in_folder = timed
    pretrain.run_pretraining(settings)


def child(run_dir: Path, words: list[str]) -> None:
    """Train in a process of its own, unless that is done."""
    if (run_dir / "metrics.json").is_file():
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(RECIPES.parent)}
    with (run_dir / "output.txt").open("w") as output:
        done = subprocess.run([sys.executable, __file__, "--one", *words], env=env, stdout=output, stderr=output)
    if done.returncode:
        raise SystemExit(f"{run_dir} failed: {(run_dir / 'output.txt').read_text()[-1000:]}")


def start(name: str, seed: int, options: argparse.Namespace) -> None:
    """Run one model, unless it is there; the number of bases is saved, so that a stopped run resumes to it."""
    run_dir = run_folder(name, seed, options)
    note = run_dir / "bases.json"
    if not note.is_file():
        bases = bases_in(name, seed, options) if options.minutes else options.bases
        run_dir.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(bases))
    child(run_dir, command_of(name, seed, options, run_dir, json.loads(note.read_text())))


def row_of(name: str, seed: int, options: argparse.Namespace) -> str:
    """Return a line of the table."""
    run_dir, entry = run_folder(name, seed, options), ENTRIES[name]
    test = json.loads((run_dir / "metrics.json").read_text())["test"]
    bits = test["masked_bits_per_base" if entry.masked else "bits_per_base"]
    interval = "" if test["interval"] is None else " ({:.4f} … {:.4f})".format(*test["interval"])
    seconds = json.loads((run_dir / "cpu.json").read_text())["training_seconds"]
    bases = json.loads((run_dir / "bases.json").read_text())
    total, looked_up = parameters(run_dir / "checkpoint")
    cells = [name, seed, f"{total / 1e6:.2f} M", f"{(total - looked_up) / 1e6:.2f} M", f"{bases / 1e6:.3g} M"]
    cells += [f"{seconds / 60:.1f}", f"{bits:.4f}{interval}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def markov_rows(metrics: dict) -> list[str]:
    """Return lines of the best single order, and of the mixture."""
    ladder = metrics.get("markov", {})
    rows = {f"best Markov order, {order}": ladder[order] for order in sorted(ladder, key=lambda key: ladder[key])[:1]}
    if "markov_mixture" in metrics:
        rows["mixture of Markov orders"] = metrics["markov_mixture"]
    return [f"| {name} | | | | all | | {bits:.4f} |" for name, bits in rows.items()]


def parameters(checkpoint: Path) -> tuple[int, int]:
    """Return how many parameters a model has, and how many of them are rows that are looked up."""
    from math import prod

    from safetensors import safe_open

    with safe_open(checkpoint / "model.safetensors", "pt") as file:
        sizes = {name: prod(file.get_slice(name).get_shape()) for name in file.keys()}
    return sum(sizes.values()), sum(n for name, n in sizes.items() if re.search(ROWS, name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fasta", type=Path, help="the genome; simulated where not given")
    parser.add_argument("--test-contigs", nargs="*", default=[], help="held out; the last tenth where none is named")
    parser.add_argument("--models", nargs="+", default=["small", "llama"], choices=list(ENTRIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    much = parser.add_mutually_exclusive_group()
    much.add_argument("--bases", type=float, default=10e6, help="seen in training, repeats counted")
    much.add_argument("--minutes", type=float, help="of a core in training, instead of a number of bases")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    parser.add_argument("--quick", action="store_true", help="two steps and a few bases, to see that all of it runs")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return run_one(options.one[0], options.one[1:])
    if options.fasta is None:
        options.fasta = options.out / "simulated.fa"
        options.out.mkdir(parents=True, exist_ok=True)
        write_fasta(str(options.fasta), simulate(4_000_000).records)
    if options.quick:
        options.bases = 8192
    runs = [(name, seed) for seed in options.seeds for name in options.models]
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda run: start(run[0], run[1], options), runs))
    for masked in (False, True):
        names = [name for name in options.models if ENTRIES[name].masked == masked]
        if names:
            print(
                f"| model | seed | parameters | without tables | bases | CPU min | {'masked ' * masked}bits per base |"
            )
            print("|---|---|---|---|---|---|---|")
            print("\n".join(row_of(name, seed, options) for name in names for seed in options.seeds))
        if names and not masked:
            metrics = run_folder(names[0], options.seeds[0], options) / "metrics.json"
            print("\n".join(markov_rows(json.loads(metrics.read_text()))))


if __name__ == "__main__":
    main()
