"""Locate model folders, identify them by their weights, and open fine-tuned models for prediction."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from genolm.config.files import file_sha256
from genolm.labels.collate import LabelCollator, RowEncoder
from genolm.labels.dataset import Labelled, Task
from genolm.labels.task import PER_BASE
from genolm.models.baselines import Baseline
from genolm.models.label_model import LabelModel, load_weights, open_backbone
from genolm.models.safe_loading import ModelError, check_config, check_weights
from genolm.tokenizers.build import load_tokenizer
from genolm.tokenizers.encode import make_encoder


def may_be_hub_name(model: str) -> bool:
    """Return whether a model that is no local folder may be a name on the Hub."""
    return not Path(model).exists() and model.strip("/").count("/") == 1 and not model.startswith((".", "/", "~"))


def model_folder(model: str, revision: str | None = None, code: bool = False) -> Path:
    """Return the folder of a pretrained model: the folder itself, a run's `checkpoint`, or a snapshot from the Hub.

    Args:
        model: folder of a run or checkpoint, or a name on the Hub.
        revision: commit or branch of the Hub.
        code: fetch Python files too.

    Raises:
        ModelError: there is no such model.
    """
    if not isinstance(model, str):
        raise ModelError(f"model is {model!r}; give a run of `genolm pretrain`, its checkpoint, or a name on the Hub")
    path = Path(model)
    for folder in (path, path / "checkpoint"):
        if (folder / "config.json").is_file():
            return folder
    if not may_be_hub_name(model):
        raise ModelError(f"model {model}: no config.json there; give a run of `genolm pretrain`, or its checkpoint")
    from huggingface_hub import snapshot_download

    try:
        patterns = ["*.json", "*.safetensors", "*.txt"] + ["*.py"] * code
        return Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except Exception as error:  # offline, not found, gated: each has its own type
        raise ModelError(
            f"model {model}: no such folder, and the Hub gives none: {str(error).splitlines()[0]}"
        ) from error


def weights_sha256(folder: Path) -> str:
    """Return one sha256 over the weights of a model folder."""
    parts = [file_sha256(path) for path in sorted(folder.glob("model*.safetensors"))]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def open_labelled(folder: Path) -> tuple[Any, LabelCollator, dict[str, Any]]:
    """Open a fine-tuned model: the model, the collator of its rows, and its metadata.

    Raises:
        ValueError: the folder is not of `genolm finetune`; or an adapter's pretrained model is missing or has changed.
    """
    path = folder / "genolm.json"
    try:
        metadata = json.loads(path.read_text())
        task = Task(metadata["task"]["kind"], tuple(metadata["task"]["names"]))
        centre, scale = (None if metadata[key] is None else np.array(metadata[key]) for key in ("centre", "scale"))
        assert metadata["base"] is None or {"model", "folder", "sha256"} <= metadata["base"].keys()
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no genolm.json; give a run of `genolm finetune`") from None
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError):
        raise ValueError(f"{path}: not what `genolm finetune` writes; give one of its runs") from None
    tokenizer = load_tokenizer(folder)
    encoder = RowEncoder(
        make_encoder(tokenizer),
        metadata["max_tokens"],
        metadata["cut"],
        task.kind in PER_BASE,
        metadata["special_tokens"],
    )
    none = np.array([], dtype=object)
    collator = LabelCollator(Labelled(task, none, [], none, none, none), encoder, centre=centre, scale=scale)
    return open_model(folder, metadata), collator, metadata


def open_model(folder: Path, metadata: dict[str, Any]) -> PreTrainedModel | Any:
    """Load the model of a fine-tuning run, an adapter on the pretrained model it was trained on."""
    check_config(folder / "config.json")
    if not (folder / "adapter_config.json").is_file():
        check_weights(folder)
        kind = Baseline if metadata["method"] == "baseline" else LabelModel
        return load_weights(kind, folder)
    from genolm.models.lora import open_adapter

    return open_adapter(folder, open_backbone(base_of(folder, metadata["base"])))


def base_of(folder: Path, base: dict[str, Any]) -> Path:
    """Return the folder of an adapter's pretrained model: its recorded path, or relative to the adapter.

    Raises:
        ModelError: it is missing, or its weights have changed.
    """
    changed = None
    for path in (Path(base["folder"]), folder.resolve() / base.get("beside", "")):
        if (path / "config.json").is_file():
            if weights_sha256(path) == base["sha256"]:
                return path
            changed = path
    problem = f"{folder} is an adapter on {base['model']}"
    if changed is None:
        try:
            changed = model_folder(base["model"])
        except ModelError as error:
            raise ModelError(
                f"{problem}, which is not in {base['folder']} any more, nor in {base.get('beside')} from there; put it "
                "back, or move both together"
            ) from error
        if weights_sha256(changed) == base["sha256"]:
            return changed
    raise ModelError(
        f"{problem}; the weights in {changed} are not those it was trained on. Put those back, or fine-tune anew"
    )
