"""LoRA compared with full fine-tuning and with PEFT by hand: python benchmarks/lora_step.py.

The same pretrained model, rows, targets and optimizer settings, each contestant in its own process, alternating round
after round. `genolm` runs recipes/quickstart/lora.yaml and full.yaml as `genolm finetune` does; `by hand` is PEFT's
get_peft_model, or the whole model, in the stock Trainer over rows that are encoded beforehand: `default` as it comes,
in float32, `tuned` with bf16 where the CPU has it. First of all, both ways of LoRA take a few steps in float32 without
dropout, from the same start: their losses must agree.

Memory is the most that the process had resident (VmHWM), freed pages that glibc keeps included; `of it training` is
beyond what was resident (VmRSS) just before the first step: Python, libraries, weights. Fractions are of medians.

    python benchmarks/lora_step.py --size 25 --rows 2 8 --rounds 5
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from training_step import SHAPES, model_block

RECIPES = Path(__file__).parents[1] / "recipes" / "quickstart"
CONTESTANTS = ["genolm lora", "genolm full", "by hand lora default", "by hand full default"]
TUNED = ["by hand lora tuned", "by hand full tuned"]
WARM, CHECKED = 2, 6
AGREE = 1e-4
SAME = ["learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "adam_beta1", "adam_beta2", "seed"]
ADAPTER = ["r", "lora_alpha", "lora_dropout", "fan_in_fan_out"]
"""What those by hand take over from the recipes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", choices=["genolm", "bert", "modernbert"], default="genolm")
    parser.add_argument("--size", type=int, choices=list(SHAPES), default=25, help="millions of parameters")
    parser.add_argument("--rows", nargs="+", type=int, default=[2, 8], help="of a batch")
    parser.add_argument("--width", type=int, default=256, help="bases of a row")
    parser.add_argument("--checkpointing", action="store_true", help="make activations anew instead of keeping them")
    parser.add_argument("--steps", type=int, default=8, help="of a round, after the first few")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        job = json.loads(options.one)
        print(json.dumps(prepare(**job) if "architecture" in job else one(**job)))
        return
    most = max(options.rows)
    samples = most * (WARM + max(options.steps, CHECKED))
    with tempfile.TemporaryDirectory() as folder:
        shape = {"architecture": options.architecture, "size": options.size, "width": options.width}
        prepared = child(folder=folder, **shape, samples=samples)
        print(
            f"{os.cpu_count()} cores; {options.architecture}, {prepared['parameters'] / 1e6:.1f} M parameters, ", end=""
        )
        print(f"rows of {options.width} bases{', activations made anew' if options.checkpointing else ''}")
        job = {"folder": folder, "checkpointing": options.checkpointing}
        agree(job | {"batch": min(options.rows), "steps": CHECKED - WARM})
        names = CONTESTANTS + (TUNED if prepared["bf16"] else [])
        print(f"{'':<22}{'rows':>5}{'s a step':>10}{'to genolm lora':>16}{'peak':>10}{'of it training':>16}")
        for batch in options.rows:
            job |= {"batch": batch, "steps": options.steps}
            rounds = [{name: child(name=name, **job) for name in names} for _ in range(options.rounds)]
            middle = {
                name: {key: statistics.median(each[name][key] for each in rounds) for key in rounds[0][name]}
                for name in names
            }
            for name, result in middle.items():
                ratio = statistics.median(each[name]["seconds"] / each["genolm lora"]["seconds"] for each in rounds)
                speed = f"{name:<22}{batch:>5}{result['seconds']:>10.3f}{ratio:>15.2f}×"
                print(f"{speed}{result['peak']:>6.0f} MiB{result['training']:>12.0f} MiB")
            for lora in [name for name in names if "lora" in name]:
                adapter, full = middle[lora], middle[lora.replace("lora", "full")]
                print(f"{lora}: {adapter['peak'] / full['peak']:.0%} of full's peak, ", end="")
                print(f"{adapter['training'] / full['training']:.0%} of its training memory", flush=True)


def agree(job: dict[str, Any]) -> None:
    """Compare the losses of both ways of LoRA, from the same start in float32; exit where they differ."""
    ours, theirs = (
        child(name=name, dropout=0.0, exact=True, **job)["losses"] for name in ("genolm lora", "by hand lora default")
    )
    apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    message = (
        f"losses of {len(ours)} steps in float32, {ours[0]:.5f} to {ours[-1]:.5f}: genolm and PEFT by hand differ by"
    )
    if not apart <= AGREE:
        sys.exit(f"{message} {apart:.1e}, more than {AGREE}: {ours} and {theirs}")
    print(f"{message} at most {apart:.1e}")


def child(**job: Any) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, "--one", json.dumps(job)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{job}: {done.stderr[-1500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def prepare(folder: str, architecture: str, size: int, width: int, samples: int) -> dict[str, Any]:
    """Write a model with fresh weights, a table of rows with and without a motif, and the rows as ids, in order."""
    import torch

    from genolm.models.build import build_model
    from genolm.models.precision import has_fast_bf16
    from genolm.tokenizers.build import build_tokenizer, load_spec
    from genolm.training.checkpoint import write_checkpoint

    torch.manual_seed(0)
    tokenizer = build_tokenizer(load_spec("char"))
    model = build_model(model_block(architecture, "masked", size), tokenizer, "masked", width + 2)
    write_checkpoint(Path(folder) / "base", model, tokenizer, {})
    draw = random.Random(0)
    lines = ["sequence,label"]
    for row in range(1000):
        letters = draw.choices("ACGT", k=width)
        if row % 2:
            letters[10:20] = "TATAAAGGCC"
        lines.append(f"{''.join(letters)},{row % 2}")
    (Path(folder) / "labels.csv").write_text("\n".join(lines) + "\n")
    same: dict[str, Any] = {}
    for method in ("full", "lora"):
        trainer = ours(method, folder, Path(folder) / "unused", 1, 1, {})
        same[method] = {key: getattr(trainer.args, key) for key in SAME}
    adapter = trainer.model.peft_config["default"].to_dict()
    same["adapter"] = {key: adapter[key] for key in ADAPTER} | {"target_modules": sorted(adapter["target_modules"])}
    (Path(folder) / "same.json").write_text(json.dumps(same))
    batch = trainer.data_collator(list(range(samples)))
    torch.save({name: batch[name] for name in ("input_ids", "attention_mask", "labels")}, f"{folder}/rows.pt")
    return {"parameters": sum(p.numel() for p in model.parameters()), "bf16": has_fast_bf16(cpu=True)}


def one(
    folder: str, name: str, batch: int, steps: int, checkpointing: bool, dropout: float | None = None, exact=False
) -> dict[str, Any]:
    """Train a few steps; return seconds per step, peak MiB, peak MiB above the start, and losses."""
    import torch
    from transformers import TrainerCallback
    from transformers.utils import logging

    logging.set_verbosity_error()
    ends: list[float] = []
    losses: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            ends.append(time.perf_counter())

    method = "lora" if "lora" in name else "full"
    bf16 = {"training.bf16": False} if exact else {}
    with tempfile.TemporaryDirectory() as run_dir:
        if name.startswith("genolm"):
            changes = bf16 | ({} if dropout is None else {"lora.lora_dropout": dropout})
            changes |= {"training.gradient_checkpointing": checkpointing}
            trainer = ours(method, folder, Path(run_dir), batch, WARM + steps, changes)
        else:
            tuned = name.endswith("tuned")
            trainer = by_hand(method, folder, run_dir, batch, WARM + steps, checkpointing, tuned, dropout)
        take = trainer.compute_loss

        def noted(*args, **kwargs):
            loss = take(*args, **kwargs)
            losses.append(loss.detach())
            return loss

        if exact:
            trainer.compute_loss = noted
        trainer.add_callback(Clock())
        for parameter in trainer.model.parameters():
            parameter.sum()  # read from the file, where it was only mapped
        stood = resident("VmRSS")
        trainer.train()
    times = [b - a for a, b in zip(ends[WARM - 1 :], ends[WARM:], strict=False)]
    peak = resident("VmHWM")
    result: dict[str, Any] = {"seconds": statistics.median(times), "peak": peak, "training": peak - stood}
    return result | ({"losses": torch.stack(losses).tolist()} if exact else {})


def ours(method: str, folder: str, run_dir: Path, batch: int, steps: int, changes: dict[str, Any]):
    """Return the trainer that `genolm finetune` would start."""
    from genolm.config.finetune import FinetuneRecipe
    from genolm.config.yaml import load_settings
    from genolm.finetuning.build import build_setup, read_split_rows
    from genolm.finetuning.train import build_label_trainer
    from genolm.training.loop_callbacks import RunLog, rows_and_speed
    from genolm.training.run_folder import open_run

    words = {"model": f"{folder}/base", "labels.table": f"{folder}/labels.csv", "run_dir": run_dir, **changes}
    words |= {"training.max_steps": steps, "training.per_device_train_batch_size": batch, "training.use_cpu": True}
    words |= {"training.save_strategy": "no"}
    recipe = load_settings(FinetuneRecipe, RECIPES / f"{method}.yaml", [f"{key}={words[key]}" for key in words])
    with ExitStack() as exit_stack:
        arguments, _ = open_run(run_dir, recipe.training, recipe.seed, exit_stack, deterministic=False, fit_batch=False)
    rows = read_split_rows(recipe)
    setup = build_setup(recipe, rows, bool(arguments.bf16))
    log = RunLog(run_dir / "log.jsonl", rows_and_speed(batch))
    return build_label_trainer(recipe, arguments, setup, None, [log])


def by_hand(method: str, folder: str, run_dir: str, batch: int, steps: int, checkpointing: bool, tuned: bool, dropout):
    """Return the stock Trainer on the same model, with PEFT's adapter where it is LoRA."""
    import torch
    import torch.nn.functional as F
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainingArguments, set_seed

    from genolm.models.label_model import on_backbone, open_backbone

    same = json.loads((Path(folder) / "same.json").read_text())
    set_seed(same[method]["seed"])
    model = on_backbone(open_backbone(Path(folder) / "base"), 1, pooling="mean")
    if method == "lora":
        adapter = same["adapter"] | ({} if dropout is None else {"lora_dropout": dropout})
        model = get_peft_model(model, LoraConfig(**adapter, modules_to_save=["head"]))
    columns = torch.load(f"{folder}/rows.pt")
    arguments = TrainingArguments(
        output_dir=run_dir,
        max_steps=steps,
        per_device_train_batch_size=batch,
        gradient_checkpointing=checkpointing,
        bf16=tuned,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        label_names=["labels"],
        train_sampling_strategy="sequential",
        **same[method],
    )
    return Trainer(
        model=model,
        args=arguments,
        train_dataset=[{key: columns[key][row] for key in columns} for row in range(steps * batch)],
        compute_loss_func=lambda outputs, labels, **_: F.binary_cross_entropy_with_logits(
            outputs.logits.squeeze(-1), labels.float()
        ),
    )


def resident(kind: str) -> float:
    """Return a line of /proc/self/status in MiB; getrusage's peak is inherited from the process that started this."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(kind))


if __name__ == "__main__":
    main()
