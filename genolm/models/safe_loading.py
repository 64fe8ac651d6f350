"""Checks of a model folder before it is loaded: safetensors only, and no configuration that runs or fetches code.

Without torch and transformers at import time, so that the modules that register with the Auto classes may import it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from genolm.config.plugins import load_installed_plugins


class ModelError(ValueError):
    """A model that does not exist, cannot be loaded, or cannot learn the objective."""


class NeedsCode(ModelError):
    """A model that needs Python files of its own, which are not run without `trust_remote_code`."""


_FETCHES = ("attn_implementation", "experts_implementation", "quantization_config", "kernel_config", "use_kernels")
"""Configuration keys for which transformers may fetch a kernel from the Hub and run it without asking."""
_PLAIN = (None, False, {}, "eager", "sdpa")


def check_config(path: Path) -> None:
    """Raise ValueError where a `config.json` names code that transformers would fetch and run."""
    try:
        values = [json.loads(path.read_text())]
    except (ValueError, RecursionError):
        raise ValueError(f"{path}: not JSON; it was cut off or changed") from None
    while values:
        value: Any = values.pop()
        if isinstance(value, list):
            values += value
        if isinstance(value, dict):
            values += value.values()
            for key, named in value.items():
                if key.removeprefix("_") in _FETCHES and named not in _PLAIN:
                    text = json.dumps(named)[:100]
                    raise ValueError(f"{path}: {key} is {text}, for which transformers may fetch code; remove that key")


def check_weights(folder: Path) -> None:
    """Raise ValueError unless a folder holds readable safetensors, and all shards that its index names."""
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise ValueError(
            f"{folder} holds no model.safetensors; other formats can run code when opened and are not read"
        )
    for path in files:
        try:
            with safe_open(path, "np"):
                pass
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path}: not safetensors, or cut off: {error}") from None
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    try:
        shards = {str(name) for name in json.loads(index.read_text())["weight_map"].values()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{index}: it does not say which file holds which weight") from None
    missing = sorted(shards - {path.name for path in files})
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)[:200]}, which {index.name} names; it was copied in part")


@contextmanager
def loading(folder: Path, trust_remote_code: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the options of `from_pretrained` for a checked folder, and name the folder in transformers' errors.

    Raises:
        NeedsCode: the model needs code in the folder, and `trust_remote_code` is false.
        ModelError: transformers cannot open it.
    """
    load_installed_plugins()
    try:
        with without_bars():
            # Explicit: without trust_remote_code transformers would ask on the terminal.
            yield {"local_files_only": True, "use_safetensors": True, "trust_remote_code": trust_remote_code}
    except ModelError:
        raise
    except Exception as error:  # a folder can be wrong in many ways
        problem = f"{folder}: transformers cannot open this model: "
        # transformers' own advice is to trust that code.
        if "trust_remote_code" in str(error) and not trust_remote_code:
            raise NeedsCode(f"{problem}it needs code of its own, which is not run") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        if "model type" in reason and "does not recognize" in reason:
            reason = f"{reason.split(' but ')[0]}, which is not known here; one of your own: set GENOLM_PLUGINS=MODULE"
        raise ModelError(problem + reason) from error


@contextmanager
def without_bars() -> Iterator[None]:
    """Silence transformers' own progress bars and tables of weights."""
    from logging import ERROR

    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(max(verbosity, ERROR))
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
