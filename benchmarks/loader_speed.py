"""Windows, strands, tokens and masks alone, one core: python benchmarks/loader_speed.py [--fasta FILE].

Prints Mb of sequence per second for each tokenizer and objective, and the fraction of a training step of the quickstart
models that is spent on making the batch.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from genolm.config.pretrain import PretrainRecipe
from genolm.config.yaml import load_settings
from genolm.data.collate import CausalCollator, MaskedCollator, Masking
from genolm.data.corpus import Corpus
from genolm.genome.regions import Regions
from genolm.genome.simulate import simulate, write_fasta
from genolm.genome.store import prepare_store
from genolm.models.build import build_model
from genolm.models.loss import weighted_token_loss
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.tokenizers.encode import make_encoder

RECIPES = Path(__file__).parents[1] / "recipes" / "quickstart"


def collator(store, spec: str, kind: str, window_bp: int):
    encoder = make_encoder(build_tokenizer(load_spec(spec)))
    corpus = Corpus(store, Regions.whole(store), encoder, window_bp, pack=kind == "causal")
    return CausalCollator(corpus) if kind == "causal" else MaskedCollator(corpus, Masking(encoder))


def seconds_a_batch(collate, batch: int, rounds: int = 60) -> float:
    times = []
    for i in range(rounds):
        began = time.perf_counter()
        collate(range(i * batch, (i + 1) * batch))
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def seconds_a_step(recipe: PretrainRecipe, collate, tokenizer, rounds: int = 8) -> float:
    model = build_model(recipe.model, tokenizer, recipe.objective.kind, collate.corpus.length_tokens)
    optimizer = torch.optim.AdamW(model.parameters())
    batch, times = collate(range(recipe.training["per_device_train_batch_size"])), []
    for _ in range(rounds):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=batch["input_ids"]).logits
        causal = recipe.objective.kind == "causal"
        nats, weight = weighted_token_loss(logits, batch["labels"], batch["loss_weight"], causal)
        (nats / weight).backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fasta", help="genome to read; simulated where not given")
    fasta = parser.parse_args().fasta
    with tempfile.TemporaryDirectory() as folder:
        if fasta is None:
            fasta = f"{folder}/simulated.fa"
            write_fasta(fasta, simulate(1_500_000).records)
        store = prepare_store({"genome": [fasta]}, Path(folder) / "store")
        print(f"{'spec':<20}{'objective':<12}{'window bp':>10}{'Mb/s':>8}")
        for spec in ("char", "kmer6", "kmer6-overlapping"):
            for kind in ("masked", "causal"):
                for window_bp in (512, 8192):
                    batch = 2**16 // window_bp
                    seconds = seconds_a_batch(collator(store, spec, kind, window_bp), batch)
                    print(f"{spec:<20}{kind:<12}{window_bp:>10}{batch * window_bp / seconds / 1e6:>8.0f}")
        for name in ("masked", "causal"):
            recipe = load_settings(PretrainRecipe, RECIPES / f"{name}.yaml")
            collate = collator(store, recipe.tokenizer, name, recipe.data.window_bp)
            tokenizer = build_tokenizer(load_spec(recipe.tokenizer))
            load = seconds_a_batch(collate, recipe.training["per_device_train_batch_size"])
            step = seconds_a_step(recipe, collate, tokenizer)
            print(
                f"quickstart/{name}: batch {load * 1e3:.2f} ms, step {step * 1e3:.0f} ms: {load / step:.2%} of a step"
            )


if __name__ == "__main__":
    main()
