"""What a run prints: a summary of what will be trained, and a table of what was measured."""

from typing import Any

import numpy as np
from accelerate import PartialState
from rich.console import Console
from rich.table import Table

from genolm.config.pretrain import PretrainRecipe
from genolm.data.corpus import Corpus
from genolm.data.stream import StreamCorpus
from genolm.models.build import describe_model
from genolm.pretraining.build import PretrainingData
from genolm.training.loop_callbacks import samples_per_step
from genolm.training.parallelism import expected_wrapper
from genolm.training.trainer import WeightedTrainer


def mean_bases_per_token(corpus: Corpus | StreamCorpus) -> float:
    """Return the bases that a predicted token adds to those before it, on average over some windows."""
    if corpus.encoder.kind == "kmer-overlapping":
        return 1.0
    examples = corpus.examples(np.arange(64))
    return float(corpus.encoder.num_bases[examples.ids[examples.weight > 0]].mean())


def print_summary(recipe: PretrainRecipe, data: PretrainingData, trainer: WeightedTrainer, step: int) -> None:
    """Print what is about to be trained, and the step it resumes from, on stderr."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    store, corpus, arguments, state = data.store, data.corpus, trainer.args, PartialState()
    parts = ", ".join(f"{name} {r.num_bases:,} bp" for name, r in data.regions.items() if len(r))
    epoch = "streamed" if corpus.windows_per_epoch is None else f"{corpus.windows_per_epoch:,} an epoch"
    length = f"{arguments.max_steps:,} steps of {samples_per_step(arguments):,} windows"
    inputs = [row["letters"] for row in store.manifest["inputs"]]
    counts = {name.replace("_", "-"): sum(row[name] for row in inputs) for name in ("N", "IUPAC", "soft_masked")}
    bases = ", ".join(f"{num:,} {name}" for name, num in counts.items())
    width = f", {mean_bases_per_token(corpus):.2f} bp a token" if corpus.encoder.kind == "bpe" else ""
    wrapper = f", {state.backend}, {expected_wrapper(trainer)}" if state.num_processes > 1 else ""
    console.print(f"genome     {store.num_bases:,} bp in {len(store.lengths):,} contigs; {parts}")
    console.print(f"bases      {bases}; A, C, G, T are predicted")
    console.print(f"tokenizer  {recipe.tokenizer}, {corpus.encoder.vocab_size:,} entries{width}")
    console.print(f"windows    {corpus.window_bp:,} bp = {corpus.length_tokens:,} tokens; {epoch}; {length}")
    console.print(f"model      {describe_model(trainer.whole_model())}; {'bf16' if arguments.bf16 else 'float32'}")
    console.print(f"ranks      {state.num_processes} on {arguments.device.type}{wrapper}")
    if step:
        console.print(f"resumed    step {step:,} of {arguments.max_steps:,}")
    defaults, keys = type(recipe.data)(), ("valid", "test", "include", "exclude", "sampling")
    unused = [f"data.{key}" for key in keys if getattr(recipe.data, key) != getattr(defaults, key)]
    if recipe.data.dataset and unused:
        console.print(f"note       {', '.join(unused)} apply to data.fasta; a streamed dataset does not use them")


def print_bits(metrics: dict[str, Any]) -> None:
    """Print bits per base with its interval, by class, and of the Markov models, of which the best is marked."""
    console = Console(highlight=False)
    for split in (name for name in ("test", "valid") if name in metrics):
        bits = metrics[split]
        key = "bits_per_base" if "bits_per_base" in bits else "masked_bits_per_base"
        table = Table(split, key.replace("_", " "), "95 % interval", "bases")
        for name, row in {"all": bits, **bits.get("classes", {})}.items():
            interval = "–" if row["interval"] is None else "{:.4f} … {:.4f}".format(*row["interval"])
            table.add_row(name, f"{row[key]:.4f}", interval, f"{row['num_bases']:,.0f}")
        console.print(table)
    if "markov" in metrics:
        best = min(metrics["markov"], key=metrics["markov"].__getitem__)
        table = Table("Markov order", "bits per base")
        for order, bits in metrics["markov"].items():
            table.add_row(f"{order} (best)" if order == best else order, f"{bits:.4f}")
        if "markov_mixture" in metrics:
            table.add_row("mixture", f"{metrics['markov_mixture']:.4f}")
        console.print(table)
