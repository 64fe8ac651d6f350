"""`genolm pretrain`: from a FASTA to a model that plain AutoModel loads, in one command.

    genome → splits → tokenizer → corpus → model → Trainer → checkpoint → evaluation

Each step is one function here, and says what it did before anything is spent.
"""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Annotated, Any

import typer

import genolm
from genolm.provenance import write_provenance
from genolm.recipe import PretrainRecipe, recipe_hash, to_dict
from genolm.settings import SettingsError, load_settings


def pretrain(
    recipe: Annotated[str, typer.Argument(help="Recipe, a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes to the recipe: key=value.")] = None,
) -> None:
    """Pretrain a DNA language model from genomes, and evaluate it.

    Example: genolm pretrain recipes/quickstart/causal.yaml data.fasta=genome.fa run_dir=runs/first
    """
    run(load_settings(PretrainRecipe, recipe, overrides or []))


def run(recipe: PretrainRecipe) -> dict[str, Any]:
    """Run a recipe to the end and return its metrics, as in `metrics.json`."""
    from accelerate import PartialState

    run_dir = Path(recipe.run_dir)
    # The main process of a node prepares; the others wait, and then find everything done.
    cpu = uses_cpu(recipe)
    if cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed, where installed, warns that it found no GPU
    state = PartialState(cpu=cpu)
    with state.local_main_process_first():
        run_dir.mkdir(parents=True, exist_ok=True)
        store, regions = open_genomes(recipe, quiet=not state.is_main_process)
        tokenizer = open_tokenizer(recipe, store, regions)
    arguments = training_arguments(recipe)
    corpus, collator = make_corpus(recipe, store, regions["train"], tokenizer)
    set_length(arguments, corpus.windows_per_epoch)
    model = make_model(recipe, tokenizer, corpus)
    if state.is_main_process:
        write_provenance(run_dir, to_dict(recipe), store.manifest, recipe.seed)
        describe(recipe, store, regions, corpus, model)
    trainer = make_trainer(recipe, arguments, model, collator, corpus)
    trainer.train()
    metrics = finish(recipe, trainer, tokenizer, corpus, regions) if state.is_main_process else {}
    state.wait_for_everyone()
    return metrics


def open_genomes(recipe: PretrainRecipe, quiet: bool = False):
    """Prepare the genomes if need be; return the store and the regions of each split."""
    from genolm.genome.sources import prepare_genomes
    from genolm.genome.windows import Split, available, split

    data = recipe.data
    if not data.fasta:
        raise SettingsError("data.fasta is not set; add data.fasta=FILE to the command")
    store = prepare_genomes(data.fasta, Path(recipe.run_dir) / "genome", data.sha256, quiet, data.rename_duplicates)
    valid, test = (Split.read(rule.contigs, rule.fraction, rule.regions) for rule in (data.valid, data.test))
    return store, split(store, valid, test, available(store, data.include, data.exclude))


def open_tokenizer(recipe: PretrainRecipe, store, regions):
    """Build the tokenizer the recipe names (BPE on the training split only), or open the folder it names."""
    from genolm.tokenizers.bpe import train_sample
    from genolm.tokenizers.build import build_tokenizer, load_spec, load_tokenizer

    folder = Path(recipe.run_dir) / "tokenizer"
    if (Path(recipe.tokenizer) / "tokenizer.json").is_file():
        return load_tokenizer(Path(recipe.tokenizer))
    spec = load_spec(recipe.tokenizer)
    stamp = json.loads(json.dumps(dataclasses.asdict(spec)))
    if spec.kind == "bpe":
        # Learnt on the training split alone, so another split is another tokenizer.
        stamp |= {"genome": store.fingerprint, "train": [list(row) for row in regions["train"]]}
    stamp_file = folder / "built_from.json"
    if stamp_file.is_file() and json.loads(stamp_file.read_text()) == stamp:
        return load_tokenizer(folder)
    sequences = train_sample(store, list(regions["train"]), spec.sample_bp) if spec.kind == "bpe" else None
    tokenizer = build_tokenizer(spec, sequences)
    tokenizer.save_pretrained(folder)
    stamp_file.write_text(json.dumps(stamp))
    return tokenizer


def make_corpus(recipe: PretrainRecipe, store, train, tokenizer):
    """Return the corpus of the training regions and its collator."""
    from genolm.data.collate import CausalCollator, MaskedCollator
    from genolm.data.corpus import Corpus
    from genolm.tokenizers.encode import make_encoder

    data, causal = recipe.data, recipe.objective.kind == "causal"
    corpus = Corpus(
        store,
        train,
        make_encoder(tokenizer),
        data.window_bp,
        seed=recipe.seed,
        reverse_complement=data.reverse_complement,
        soft_masked_weight=data.soft_masked_weight,
        by=data.sampling.by,
        temperature=data.sampling.temperature,
        pack=causal,
    )
    return corpus, CausalCollator(corpus) if causal else MaskedCollator(corpus, make_masking(recipe, corpus.encoder))


def make_masking(recipe: PretrainRecipe, encoder):
    """Return the masking of a masked objective."""
    from genolm.data.collate import Masking

    objective = recipe.objective
    rates = (objective.mask_rate, objective.mask_token_rate, objective.random_token_rate, objective.span_bp)
    return Masking(encoder, *rates)


def make_model(recipe: PretrainRecipe, tokenizer, corpus):
    """Return the model, initialised from the recipe's seed."""
    from accelerate.utils import set_seed

    from genolm.models.build import build_model

    set_seed(recipe.seed)
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


def uses_cpu(recipe: PretrainRecipe) -> bool:
    """Say whether the recipe asks for the CPU, or there is nothing else."""
    import torch

    return bool(recipe.training.get("use_cpu", not torch.accelerator.is_available()))


def training_arguments(recipe: PretrainRecipe):
    """Turn the recipe's training block into TrainingArguments, with our defaults; unknown keys are errors."""
    import difflib

    from transformers import TrainingArguments

    from genolm.training.precision import has_fast_bf16

    known = {f.name for f in dataclasses.fields(TrainingArguments) if f.init}
    for key in recipe.training:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SettingsError(f"training.{key} is not a field of transformers.TrainingArguments{hint}")
    defaults: dict[str, Any] = {
        "use_cpu": uses_cpu(recipe),
        "bf16": has_fast_bf16(),
        "seed": recipe.seed,
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": "none",
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "weight_decay": 0.01,
        "adam_beta2": 0.98,
    }
    fixed = {
        "output_dir": str(Path(recipe.run_dir) / "trainer"),
        "remove_unused_columns": False,
        # A NaN is logged as NaN, not as 0.0.
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
    }
    try:
        return TrainingArguments(**{**defaults, **recipe.training, **fixed})
    except (TypeError, ValueError) as error:
        raise SettingsError(f"training: transformers refuses these arguments: {error}") from error


def set_length(arguments, windows_per_epoch: int) -> None:
    """Turn epochs into steps, where the recipe gave no steps."""
    from genolm.training.trainer import samples_per_step

    if arguments.max_steps <= 0:
        arguments.max_steps = max(
            1, math.ceil(arguments.num_train_epochs * windows_per_epoch / samples_per_step(arguments))
        )


def make_trainer(recipe: PretrainRecipe, arguments, model, collator, corpus):
    """Return the trainer, ready to run."""
    from transformers import PrinterCallback

    from genolm.training.trainer import LanguageModelTrainer, RunLog, SampleNumbers, samples_per_step

    per_step = samples_per_step(arguments)
    log = Path(recipe.run_dir) / "log.jsonl"
    if arguments.process_index == 0:
        log.unlink(missing_ok=True)
    run_log = RunLog(
        log, per_step * corpus.length_tokens, bases_per_token(corpus.encoder, corpus), recipe.objective.kind
    )
    trainer = LanguageModelTrainer(
        model=model,
        args=arguments,
        train_dataset=SampleNumbers(arguments.max_steps * per_step),
        data_collator=collator,
        causal=recipe.objective.kind == "causal",
        callbacks=[run_log],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def finish(recipe: PretrainRecipe, trainer, tokenizer, corpus, regions) -> dict[str, Any]:
    """Evaluate, write the checkpoint folder, draw the loss curve; return the metrics."""
    from genolm.evaluation.figures import loss_curve
    from genolm.training.held_out import measure_splits

    run_dir, data, causal = Path(recipe.run_dir), recipe.data, recipe.objective.kind == "causal"
    model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    metrics = measure_splits(
        model,
        corpus.encoder,
        corpus.store,
        regions,
        window_bp=data.window_bp,
        masking=None if causal else make_masking(recipe, corpus.encoder),
        seed=recipe.seed,
        soft_masked_weight=data.eval_soft_masked_weight,
        annotation=recipe.evaluation.regions,
        max_bp=recipe.evaluation.max_bp,
        markov_orders=recipe.evaluation.markov_orders,
        autocast=bool(trainer.args.bf16),
    )
    (run_dir / "metrics.json").write_text(json.dumps(metrics, indent=1))
    write_checkpoint(recipe, model, tokenizer, corpus.store, metrics)
    rows = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    loss_curve(rows, run_dir / "loss.png", recipe.objective.kind, baselines=metrics.get("markov") if causal else None)
    return metrics


def write_checkpoint(recipe: PretrainRecipe, model, tokenizer, store, metrics: dict[str, Any]) -> None:
    """Write the folder that AutoModel and AutoTokenizer load, aside first, so that it is whole or absent."""
    import shutil

    checkpoint = Path(recipe.run_dir) / "checkpoint"
    aside = checkpoint.with_name("checkpoint.partial")
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    about = {
        "objective": recipe.objective.kind,
        "window_bp": recipe.data.window_bp,
        "tokenizer": recipe.tokenizer,
        "num_parameters": model.num_parameters(),
        "metrics": metrics,
        "recipe": to_dict(recipe),
        "recipe_hash": recipe_hash(recipe),
        "data": {"inputs": store.manifest.get("inputs", []), "fingerprint": store.fingerprint},
        "genolm_version": genolm.__version__,
    }
    (aside / "genolm.json").write_text(json.dumps(about, indent=1))
    shutil.rmtree(checkpoint, ignore_errors=True)
    os.replace(aside, checkpoint)
