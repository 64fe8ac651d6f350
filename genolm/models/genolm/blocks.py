"""A block of the backbone, norm → mixer → + → norm → MLP → +, and running it over a long row piece by piece."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import Attention, LocalAttention, rotary
from .cache import RecurrentCache
from .configuration import GenoLMConfig
from .convolution import DilatedConvolution
from .filters import ExplicitFilter, GatedFilter, ImplicitFilter, takes_gpu_form
from .norm import make_norm
from .ssm import StateSpace

PIECE = 4096
"""Tokens of a row that a layer takes at a time under gradient checkpointing, on a CPU."""

PIECE_ELEMENTS = 1 << 24
"""Elements of a piece (B, tokens, D) on a GPU. Smaller ones take less time to compute than to start, about 9 µs an
operation: 65,536 tokens of 256 channels in pieces of 4,096 take 12 times as long as whole (H200)."""


def make_mixer(config: GenoLMConfig, layer: int) -> nn.Module:
    """Return the mixer of a layer."""
    name = config.layer_mixers[layer]
    if name == "convolution":
        return DilatedConvolution(config, number=config.layer_mixers[:layer].count(name))
    if name == "fir":
        return GatedFilter(config, ExplicitFilter(config, config.fir_size))
    if name == "fir_medium":
        return GatedFilter(config, ExplicitFilter(config, config.fir_medium_size))
    if name == "hyena":
        return GatedFilter(config, ImplicitFilter(config))
    return {"attention": Attention, "local_attention": LocalAttention, "ssm": StateSpace}[name](config)


class FeedForward(nn.Module):
    """SwiGLU, down(silu(gate(x)) · up(x)), or GELU, down(gelu(up(x)))."""

    def __init__(self, config: GenoLMConfig):
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(width, inner, bias=config.bias) if config.mlp == "swiglu" else None
        self.up_proj = nn.Linear(width, inner, bias=config.bias)
        self.out_proj = nn.Linear(inner, width, bias=config.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map (B, L, D)."""
        if self.gate_proj is None:
            return self.out_proj(F.gelu(self.up_proj(hidden)))
        return self.out_proj(F.silu(self.gate_proj(hidden)) * self.up_proj(hidden))


class GenoLMBlock(GradientCheckpointingLayer):
    """A mixer and an MLP, each normalised before and added after."""

    def __init__(self, config: GenoLMConfig, layer: int):
        super().__init__()
        self.mixer_norm, self.mixer = make_norm(config), make_mixer(config, layer)
        self.mlp_norm, self.mlp = (make_norm(config), FeedForward(config)) if config.intermediate_size else (None, None)
        self.dropout = nn.Dropout(config.dropout)
        for part in (self.mixer, self.mlp):
            if part is not None:
                part.out_proj.into_residual = True  # type: ignore[assignment]

    def forward(self, hidden: torch.Tensor, *state: torch.Tensor, **inputs) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Map (B, L, D); with a mixer `state`, also return the next state."""
        mixed, after = self.mixer(self.mixer_norm(hidden), state=state, **inputs), ()
        if state:
            mixed, *after = mixed
        hidden = hidden + self.dropout(mixed)
        if self.mlp is not None and self.mlp_norm is not None:
            hidden = hidden + self.dropout(self.mlp(self.mlp_norm(hidden)))
        return (hidden, *after) if state else hidden


def split_row(hidden: torch.Tensor) -> list[torch.Tensor]:
    """Split (B, L, D) into pieces of equal length, but for the last."""
    length = PIECE
    if takes_gpu_form(hidden):
        tokens = PIECE_ELEMENTS // (hidden.shape[0] * hidden.shape[2])
        length = max(1024, 1 << tokens.bit_length() - 1)
    return list(hidden.split(length, dim=1))


def join_row(pieces: list[torch.Tensor]) -> torch.Tensor:
    """Join pieces to the row (B, L, D)."""
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)


def mixer_inputs(
    config: GenoLMConfig,
    hidden: torch.Tensor,
    keep: torch.Tensor | None,
    mask: torch.Tensor | None,
    cache: RecurrentCache | None = None,
) -> dict[str, Any]:
    """Return the mixers' further inputs: which tokens are no padding, their positions and attention mask."""
    first = 0 if cache is None else cache.length
    inputs: dict[str, Any] = {"keep": keep}
    if set(config.layer_mixers) & {"attention", "local_attention"}:
        assert config.head_dim is not None
        position = torch.arange(first, first + hidden.shape[1], device=hidden.device)
        inputs["cos_sin"] = rotary(position, config.head_dim, config.rope_theta)
    if "attention" in config.layer_mixers:
        before: Any = cache  # has the methods of a transformers Cache that are called here
        make = partial(create_causal_mask, past_key_values=before) if config.causal else create_bidirectional_mask
        inputs["attention_mask"] = make(config=config, inputs_embeds=hidden, attention_mask=mask)
    return inputs


def slice_inputs(inputs: dict[str, Any], tokens: slice) -> dict[str, Any]:
    """Slice the further inputs of a mixer with a limited receptive field, as `mixer_inputs` returns them."""
    keep, cos_sin = inputs.get("keep"), inputs.get("cos_sin")
    return {
        "keep": None if keep is None else keep[:, tokens],
        "cos_sin": None if cos_sin is None else tuple(table[:, :, tokens] for table in cos_sin),
    }


def run_layer(layer: nn.Module, pieces: list[torch.Tensor], inputs: dict[str, Any]) -> list[torch.Tensor]:
    """Run a layer over a row piece by piece: the same results, with the activations of one piece at a time.

    A piece comes with the neighbouring tokens in the mixer's receptive field; for `ssm`, with the state before it.
    A mixer that needs the whole row runs over the whole row.
    """
    mixer: Any = layer.mixer
    length = pieces[0].shape[1]
    if len(pieces) == 1 or mixer.reach is None or max(mixer.reach) > length:
        whole = layer(join_row(pieces), **inputs)
        return [whole] if len(pieces) == 1 else split_row(whole)
    before, after = mixer.reach
    state = mixer.initial_state(pieces[0]) if isinstance(mixer, StateSpace) else ()
    outputs = []
    for i, piece in enumerate(pieces):
        left = [one[:, length - before :] for one in pieces[max(0, i - 1) : i]]
        right = [one[:, :after] for one in pieces[i + 1 : i + 2]]
        hidden = torch.cat([*left, piece, *right], dim=1)
        first = before if i else 0
        tokens = slice(i * length - first, i * length - first + hidden.shape[1])
        hidden = layer(hidden, *state, **slice_inputs(inputs, tokens))
        if state:
            hidden, *state = hidden
        outputs.append(hidden[:, first : first + piece.shape[1]])
    return outputs


def receptive_fields(layers: nn.ModuleList, tokens: slice, length: int) -> list[slice]:
    """Return the inputs that `tokens` depend on in each of the last layers, up to one that sees the whole row."""
    fields: list[slice] = []
    for layer in reversed(layers):
        mixer: Any = layer.mixer
        if mixer.reach is None or isinstance(mixer, StateSpace):
            break
        before, after = mixer.reach
        tokens = slice(max(0, tokens.start - before), min(length, tokens.stop + after))
        fields.insert(0, tokens)
    return fields
