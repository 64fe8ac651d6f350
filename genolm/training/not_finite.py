"""Stop a run whose loss or gradient is not finite, and keep the batch that reproduces the step."""

import json
from pathlib import Path
from typing import Any, NoReturn

from accelerate.utils import gather_object
from safetensors.torch import save_file

from genolm.training.loop_callbacks import samples_per_step
from genolm.training.signals import NotFinite


def raise_not_finite(trainer: Any, grad_norm: float) -> NoReturn:
    """Write what reproduces the step, and raise; every rank must call it."""
    step, size = trainer.state.global_step, samples_per_step(trainer.args)
    losses = gather_object([str(float(trainer.loss_since_log()))])
    samples = f"samples {step * size:,} to {(step + 1) * size - 1:,}"
    message = f"step {step + 1} ({samples}): loss {', '.join(losses)}, gradient norm {grad_norm}"
    if trainer.payload is not None:
        folder = trainer.payload.root.parent / "not-finite" / f"step-{step + 1}"
        try:
            write_step(folder, trainer, losses, grad_norm)
            message += f"; the batch is in {folder}"
        except Exception as error:  # what happened matters more than that it could not be kept
            message += f"; the batch could not be written to {folder}: {error}"
    trainer.accelerator.wait_for_everyone()
    raise NotFinite(
        f"{message}. Nothing was updated; try a lower training.learning_rate or training.max_grad_norm, from an "
        "earlier checkpoint where the newest has gone astray already"
    )


def write_step(folder: Path, trainer: Any, losses: list[str], grad_norm: float) -> None:
    """Write this rank's batches, and on the main rank `about.json`: samples, seed, losses and recipe of the step."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{i}.{name}": value.contiguous().cpu()
        for i, batch in enumerate(trainer.last_batches)
        for name, value in batch.items()
    }
    save_file(tensors, folder / f"rank-{trainer.args.process_index}.safetensors")
    if trainer.is_world_process_zero():
        step, size = trainer.state.global_step, samples_per_step(trainer.args)
        samples = [step * size, (step + 1) * size]
        metadata = {"step": step + 1, "samples": samples, "seed": trainer.args.seed, "loss": losses}
        metadata |= {"grad_norm": str(grad_norm), "recipe": trainer.payload.manifest.get("recipe")}
        (folder / "about.json").write_text(json.dumps(metadata, indent=1))
