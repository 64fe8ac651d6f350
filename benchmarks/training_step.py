"""A training step compared with transformers' models through its own Trainer: python benchmarks/training_step.py.

Models of about 5 or 25 M parameters, each in a process of its own that waits while the others train: a few steps of
each in turn, round after round. `default` is the stock Trainer as it comes, in float32; `tuned` has bf16 and
torch.compile, whose warm-up is left out. Ours are the mixers of recipes/genolm/small-* through our trainer, as `genolm
pretrain` runs them, and as it does with training.torch_compile=true. All get the same windows. The ratio is of bases a
second, the median over rounds, and the least and the greatest; `quality.py` compares the losses at equal bases.

    python benchmarks/training_step.py --sizes 5 25 --windows 512 4096 --rounds 5
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

CONTESTANTS = {
    "masked": ["genolm", "genolm compiled", "bert default", "bert tuned", "modernbert default", "modernbert tuned"],
    "causal": ["genolm", "genolm compiled", "llama default", "llama tuned"],
}
BERT_MOST = 1024
"""Bases of a window of BERT at most: its attention has dropout and so keeps all scores, 16 GB for one row of 4,096."""
SHAPES = {5: (256, 6, 4), 25: (512, 8, 8)}
"""Millions of parameters → hidden size, layers and heads."""
WARM = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objectives", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--sizes", nargs="+", type=int, choices=list(SHAPES), default=[5])
    parser.add_argument("--windows", nargs="+", type=int, default=[512])
    parser.add_argument("--tokens", type=int, default=4096, help="of a batch")
    parser.add_argument("--steps", type=int, default=2, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return one(**json.loads(options.one))
    print(f"{os.cpu_count()} cores; batches of {options.tokens:,} bases")
    print(f"{'objective':<10}{'window':>7}  {'model':<20}{'parameters':>11}{'bases/s':>10}   genolm is")
    for objective in options.objectives:
        for size in options.sizes:
            for window in options.windows:
                job = {"objective": objective, "size": size, "window": window}
                job |= {"batch": max(1, options.tokens // window), "steps": options.steps, "rounds": options.rounds}
                names = [x for x in CONTESTANTS[objective] if window <= BERT_MOST or not x.startswith("bert")]
                with ExitStack() as stack:
                    children = {name: stack.enter_context(Child(name=name, **job)) for name in names}
                    rounds = [
                        {name: child.ask()["seconds"] for name, child in children.items()}
                        for _ in range(options.rounds)
                    ]
                for name, child in children.items():
                    speed = job["batch"] * window / statistics.median(each[name] for each in rounds)
                    ratios = sorted(each[name] / each["genolm"] for each in rounds)
                    row = f"{objective:<10}{window:>7}  {name:<20}{child.parameters / 1e6:>9.2f} M{speed:>10,.0f}"
                    print(f"{row}{statistics.median(ratios):>7.2f}× ({ratios[0]:.2f} … {ratios[-1]:.2f})", flush=True)


class Child:
    """A process that trains `steps` steps on request, and otherwise waits."""

    def __init__(self, **job: Any):
        self.job = job
        self.errors = tempfile.TemporaryFile("w+")
        words = [sys.executable, __file__, "--one", json.dumps(job)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        self.parameters = self.answer()["parameters"]

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        # The end of its input ends the process, were there rounds left or not.
        self.process.communicate()
        self.errors.close()

    def ask(self) -> dict[str, float]:
        """Train a round."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, float]:
        """Return the next line of the process as JSON; exit with its errors if it has ended."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):  # libraries print too
                return json.loads(line)
        self.errors.seek(0)
        sys.exit(f"{self.job}: {self.errors.read()[-1500:]}")


def one(name: str, objective: str, size: int, window: int, batch: int, steps: int, rounds: int) -> None:
    """Warm up, print the number of parameters; for each line of stdin train `steps` steps, print seconds a step."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.utils import logging

    from genolm.data.collate import CausalCollator, MaskedCollator, Masking
    from genolm.data.corpus import Corpus
    from genolm.genome.regions import Regions
    from genolm.genome.simulate import simulate, write_fasta
    from genolm.genome.store import prepare_store
    from genolm.models.build import build_model
    from genolm.models.loss import weighted_token_loss
    from genolm.models.precision import has_fast_bf16
    from genolm.tokenizers.build import build_tokenizer, load_spec
    from genolm.tokenizers.encode import make_encoder
    from genolm.training.memory import keep_freed_pages
    from genolm.training.trainer import SampleNumbers, WeightedTrainer

    logging.set_verbosity_error()
    torch.manual_seed(0)
    tokenizer = build_tokenizer(load_spec("char"))
    model = build_model(model_block(name.split()[0], objective, size), tokenizer, objective, window + 2)

    class Clock(TrainerCallback):
        ends: list[float]

        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step < WARM:
                return
            if state.global_step == WARM:
                print(json.dumps({"parameters": sum(p.numel() for p in model.parameters())}), flush=True)
            else:
                self.ends.append(time.perf_counter())
                if len(self.ends) <= steps:
                    return
                seconds = [b - a for a, b in pairwise(self.ends)]
                print(json.dumps({"seconds": statistics.median(seconds)}), flush=True)
            if not sys.stdin.readline():
                control.should_training_stop = True
            self.ends = [time.perf_counter()]

    with tempfile.TemporaryDirectory() as folder:
        write_fasta(f"{folder}/g.fa", simulate(500_000).records)
        store = prepare_store({"g": [f"{folder}/g.fa"]}, Path(folder) / "store")
        encoder = make_encoder(tokenizer)
        corpus = Corpus(store, Regions.whole(store), encoder, window)
        causal = objective == "causal"
        collate = CausalCollator(corpus) if causal else MaskedCollator(corpus, Masking(encoder))
        ours = name.startswith("genolm")
        fast: dict[str, Any] = {}
        if not name.endswith("default"):
            fast = {"bf16": has_fast_bf16(), "torch_compile": name != "genolm"}
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=WARM + steps * rounds,
            per_device_train_batch_size=batch,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            **fast,
        )
        settings: dict[str, Any] = {"model": model, "args": arguments, "callbacks": [Clock()]}
        settings["train_dataset"] = SampleNumbers((WARM + steps * rounds) * batch)
        if ours:
            keep_freed_pages()  # as `genolm pretrain` does
            trainer = WeightedTrainer(
                **settings, data_collator=collate, loss=partial(weighted_token_loss, causal=causal)
            )
        else:
            trainer = Trainer(**settings, data_collator=lambda samples: plain(collate(samples), causal))
        trainer.train()


def plain(batch: dict[str, Any], causal: bool) -> dict[str, Any]:
    """Return a batch as transformers' models take it."""
    return {"input_ids": batch["input_ids"], "labels": batch["input_ids"].clone() if causal else batch["labels"]}


def model_block(architecture: str, objective: str, size: int) -> dict[str, Any]:
    """Return the model block of a recipe."""
    import yaml

    hidden, layers, heads = SHAPES[size]
    if architecture == "genolm":
        recipe = Path(__file__).parents[1] / "recipes" / "genolm" / f"small-{objective}.yaml"
        block = yaml.safe_load(recipe.read_text())["model"]
        if size > 5:
            block |= {"hidden_size": hidden, "intermediate_size": hidden * 11 // 4, "num_hidden_layers": layers}
            block |= {"num_attention_heads": heads}
        return block
    block = {"architecture": architecture, "hidden_size": hidden, "num_hidden_layers": layers}
    wide = {"bert": 4 * hidden, "modernbert": 11 * hidden // 4, "llama": 11 * hidden // 4}[architecture]
    return block | {"num_attention_heads": heads, "intermediate_size": wide}


if __name__ == "__main__":
    main()
