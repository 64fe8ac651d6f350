"""Pretrain a model from genomes: the story of one run.

genome → splits → tokenizer → corpus → model → Trainer → checkpoint → evaluation
"""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from rich.console import Console
from transformers import PreTrainedModel, PrinterCallback, TrainingArguments

import genolm
from genolm.config.files import write_text
from genolm.config.pretrain import PretrainRecipe
from genolm.config.provenance import versions, write_provenance
from genolm.config.recipe import flatten_recipe, recipe_hash, to_dict
from genolm.config.yaml import SettingsError
from genolm.inference.perplexity import measure_bits, measure_splits
from genolm.models.build import config_class_of, describe_model
from genolm.models.loss import weighted_token_loss
from genolm.pretraining.build import (
    PretrainingData,
    data_fingerprints,
    evaluation_options,
    final_options,
    initial_model,
    make_corpus,
    open_genomes,
    open_tokenizer,
    print_bits,
)
from genolm.training.arguments import resolved_arguments, set_length
from genolm.training.checkpoint import CheckpointPayload, steps, write_checkpoint
from genolm.training.loop_callbacks import RunLog, bits_and_speed, samples_per_step
from genolm.training.parallelism import expected_wrapper, requested_parallelism
from genolm.training.run_folder import on_all_ranks, open_run, resume_checkpoint, train_in_folder
from genolm.training.signals import StopRequest
from genolm.training.trainer import SampleNumbers, WeightedTrainer


def pretrain_once(
    recipe: PretrainRecipe, allow_change: Sequence[str], stop: StopRequest, exit_stack: ExitStack
) -> dict[str, Any]:
    """Run a recipe to the end and return its metrics, as in `metrics.json`.

    Args:
        recipe: what to train.
        allow_change: keys that may differ from the recipe of the checkpoint to resume.
        stop: a request to stop after a checkpoint.
        exit_stack: keeps the run folder locked as long as it is open.

    Raises:
        RunStopped: by a signal, after a checkpoint; by a loss or gradient that is not finite, before the update; by a
            micro-batch that does not fit in memory.
    """
    run_dir = Path(recipe.run_dir)
    # What can be wrong in the recipe itself is refused before any genome is read.
    config_class_of(recipe.model.get("architecture"), recipe.objective.kind)
    options = {"deterministic": recipe.deterministic, "fit_batch": recipe.fit_batch}
    arguments, state = open_run(run_dir, recipe.training, recipe.seed, exit_stack, **options)
    # The main process prepares; the others wait, and then find everything done.
    with state.main_process_first():
        store, regions = open_genomes(recipe, quiet=not state.is_main_process)
        tokenizer = open_tokenizer(recipe, store, regions)
    data = PretrainingData(store, regions, tokenizer, *make_corpus(recipe, store, regions["train"], tokenizer))
    set_length(arguments, data.corpus.windows_per_epoch)
    model = initial_model(recipe, data)
    trainer = pretraining_trainer(recipe, arguments, model, data, stop)

    def choose_checkpoint() -> tuple[Path | None, dict[str, Any]]:
        if not steps(run_dir / "checkpoints"):
            refuse_trained(recipe)
        return resume_checkpoint(trainer, recipe.resume, allow_change)

    checkpoint, manifest = on_all_ranks(choose_checkpoint, main=state.is_main_process)
    if state.is_main_process:
        write_provenance(run_dir, to_dict(recipe), store.manifest, recipe.seed)
        print_summary(recipe, data, trainer, manifest.get("step", 0))
    state.wait_for_everyone()
    train_in_folder(trainer, checkpoint, manifest, recipe.fit_batch)
    return save_and_measure(recipe, trainer, data)


def refuse_trained(recipe: PretrainRecipe) -> None:
    """Refuse a run folder that holds a model and no checkpoint to resume from: training anew would lose the model."""
    run_dir = recipe.run_dir
    checkpoint = Path(run_dir) / "checkpoint"
    metadata = checkpoint / "genolm.json"
    if not metadata.is_file():
        return
    try:
        same = json.loads(metadata.read_text()).get("recipe_hash") == recipe_hash(recipe)
    except (ValueError, AttributeError):
        raise SettingsError(f"{metadata}: not what genolm writes; remove {checkpoint}") from None
    if same:
        text = f"the model of this recipe, and no checkpoint to resume from: `genolm evaluate {run_dir}` measures it"
    else:
        text = "a model of another recipe, which would be lost"
    raise SettingsError(f"{run_dir} holds {text}; to train anew set another run_dir, or remove {checkpoint}")


def pretraining_trainer(
    recipe: PretrainRecipe,
    arguments: TrainingArguments,
    model: PreTrainedModel,
    data: PretrainingData,
    stop: StopRequest,
) -> WeightedTrainer:
    """Return the trainer of a run, ready to train."""
    run_dir, per_step, kind = Path(recipe.run_dir), samples_per_step(arguments), recipe.objective.kind
    run_log = RunLog(
        run_dir / "log.jsonl",
        bits_and_speed(per_step * data.window_tokens, mean_bases_per_token(data.corpus), kind),
        measure_valid_bits(recipe, data, arguments),
        recipe.evaluation.every_steps,
        data.corpus.windows_per_epoch,
    )
    payload = CheckpointPayload(
        root=run_dir / "checkpoints",
        tokenizer=data.tokenizer,
        metadata=lambda model: model_metadata(recipe, data, model, {}),
        manifest={
            "recipe": to_dict(recipe),
            "flat_recipe": flatten_recipe(to_dict(recipe) | {"training": resolved_arguments(arguments)}),
            "recipe_hash": recipe_hash(recipe),
            "fingerprints": data_fingerprints(recipe, data),
            "versions": versions(),
        },
        log=run_dir / "log.jsonl",
    )
    try:
        trainer = WeightedTrainer(
            model=model,
            args=arguments,
            train_dataset=SampleNumbers(arguments.max_steps * per_step),
            data_collator=data.collator,
            loss=partial(weighted_token_loss, causal=kind == "causal"),
            payload=payload,
            stop=stop,
            requested=requested_parallelism(),
            callbacks=[run_log],
        )
    except (ImportError, RuntimeError, TypeError, KeyError) as error:  # a tracker or optimizer that is not installed
        raise SettingsError(f"training: transformers refuses these arguments: {error}") from error
    trainer.remove_callback(PrinterCallback)
    # Ours goes first, so that trackers are given the bits and speeds it adds.
    trainer.callback_handler.callbacks.remove(run_log)
    trainer.callback_handler.callbacks.insert(0, run_log)
    return trainer


def options_of_rank(recipe: PretrainRecipe, data: PretrainingData, arguments: TrainingArguments) -> dict[str, Any]:
    """Return the options of `measure_bits` for this rank."""
    encoder, batch_size = data.corpus.encoder, arguments.per_device_train_batch_size
    options = evaluation_options(recipe, encoder, data.window_tokens, batch_size)
    return options | {"rank": arguments.process_index, "num_ranks": arguments.world_size}


def measure_valid_bits(
    recipe: PretrainRecipe, data: PretrainingData, arguments: TrainingArguments
) -> Callable[[Any], dict[str, float]] | None:
    """Return model → bits per base of a part of the validation regions, by name; None where there are none."""
    part = data.regions["valid"].head(recipe.evaluation.valid_bp)
    if not len(part):
        return None
    options = options_of_rank(recipe, data, arguments)

    def measure(model: Any) -> dict[str, float]:
        table = measure_bits(model, data.corpus.encoder, data.store, part, **options)
        return {name: table[name] for name in ("bits_per_base", "masked_bits_per_base") if name in table}

    return measure


def save_and_measure(recipe: PretrainRecipe, trainer: WeightedTrainer, data: PretrainingData) -> dict[str, Any]:
    """Write the checkpoint folder, evaluate on all ranks, draw the loss curve; return the metrics."""
    from genolm.reports.figures import loss_curve

    run_dir, main, kind = Path(recipe.run_dir), trainer.is_world_process_zero(), recipe.objective.kind
    model, weights = trainer.whole_model(), trainer.full_state()
    checkpoint = run_dir / "checkpoint"

    def write(metrics: dict[str, Any]) -> None:
        metadata = model_metadata(recipe, data, model, metrics)
        try:
            write_checkpoint(checkpoint, model, data.tokenizer, metadata, weights)
        except Exception as error:  # OSError, SafetensorError …
            raise OSError(f"{checkpoint} could not be written: {error}; the same command resumes") from error

    # Written before it is measured, and again with the metrics: an interrupted evaluation costs no model.
    if main:
        write({})
    metrics = measure_splits(
        model,
        data.corpus.encoder,
        data.store,
        data.regions,
        progress=main,
        after_batch=trainer.raise_if_asked_to_stop,
        **options_of_rank(recipe, data, trainer.args),
        **final_options(recipe),
    )
    if not main:
        return metrics
    write(metrics)
    write_text(run_dir / "metrics.json", json.dumps(metrics, indent=1))
    log, curve = run_dir / "log.jsonl", run_dir / "loss.png"
    rows = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    loss_curve(rows, curve, kind, baselines=metrics.get("markov") if kind == "causal" else None)
    print_bits(metrics)
    print(f"model: {checkpoint}   curve: {curve}   log: {log}")
    return metrics


def model_metadata(
    recipe: PretrainRecipe, data: PretrainingData, model: PreTrainedModel, metrics: dict[str, Any]
) -> dict[str, Any]:
    """Return the contents of a checkpoint's `genolm.json`."""
    return {
        "objective": recipe.objective.kind,
        "window_bp": recipe.data.window_bp,
        "window_tokens": data.window_tokens,
        "tokenizer": recipe.tokenizer,
        "num_parameters": model.num_parameters(),
        "metrics": metrics,
        "recipe": to_dict(recipe),
        "recipe_hash": recipe_hash(recipe),
        "data": {"inputs": data.store.manifest["inputs"], "fingerprint": data.store.fingerprint},
        "genolm_version": genolm.__version__,
    }


def mean_bases_per_token(corpus: Any) -> float:
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
