"""A pretraining run as its recipe plans it, before there is a genome, a tokenizer or a GPU."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genolm.config.pretrain import DataRecipe, PretrainRecipe
from genolm.data.corpus import length_tokens
from genolm.models.build import build_model
from genolm.plan.gpus import GPU
from genolm.tokenizers.build import build_tokenizer, load_spec, load_tokenizer
from genolm.tokenizers.encode import make_encoder
from genolm.training.arguments import set_length, training_arguments


@dataclass(frozen=True)
class PlannedRun:
    """A pretraining run to be planned.

    Attributes:
        make_model: makes the model; called under `torch.device("meta")`.
        objective: "masked" or "causal".
        window_bp: bases of a window.
        length_tokens: tokens of a window.
        estimated: whether `length_tokens` is an estimate.
        batch_size: windows of a micro-batch.
        accumulation: micro-batches of a step.
        num_gpus: ranks.
        gpu: their kind.
        profile: one of PROFILES; None for the first that fits.
        steps: optimizer updates; None where unknown.
        windows_per_epoch: an estimate; None where unknown.
        precision: "bf16", "fp16" or "float32".
        checkpointing: options of activation checkpointing; None for none.
        padded: batches carry an attention mask.
    """

    make_model: Callable[[], Any]
    objective: str
    window_bp: int
    length_tokens: int
    estimated: bool
    batch_size: int
    accumulation: int
    num_gpus: int
    gpu: GPU
    profile: str | None
    steps: int | None
    windows_per_epoch: float | None
    precision: str
    checkpointing: dict[str, Any] | None
    padded: bool

    @property
    def half(self) -> bool:
        """Whether it computes in 16 bits."""
        return self.precision != "float32"

    @property
    def windows_per_step(self) -> int:
        """The global batch."""
        return self.batch_size * self.accumulation * self.num_gpus


def planned_tokenizer(recipe: PretrainRecipe):
    """Return the tokenizer before there is a genome; one that is yet to be trained has the size it will have."""
    if (Path(recipe.tokenizer) / "tokenizer.json").is_file():
        return load_tokenizer(Path(recipe.tokenizer))
    spec = load_spec(recipe.tokenizer)
    tokenizer = build_tokenizer(spec, ["ACGT" * 16] if spec.kind == "bpe" else None)
    if spec.kind == "bpe":
        tokenizer.add_tokens([f"<{i}>" for i in range(spec.vocab_size - len(tokenizer))])
    return tokenizer


def planned_tokens(recipe: PretrainRecipe, tokenizer) -> tuple[int, bool]:
    """Return the tokens of a window before there is a genome, and whether that is an estimate.

    BPE trained on yeast and on E. coli puts 3.9, 4.3 and 5.0 bases into a token at 512, 1,024 and 4,096 entries.
    """
    encoder, window_bp = make_encoder(tokenizer), recipe.data.window_bp
    if encoder.kind == "bpe":
        return max(8, round(window_bp / (0.85 * math.log(len(tokenizer), 4)))), True
    random = np.frombuffer(b"ACGT", dtype=np.uint8)[np.random.default_rng(0).integers(4, size=(64, window_bp))]
    tokens = length_tokens(encoder, window_bp, lambda: (random, np.full(64, window_bp)))
    return tokens, encoder.kind == "other"


def planned_windows(data: DataRecipe) -> float | None:
    """Estimate the windows of an epoch from the sizes of files; None where they do not exist.

    Gzip takes a byte for about 3.4 bases. Contigs that are held out by name or by a file are not subtracted.
    """
    fasta = [data.fasta] if isinstance(data.fasta, str) else data.fasta or []
    listed: list[str | list[str]] = list(fasta.values() if isinstance(fasta, dict) else fasta)
    files = [Path(file) for some in listed for file in ([some] if isinstance(some, str) else some)]
    if not files or not all(file.is_file() for file in files):
        return None
    num_bases = sum(file.stat().st_size * (3.4 if file.suffix in (".gz", ".bgz") else 1.0) for file in files)
    return max(1.0, num_bases * max(0.0, 1 - data.valid.fraction - data.test.fraction) / data.window_bp)


def planned_run(recipe: PretrainRecipe, num_gpus: int, gpu: GPU, profile: str | None) -> PlannedRun:
    """Return the run of a recipe on some GPUs; only the recipe and the tokenizer need exist."""
    training = recipe.training
    # What this machine lacks does not matter on those GPUs.
    machine: dict[str, Any] = {"use_cpu": True, "bf16": False, "fp16": False}
    machine |= {key: False for key in ("tf32", "bf16_full_eval", "fp16_full_eval") if key in training}
    arguments = training_arguments(training | machine, Path(recipe.run_dir), recipe.seed)
    windows = None if recipe.data.dataset else planned_windows(recipe.data)
    batch_size, accumulation = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps
    if arguments.max_steps <= 0 and (windows or recipe.data.dataset):
        set_length(arguments, None if windows is None else round(windows), batch_size * accumulation * num_gpus)
    tokenizer = planned_tokenizer(recipe)
    tokens, estimated = planned_tokens(recipe, tokenizer)
    fp16 = bool(training.get("fp16"))
    # Newer versions of transformers call it activation_checkpointing, and keep the old name.
    options: Any = arguments.gradient_checkpointing_kwargs or {}
    return PlannedRun(
        make_model=lambda: build_model(recipe.model, tokenizer, recipe.objective.kind, tokens),
        objective=recipe.objective.kind,
        window_bp=recipe.data.window_bp,
        length_tokens=tokens,
        estimated=estimated,
        batch_size=batch_size,
        accumulation=accumulation,
        num_gpus=num_gpus,
        gpu=gpu,
        profile=profile,
        steps=arguments.max_steps if arguments.max_steps > 0 else None,
        windows_per_epoch=windows,
        precision="bf16" if training.get("bf16", gpu.bf16 and not fp16) else "fp16" if fp16 else "float32",
        checkpointing=dict(options) if arguments.gradient_checkpointing else None,
        padded=recipe.objective.kind == "masked" and estimated,
    )
