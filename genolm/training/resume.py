"""From which checkpoint a run goes on: the newest valid one, if recipe, data and global batch are what they were."""

import difflib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from accelerate.utils import broadcast_object_list

from genolm.config.yaml import SettingsError
from genolm.training.checkpoint import newest_valid, steps, sweep
from genolm.training.log import rewind_log
from genolm.training.universal_checkpoint import convert

Found = TypeVar("Found")

MAY_CHANGE = re.compile(r"(training|evaluation)\..*|deterministic")
"""Keys that `--allow-change` may name: the checkpoint still fits, and the run means what it meant."""
MAY_NOT = {"training.optim", "training.optim_args", "training.fp16"}
"""Keys of the training block that decide what is in a checkpoint."""
ELSEWHERE = re.compile(
    r"training\.(per_device_train_batch_size|gradient_accumulation_steps)|data\.(fasta|sha256|rename_duplicates)(\..*)?"
)
"""Keys that are not compared: what they make is, the size of an update and the letters."""


@dataclass(frozen=True)
class Now:
    """A run as it is started, to be held against what wrote a checkpoint.

    Attributes:
        recipe: dotted key → value, without keys that have no effect; the training block with all its defaults.
        allowed: keys of `--allow-change`.
        fingerprints: what was learnt from → its hash: genome, regions, tokenizer, dataset.
        versions: package → version.
        samples_per_step: windows of an update.
        per_device: windows of a forward pass.
        world_size: ranks.
        wrapper: what the model is to be wrapped in.
    """

    recipe: dict[str, Any]
    allowed: Sequence[str]
    fingerprints: dict[str, str]
    versions: dict[str, str | None]
    samples_per_step: int
    per_device: int
    world_size: int
    wrapper: str


def choose(root: Path, log: Path, now: Now) -> tuple[Path | None, dict[str, Any]]:
    """Return the checkpoint to go on from and its manifest; None and nothing where there are none.

    What is passed over is told, and the log is cut to where the checkpoint was written.

    Args:
        root: the folder of the checkpoints.
        log: the run's log.
        now: the run.

    Raises:
        SettingsError: it is of another recipe, batch, genome or wrapper; or there are some and none is valid.
    """
    sweep(root)
    folder, manifest, faults = newest_valid(root)
    for fault in faults:
        print(f"passed over: {fault}", file=sys.stderr)
    if folder is None:
        if steps(root):
            raise SettingsError(f"no checkpoint in {root} is valid; to start from nothing, remove {root}")
        rewind_log(log, 0)
        return None, {}
    changed = check_recipe(manifest["flat_recipe"], now.recipe, now.allowed, folder)
    for change in changed:
        print(f"allowed: {change}", file=sys.stderr)
    if manifest["step"] > now.recipe["training.max_steps"] > 0:
        raise SettingsError(
            f"{folder} is of step {manifest['step']:,}, beyond training.max_steps, {now.recipe['training.max_steps']:,}"
        )
    check_batch(manifest, now.samples_per_step, now.per_device, now.world_size, folder)
    check_data(manifest, now.fingerprints, folder)
    check_wrapper(manifest, now.wrapper, folder)
    for name, version in manifest["versions"].items():
        if now.versions.get(name) != version:
            print(f"note: written with {name} {version}, here is {now.versions.get(name)}", file=sys.stderr)
    rewind_log(log, manifest["log_bytes"])
    if now.wrapper.startswith("zero") and manifest["world_size"] != now.world_size:
        print(f"converting {folder} of {manifest['world_size']} ranks for {now.world_size}", file=sys.stderr)
        folder = convert(folder)
    return folder, manifest | {"changed": changed}


def on_all_ranks(function: Callable[[], Found], main: bool) -> Found:
    """Call a function on the main rank, and return its result, or raise its error, on all of them."""
    found: list[Any] = [None]
    if main:
        try:
            found = [function()]
        except (ValueError, OSError) as error:
            found = [error]
    broadcast_object_list(found)
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


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
    # But for the model's, both sides have all keys; one that is missing is of another version of what is installed.
    keys = [key for key in {**before, **now} if (key in before and key in now) or key.startswith("model.")]
    changed = {
        key: f"{key}: {before.get(key, 'not set')} → {now.get(key, 'not set')}"
        for key in keys
        if before.get(key) != now.get(key) and not ELSEWHERE.fullmatch(key)
    }
    for key in allowed:
        if key not in now:
            near = difflib.get_close_matches(key, now, n=1)
            raise SettingsError(f"--allow-change {key}: no such key{f'; did you mean {near[0]}?' if near else ''}")
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


def check_data(manifest: dict[str, Any], fingerprints: dict[str, str], where: Path) -> None:
    """Refuse other genomes, splits, tokenizers or datasets than those trained on, whatever their names."""
    before = manifest["fingerprints"]
    other = [name for name in fingerprints if name in before and before[name] != fingerprints[name]]
    if other:
        raise SettingsError(
            f"{where} was trained on something else: the {' and the '.join(other)} of this run differ in content from "
            "what they were. Give the same files, or set another run_dir"
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
