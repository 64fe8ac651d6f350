"""Write the provenance of a run: resolved recipe, versions, machine, input hashes, seed."""

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

import genolm
from genolm.config.files import write_text

PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "datasets", "deepspeed", "peft", "numpy", "pysam")


def versions() -> dict[str, str | None]:
    """Return package → installed version, None where absent."""
    installed: dict[str, str | None] = {"genolm": genolm.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            installed[package] = None
    return installed


def write_provenance(run_dir: Path, recipe: dict[str, Any], manifest: dict[str, Any], seed: int) -> None:
    """Write `recipe.yaml`, the resolved recipe, and `provenance.json` into a run folder."""
    write_text(run_dir / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False))
    provenance = {
        "seed": seed,
        "versions": versions(),
        "platform": {"system": platform.platform(), "machine": platform.machine()},
        "inputs": manifest.get("inputs", []),
    }
    write_text(run_dir / "provenance.json", json.dumps(provenance, indent=1))
