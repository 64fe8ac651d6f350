"""A backbone with a head for labels: one prediction per sequence, or one at every base.

    tokens → backbone (B, L, D) → pooling (B, D) → head (B, outputs)
                                → the token over each base (B, W, D) → head (B, W, outputs)

The backbone is any that AutoModel opens. A sequence longer than the model comes in pieces, whose pooled vectors are
averaged before the head.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.pytorch_utils import Conv1D

from genolm.models.safe_loading import ModelError, check_config, check_weights, loading

POOLING = ("mean", "cls", "attention")
READS_WEIGHTS = {"mamba": ["out_proj"], "mamba2": ["out_proj"], "falcon_mamba": ["out_proj"], "falcon_h1": ["out_proj"]}
"""Model type → linear maps whose kernels on a GPU take the weight itself, past any adapter. Source: PEFT's list."""


class LabelConfig(PreTrainedConfig):
    """Shape of a LabelModel.

    Attributes:
        backbone: the backbone's configuration, `model_type` in it.
        pooling: mean over all tokens except padding, the first token (`cls`), or a learned weighting (`attention`).
        per_base: predictions at every base instead of one per sequence.
        dropout: before the head.
        hidden_size: of the backbone.
        num_labels: outputs of the head.
    """

    model_type = "genolm-labels"

    backbone: dict = field(default_factory=dict)
    pooling: str = "mean"
    per_base: bool = False
    dropout: float | int = 0.0
    hidden_size: int = 0
    initializer_range: float | int = 0.02

    def __post_init__(self, **kwargs):
        """Raise ValueError for an unknown pooling."""
        super().__post_init__(**kwargs)
        if self.pooling not in POOLING:
            raise ValueError(f"pooling is {self.pooling!r}; allowed: {', '.join(POOLING)}")


class LabelModel(PreTrainedModel):
    """A backbone, pooling, and a linear head."""

    config_class = LabelConfig
    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, config: LabelConfig, backbone: PreTrainedModel | None = None):
        super().__init__(config)
        self.backbone = fresh_backbone(config.backbone) if backbone is None else backbone
        self.weigh = nn.Linear(config.hidden_size, 1) if config.pooling == "attention" else None
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden_size, config.num_labels or 1)
        if backbone is None:
            self.post_init()
        else:  # a pretrained backbone keeps its weights
            for module in (self.weigh, self.head):
                if module is not None:
                    nn.init.normal_(module.weight, std=config.initializer_range)
                    nn.init.zeros_(module.bias)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        pieces: torch.Tensor | None = None,
        token_of_base: torch.Tensor | None = None,
        **_,
    ) -> SequenceClassifierOutput:
        """Return logits (B, outputs), or (B, W, outputs) per base.

        Args:
            input_ids: (P, L), rows or pieces of rows.
            attention_mask: (P, L), 0 at padding.
            pieces: (B, P), the weight of each piece in a row's vector; None where a row is one piece.
            token_of_base: (B, W) int64, the token whose vector a base has.
        """
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.config.per_base:
            assert token_of_base is not None
            at = token_of_base.unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
            return SequenceClassifierOutput(logits=self.classify(hidden.gather(1, at)))
        return SequenceClassifierOutput(logits=self.classify(self.pool(hidden, attention_mask, pieces)))

    def classify(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return logits (…, outputs) of vectors (…, D), never in bf16, where many rows would tie."""
        with torch.autocast(vectors.device.type, enabled=False):
            return self.head(self.dropout(vectors.to(self.head.weight.dtype)))

    def pool(
        self, hidden: torch.Tensor, attention_mask: torch.Tensor | None, pieces: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Pool hidden states (P, L, D) to one vector per row, (B, D)."""
        hidden = hidden.float()  # a mean of bf16 numbers would be rounded again
        keep = torch.ones_like(hidden[..., 0]) if attention_mask is None else attention_mask.to(hidden.dtype)
        if self.config.pooling == "cls":
            pooled = hidden[:, 0]
        elif self.weigh is None:
            pooled = (hidden * keep.unsqueeze(-1)).sum(1) / keep.sum(1, keepdim=True).clamp(min=1)
        else:
            score = self.weigh(hidden.to(self.weigh.weight.dtype)).squeeze(-1).float()
            pooled = (hidden * score.masked_fill(keep == 0, -torch.inf).softmax(1).unsqueeze(-1)).sum(1)
        return pooled if pieces is None else pieces.to(pooled.dtype) @ pooled


def fresh_backbone(config: dict[str, Any]) -> PreTrainedModel:
    """Return a backbone with fresh weights; `config` is its configuration as plain data."""
    settings = copy.deepcopy(config)
    return _without_pooler(AutoModel.from_config, AutoConfig.for_model(settings.pop("model_type"), **settings))


def open_backbone(folder: Path) -> PreTrainedModel:
    """Load the backbone of a pretrained model, without downloads, remote code or pickles.

    Raises:
        ModelError: there are no safetensors, or transformers cannot open them without code from elsewhere.
    """
    try:
        check_weights(folder)
        check_config(folder / "config.json")
    except (ValueError, OSError) as error:
        raise ModelError(f"model: {error}") from None
    return load_weights(AutoModel, folder, _without_pooler)


def load_weights(kind: Any, folder: Path, make: Callable = lambda make, *args, **kwargs: make(*args, **kwargs)) -> Any:
    """Load a model and refuse missing weights; unused weights of the folder, such as heads, are ignored.

    Args:
        kind: an Auto class or a model class.
        folder: checked by `check_weights`.
        make: calls `from_pretrained`.

    Raises:
        ModelError: transformers cannot open it, or a weight is missing, which would silently be initialised.
    """
    with loading(folder) as options:
        model, info = make(kind.from_pretrained, folder, output_loading_info=True, **options)
    missing = sorted(info["missing_keys"])
    if missing:
        some = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise ModelError(
            f"{folder}: {len(missing):,} weights of its {model.config.model_type} are not there ({some}); config.json "
            "and the weights are of different models, or the folder was copied in part"
        )
    return model


def _without_pooler(make, *args, **kwargs) -> PreTrainedModel:
    """Make a backbone without BERT's dense layer above the first token, which is not used here."""
    try:
        return make(*args, add_pooling_layer=False, **kwargs)
    except TypeError as error:
        if "add_pooling_layer" not in str(error):
            raise
        return make(*args, **kwargs)


def on_backbone(backbone: PreTrainedModel, num_outputs: int, **settings) -> LabelModel:
    """Return a model with a fresh head on a backbone; `settings` are pooling, per_base and dropout."""
    config = backbone.config.to_dict()
    for key in ("architectures", "dtype", "torch_dtype", "transformers_version", "_name_or_path"):
        config.pop(key, None)
    settings |= {"num_labels": num_outputs, "hidden_size": backbone.config.hidden_size}
    return LabelModel(LabelConfig(backbone=config, **settings), backbone)


def linear_maps(model: LabelModel) -> list[str]:
    """Return the names of the backbone's linear maps that an adapter can be trained on, by running a few tokens.

    A map must be called (an implicit filter uses the weights alone, and an adapter would change nothing), and its
    output must reach the hidden states (that of BERT's pooler does not).
    """
    left_out = READS_WEIGHTS.get(model.config.backbone.get("model_type", ""), [])
    outputs: dict[str, Any] = {}
    hooks = [
        module.register_forward_hook(lambda _, inputs, output, name=name: outputs.__setitem__(name, output))
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and name.startswith("backbone.")
    ]
    training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        with torch.enable_grad(), _gathered(model):
            tokens = torch.ones(1, 8, dtype=torch.int64, device=device)
            hidden = model.backbone(input_ids=tokens).last_hidden_state
            reached = torch.autograd.grad(hidden.sum(), list(outputs.values()), allow_unused=True)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    used = [name for name, gradient in zip(outputs, reached, strict=True) if gradient is not None]
    return [name for name in used if name.rpartition(".")[2] not in left_out]


@contextmanager
def _gathered(model: nn.Module) -> Iterator[None]:
    """Gather all weights on every rank for a while, where ZeRO-3 has sharded them."""
    sharded = [parameter for parameter in model.parameters() if hasattr(parameter, "ds_id")]
    if not sharded:
        yield
        return
    import deepspeed  # type: ignore[import-not-found]

    with deepspeed.zero.GatheredParameters(sharded):
        yield


AutoConfig.register(LabelConfig.model_type, LabelConfig)
AutoModelForSequenceClassification.register(LabelConfig, LabelModel)
