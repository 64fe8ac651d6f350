"""Weights are safetensors, which cannot run code; importing this is quick."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open


def check_weights(folder: Path) -> None:
    """Raise ValueError unless a folder holds safetensors, and all those that its index names."""
    found = sorted(folder.glob("model*.safetensors"))
    if not found:
        raise ValueError(
            f"{folder} holds no model.safetensors; other formats can run code when opened and are not read"
        )
    for path in found:
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
    missing = sorted(shards - {path.name for path in found})
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)[:200]}, which {index.name} names; it was copied in part")
