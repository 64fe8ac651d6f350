"""Where a model is, which one it is by its weights, and the folder of a labelled model → what predicts with it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from genolm.labels.collate import LabelCollator, RowEncoder
from genolm.labels.dataset import Labelled, Task
from genolm.labels.task import PER_BASE
from genolm.models.baselines import Baseline
from genolm.models.label_model import LabelModel, open_backbone, opened
from genolm.models.safe_loading import ModelError, check_config, check_weights
from genolm.tokenizers.build import load_tokenizer
from genolm.tokenizers.encode import make_encoder


def may_be_hub_name(model: str) -> bool:
    """Say whether a model that is no folder here may be one of the Hub."""
    return not Path(model).exists() and model.strip("/").count("/") == 1 and not model.startswith((".", "/", "~"))


def model_folder(model: str, revision: str | None = None, code: bool = False) -> Path:
    """Return the folder of a pretrained model: itself, the `checkpoint` of a run, or of a Hub name what is fetched.

    Args:
        model: which one.
        revision: commit or branch of the Hub.
        code: fetch Python files too.

    Raises:
        ModelError: there is none.
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
        wanted = ["*.json", "*.safetensors", "*.txt"] + ["*.py"] * code
        return Path(snapshot_download(model, revision=revision, allow_patterns=wanted))
    except Exception as error:  # offline, not found, gated: each has its own
        raise ModelError(
            f"model {model}: no such folder, and the Hub gives none: {str(error).splitlines()[0]}"
        ) from error


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_sha256(folder: Path) -> str:
    """Return one sha256 over the weights of a model folder."""
    parts = [file_sha256(path) for path in sorted(folder.glob("model*.safetensors"))]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def open_labelled(folder: Path) -> tuple[Any, LabelCollator, dict[str, Any]]:
    """Open what `genolm finetune` left in `model`: the model, how it reads rows, and what it tells of itself.

    Raises:
        ValueError: not such a folder; or the pretrained model that an adapter sits on is gone, or has changed.
    """
    path = folder / "genolm.json"
    try:
        about = json.loads(path.read_text())
        task = Task(about["task"]["kind"], tuple(about["task"]["names"]))
        centre, scale = (None if about[key] is None else np.array(about[key]) for key in ("centre", "scale"))
        assert about["base"] is None or {"model", "folder", "sha256"} <= about["base"].keys()
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no genolm.json; give a run of `genolm finetune`") from None
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError):
        raise ValueError(f"{path}: not what `genolm finetune` writes; give one of its runs") from None
    tokenizer = load_tokenizer(folder)
    encoder = RowEncoder(
        make_encoder(tokenizer), about["max_tokens"], about["cut"], task.kind in PER_BASE, about["special_tokens"]
    )
    none = np.array([], dtype=object)
    collator = LabelCollator(Labelled(task, none, [], none, none, none), encoder, centre=centre, scale=scale)
    return open_model(folder, about), collator, about


def open_model(folder: Path, about: dict[str, Any]) -> PreTrainedModel | Any:
    """Open the model of a fine-tuning run; an adapter goes on the pretrained model that it was learnt on."""
    check_config(folder / "config.json")
    if not (folder / "adapter_config.json").is_file():
        check_weights(folder)
        kind = Baseline if about["method"] == "baseline" else LabelModel
        return opened(kind, folder)
    from genolm.models.lora import open_adapter

    return open_adapter(folder, open_backbone(base_of(folder, about["base"])))


def base_of(folder: Path, base: dict[str, Any]) -> Path:
    """Return the folder of the pretrained model that an adapter was learnt on, where it was or beside the adapter.

    Raises:
        ModelError: it is gone, or its weights have changed.
    """
    changed = None
    for path in (Path(base["folder"]), folder.resolve() / base.get("beside", "")):
        if (path / "config.json").is_file():
            if weights_sha256(path) == base["sha256"]:
                return path
            changed = path
    told = f"{folder} is an adapter on {base['model']}"
    if changed is None:
        try:
            changed = model_folder(base["model"])
        except ModelError as error:
            raise ModelError(
                f"{told}, which is not in {base['folder']} any more, nor in {base.get('beside')} from there; put it "
                "back, or move both together"
            ) from error
        if weights_sha256(changed) == base["sha256"]:
            return changed
    raise ModelError(
        f"{told}; the weights in {changed} are not those it was learnt on. Put those back, or fine-tune anew"
    )
