"""The trainer against a bare PyTorch loop, over the same model and batches: python benchmarks/step_overhead.py.

Rounds alternate between the two in one process, so that a noisy machine treats both alike; the ratio of medians counts.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from genolm.config.pretrain import PretrainRecipe
from genolm.config.yaml import load_settings
from genolm.data.collate import CausalCollator
from genolm.data.corpus import Corpus
from genolm.genome.regions import Regions
from genolm.genome.simulate import simulate, write_fasta
from genolm.genome.store import prepare_store
from genolm.models.build import build_model
from genolm.models.loss import weighted_token_loss
from genolm.models.precision import has_fast_bf16
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.tokenizers.encode import make_encoder
from genolm.training.loop_callbacks import RunLog, bits_and_speed
from genolm.training.trainer import SampleNumbers, WeightedTrainer

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart" / "causal.yaml"


class Clock(TrainerCallback):
    """Notes when steps end; the first few are left out."""

    def __init__(self):
        self.ends = []

    def on_step_end(self, *args, **kwargs):  # noqa: D102
        self.ends.append(time.perf_counter())


def bare(model, collate, steps: int, batch: int, bf16: bool) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    ends = []
    for one in DataLoader(SampleNumbers(steps * batch), batch_size=batch, collate_fn=collate):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(input_ids=one["input_ids"]).logits
        nats, weight = weighted_token_loss(logits, one["labels"], one["loss_weight"], True)
        (nats / weight).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        ends.append(time.perf_counter())
    return ends


def trained(model, collate, steps: int, batch: int, bf16: bool, folder: str) -> list[float]:
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=batch,
        learning_rate=1e-4,
        adam_beta2=0.95,
        weight_decay=0.05,
        bf16=bf16,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=10,
        remove_unused_columns=False,
    )
    clock = Clock()
    trainer = WeightedTrainer(
        model=model,
        args=arguments,
        train_dataset=SampleNumbers(steps * batch),
        data_collator=collate,
        loss=partial(weighted_token_loss, causal=True),
        callbacks=[
            RunLog(Path(folder) / "log.jsonl", bits_and_speed(batch * collate.corpus.length_tokens, 1.0, "causal")),
            clock,
        ],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return clock.ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=25, help="in each round")
    options = parser.parse_args()
    recipe = load_settings(PretrainRecipe, RECIPE)
    batch, bf16 = recipe.training["per_device_train_batch_size"], has_fast_bf16()
    tokenizer = build_tokenizer(load_spec(recipe.tokenizer))
    times: dict[str, list[float]] = {"bare loop": [], "trainer": []}
    with tempfile.TemporaryDirectory() as folder:
        write_fasta(f"{folder}/g.fa", simulate(500_000).records)
        store = prepare_store({"g": [f"{folder}/g.fa"]}, Path(folder) / "store")
        corpus = Corpus(store, Regions.whole(store), make_encoder(tokenizer), recipe.data.window_bp, pack=True)
        collate = CausalCollator(corpus)
        for _ in range(options.rounds):
            for name in times:
                torch.manual_seed(0)
                model = build_model(recipe.model, tokenizer, "causal", corpus.length_tokens)
                if name == "trainer":
                    ends = trained(model, collate, options.steps, batch, bf16, folder)
                else:
                    ends = bare(model, collate, options.steps, batch, bf16)
                times[name] += np.diff(ends)[3:].tolist()
    middle = {name: float(np.median(values)) for name, values in times.items()}
    for name, seconds in middle.items():
        print(f"{name:<12}{seconds * 1e3:8.1f} ms a step")
    print(f"{'ratio':<12}{middle['trainer'] / middle['bare loop']:8.3f}")


if __name__ == "__main__":
    main()
