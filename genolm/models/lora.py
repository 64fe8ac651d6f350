"""LoRA adapters on a model with a label head, by PEFT.

Source: LoRA, arXiv:2106.09685; DoRA, arXiv:2402.09353; rsLoRA, arXiv:2312.03732.
"""

import dataclasses
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from genolm.config.console import did_you_mean
from genolm.models.label_model import LabelConfig, LabelModel, linear_maps
from genolm.models.safe_loading import ModelError

DEFAULTS = {"r": 8, "lora_alpha": 16, "target_modules": "auto"}
DECIDED = ("task_type", "peft_type", "modules_to_save", "base_model_name_or_path", "inference_mode", "auto_mapping")


def with_adapter(model: LabelModel, lora: dict[str, Any]) -> PeftModel:
    """Add a fresh adapter to a model: the backbone's weights are frozen, adapter and head are trained.

    Args:
        model: a pretrained backbone with a fresh head.
        lora: fields of peft.LoraConfig. `target_modules: auto` is every linear map of the backbone that is called.

    Raises:
        ModelError: an unknown field, or one that PEFT refuses.
    """
    check_fields(lora)
    # GPT-2's linear maps hold their weight transposed.
    transposed = any(isinstance(module, Conv1D) for module in model.backbone.modules())
    settings = DEFAULTS | {"fan_in_fan_out": transposed} | lora
    if settings["target_modules"] in ("auto", "all-linear"):
        settings["target_modules"] = linear_maps(model)
    heads = ["head"] if model.weigh is None else ["head", "weigh"]
    try:
        with _without_deprecation_warning():
            return get_peft_model(model, LoraConfig(**settings, modules_to_save=heads))  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise ModelError(f"lora: PEFT refuses these settings: {' '.join(str(error).split())}") from error


def check_fields(lora: dict[str, Any]) -> None:
    """Raise ModelError for a key that is no field of peft.LoraConfig, or that genolm decides."""
    allowed = {f.name for f in dataclasses.fields(LoraConfig)} - set(DECIDED)
    for key in lora:
        if key not in allowed:
            hint = did_you_mean(key, allowed, "see peft.LoraConfig")
            raise ModelError(f"lora.{key} is decided by genolm" if key in DECIDED else f"lora.{key} is unknown; {hint}")


def save_adapter(model: PeftModel, folder: Path, state: dict[str, Any] | None = None) -> None:
    """Write adapter, head and configuration, without the backbone.

    Args:
        model: as `with_adapter` made it.
        folder: created if missing.
        state: all weights, where the model holds a shard of them.
    """
    model.save_pretrained(str(folder), state_dict=state, save_embedding_layers=False)  # "auto" asks the Hub
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's template, with nothing in it
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": None}, indent=1))
    model.get_base_model().config.save_pretrained(folder)  # type: ignore[operator,union-attr]


def named_as_in_model(model: nn.Module, saved: dict[str, Any]) -> dict[str, Any]:
    """Rename the weights that `save_adapter` wrote to their names in the trained model.

    Raises:
        ModelError: they are not the model's trained weights.
    """
    names = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            short = name.replace(".modules_to_save.default", "").replace(".default", "")
            names[short.removesuffix(".weight") if "lora_magnitude_vector" in short else short] = name
    if names.keys() != saved.keys():
        differ = sorted(names.keys() ^ saved.keys())
        raise ModelError(f"the adapter does not fit its model: {', '.join(differ[:3])}")
    return {names[name]: value for name, value in saved.items()}


@contextmanager
def _without_deprecation_warning() -> Iterator[None]:
    """Silence transformers' warning of a deprecated attribute that PEFT reads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def open_adapter(folder: Path, backbone: PreTrainedModel) -> PeftModel:
    """Load a saved adapter and its head onto a pretrained backbone."""
    config = LabelConfig.from_pretrained(folder, local_files_only=True)
    try:
        with _without_deprecation_warning():
            return PeftModel.from_pretrained(LabelModel(config, backbone), str(folder), local_files_only=True)
    except Exception as error:  # KeyError, RuntimeError, ValueError
        raise ModelError(f"{folder}: the adapter does not fit its model: {' '.join(str(error).split())}") from error
