"""Checkpoints: written aside, fsynced, renamed; whole or absent, and never trusted without their manifest.

    checkpoints/step-500/          a plain Hugging Face folder, and beside the weights
      optimizer.pt, scheduler.pt   or what DeepSpeed writes
      trainer_state.json
      manifest.json                sha256 of every other file, samples consumed, recipe, versions, world size

Cost of a save beyond the writing: one reading of what was written, for its sha256.

A manifest proves that nothing broke, not who wrote it. So what could run code when loaded, or lead out of the folder,
is refused as well: links, pickles of anything but tensors and plain values, and names that point elsewhere.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from torch.serialization import get_unsafe_globals_in_checkpoint
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from genolm.config.files import atomic_path, remove
from genolm.models.safe_loading import without_bars

MANIFEST = "manifest.json"
_FIELDS: dict[str, Any] = {
    **dict.fromkeys(("flat_recipe", "versions", "fingerprints", "files"), dict),
    **dict.fromkeys(("step", "samples", "samples_per_step", "world_size", "log_bytes", "last_logged"), int),
    **{"wrapper": str, "loss_sums": list, "loss_total": (int, float)},
}
"""Fields of a manifest that resuming reads, and their types."""
_STEP = re.compile(r"step-([0-9]+)")

SaveWeights = Callable[[Any, Path, dict[str, Any] | None], None]
"""Model, folder, state → weights and configuration in the folder."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used or written; the message names the file."""


def save_whole_model(model: PreTrainedModel, folder: Path, state: dict[str, Any] | None) -> None:
    """Write the weights and configuration of a model, as AutoModel loads them."""
    # Without save_original_format=False some weights get old names, under which a run cannot resume (ESM, GPT-NeoX,
    # Mixtral); AutoModel reads both.
    model.save_pretrained(folder, state_dict=state, save_original_format=False)


@dataclass(frozen=True)
class CheckpointPayload:
    """What a checkpoint holds in addition to the training state.

    Attributes:
        root: the folder of the checkpoints.
        tokenizer: saved with the model.
        metadata: model → `genolm.json`.
        manifest: what resuming compares: recipe, its hash, data, versions.
        log: the run's log, whose length the manifest notes.
        save_weights: writes the weights; an adapter has its own way.
        adapter_names: where only an adapter is saved: model, saved weights → the same by their names in the model.
    """

    root: Path
    tokenizer: Any
    metadata: Callable[[Any], dict[str, Any]]
    manifest: dict[str, Any]
    log: Path
    save_weights: SaveWeights = save_whole_model
    adapter_names: Callable[[Any, dict[str, Any]], dict[str, Any]] | None = None


def step_folder(root: Path, step: int) -> Path:
    """Return the path of the checkpoint of a step."""
    return root / f"step-{step}"


def steps(root: Path) -> list[int]:
    """Return the steps that have a checkpoint folder, valid or not, newest first."""
    if not root.is_dir():
        return []
    # A link counts, so that it is named as a fault: without it a run would start afresh in silence.
    matches = (_STEP.fullmatch(path.name) for path in root.iterdir() if path.is_dir() or path.is_symlink())
    return sorted((int(match[1]) for match in matches if match), reverse=True)


def checkpoint_files(folder: Path) -> list[str]:
    """Return the files of a checkpoint but its manifest, as sorted relative names.

    Raises:
        CheckpointError: a link, or something that is no plain file.
    """
    if folder.is_symlink():
        raise CheckpointError(f"{folder}: a link; a checkpoint is a folder of its own")
    names = []
    for where, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(where) / name
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise CheckpointError(f"{path}: a link or a special file; a checkpoint holds plain files only")
            if path.is_file():
                names.append(path.relative_to(folder).as_posix())
    return sorted(name for name in names if name != MANIFEST)


def digests(folder: Path, names: Iterable[str], sync: bool = False) -> dict[str, dict[str, Any]]:
    """Return name → {bytes, sha256}, read from disk; `sync` makes each file durable first."""

    def digest(name: str) -> tuple[str, dict[str, Any]]:
        with (folder / name).open("rb") as file:
            if sync:
                os.fsync(file.fileno())
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return name, {"bytes": file.tell(), "sha256": sha256}

    with ThreadPoolExecutor(4) as threads:  # sha256 leaves the interpreter lock alone
        return dict(threads.map(digest, names))


def seal(aside: Path, folder: Path, files: dict[str, dict[str, Any]], manifest: dict[str, Any]) -> None:
    """Write the manifest of a staged checkpoint and rename the checkpoint to its place.

    Args:
        aside: the staged folder; its files are durable already.
        folder: its place; an invalid checkpoint of the same step there is removed.
        files: as `digests` gives.
        manifest: the other fields of the manifest.
    """
    body = {**manifest, "files": files}
    with (aside / MANIFEST).open("w") as file:
        json.dump({**body, "manifest_sha256": _own_digest(body)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    for where, _, _ in os.walk(aside):
        _sync_folder(Path(where))
    discard(folder)
    os.rename(aside, folder)
    _sync_folder(folder.parent)


def verify(folder: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint whose every file is as it was written, and none of which can run code.

    Raises:
        CheckpointError: naming the file at fault: missing, of another length, changed, or never written by genolm.
    """
    present = checkpoint_files(folder)
    manifest = read_manifest(folder / MANIFEST)
    check_files(folder, manifest["files"], present)
    return manifest


def read_manifest(path: Path) -> dict[str, Any]:
    """Return a manifest that is as it was written and has every field that resuming reads."""
    try:
        manifest = json.loads(path.read_text())
        body = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
        unchanged = manifest["manifest_sha256"] == _own_digest(body)
        wrong = [key for key, kind in _FIELDS.items() if unchanged and not isinstance(manifest[key], kind)]
        wrong += [name for name, entry in manifest["files"].items() if not {"bytes", "sha256"} <= entry.keys()]
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}; the checkpoint was not written to its end") from None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise CheckpointError(f"{path}: not a whole manifest; it was cut off or changed") from None
    if not unchanged:
        raise CheckpointError(f"{path}: changed since it was written (its own sha256 differs)")
    if wrong:
        raise CheckpointError(f"{path}: {wrong[0]!a} in it is not what genolm writes")
    return manifest


def check_files(folder: Path, files: dict[str, dict[str, Any]], present: list[str]) -> None:
    """Refuse a checkpoint whose files are not those of its manifest, or could run code."""
    for name in present:
        if name not in files and not name.rpartition("/")[2].startswith("."):  # nothing reads what a desktop leaves
            raise CheckpointError(f"{folder / name}: not in {MANIFEST}; something else put it there")
    if missing := sorted(files.keys() - set(present)):  # nothing outside is looked at, wherever the name would lead
        name = missing[0]
        raise CheckpointError(
            f"{folder}/{name}: missing" if name.isprintable() else f"{folder / MANIFEST}: {name!a} is no file"
        )
    for name, entry in files.items():
        size = (folder / name).stat().st_size
        if size != entry["bytes"]:
            raise CheckpointError(f"{folder / name}: {size:,} bytes, {entry['bytes']} were written; cut off")
    for name, entry in digests(folder, files).items():
        if entry["sha256"] != files[name]["sha256"]:
            raise CheckpointError(f"{folder / name}: changed since it was written (sha256 differs)")
    for name in files:
        if (reason := why_not_open(folder, name)) is not None:
            raise CheckpointError(f"{folder / name}: {reason}")


@contextmanager
def all_or_none(aside: Path, alone: bool = False) -> Iterator[None]:
    """Stop all ranks if one of them cannot write, with its reason; the checkpoint before is left as it is.

    With `alone`, the others are waiting elsewhere and cannot be reached: the launcher will end them.
    """
    fault = None
    try:
        yield
    except Exception as error:  # each library that writes here has its own: OSError, RuntimeError, SafetensorError
        fault = error
    mine = "" if fault is None else str(fault) or repr(fault)
    reasons = [mine] if alone else gather_object([mine])
    reason = next(filter(None, reasons), None)
    if reason is None:
        return
    free = shutil.disk_usage(next(path for path in (aside, *aside.parents) if path.exists())).free
    written = sum(path.stat().st_size for path in aside.rglob("*") if path.is_file())
    with contextlib.suppress(OSError):
        remove(aside)
    root = aside.parent
    if free < max(written, 1 << 20):  # torch's writer does not say why: "unexpected pos 64 vs 0"
        reason = f"no space left on the device, {free / 2**20:,.1f} MiB are free ({reason})"
    before = f"the one of step {steps(root)[0]:,} is left as it was" if steps(root) else "there is none before it"
    raise CheckpointError(
        f"{aside.with_suffix('')}: the checkpoint could not be written: {reason}; {before}. "
        "Make room or make the folder writable, and run the same command again"
    ) from fault


def newest_valid(root: Path) -> tuple[Path | None, dict[str, Any], list[str]]:
    """Return the newest valid checkpoint, its manifest, and the faults of the newer ones, which are skipped."""
    faults = []
    for step in steps(root):
        try:
            return step_folder(root, step), verify(step_folder(root, step)), faults
        except CheckpointError as error:
            faults.append(str(error))
    return None, {}, faults


def prune(root: Path, limit: int | None, newest: int) -> None:
    """Remove the oldest checkpoints beyond `limit`, never the one just written, `newest`, which is valid.

    Checkpoints of later steps were skipped as invalid when the run was resumed: they count as the oldest.
    """
    if limit is None or limit <= 0:
        return
    present = steps(root)
    ordered = [newest, *(step for step in present if step < newest), *(step for step in present if step > newest)]
    for step in ordered[max(1, limit) :]:
        discard(step_folder(root, step))


def remove_leftovers(root: Path) -> None:
    """Remove what a killed run left half-written, half-removed or converted."""
    for suffix in ("partial", "removed", "universal"):
        for path in root.glob(f"step-*.{suffix}"):
            remove(path)


def discard(folder: Path) -> None:
    """Remove a folder in such a way that no half of it is ever taken for a checkpoint."""
    if folder.is_symlink():
        folder.unlink()
    if not folder.exists():
        return
    renamed = folder.with_name(f"{folder.name}.removed")
    remove(renamed)
    os.rename(folder, renamed)
    with contextlib.suppress(OSError):  # what is left is removed at the next start
        remove(renamed)


def write_checkpoint(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    metadata: dict[str, Any],
    state: dict[str, Any] | None = None,
    save_weights: SaveWeights = save_whole_model,
) -> None:
    """Write weights, tokenizer and `genolm.json` aside, then rename them to the folder, replacing what it held.

    Args:
        folder: where.
        model: as trained.
        tokenizer: gives its ids their meaning.
        metadata: what the model is, saw and reached; becomes `genolm.json`.
        state: the weights, where the model holds only a part of them.
        save_weights: writes the weights.
    """
    with atomic_path(folder) as aside:
        write_model(aside, model, tokenizer, metadata, state, save_weights)
        digests(aside, checkpoint_files(aside), sync=True)
        discard(folder)
    _sync_folder(folder.parent)


def write_model(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    metadata: dict[str, Any],
    state: dict[str, Any] | None,
    save_weights: SaveWeights,
) -> None:
    """Write weights, tokenizer and `genolm.json` into a folder."""
    with without_bars():
        save_weights(model, folder, None if state is None else dict(state))  # it empties the state it is given
    tokenizer.save_pretrained(folder)
    (folder / "genolm.json").write_text(json.dumps(metadata, indent=1))


def _own_digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    if os.name == "nt":  # which cannot open folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_OPENED = (".pt", ".pth", ".bin", ".pkl", ".ckpt")
"""Suffixes of the files that Trainer, accelerate and DeepSpeed open with torch.load."""
_DISTRIBUTED = (".distcp", ".metadata")
"""Files of torch.distributed.checkpoint, which opens them with plain pickle."""
_DEEPSPEED = {
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.utils.tensor_fragment.fragment_address",
}
"""The classes that DeepSpeed writes beside tensors. It loads with weights_only=False, so nothing else may be there."""


def why_not_open(folder: Path, name: str) -> str | None:
    """Return why a file of a checkpoint must not be opened: it could run code; None where it may be.

    Nothing is loaded: torch lists the names in a pickle without importing them, and refuses one whose instructions it
    does not support. Cost: reading the pickles, not the tensors beside them.
    """
    path = folder / name
    if path.name.lower().endswith(_DISTRIBUTED):
        return "opening it could run code; set fsdp_state_dict_type: FULL_STATE_DICT in the profile"
    if path.suffix.lower() in _OPENED:
        try:
            named = set(get_unsafe_globals_in_checkpoint(path)) - _DEEPSPEED
        except Exception as error:  # each layer below has its own for what it does not know, and for broken files
            reason = " ".join(str(error).split()) or type(error).__name__
            return f"not as torch.save writes tensors, so it is not opened ({reason})"
        return f"opening it could run code: it names {', '.join(sorted(named))}" if named else None
    if name in ("latest", "latest_universal"):  # DeepSpeed opens the folder that is written there
        tag = path.read_text(errors="replace").strip()
        if "/" in tag or tag in ("", ".", "..") or not tag.isprintable() or not (folder / tag).is_dir():
            return f"{tag[:100]!a} is no folder of this checkpoint"
    return None
