"""A training step beside transformers' models through its own Trainer: python benchmarks/training_step.py.

Models of about 5 or 25 M parameters, each in a process of its own, in turn, round after round. `default` is the stock
Trainer as it comes, in float32; `tuned` has bf16 and torch.compile, whose warm-up is left out. Ours are the mixers of
recipes/genolm/small-* through our trainer, as `genolm pretrain` runs them. All get the same windows. The ratio is of
bases a second, the median over rounds; what equal bases teach each is what `quality.py` measures.

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
from functools import partial
from pathlib import Path
from typing import Any

CONTESTANTS = {
    "masked": ["genolm", "bert default", "bert tuned", "modernbert default", "modernbert tuned"],
    "causal": ["genolm", "llama default", "llama tuned"],
}
SHAPES = {5: (256, 6, 4), 25: (512, 8, 8)}
"""Millions of parameters → hidden size, layers and heads."""
WARM = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objectives", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--sizes", nargs="+", type=int, choices=list(SHAPES), default=[5])
    parser.add_argument("--windows", nargs="+", type=int, default=[512])
    parser.add_argument("--tokens", type=int, default=4096, help="of a batch")
    parser.add_argument("--steps", type=int, default=8, help="of a round, after the first few")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(**json.loads(options.one))))
        return
    print(f"{os.cpu_count()} cores; batches of {options.tokens:,} bases")
    print(f"{'objective':<10}{'window':>7}  {'model':<20}{'parameters':>11}{'bases/s':>10}{'genolm is':>11}")
    for objective in options.objectives:
        for size in options.sizes:
            for window in options.windows:
                asked = {"objective": objective, "size": size, "window": window, "steps": options.steps}
                asked["batch"] = max(1, options.tokens // window)
                names = CONTESTANTS[objective]
                rounds = [{name: child(name=name, **asked) for name in names} for _ in range(options.rounds)]
                for name in names:
                    speed = asked["batch"] * window / statistics.median(each[name]["seconds"] for each in rounds)
                    ratio = statistics.median(each[name]["seconds"] / each["genolm"]["seconds"] for each in rounds)
                    parameters = f"{rounds[0][name]['parameters'] / 1e6:.2f} M"
                    about = f"{objective:<10}{window:>7}  {name:<20}{parameters:>11}"
                    print(f"{about}{speed:>10,.0f}{ratio:>10.2f}×", flush=True)


def child(**asked: Any) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, "--one", json.dumps(asked)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{asked}: {done.stderr[-1500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def one(name: str, objective: str, size: int, window: int, batch: int, steps: int) -> dict[str, float]:
    """Train a few steps; return seconds a step, and the number of parameters."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.utils import logging

    from genolm.data.collate import CausalCollator, MaskedCollator, Masking
    from genolm.data.corpus import Corpus
    from genolm.genome.simulate import simulate, write_fasta
    from genolm.genome.store import prepare
    from genolm.genome.windows import whole
    from genolm.models.build import build_model
    from genolm.models.loss import weighted_token_loss
    from genolm.tokenizers.build import build_tokenizer, load_spec
    from genolm.tokenizers.encode import make_encoder
    from genolm.training.precision import has_fast_bf16
    from genolm.training.trainer import SampleNumbers, WeightedTrainer

    logging.set_verbosity_error()
    torch.manual_seed(0)
    tokenizer = build_tokenizer(load_spec("char"))
    model = build_model(model_block(name.split()[0], objective, size), tokenizer, objective, window + 2)
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        write_fasta(f"{folder}/g.fa", simulate(500_000).records)
        store = prepare({"g": [f"{folder}/g.fa"]}, Path(folder) / "store")
        encoder = make_encoder(tokenizer)
        corpus = Corpus(store, whole(store), encoder, window)
        causal = objective == "causal"
        collate = CausalCollator(corpus) if causal else MaskedCollator(corpus, Masking(encoder))
        ours = name == "genolm"
        fast: dict[str, Any] = {}
        if not name.endswith("default"):
            fast = {"bf16": has_fast_bf16(), "torch_compile": not ours}
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=WARM + steps,
            per_device_train_batch_size=batch,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            **fast,
        )
        settings: dict[str, Any] = {"model": model, "args": arguments, "callbacks": [Clock()]}
        settings["train_dataset"] = SampleNumbers((WARM + steps) * batch)
        if ours:
            trainer = WeightedTrainer(
                **settings, data_collator=collate, loss=partial(weighted_token_loss, causal=causal)
            )
        else:
            trainer = Trainer(**settings, data_collator=lambda samples: plain(collate(samples), causal))
        trainer.train()
    times = [b - a for a, b in zip(ends[WARM - 1 :], ends[WARM:], strict=False)]
    return {"seconds": statistics.median(times), "parameters": sum(p.numel() for p in model.parameters())}


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
