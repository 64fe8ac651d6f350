"""`genolm pretrain`: from a FASTA to a model that plain AutoModel loads, in one command.

    genome → splits → tokenizer → corpus → model → Trainer → checkpoint → evaluation

Each step is one function here, and says what it did before anything is spent.
"""

import json
import math
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from genolm.recipe import PretrainRecipe, RecipeError, load_recipe, recipe_hash, to_dict


def pretrain(
    recipe: Annotated[str, typer.Argument(help="Recipe, a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes to the recipe: key=value.")] = None,
) -> None:
    """Pretrain a DNA language model from genomes, and evaluate it.

    Example: genolm pretrain recipes/quickstart/causal.yaml data.fasta=genome.fa run_dir=runs/first
    """
    run(load_recipe(PretrainRecipe, recipe, overrides or []))


def run(recipe: PretrainRecipe) -> dict[str, Any]:
    """Run a recipe to the end and return its metrics, as in `metrics.json`."""
    from accelerate import PartialState
    from accelerate.utils import set_seed

    from genolm.provenance import write_provenance

    run_dir = Path(recipe.run_dir)
    # Before anything else: which process this is. The main one prepares, the others wait and then only open.
    state = PartialState(cpu=bool(recipe.training.get("use_cpu", False)))
    set_seed(recipe.seed)
    with state.main_process_first():
        run_dir.mkdir(parents=True, exist_ok=True)
        store, regions = open_genomes(recipe, quiet=not state.is_main_process)
        tokenizer = open_tokenizer(recipe, store, regions, quiet=not state.is_main_process)
    collator, corpus, encoder = make_corpus(recipe, store, regions["train"], tokenizer)
    model = make_model(recipe, tokenizer, corpus)
    if state.is_main_process:
        write_provenance(run_dir, to_dict(recipe), store.manifest, recipe.seed)
        describe(recipe, store, regions, corpus, model)
    trainer = make_trainer(recipe, model, collator, corpus, encoder)
    trainer.train(resume_from_checkpoint=None)
    metrics = finish(recipe, trainer, tokenizer, store, regions) if state.is_main_process else {}
    state.wait_for_everyone()
    return metrics


def open_genomes(recipe: PretrainRecipe, quiet: bool = False):
    """Prepare the genomes if need be; return the store and the regions of each split."""
    from genolm.commands.prepare import prepare_genomes
    from genolm.genome.interval import read_intervals
    from genolm.genome.windows import Split, regions_of, split, whole

    data = recipe.data
    if not data.fasta:
        raise RecipeError("data.fasta is not set; add data.fasta=FILE to the command")
    store = prepare_genomes(data.fasta, Path(recipe.run_dir) / "genome", sha256=data.sha256, quiet=quiet)
    available = whole(store)
    if data.include:
        available = available.intersect(regions_of(store, read_intervals(Path(data.include))))
    if data.exclude:
        available = available.subtract(regions_of(store, read_intervals(Path(data.exclude))))

    def rule(block) -> Split:
        intervals = read_intervals(Path(block.regions)) if block.regions else ()
        return Split(tuple(block.contigs), block.fraction, tuple(intervals))

    return store, split(store, rule(data.valid), rule(data.test), available)


def open_tokenizer(recipe: PretrainRecipe, store, regions, quiet: bool = False):
    """Build the tokenizer the recipe names (BPE on the training split only), or open the folder it names."""
    from genolm.tokenizers.build import build_tokenizer, load_spec, load_tokenizer, train_sample

    folder = Path(recipe.run_dir) / "tokenizer"
    if (Path(recipe.tokenizer) / "tokenizer.json").is_file():
        return load_tokenizer(Path(recipe.tokenizer))
    spec = load_spec(recipe.tokenizer)
    stamp = {"spec": recipe.tokenizer, "genome": store.fingerprint if spec.kind == "bpe" else None}
    stamp_file = folder / "built_from.json"
    if stamp_file.is_file() and json.loads(stamp_file.read_text()) == stamp:
        return load_tokenizer(folder)
    sequences = train_sample(store, list(regions["train"])) if spec.kind == "bpe" else None
    tokenizer = build_tokenizer(spec, sequences)
    tokenizer.save_pretrained(folder)
    stamp_file.write_text(json.dumps(stamp))
    return tokenizer


def make_corpus(recipe: PretrainRecipe, store, regions, tokenizer):
    """Return the collator, its corpus and the encoder."""
    from genolm.data.collate import CausalCollator, MaskedCollator
    from genolm.data.corpus import Corpus
    from genolm.tokenizers.encode import make_encoder

    data, objective = recipe.data, recipe.objective
    encoder = make_encoder(tokenizer)
    causal = objective.kind == "causal"
    corpus = Corpus(
        store,
        regions,
        encoder,
        data.window_bp,
        seed=recipe.seed,
        reverse_complement=data.reverse_complement,
        soft_masked_weight=data.soft_masked_weight,
        by=data.sampling.by,
        temperature=data.sampling.temperature,
        pack=causal,
    )
    collator = CausalCollator(corpus) if causal else MaskedCollator(corpus, make_masking(recipe, encoder))
    return collator, corpus, encoder


def make_masking(recipe: PretrainRecipe, encoder):
    """Return the masking of a recipe: spans of k for overlapping k-mers unless it says otherwise."""
    from genolm.data.collate import Masking

    objective = recipe.objective
    span = objective.span_bp or (encoder.k if encoder.kind == "kmer-overlapping" else 1)
    return Masking(encoder, objective.mask_rate, objective.mask_token_rate, objective.random_token_rate, span)


def make_model(recipe: PretrainRecipe, tokenizer, corpus):
    """Return the model, initialised from the recipe's seed."""
    from genolm.models.build import build_model

    return build_model(recipe.model, tokenizer, recipe.objective.kind, corpus.length_tokens)


def bases_per_token(encoder, corpus) -> float:
    """Return the bases that a predicted token stands for, on average over the corpus."""
    if encoder.kind in ("char", "kmer-overlapping"):
        return 1.0
    if encoder.kind == "kmer":
        return float(encoder.k)
    return corpus.window_bp / max(1, corpus.length_tokens)


def describe(recipe: PretrainRecipe, store, regions, corpus, model) -> None:
    """Print what is about to be trained, before anything is spent."""
    from rich.console import Console

    from genolm.models.build import describe as describe_model

    console = Console(stderr=True)
    parts = ", ".join(f"{name} {r.num_bases:,} bp" for name, r in regions.items())
    console.print(f"genome     {store.num_bases:,} bp in {len(store.contigs):,} contigs; {parts}")
    console.print(f"tokenizer  {recipe.tokenizer}, {corpus.encoder.vocab_size:,} entries")
    console.print(f"windows    {corpus.window_bp:,} bp = {corpus.length_tokens:,} tokens; {corpus.windows_per_epoch:,}")
    console.print(f"model      {describe_model(model)}")


def has_fast_bf16() -> bool:
    """Say whether bf16 is native here: a GPU that has it, or a CPU with AVX512-BF16 or AMX."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def training_arguments(recipe: PretrainRecipe, windows_per_epoch: int):
    """Turn the recipe's training block into TrainingArguments, with our defaults; unknown keys are errors."""
    import dataclasses
    import difflib

    from transformers import TrainingArguments

    known = {f.name for f in dataclasses.fields(TrainingArguments) if f.init}
    given = dict(recipe.training)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise RecipeError(f"training.{key} is not a field of transformers.TrainingArguments{hint}")
    defaults: dict[str, Any] = {
        "bf16": has_fast_bf16(),
        "seed": recipe.seed,
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": "none",
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "weight_decay": 0.01,
        "adam_beta2": 0.98,
        "logging_nan_inf_filter": False,
    }
    fixed = {"output_dir": str(Path(recipe.run_dir) / "trainer"), "remove_unused_columns": False}
    arguments = TrainingArguments(**{**defaults, **given, **fixed})
    if arguments.max_steps <= 0:
        samples = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
        arguments.max_steps = max(1, math.ceil(arguments.num_train_epochs * windows_per_epoch / samples))
    return arguments


def make_trainer(recipe: PretrainRecipe, model, collator, corpus, encoder):
    """Return the trainer, ready to run."""
    from genolm.training.trainer import LanguageModelTrainer, RunLog, SampleNumbers, samples_per_step

    arguments = training_arguments(recipe, corpus.windows_per_epoch)
    per_step = samples_per_step(arguments)
    log = Path(recipe.run_dir) / "log.jsonl"
    if arguments.process_index == 0:
        log.unlink(missing_ok=True)
    return LanguageModelTrainer(
        model=model,
        args=arguments,
        train_dataset=SampleNumbers(arguments.max_steps * per_step),
        data_collator=collator,
        causal=recipe.objective.kind == "causal",
        callbacks=[
            RunLog(log, per_step * corpus.length_tokens, bases_per_token(encoder, corpus), recipe.objective.kind)
        ],
    )


def finish(recipe: PretrainRecipe, trainer, tokenizer, store, regions) -> dict[str, Any]:
    """Write the checkpoint folder, evaluate it, draw the loss curve; return the metrics."""
    from genolm.commands.evaluate import evaluate_model
    from genolm.evaluation.figures import loss_curve

    run_dir = Path(recipe.run_dir)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model = getattr(model, "_orig_mod", model)
    metrics = evaluate_model(
        model,
        tokenizer,
        store,
        regions,
        recipe,
        autocast=bool(trainer.args.bf16),
    )
    checkpoint = run_dir / "checkpoint"
    partial = run_dir / "checkpoint.partial"
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    card = {
        "objective": recipe.objective.kind,
        "window_bp": recipe.data.window_bp,
        "tokenizer": recipe.tokenizer,
        "recipe": to_dict(recipe),
        "recipe_hash": recipe_hash(recipe),
        "num_parameters": model.num_parameters(),
        "metrics": metrics,
        "data": {"inputs": store.manifest.get("inputs", []), "fingerprint": store.fingerprint},
    }
    (partial / "genolm.json").write_text(json.dumps(card, indent=1, default=str))
    if checkpoint.exists():
        import shutil

        shutil.rmtree(checkpoint)
    os.replace(partial, checkpoint)
    (run_dir / "metrics.json").write_text(json.dumps(metrics, indent=1))
    rows = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    markov = metrics.get("markov") if recipe.objective.kind == "causal" else None
    loss_curve(rows, run_dir / "loss.png", recipe.objective.kind, baselines=markov)
    return metrics
