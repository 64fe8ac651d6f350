"""Build DNA language models of any transformers architecture or of the genolm family, sized from the tokenizer."""

from pathlib import Path
from typing import Any

from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    PreTrainedModel,
)

from genolm.config.console import did_you_mean
from genolm.models.genolm.configuration import GenoLMConfig
from genolm.models.safe_loading import ModelError, check_config, check_weights, loading

VOCAB_MULTIPLE = 8
"""Vocabularies are padded to a multiple of this, for speed; the added ids are never used."""

SUGGESTED = {
    "masked": ("genolm", "bert", "modernbert", "esm", "roformer", "deberta-v2", "convbert"),
    "causal": ("genolm", "llama", "gpt2", "mamba2", "qwen3", "gpt_neox", "olmo2"),
}


def config_class_of(architecture: str | None, objective: str):
    """Return the configuration class of an architecture that can learn an objective.

    Raises:
        ModelError: no architecture is named, transformers has none of that name, or it cannot learn the objective.
    """
    if architecture is None:
        raise ModelError(f"model.architecture is missing; some that fit: {', '.join(SUGGESTED[objective])}")
    if not isinstance(architecture, str) or architecture not in CONFIG_MAPPING:
        hint = did_you_mean(architecture, CONFIG_MAPPING, f"some that fit: {', '.join(SUGGESTED[objective])}", num=3)
        raise ModelError(f"model.architecture {architecture!r} is no transformers model type; {hint}")
    config_class = CONFIG_MAPPING[architecture]
    causal = objective == "causal"
    if config_class not in (MODEL_FOR_CAUSAL_LM_MAPPING if causal else MODEL_FOR_MASKED_LM_MAPPING):
        raise ModelError(
            f"model.architecture {architecture!r} cannot learn a {objective} objective; some that can: "
            f"{', '.join(SUGGESTED[objective])}"
        )
    if causal and config_class in MODEL_FOR_MASKED_LM_MAPPING and config_class is not GenoLMConfig:
        raise ModelError(
            f"model.architecture {architecture!r} is an encoder, which sees the bases it would have to predict; for a "
            f"causal objective take one of {', '.join(SUGGESTED['causal'])}"
        )
    return config_class


def build_model(model: dict[str, Any], tokenizer, objective: str, window_tokens: int) -> PreTrainedModel:
    """Build a model with fresh weights; under `torch.device("meta")` it takes no memory.

    Args:
        model: `architecture`, one of transformers' model types, and changes to its configuration.
        tokenizer: sizes the vocabulary and gives the special ids.
        objective: "masked" or "causal".
        window_tokens: the longest row; positions are made to fit.

    Raises:
        ModelError: an unknown architecture or configuration key, or an architecture that cannot learn the objective.
    """
    settings = dict(model)
    architecture = settings.pop("architecture", None)
    config_class, causal = config_class_of(architecture, objective), objective == "causal"
    settings = _settings(config_class, settings, tokenizer, window_tokens)
    if config_class is GenoLMConfig:
        if settings.setdefault("causal", causal) != causal:
            raise ModelError(f"model.causal is {settings['causal']} and objective.kind {objective}; leave it out")
        settings.setdefault("base_token_ids", base_token_ids(tokenizer))
    auto = AutoModelForCausalLM if causal else AutoModelForMaskedLM
    try:
        return auto.from_config(config_class(**settings))
    except Exception as error:  # each architecture has its own way to refuse a value: KeyError, TypeError, its own
        reason = " ".join(str(error).split())
        raise ModelError(f"model: {architecture} refuses this configuration: {reason}") from error


def _settings(config_class, settings: dict[str, Any], tokenizer, window_tokens: int) -> dict[str, Any]:
    """Check the recipe's keys against the configuration's, and add sizes and ids from the tokenizer."""
    keys = set(config_class().to_dict()) | set(getattr(config_class, "attribute_map", {}))
    for key in settings:
        if key not in keys:
            hint = did_you_mean(key, sorted(keys), f"see {config_class.__name__}")
            raise ModelError(f"model.{key} is not in the {config_class.model_type} configuration; {hint}")
    # Some configurations have two names for a key; one of the two given would silently win.
    names = getattr(config_class, "attribute_map", {})
    settings = {names.get(key, key): value for key, value in settings.items()}
    size = -(-len(tokenizer) // VOCAB_MULTIPLE) * VOCAB_MULTIPLE
    if isinstance(settings.get("vocab_size"), int) and settings["vocab_size"] < len(tokenizer):
        raise ModelError(f"model.vocab_size is {settings['vocab_size']}; the tokenizer has {len(tokenizer)} entries")
    sized: dict[str, Any] = {"vocab_size": size}
    for name in ("pad", "bos", "eos", "cls", "sep", "mask"):
        if f"{name}_token_id" in keys or name in ("pad", "bos", "eos"):
            sized[f"{name}_token_id"] = getattr(tokenizer, f"{name}_token_id", None)
    positions = "max_position_embeddings"
    if positions in keys or "n_positions" in keys:
        # Some position tables start after the padding id, and some models add two ends.
        spare = (tokenizer.pad_token_id or 0) + 2
        name = names.get(positions, positions)
        default = settings.get(name, window_tokens + spare)
        if isinstance(default, int) and default < window_tokens:
            raise ModelError(f"model.{name} is {default}; a window has {window_tokens} tokens")
        sized[name] = default
    return {**sized, **settings}


def base_token_ids(tokenizer) -> list[int] | None:
    """Return the ids of A, C, G, T, or None unless each nucleotide is a token."""
    ids = tokenizer("ACGT" * 8, add_special_tokens=False)["input_ids"]
    return ids[:4] if ids == ids[:4] * 8 and len(set(ids[:4])) == 4 else None


def load_model(folder: Path, objective: str, trust_remote_code: bool = False) -> PreTrainedModel:
    """Load the model of a checkpoint folder, without downloads, remote code or pickles.

    Args:
        folder: what `save_pretrained` wrote.
        objective: "masked" or "causal".
        trust_remote_code: run the folder's Python files, and what its configuration names.

    Raises:
        ValueError: there are no safetensors, or transformers cannot open them.
        NeedsCode: the model needs code in the folder, and `trust_remote_code` is false.
    """
    check_weights(folder)
    if not trust_remote_code:
        check_config(folder / "config.json")
    # transformers would put the adapter on the model, or fetch another model that the adapter names.
    if (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder} holds an adapter besides the model; give a folder of a whole model")
    auto = AutoModelForCausalLM if objective == "causal" else AutoModelForMaskedLM
    with loading(folder, trust_remote_code) as options:
        return auto.from_pretrained(folder, **options)


def describe_model(model: PreTrainedModel) -> str:
    """Return a model's type and size: `llama, 3,150,080 parameters (3,145,728 without embeddings)`."""
    total = model.num_parameters()
    inner = model.num_parameters(exclude_embeddings=True)
    return f"{model.config.model_type}, {total:,} parameters ({inner:,} without embeddings)"
