"""Checkpoints: written aside, fsynced, renamed; whole or absent, and never believed without their manifest.

    checkpoints/step-500/          a plain Hugging Face folder, and beside the weights
      optimizer.pt, scheduler.pt   or what DeepSpeed writes
      trainer_state.json
      manifest.json                sha256 of every other file, samples consumed, recipe, versions, world size

Cost of a save beyond the writing: one reading of what was written, for its sha256.

A manifest proves that nothing broke, not who wrote it. So what could run code when loaded, or lead out of the folder,
is refused as well: links, pickles of anything but tensors and plain values, and names that point elsewhere.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from accelerate.utils import gather_object
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from genolm.models.safe_loading import without_bars
from genolm.training.pickles import why_not_open

MANIFEST = "manifest.json"
_FIELDS: dict[str, Any] = {
    "flat_recipe": dict,
    "versions": dict,
    "fingerprints": dict,
    "wrapper": str,
    "step": int,
    "samples": int,
    "samples_per_step": int,
    "world_size": int,
    "log_bytes": int,
    "loss_sums": list,
    "loss_total": (int, float),
    "last_logged": int,
    "files": dict,
}
"""What resuming reads of a manifest."""
_STEP = re.compile(r"step-([0-9]+)")
_CHUNK = 1 << 20


class CheckpointError(ValueError):
    """A checkpoint that cannot be used or written; the message names the file."""


def step_folder(root: Path, step: int) -> Path:
    """Return where the checkpoint of a step lives."""
    return root / f"step-{step}"


def steps(root: Path) -> list[int]:
    """Return the steps that have a checkpoint folder, newest first; whether each is valid is not asked."""
    if not root.is_dir():
        return []
    # A link counts, so that it is named as a fault: without it a run would start afresh in silence.
    found = (_STEP.fullmatch(path.name) for path in root.iterdir() if path.is_dir() or path.is_symlink())
    return sorted((int(match[1]) for match in found if match), reverse=True)


def files_of(folder: Path) -> list[str]:
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
            sha256, size = hashlib.sha256(), 0
            while chunk := file.read(_CHUNK):
                sha256.update(chunk)
                size += len(chunk)
        return name, {"bytes": size, "sha256": sha256.hexdigest()}

    with ThreadPoolExecutor(4) as threads:  # sha256 leaves the interpreter lock alone
        return dict(threads.map(digest, names))


def seal(aside: Path, folder: Path, files: dict[str, dict[str, Any]], about: dict[str, Any]) -> None:
    """Write the manifest of a staged checkpoint and put the checkpoint in its place.

    Args:
        aside: the staged folder; its files are durable already.
        folder: where it goes; what is there, a checkpoint of the same step that was found invalid, makes room.
        files: as `digests` gives.
        about: what else the manifest tells.
    """
    body = {**about, "files": files}
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
    path = folder / MANIFEST
    names = files_of(folder)
    present = set(names)
    try:
        manifest = json.loads(path.read_text())
        body = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
        if manifest["manifest_sha256"] != _own_digest(body):
            raise CheckpointError(f"{path}: changed since it was written (its own sha256 differs)")
        files = manifest["files"]
        wrong = [key for key, kind in _FIELDS.items() if not isinstance(manifest[key], kind)]
        wrong += [name for name, about in files.items() if not {"bytes", "sha256"} <= about.keys()]
        if wrong:
            raise CheckpointError(f"{path}: {wrong[0]!a} in it is not what genolm writes")
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}; the checkpoint was not written to its end") from None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: not a whole manifest; it was cut off or changed") from None
    for name in [*files, *names]:
        if name not in files and not name.rpartition("/")[2].startswith("."):  # nothing reads what a desktop leaves
            raise CheckpointError(f"{folder / name}: not in {MANIFEST}; something else put it there")
        if name in files and name not in present:  # nothing outside is looked at, wherever the name would lead
            raise CheckpointError(f"{folder}/{name}: missing" if name.isprintable() else f"{path}: {name!a} is no file")
        if name not in files:
            continue
        size, written = (folder / name).stat().st_size, files[name]["bytes"]
        if size != written:
            raise CheckpointError(f"{folder / name}: {size:,} bytes, {written} were written; cut off")
    for name, found in digests(folder, files).items():
        if found["sha256"] != files[name]["sha256"]:
            raise CheckpointError(f"{folder / name}: changed since it was written (sha256 differs)")
    for name in files:
        if (reason := why_not_open(folder, name)) is not None:
            raise CheckpointError(f"{folder / name}: {reason}")
    return manifest


@contextmanager
def all_or_none(aside: Path, alone: bool = False) -> Iterator[None]:
    """Stop all ranks if one of them cannot write, with its reason; the checkpoint before is left as it is.

    With `alone`, the others are waiting elsewhere and cannot be told: the launcher will end them.
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
    remove(aside)
    root = aside.parent
    # torch's writer does not tell why: "unexpected pos 64 vs 0".
    full = free < max(written, 1 << 20)
    told = f"no space left on the device, {free / 2**20:,.1f} MiB are free ({reason})" if full else reason
    before = f"the one of step {steps(root)[0]:,} is left as it was" if steps(root) else "there is none before it"
    raise CheckpointError(
        f"{aside.with_suffix('')}: the checkpoint could not be written: {told}; {before}. "
        "Make room or make the folder writable, and run the same command again"
    ) from fault


def newest_valid(root: Path) -> tuple[Path | None, dict[str, Any], list[str]]:
    """Return the newest valid checkpoint, its manifest, and why each newer one was passed over."""
    faults = []
    for step in steps(root):
        try:
            return step_folder(root, step), verify(step_folder(root, step)), faults
        except CheckpointError as error:
            faults.append(str(error))
    return None, {}, faults


def prune(root: Path, limit: int | None, newest: int) -> None:
    """Remove the oldest checkpoints beyond `limit`, never the one just written, `newest`, which is known to be valid.

    Checkpoints of later steps were passed over as invalid when the run was resumed: they count as the oldest.
    """
    if limit is None or limit <= 0:
        return
    known = steps(root)
    ordered = [newest, *(step for step in known if step < newest), *(step for step in known if step > newest)]
    for step in ordered[max(1, limit) :]:
        discard(step_folder(root, step))


def sweep(root: Path) -> None:
    """Remove what a killed run left half-written, half-removed or converted."""
    for suffix in ("partial", "removed", "universal"):
        for path in root.glob(f"step-*.{suffix}"):
            remove(path)


def remove(path: Path) -> None:
    """Remove a folder if it is there, and of a link nothing but the link."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def discard(folder: Path) -> None:
    """Remove a folder in such a way that no half of it is ever taken for a checkpoint."""
    if folder.is_symlink():
        folder.unlink()
    if not folder.exists():
        return
    gone = folder.with_name(f"{folder.name}.removed")
    remove(gone)
    os.rename(folder, gone)
    remove(gone)


def write_checkpoint(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    about: dict[str, Any],
    state: dict[str, Any] | None = None,
) -> None:
    """Write weights, tokenizer and `genolm.json` beside the folder, then put them in its place.

    Args:
        folder: where; what it held is replaced.
        model: as trained.
        tokenizer: what its ids mean.
        about: what the model is, saw and reached; becomes `genolm.json`.
        state: the weights, where the model holds only a part of them.
    """
    aside = folder.with_name(f"{folder.name}.partial")
    remove(aside)
    write_model(aside, model, tokenizer, about, state)
    digests(aside, files_of(aside), sync=True)
    discard(folder)
    os.rename(aside, folder)
    _sync_folder(folder.parent)


def write_model(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    about: dict[str, Any],
    state: dict[str, Any] | None = None,
) -> None:
    """Write what AutoModel and AutoTokenizer load, of an adapter what PEFT loads, and `genolm.json`, into a folder."""
    with without_bars():
        # It empties the state it is given, and without save_original_format=False gives some weights old names, under
        # which a run cannot go on (ESM, GPT-NeoX, Mixtral); AutoModel reads both.
        state = None if state is None else dict(state)
        if hasattr(model, "peft_config"):
            from genolm.models.lora import save_adapter

            save_adapter(cast(Any, model), folder, state)
        else:
            model.save_pretrained(folder, state_dict=state, save_original_format=False)
    tokenizer.save_pretrained(folder)
    (folder / "genolm.json").write_text(json.dumps(about, indent=1))


def _own_digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
