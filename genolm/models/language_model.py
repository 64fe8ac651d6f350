"""Open a pretrained language model with its tokenizer, objective and window, as its files give them."""

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
"""Default window of a model whose files name none."""


@dataclass(frozen=True)
class LanguageModel:
    """A model ready to score.

    Attributes:
        name: as the user gave it.
        model: a PreTrainedModel, in evaluation mode.
        encoder: sequence → ids.
        causal: whether it is a causal language model, else a masked one.
        window_bp: window length in bp, of training or the most the model takes; even, and a multiple of k.
        max_tokens: of a row, special tokens included; None for any.
        sha256: of its weights.
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
        name: a run, a folder, or a name on the Hub.
        tokenizer: a spec of tokenizer_configs instead of the model's own tokenizer, where that is not a fast one.
        window_bp: window length in bp, instead of that of training.
        revision: commit of the Hub, 40 hex digits.
        trust_remote_code: run the model's own code; from the Hub only with a revision.

    Raises:
        ValueError: no such model or tokenizer; or tokenizer or window do not fit the model.
    """
    if trust_remote_code and not Path(name).exists() and not re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        raise ModelError(
            f"{name}: its code may change from one day to the next; with --trust-remote-code give --revision, the 40 "
            "digits of a commit you have read"
        )
    folder = model_folder(name, revision, code=trust_remote_code)
    reader = build_tokenizer(load_spec(tokenizer)) if tokenizer else load_tokenizer(folder)
    encoder = make_encoder(reader)
    objective = objective_of(folder)
    try:
        model = load_model(folder, objective, trust_remote_code)
    except NeedsCode as error:
        raise ModelError(f"{error}; --trust-remote-code runs it, once you have read it") from error
    rows = cast(torch.nn.Embedding, model.get_input_embeddings()).num_embeddings
    if encoder.vocab_size > rows:
        raise ModelError(f"{name}: the tokenizer has {encoder.vocab_size} tokens and the model {rows}")
    max_tokens = max_row_tokens(model.config)
    width = choose_window(folder, encoder, max_tokens, window_bp)
    # A snapshot of the Hub lies in a folder named after its commit.
    commit = folder.name if not Path(name).exists() else None
    causal = objective == "causal"
    return LanguageModel(name, model.eval(), encoder, causal, width, max_tokens, weights_sha256(folder), commit)


def choose_window(folder: Path, encoder: Encoder, max_tokens: int | None, window_bp: int | None = None) -> int:
    """Return the window in bp: the given one, that of training, or the longest that the model takes.

    Raises:
        ValueError: the model does not take the given window.
    """
    most = None
    if max_tokens is not None:
        most = max_tokens - len(encoder.prefix_ids) - len(encoder.suffix_ids)
        most = most * encoder.k if encoder.kind == "kmer" else most + encoder.k - 1
    width = window_bp
    if width is None:
        metadata = folder / "genolm.json"
        trained = json.loads(metadata.read_text()).get("window_bp") if metadata.is_file() else None
        step = math.lcm(2, encoder.k) if encoder.kind == "kmer" else 2
        width = int(min(trained or most or WINDOW_BP, most or math.inf)) // step * step
    elif encoder.kind == "kmer" and width % encoder.k:
        raise ValueError(f"--window {width}: the model reads {encoder.k}-mers; give a multiple of {encoder.k}")
    if width < 4 or (most is not None and width > most):
        raise ValueError(f"--window {width}: the model takes 4 to {most or 'any number of'} bp")
    return width


def objective_of(folder: Path) -> str:
    """Return the objective of a pretrained model, "causal" or "masked", by the class in its configuration.

    Raises:
        ModelError: the configuration names no language model.
    """
    names = json.loads((folder / "config.json").read_text()).get("architectures") or []
    for name in names:
        if name.endswith(("ForMaskedLM", "ForPreTraining")):
            return "masked"
        if name.endswith(("ForCausalLM", "LMHeadModel")):
            return "causal"
    raise ModelError(
        f"{folder / 'config.json'}: architectures is {names}, which is no language model with a head; give a "
        "pretrained model, not one fine-tuned on labels"
    )


def max_row_tokens(config: Any) -> int | None:
    """Return the tokens of the longest row that a model takes; None for any.

    Some position tables start after the padding id, and some models add two special tokens: both are left out.
    """
    positions = getattr(config, "max_position_embeddings", None)
    return positions - (config.pad_token_id or 0) - 2 if isinstance(positions, int) and positions > 0 else None
