"""Whether a run may go on from a checkpoint: same recipe, same data, same global batch, and who may read it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genolm.settings import SettingsError

MAY_CHANGE = re.compile(r"(training|evaluation)\..*|deterministic")
"""Keys that `--allow-change` may name: the checkpoint still fits, and the run means what it meant."""
MAY_NOT = {"training.optim", "training.optim_args", "training.fp16"}
"""Keys of the training block that decide what is in a checkpoint."""
BATCH = ("training.per_device_train_batch_size", "training.gradient_accumulation_steps")


def check_recipe(before: dict[str, Any], now: dict[str, Any], allowed: Sequence[str], where: Path) -> list[str]:
    """Refuse a recipe under which a checkpoint would mean something else; return what was allowed to change.

    Args:
        before: dotted key → value of the recipe that wrote the checkpoint, without keys that have no effect.
        now: the same of the recipe to go on with.
        allowed: keys of `--allow-change`.
        where: the checkpoint, for the message.

    Raises:
        SettingsError: naming every key that differs, and what can be done.
    """
    # How the global batch is divided is free; its size is compared by `check_batch`.
    changed = {
        key: f"{key}: {before.get(key, 'not set')} → {now.get(key, 'not set')}"
        for key in [*before, *(key for key in now if key not in before)]
        if before.get(key) != now.get(key) and key not in BATCH
    }
    for key in allowed:
        if key in MAY_NOT or not MAY_CHANGE.fullmatch(key):
            raise SettingsError(
                f"--allow-change {key}: a checkpoint means nothing under another {key}; set another run_dir"
            )
    refused = [text for key, text in changed.items() if key not in allowed]
    if refused:
        may = [key for key in changed if key not in allowed and MAY_CHANGE.fullmatch(key) and key not in MAY_NOT]
        if len(may) == len(refused):
            remedy = f"add {' '.join(f'--allow-change {key}' for key in may)}, change back, or set another run_dir"
        else:
            remedy = "change back, or set another run_dir for a new run"
        raise SettingsError(f"{where} is of another recipe: {'; '.join(refused)}. To go on, {remedy}")
    return list(changed.values())


def check_batch(manifest: dict[str, Any], samples_per_step: int, per_device: int, world_size: int, where: Path) -> None:
    """Refuse another global batch, and say which accumulation keeps it."""
    before = manifest["samples_per_step"]
    if before == samples_per_step:
        return
    steps, rest = divmod(before, per_device * world_size)
    if steps and not rest:
        remedy = f"set training.gradient_accumulation_steps={steps}"
    else:
        remedy = f"choose training.per_device_train_batch_size so that it times {world_size} divides {before}"
    raise SettingsError(
        f"{where}: its updates are of {before} windows; {per_device} a device on {world_size} ranks, accumulated as "
        f"now, are {samples_per_step}. {remedy[0].upper()}{remedy[1:]}"
    )


def check_data(manifest: dict[str, Any], fingerprint: str, where: Path) -> None:
    """Refuse other genomes than those trained on."""
    if manifest["fingerprint"] != fingerprint:
        raise SettingsError(
            f"{where} was trained on other letters: the genome in the run folder is not the one it was. "
            "Give the same FASTA, or set another run_dir"
        )


def check_wrapper(manifest: dict[str, Any], wrapper: str, where: Path) -> None:
    """Refuse optimizer states that this wrapper cannot read.

    One process and DDP write the same files. FSDP2 and each stage of DeepSpeed read their own.
    """
    before = {"ddp": "none"}.get(manifest["wrapper"], manifest["wrapper"])
    if before != {"ddp": "none"}.get(wrapper, wrapper):
        raise SettingsError(
            f"{where} was written under {manifest['wrapper']} and cannot go on under {wrapper}; use the profile it was "
            "written with"
        )
