"""A language model as its scorers need it: the model, how it reads letters, and what its files say of both.

Nothing is asked of the user that tokenizer and configuration tell: whether it reads from left to right, letters of a
token, special tokens, how long a row may be.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from genolm.models.build import load_model
from genolm.models.label_folder import model_folder, weights_sha256
from genolm.models.safe_loading import ModelError, NeedsCode
from genolm.tokenizers.build import build_tokenizer, load_spec, load_tokenizer
from genolm.tokenizers.encode import Encoder, make_encoder

WINDOW_BP = 512
"""Where neither training nor positions say anything."""


@dataclass(frozen=True)
class LanguageModel:
    """A model ready to score.

    Attributes:
        name: as the user gave it.
        model: a PreTrainedModel, in evaluation mode.
        encoder: letters → ids.
        causal: whether it reads from left to right.
        window_bp: bases of a window that it was trained on, or can take; even, and a multiple of k.
        max_tokens: of a row, special tokens included; None for any.
        sha256: over its weights.
        revision: commit of a model of the Hub.
    """

    name: str
    model: Any
    encoder: Encoder
    causal: bool
    window_bp: int
    max_tokens: int | None
    sha256: str
    revision: str | None


def open_language_model(
    name: str,
    *,
    tokenizer: str | None = None,
    window_bp: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> LanguageModel:
    """Open a run of `genolm pretrain`, a model folder, or a model of the Hub.

    Args:
        name: which one.
        tokenizer: a spec of tokenizer_configs instead of the model's own tokenizer, where that is no fast one.
        window_bp: bases of a window, instead of those of training.
        revision: commit of the Hub, 40 hex digits.
        trust_remote_code: run the code that comes with the model; of the Hub only with a revision.

    Raises:
        ValueError: no such model or tokenizer, or they do not fit each other, or the window.
    """
    if trust_remote_code and not Path(name).exists() and not re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        raise ModelError(
            f"{name}: its code may change from one day to the next; with --trust-remote-code give --revision, the 40 "
            "digits of a commit you have read"
        )
    folder = model_folder(name, revision, code=trust_remote_code)
    reader = build_tokenizer(load_spec(tokenizer)) if tokenizer else load_tokenizer(folder)
    encoder = make_encoder(reader)
    causal = is_causal(folder)
    try:
        model = load_model(folder, "causal" if causal else "masked", trust_remote_code)
    except NeedsCode as error:
        raise ModelError(f"{error}; --trust-remote-code runs it, once you have read it") from error
    rows = cast(torch.nn.Embedding, model.get_input_embeddings()).num_embeddings
    if encoder.vocab_size > rows:
        raise ModelError(f"{name}: the tokenizer has {encoder.vocab_size} tokens and the model knows {rows}")
    limit, most = longest(model.config), None
    if limit is not None:
        most = limit - len(encoder.prefix_ids) - len(encoder.suffix_ids)
        most = most * encoder.k if encoder.kind == "kmer" else most + encoder.k - 1
    step = math.lcm(2, encoder.k) if encoder.kind == "kmer" else 2
    width = window_bp
    if width is None:
        about = folder / "genolm.json"
        trained = json.loads(about.read_text()).get("window_bp") if about.is_file() else None
        width = int(min(trained or most or WINDOW_BP, most or math.inf)) // step * step
    elif encoder.kind == "kmer" and width % encoder.k:
        raise ValueError(f"--window {width}: the model reads {encoder.k}-mers; give a multiple of {encoder.k}")
    if width < 4 or (most is not None and width > most):
        raise ValueError(f"--window {width}: the model takes 4 to {most or 'any number of'} bp")
    # A snapshot of the Hub lies in a folder named after its commit.
    commit = folder.name if not Path(name).exists() else None
    return LanguageModel(name, model.eval(), encoder, causal, width, limit, weights_sha256(folder), commit)


def is_causal(folder: Path) -> bool:
    """Say whether a model reads from left to right, by the class that its configuration names.

    Raises:
        ModelError: it names none, or one that is no language model.
    """
    config = json.loads((folder / "config.json").read_text())
    names = config.get("architectures") or []
    for name in names:
        if name.endswith(("ForMaskedLM", "ForPreTraining")):
            return False
        if name.endswith(("ForCausalLM", "LMHeadModel")):
            return True
    raise ModelError(
        f"{folder / 'config.json'}: architectures is {names}, which is no language model with a head; give a "
        "pretrained model, not one fine-tuned on labels"
    )


def longest(config: Any) -> int | None:
    """Return the longest row that a model takes, in tokens; None for any.

    Some position tables start after the padding id, and some models add two ends: these are never counted on.
    """
    positions = getattr(config, "max_position_embeddings", None)
    return positions - (config.pad_token_id or 0) - 2 if isinstance(positions, int) and positions > 0 else None
