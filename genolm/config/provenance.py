"""What a run was: resolved recipe, versions, machine, input hashes, seed."""

import json
import os
import platform
from collections.abc import Collection
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

import genolm

PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "datasets", "deepspeed", "peft", "numpy", "pysam")


def versions() -> dict[str, str | None]:
    """Return package → installed version, None where absent."""
    found: dict[str, str | None] = {"genolm": genolm.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    aside = path.with_name(f"{path.name}.partial")
    aside.unlink(missing_ok=True)  # were it a link, what it points to would be written
    try:
        aside.write_text(text)
        os.replace(aside, path)
    except OSError as error:
        raise OSError(f"{path} could not be written: {error.strerror or error}") from error


def refuse_links(run_dir: Path) -> None:
    """Refuse links where a run writes, in a run folder that came from elsewhere: they may lead to anyone's files.

    `checkpoints`, `checkpoint` and `genome` may be links: what is written there is checked or replaced whole.

    Raises:
        ValueError: naming the link.
    """
    written = [run_dir / "log.jsonl", run_dir / "loss.png", run_dir / "genome" / "sources.json"]
    for name in ("tokenizer", "sequences", "not-finite"):
        written += [run_dir / name, *(run_dir / name).rglob("*")]
    for path in written:
        if path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir()):
            raise ValueError(f"{path}: a link or a special file, and the run would write there; remove it")


def refuse_other(out: Path, names: Collection[str], what: str) -> None:
    """Refuse a folder that holds anything but what an earlier start has left there.

    Args:
        out: the folder, which need not be there.
        names: of the files and folders that are left there.
        what: they are.

    Raises:
        ValueError: naming what else is there.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"--out {out} is no folder")
    other = sorted({path.name.removesuffix(".partial") for path in out.iterdir()}.difference(names))
    if other:
        raise ValueError(f"--out {out} holds {other[0]!r}, which is no {what}; give a new folder")


def write_provenance(run_dir: Path, recipe: dict[str, Any], manifest: dict[str, Any], seed: int) -> None:
    """Write `recipe.yaml`, the resolved recipe, and `provenance.json` into a run folder."""
    write_text(run_dir / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False))
    about = {
        "seed": seed,
        "versions": versions(),
        "platform": {"system": platform.platform(), "machine": platform.machine()},
        "inputs": manifest.get("inputs", []),
    }
    write_text(run_dir / "provenance.json", json.dumps(about, indent=1))
