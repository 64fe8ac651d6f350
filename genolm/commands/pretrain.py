"""`genolm pretrain`: from a FASTA to a model that plain AutoModel loads, in one command.

    genome → splits → tokenizer → corpus → model → Trainer → checkpoint → evaluation

Each step is one function here, and says what it did before anything is spent.
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import genolm
from genolm.config.files import write_text
from genolm.config.provenance import versions, write_provenance
from genolm.config.recipes import PretrainRecipe, flat, recipe_hash, to_dict
from genolm.config.yaml import SettingsError, load_settings


def pretrain(
    recipe: Annotated[str, typer.Argument(help="Recipe, a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes to the recipe: key=value.")] = None,
    launch: Annotated[
        str,
        typer.Option(help="Start the ranks of a profile of recipes/accelerate, or of a file: 'ddp --num_processes 4'."),
    ] = "",
    allow_change: Annotated[
        list[str] | None, typer.Option(help="A key that may differ from the checkpoint's recipe; repeat for more.")
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Print what the run will take, FLOPs, memory and days; run and write nothing."),
    ] = False,
    gpus: Annotated[
        str, typer.Option(help="For --plan: 8xH100, A100-40, 4; by default what this machine has, else 8xH100.")
    ] = "",
) -> None:
    """Pretrain a DNA language model from genomes, and evaluate it. The same command again goes on where it was stopped.

    Example: genolm pretrain recipes/quickstart/causal.yaml data.fasta=genome.fa run_dir=runs/first
    """
    if gpus and not plan:
        raise SettingsError(f"--gpus {gpus}: it is for --plan; --launch 'ddp --num_processes N' trains on N GPUs")
    if plan:
        return show_plan(load_settings(PretrainRecipe, recipe, overrides or []), gpus, launch)
    if launch:
        from genolm.training.launch import launch as start_ranks

        load_settings(PretrainRecipe, recipe, overrides or [])
        allowed = [word for key in allow_change or [] for word in ("--allow-change", key)]
        raise SystemExit(start_ranks(launch, ["pretrain", recipe, *(overrides or []), *allowed]))
    from genolm.training.signals import with_exit_code

    with_exit_code(lambda: run(load_settings(PretrainRecipe, recipe, overrides or []), allow_change or []))


def show_plan(recipe: PretrainRecipe, gpus: str, launch: str) -> None:
    """Print what a recipe will take on some GPUs, under a profile where one is named."""
    from genolm.plan.gpus import gpus_meant
    from genolm.plan.report import print_plan
    from genolm.pretraining.build import run_to_be
    from genolm.training.launch import asked_by

    asked = asked_by(launch) if launch else None
    num, gpu = gpus_meant(gpus, asked.processes if asked else None)
    name = launch.split()[0].removeprefix("cpu-") if launch else None
    print_plan(run_to_be(recipe, num, gpu, name))


def run(recipe: PretrainRecipe, allow_change: Sequence[str] = ()) -> dict[str, Any]:
    """Run a recipe to the end and return its metrics, as in `metrics.json`.

    Args:
        recipe: what to train.
        allow_change: keys that may differ from the recipe of the checkpoint to go on from.

    Raises:
        Stopped: a signal asked for it; there is a checkpoint.
        NotFinite: a loss or gradient was not finite; nothing was updated.
        OutOfMemory: the micro-batch does not fit.
    """
    from genolm.training.signals import until_it_fits

    return until_it_fits(lambda stop, held: attempt(recipe, allow_change, stop, held))


def attempt(recipe: PretrainRecipe, allow_change: Sequence[str], stop, held: ExitStack) -> dict[str, Any]:
    """Prepare, train and finish, with the micro-batch that is known to fit."""
    from genolm.models.build import config_class_of
    from genolm.pretraining.build import make_corpus, make_model, open_genomes, open_tokenizer
    from genolm.training.arguments import set_length
    from genolm.training.checkpoint import steps
    from genolm.training.launch import wrapper_to_be
    from genolm.training.resume import on_all_ranks
    from genolm.training.run_folder import find_checkpoint, open_run, train

    run_dir = Path(recipe.run_dir)
    # What can be wrong in the recipe itself is found before any genome is read.
    config_class_of(recipe.model.get("architecture"), recipe.objective.kind)
    options = {"deterministic": recipe.deterministic, "fit_batch": recipe.fit_batch}
    arguments, state = open_run(run_dir, recipe.training, recipe.seed, held, **options)
    # The main process prepares; the others wait, and then find everything done.
    with state.main_process_first():
        store, regions = open_genomes(recipe, quiet=not state.is_main_process)
        tokenizer = open_tokenizer(recipe, store, regions)
    corpus, collator = make_corpus(recipe, store, regions["train"], tokenizer)
    set_length(arguments, corpus.windows_per_epoch)
    model = make_model(recipe, tokenizer, corpus)
    try:
        trainer = make_trainer(recipe, arguments, model, collator, corpus, store, regions, tokenizer, stop)
    except (ImportError, RuntimeError, TypeError, KeyError) as error:  # a tracker or optimizer that is not installed
        raise SettingsError(f"training: transformers refuses these arguments: {error}") from error

    def find():
        if not steps(run_dir / "checkpoints"):
            refuse_finished(recipe)
        return find_checkpoint(trainer, recipe.resume, allow_change)

    checkpoint, manifest = on_all_ranks(find, main=state.is_main_process)
    if state.is_main_process:
        write_provenance(run_dir, to_dict(recipe), store.manifest, recipe.seed)
        wrapped = f", {state.backend}, {wrapper_to_be(trainer)}" if state.num_processes > 1 else ""
        ranks = f"{state.num_processes} on {arguments.device.type}{wrapped}"
        describe(recipe, store, regions, corpus, model, arguments, ranks, manifest.get("step", 0))
    state.wait_for_everyone()
    train(trainer, checkpoint, manifest, recipe.fit_batch)
    return finish(recipe, trainer, tokenizer, corpus, store, regions)


def refuse_finished(recipe: PretrainRecipe) -> None:
    """Refuse a run folder that holds a model and nothing to go on from: training anew would lose it."""
    checkpoint = Path(recipe.run_dir) / "checkpoint"
    about = checkpoint / "genolm.json"
    if not about.is_file():
        return
    try:
        same = json.loads(about.read_text()).get("recipe_hash") == recipe_hash(recipe)
    except (ValueError, AttributeError):
        raise SettingsError(f"{about}: not what genolm writes; remove {checkpoint}") from None
    if same:
        raise SettingsError(
            f"{recipe.run_dir} holds the model of this recipe, and no checkpoint to go on from: `genolm evaluate "
            f"{recipe.run_dir}` measures it; to train anew set another run_dir, or remove {checkpoint}"
        )
    raise SettingsError(
        f"{recipe.run_dir} holds a model of another recipe, which would be lost; set another run_dir, or remove "
        f"{checkpoint}"
    )


def bases_per_token(corpus) -> float:
    """Return the bases that a predicted token adds to those before it, on average over some windows."""
    import numpy as np

    if corpus.encoder.kind == "kmer-overlapping":
        return 1.0
    examples = corpus.examples(np.arange(64))
    return float(corpus.encoder.num_bases[examples.ids[examples.weight > 0]].mean())


def describe(recipe: PretrainRecipe, store, regions, corpus, model, arguments, ranks: str, done: int) -> None:
    """Print what is about to be trained, before anything is spent."""
    from rich.console import Console

    from genolm.models.build import describe as describe_model
    from genolm.training.log import samples_per_step

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    parts = ", ".join(f"{name} {r.num_bases:,} bp" for name, r in regions.items() if len(r))
    epoch = "streamed" if corpus.windows_per_epoch is None else f"{corpus.windows_per_epoch:,} an epoch"
    steps = f"{arguments.max_steps:,} steps of {samples_per_step(arguments):,} windows"
    letters = [row["letters"] for row in store.manifest["inputs"]]
    counts = {name.replace("_", "-"): sum(row[name] for row in letters) for name in ("N", "IUPAC", "soft_masked")}
    console.print(f"genome     {store.num_bases:,} bp in {len(store.lengths):,} contigs; {parts}")
    console.print(
        f"letters    {', '.join(f'{num:,} {name}' for name, num in counts.items())}; A, C, G, T are predicted"
    )
    width = f", {bases_per_token(corpus):.2f} bp a token" if corpus.encoder.kind == "bpe" else ""
    console.print(f"tokenizer  {recipe.tokenizer}, {corpus.encoder.vocab_size:,} entries{width}")
    console.print(f"windows    {corpus.window_bp:,} bp = {corpus.length_tokens:,} tokens; {epoch}; {steps}")
    console.print(f"model      {describe_model(model)}; {'bf16' if arguments.bf16 else 'float32'}")
    console.print(f"ranks      {ranks}")
    if done:
        console.print(f"resumed    step {done:,} of {arguments.max_steps:,}")
    plain = type(recipe.data)()
    unused = [
        key
        for key in ("valid", "test", "include", "exclude", "sampling")
        if getattr(recipe.data, key) != getattr(plain, key)
    ]
    if recipe.data.dataset and unused:
        console.print(
            f"note       data.{', data.'.join(unused)} speak of FASTA; a streamed dataset makes no use of them"
        )


def make_trainer(recipe: PretrainRecipe, arguments, model, collator, corpus, store, regions, tokenizer, stop):
    """Return the trainer, ready to run."""
    from transformers import PrinterCallback

    from genolm.models.loss import weighted_token_loss
    from genolm.pretraining.build import fingerprints
    from genolm.training.arguments import resolved
    from genolm.training.launch import asked
    from genolm.training.log import RunLog, bits_and_speed, samples_per_step
    from genolm.training.trainer import SampleNumbers, Saving, WeightedTrainer

    run_dir, per_step = Path(recipe.run_dir), samples_per_step(arguments)
    measure_valid = valid_bits(recipe, store, regions["valid"], corpus, arguments)
    show = bits_and_speed(per_step * corpus.length_tokens, bases_per_token(corpus), recipe.objective.kind)
    every, epoch = recipe.evaluation.every_steps, corpus.windows_per_epoch
    run_log = RunLog(run_dir / "log.jsonl", show, measure_valid, every, epoch)
    saving = Saving(
        root=run_dir / "checkpoints",
        tokenizer=tokenizer,
        about=lambda model: about_model(recipe, model, store, corpus.length_tokens, {}),
        manifest={
            "recipe": to_dict(recipe),
            "flat_recipe": flat(to_dict(recipe) | {"training": resolved(arguments)}),
            "recipe_hash": recipe_hash(recipe),
            "fingerprints": fingerprints(recipe, store, regions, tokenizer),
            "versions": versions(),
        },
        log=run_dir / "log.jsonl",
    )
    trainer = WeightedTrainer(
        model=model,
        args=arguments,
        train_dataset=SampleNumbers(arguments.max_steps * per_step),
        data_collator=collator,
        loss=partial(weighted_token_loss, causal=recipe.objective.kind == "causal"),
        saving=saving,
        stop=stop,
        asked=asked(),
        callbacks=[run_log],
    )
    trainer.remove_callback(PrinterCallback)
    # Ours goes first, so that trackers are given the bits and speeds it adds.
    trainer.callback_handler.callbacks.remove(run_log)
    trainer.callback_handler.callbacks.insert(0, run_log)
    return trainer


def valid_bits(recipe: PretrainRecipe, store, valid, corpus, arguments):
    """Return model → bits per base of a part of the validation regions, by name; None where there are none."""
    from genolm.inference.perplexity import measure_bits
    from genolm.pretraining.evaluate import evaluation_options

    part = valid.head(recipe.evaluation.valid_bp)
    if not len(part):
        return None
    options = evaluation_options(recipe, corpus.encoder, corpus.length_tokens, arguments.per_device_train_batch_size)
    options |= {"rank": arguments.process_index, "num_ranks": arguments.world_size}

    def bits(model) -> dict[str, float]:
        found = measure_bits(model, corpus.encoder, store, part, **options)
        return {name: found[name] for name in ("bits_per_base", "masked_bits_per_base") if name in found}

    return bits


def finish(recipe: PretrainRecipe, trainer, tokenizer, corpus, store, regions) -> dict[str, Any]:
    """Write the checkpoint folder, evaluate on all ranks, draw the loss curve; return the metrics."""
    from genolm.inference.perplexity import measure_splits
    from genolm.pretraining.evaluate import evaluation_options, final_options
    from genolm.reports.figures import loss_curve
    from genolm.reports.tables import print_metrics
    from genolm.training.checkpoint import write_checkpoint

    run_dir, main = Path(recipe.run_dir), trainer.is_world_process_zero()
    model, weights = trainer.whole_model(), trainer.full_state()
    # Written before it is measured, and again with the measures: an interrupted evaluation costs no model.
    checkpoint = run_dir / "checkpoint"

    def write(metrics: dict[str, Any]) -> None:
        if main:
            about = about_model(recipe, model, store, corpus.length_tokens, metrics)
            try:
                write_checkpoint(checkpoint, model, tokenizer, about, weights)
            except Exception as error:  # OSError, SafetensorError …
                raise OSError(f"{checkpoint} could not be written: {error}; the same command goes on") from error

    write({})
    arguments = trainer.args
    metrics = measure_splits(
        model,
        corpus.encoder,
        store,
        regions,
        progress=main,
        after_batch=trainer.raise_if_asked_to_stop,
        rank=arguments.process_index,
        num_ranks=arguments.world_size,
        **evaluation_options(recipe, corpus.encoder, corpus.length_tokens, arguments.per_device_train_batch_size),
        **final_options(recipe),
    )
    write(metrics)
    if not main:
        return metrics
    write_text(run_dir / "metrics.json", json.dumps(metrics, indent=1))
    rows = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines() if line.endswith("}")]
    causal = recipe.objective.kind == "causal"
    loss_curve(rows, run_dir / "loss.png", recipe.objective.kind, baselines=metrics.get("markov") if causal else None)
    print_metrics(metrics)
    print(f"model: {checkpoint}   curve: {run_dir / 'loss.png'}   log: {run_dir / 'log.jsonl'}")
    return metrics


def about_model(recipe: PretrainRecipe, model, store, window_tokens: int, metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint tells of itself in `genolm.json`."""
    return {
        "objective": recipe.objective.kind,
        "window_bp": recipe.data.window_bp,
        "window_tokens": window_tokens,
        "tokenizer": recipe.tokenizer,
        "num_parameters": model.num_parameters(),
        "metrics": metrics,
        "recipe": to_dict(recipe),
        "recipe_hash": recipe_hash(recipe),
        "data": {"inputs": store.manifest["inputs"], "fingerprint": store.fingerprint},
        "genolm_version": genolm.__version__,
    }
