"""Cost of deterministic operations and of checkpoints: python benchmarks/trust_cost.py.

Rounds alternate between the variants in one process, so that a noisy machine treats all alike; ratios of medians count.
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from transformers import TrainerCallback, TrainingArguments

from genolm.config.pretrain import PretrainRecipe
from genolm.config.yaml import load_settings
from genolm.data.collate import CausalCollator
from genolm.data.corpus import Corpus
from genolm.genome.regions import Regions
from genolm.genome.simulate import simulate, write_fasta
from genolm.genome.store import prepare_store
from genolm.models.build import build_model
from genolm.models.loss import weighted_token_loss
from genolm.models.precision import has_fast_bf16, set_deterministic
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.tokenizers.encode import make_encoder
from genolm.training.checkpoint import CheckpointPayload
from genolm.training.trainer import SampleNumbers, WeightedTrainer

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart" / "causal.yaml"


class Clock(TrainerCallback):
    """Notes when steps end and how long saves take."""

    def __init__(self):
        self.ends, self.began, self.saves = [], 0.0, []

    def on_step_end(self, *args, **kwargs):  # noqa: D102
        self.ends.append(time.perf_counter())
        self.began = time.perf_counter()

    def on_save(self, *args, **kwargs):  # noqa: D102
        self.saves.append(time.perf_counter() - self.began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=15)
    options = parser.parse_args()
    recipe = load_settings(PretrainRecipe, RECIPE, ["run_dir=x"])
    batch = recipe.training["per_device_train_batch_size"]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_fasta(place / "g.fa", simulate(2_000_000).records)
        store = prepare_store({"g": [place / "g.fa"]}, place / "store")
        tokenizer = build_tokenizer(load_spec("char"))
        corpus = Corpus(store, Regions.whole(store), make_encoder(tokenizer), recipe.data.window_bp, seed=0, pack=True)

        def steps(deterministic: bool) -> tuple[list[float], list[float]]:
            set_deterministic(deterministic)
            torch.manual_seed(0)
            model = build_model(recipe.model, tokenizer, "causal", corpus.length_tokens)
            clock = Clock()
            arguments = TrainingArguments(
                output_dir=str(place / "run"),
                max_steps=options.steps,
                per_device_train_batch_size=batch,
                bf16=has_fast_bf16(cpu=True),
                use_cpu=True,
                save_steps=options.steps // 2,
                save_total_limit=1,
                report_to="none",
                disable_tqdm=True,
                remove_unused_columns=False,
            )
            WeightedTrainer(
                model=model,
                args=arguments,
                train_dataset=SampleNumbers(options.steps * batch),
                data_collator=CausalCollator(corpus),
                loss=partial(weighted_token_loss, causal=True),
                payload=CheckpointPayload(place / "run", tokenizer, lambda model: {}, {}, place / "log.jsonl"),
                callbacks=[clock],
            ).train()
            times = [after - before for before, after in zip(clock.ends[3:], clock.ends[4:], strict=False)]
            return times, clock.saves

        free, bound, saves = [], [], []
        for _ in range(options.rounds):
            for deterministic, times in ((False, free), (True, bound)):
                step_times, saved = steps(deterministic)
                times += step_times
                saves += saved
        step = statistics.median(free)
        print(f"a step                {step * 1000:8.1f} ms, {batch} windows of {corpus.window_bp} bp")
        print(f"deterministic: true   {statistics.median(bound) / step:8.3f} times a step")
        print(f"a checkpoint          {statistics.median(saves) / step:8.2f} steps ({statistics.median(saves):.2f} s)")


if __name__ == "__main__":
    main()
