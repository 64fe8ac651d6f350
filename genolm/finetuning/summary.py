"""Print what a fine-tuning run is about to do, and record its inputs."""

from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import TrainingArguments

from genolm.config.files import file_sha256
from genolm.config.finetune import FinetuneRecipe, keys_without_effect
from genolm.config.provenance import write_provenance
from genolm.config.recipe import to_dict
from genolm.finetuning.build import SplitRows
from genolm.finetuning.validate import named_files


def print_finetuning_summary(recipe: FinetuneRecipe, rows: SplitRows, model, arguments: TrainingArguments) -> None:
    """Print rows, task, model and number of steps."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    for note in rows.notes:
        console.print(note)
    task = rows.train.task
    names = ", ".join(task.names[:8]) + (" …" if len(task.names) > 8 else "")
    console.print(f"task       {task.kind}: {names}")
    console.print("rows       " + ", ".join(f"{name} {len(part):,}" for name, part in rows.parts.items()))
    total, trained = num_parameters(model)
    how = recipe.method or recipe.model["baseline"]
    console.print(f"model      {how}: {total:,} parameters, {trained:,} of them trained")
    if idle := keys_without_effect(recipe):
        console.print(f"note       without effect on {recipe.method or 'a baseline'}: {', '.join(idle)}")
    if recipe.method != "probe":
        ranks = arguments.world_size
        size = arguments.train_batch_size * arguments.gradient_accumulation_steps * ranks
        console.print(f"steps      {arguments.max_steps:,} of {size:,} rows; {ranks} on {arguments.device.type}")


def num_parameters(model) -> tuple[int, int]:
    """Return the number of a model's parameters, and of those that are trained; of ZeRO-3 shards the whole."""
    sizes = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def write_inputs(recipe: FinetuneRecipe) -> None:
    """Write the recipe, and the sha256 of every file that it names, to the run folder."""
    paths = [path for path in named_files(recipe.labels) if Path(path).is_file()]
    inputs: list[dict[str, Any]] = [{"path": path, "sha256": file_sha256(path)} for path in paths]
    write_provenance(Path(recipe.run_dir), to_dict(recipe), {"inputs": inputs}, recipe.seed)
