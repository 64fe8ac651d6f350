"""The genolm backbone and its heads.

    tokens (+ k-mers) → [norm → mixer → +, norm → MLP → +] · num_hidden_layers → norm → head

Every mixer maps (B, L, D) to (B, L, D), and none lets padding reach a token. Given a state, a causal mixer goes on with
a row and returns the state after: see past.py. Nothing is compiled; shapes depend on the input's shape alone, so that
torch.compile takes it whole.
"""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    GenerationMixin,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutput,
    CausalLMOutputWithPast,
    MaskedLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)

from .attention import Attention, LocalAttention, rotary
from .cache import Past
from .configuration import GenoLMConfig
from .convolution import Convolution
from .embeddings import Embedding
from .filters import ExplicitFilter, GatedFilter, ImplicitFilter
from .norm import make_norm
from .ssm import StateSpace
from .strands import Strands


def make_mixer(config: GenoLMConfig, layer: int) -> nn.Module:
    """Return the mixer of a layer."""
    name = config.layer_mixers[layer]
    if name == "convolution":
        return Convolution(config, number=config.layer_mixers[:layer].count(name))
    if name == "fir":
        return GatedFilter(config, ExplicitFilter(config, config.fir_size))
    if name == "fir_medium":
        return GatedFilter(config, ExplicitFilter(config, config.fir_medium_size))
    if name == "hyena":
        return GatedFilter(config, ImplicitFilter(config))
    return {"attention": Attention, "local_attention": LocalAttention, "ssm": StateSpace}[name](config)


PIECE = 4096
"""Tokens of a row that a layer takes at a time where activations are run again for the backward pass."""


class MLP(nn.Module):
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
        self.mlp_norm, self.mlp = (make_norm(config), MLP(config)) if config.intermediate_size else (None, None)
        self.dropout = nn.Dropout(config.dropout)
        for part in (self.mixer, self.mlp):
            if part is not None:
                part.out_proj.into_residual = True  # type: ignore[assignment]

    def forward(self, hidden: torch.Tensor, *state: torch.Tensor, **where) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Map (B, L, D); where the mixer's state is given, return the one after too."""
        mixed, after = self.mixer(self.mixer_norm(hidden), state=state, **where), ()
        if state:
            mixed, *after = mixed
        hidden = hidden + self.dropout(mixed)
        if self.mlp is not None and self.mlp_norm is not None:
            hidden = hidden + self.dropout(self.mlp(self.mlp_norm(hidden)))
        return (hidden, *after) if state else hidden


def joined(pieces: list[torch.Tensor]) -> torch.Tensor:
    """Return the row (B, L, D) of its pieces."""
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)


def run_layer(layer: nn.Module, pieces: list[torch.Tensor], where: dict[str, Any]) -> list[torch.Tensor]:
    """Run a layer over a row in pieces of PIECE tokens: the same results, with the activations of one piece at a time.

    A piece is shown as many tokens around it as the mixer sees; that of `ssm`, the state before it. A mixer that sees
    the whole row takes it whole.
    """
    mixer: Any = layer.mixer
    if len(pieces) == 1 or mixer.reach is None or max(mixer.reach) > PIECE:
        whole = layer(joined(pieces), **where)
        return [whole] if len(pieces) == 1 else list(whole.split(PIECE, dim=1))
    before, after = mixer.reach
    state = mixer.first_state(pieces[0]) if isinstance(mixer, StateSpace) else ()
    outputs = []
    for i, piece in enumerate(pieces):
        past = [one[:, PIECE - before :] for one in pieces[max(0, i - 1) : i]]
        future = [one[:, :after] for one in pieces[i + 1 : i + 2]]
        hidden = torch.cat([*past, piece, *future], dim=1)
        first = before if i else 0
        here = slice(i * PIECE - first, i * PIECE - first + hidden.shape[1])
        hidden = layer(hidden, *state, **cut(where, here))
        if state:
            hidden, *state = hidden
        outputs.append(hidden[:, first : first + piece.shape[1]])
    return outputs


def cut(where: dict[str, Any], here: slice) -> dict[str, Any]:
    """Return what tells a mixer that does not see the whole row where these tokens stand; see `GenoLMModel.where`."""
    keep, cos_sin = where.get("keep"), where.get("cos_sin")
    return {
        "keep": None if keep is None else keep[:, here],
        "cos_sin": None if cos_sin is None else tuple(table[:, :, here] for table in cos_sin),
    }


class GenoLMPreTrainedModel(PreTrainedModel):
    """What all models of the family share: how fresh weights are drawn, and what they support."""

    config_class = GenoLMConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["GenoLMBlock"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    accepts_loss_kwargs = False  # the loss is a mean over this batch; Trainer divides it over accumulated ones

    def weight_decay_factors(self) -> dict[str, float]:
        """Return, by patterns of their names, which parameters decay otherwise than the recipe's `weight_decay`.

        Rates, gains and the networks that make filters do not: decay would pull them to another time scale.
        """
        return {r"\.(log_rate|skip|norm_weight|frequency)$": 0.0, r"\.filter\.(layers|output)\.": 0.0}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        initialize = getattr(module, "initialize", None)
        if initialize is not None:
            initialize()
        # Not by the module it belongs to: modules without parameters of their own are not shown to this.
        if isinstance(module, nn.Linear) and getattr(module, "into_residual", False):
            depth = 2 * self.config.num_hidden_layers
            init.normal_(module.weight, std=self.config.initializer_range / math.sqrt(depth))


class GenoLMModel(GenoLMPreTrainedModel):
    """The backbone without a head."""

    def __init__(self, config: GenoLMConfig):
        super().__init__(config)
        self.embeddings = Embedding(config)
        self.layers = nn.ModuleList(GenoLMBlock(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = make_norm(config)
        self.strands = Strands(config) if config.reverse_complement == "equivariant" else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embedding."""
        return self.embeddings.tokens

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the token embedding."""
        self.embeddings.tokens = value

    def encode(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        all_layers: bool = False,
        wanted: slice | None = None,
    ) -> list[torch.Tensor]:
        """Return the hidden states of rows as they are, the last of them normalised.

        Args:
            input_ids: (B, L).
            attention_mask: (B, L), 0 at padding on either side; None where nothing is padded.
            all_layers: with the embedding and every layer before it.
            wanted: the tokens whose last hidden states are asked for, where not of all: the last layers are then run
                over no more than these see.

        Returns:
            One (B, L, D), or num_hidden_layers + 1 of them; of `wanted`, one with as many tokens as that.
        """
        keep = None if attention_mask is None else attention_mask.unsqueeze(-1)
        hidden = self.embeddings(input_ids, keep)
        where = self.where(hidden, keep, attention_mask)
        again = self.training and any(layer.gradient_checkpointing for layer in self.layers)
        pieces, states = list(hidden.split(PIECE, dim=1)) if again else [hidden], []
        seen = [] if wanted is None or again or all_layers else self.seen_by(wanted, hidden.shape[1])
        for layer in self.layers[: len(self.layers) - len(seen)]:
            if all_layers:  # kept only if asked for: at a million tokens each weighs
                states.append(joined(pieces))
            pieces = run_layer(layer, pieces, where)
        if wanted is not None:
            hidden, first = joined(pieces), 0
            for layer, here in zip(self.layers[len(self.layers) - len(seen) :], seen, strict=True):
                hidden = layer(hidden[:, here.start - first : here.stop - first], **cut(where, here))
                first = here.start
            return [*states, self.norm(hidden[:, wanted.start - first : wanted.stop - first])]
        if len(pieces) == 1:
            return [*states, self.norm(pieces[0])]
        norm = partial(self.layers[0]._gradient_checkpointing_func, self.norm)  # type: ignore[operator,arg-type]
        return [*states, joined([norm(piece) for piece in pieces])]

    def seen_by(self, wanted: slice, length: int) -> list[slice]:
        """Return the tokens that `wanted` ones see, in each of the last layers up to one that sees the whole row."""
        seen: list[slice] = []
        for layer in reversed(self.layers):
            mixer: Any = layer.mixer
            if mixer.reach is None or isinstance(mixer, StateSpace):
                break
            before, after = mixer.reach
            wanted = slice(max(0, wanted.start - before), min(length, wanted.stop + after))
            seen.insert(0, wanted)
        return seen

    def where(
        self, hidden: torch.Tensor, keep: torch.Tensor | None, mask: torch.Tensor | None, past: Past | None = None
    ) -> dict[str, Any]:
        """Return what tells the mixers where tokens stand, and which of them and of those before are padding."""
        config, first = self.config, 0 if past is None else past.length
        where: dict[str, Any] = {"keep": keep}
        if set(config.layer_mixers) & {"attention", "local_attention"}:
            assert config.head_dim is not None
            place = torch.arange(first, first + hidden.shape[1], device=hidden.device)
            where["cos_sin"] = rotary(place, config.head_dim, config.rope_theta)
        if "attention" in config.layer_mixers:
            before: Any = past  # in all that is asked of it a Cache
            make = partial(create_causal_mask, past_key_values=before) if config.causal else create_bidirectional_mask
            where["attention_mask"] = make(config=config, inputs_embeds=hidden, attention_mask=mask)
        return where

    def first_past(self, input_ids: torch.Tensor) -> Past:
        """Return what there is before the first token of rows (B, L): nothing."""
        hidden = self.embeddings.tokens(input_ids[:, :0])
        mixers: list[Any] = [layer.mixer for layer in self.layers]
        layers = tuple(mixer.first_state(hidden) for mixer in mixers)
        return Past(0, layers, self.embeddings.first_letters(len(input_ids)))

    def encode_after(
        self, past: Past, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, all_layers: bool = False
    ) -> tuple[list[torch.Tensor], Past]:
        """Return hidden states of tokens that follow others, as `encode` does, and what those that follow these need.

        Args:
            past: what was kept of the tokens before; it is not changed.
            input_ids: (B, L).
            attention_mask: (B, L), or (B, past.length + L); 0 at padding on either side.
            all_layers: as `encode`.

        Raises:
            ValueError: the past is of another model, or of another number of rows.
        """
        if not isinstance(past, Past):
            raise ValueError(
                f"past_key_values is a {type(past).__name__}; give what this model returned under that name"
            )
        if len(past.layers) != len(self.layers):
            raise ValueError(f"past_key_values is of {len(past.layers)} layers, and this model has {len(self.layers)}")
        if past.layers[0][0].shape[0] != len(input_ids):
            raise ValueError(
                f"past_key_values has {past.layers[0][0].shape[0]} rows and input_ids {len(input_ids)}; see "
                "`past_key_values.repeat` and `.rows`"
            )
        seen = past.seen_with(input_ids, attention_mask)
        keep = None if seen is None else seen[:, past.length :].unsqueeze(-1)
        hidden = self.embeddings(input_ids, keep, past.letters)
        letters = self.embeddings.letters_after(past.letters, input_ids, keep)
        where = self.where(hidden, keep, seen, past)
        states, after = [], []
        for layer, state in zip(self.layers, past.layers, strict=True):
            if all_layers:
                states.append(hidden)
            hidden, *state = layer(hidden, *state, **where)
            after.append(tuple(state))
        return [*states, self.norm(hidden)], Past(past.length + input_ids.shape[1], tuple(after), letters, seen)

    def encode_alike(self, past: Past, input_ids: torch.Tensor) -> torch.Tensor:
        """Return the last hidden states (B, L, D) of tokens that follow others, in rows without padding.

        A layer of filters or of local attention carries a change as far as it reaches, and only so far is it run; the
        states beyond are those of the rows that these are like. From the first layer that reaches further on, all is.

        Args:
            past: as `encode_after`; knows the rows that these are like.
            input_ids: (B, L).
        """
        alike = past.alike
        assert alike is not None
        hidden, num = self.embeddings(input_ids, None, past.letters), input_ids.shape[1]
        where, far = self.where(hidden, None, None, past), alike.num_changed
        if past.letters is not None:
            far += past.letters.shape[1]
        for i, (layer, state) in enumerate(zip(self.layers, past.layers, strict=True)):
            mixer: Any = layer.mixer
            reach = None if isinstance(mixer, StateSpace) or i + 1 == len(self.layers) else mixer.reach
            far = num if reach is None else min(num, far + reach[0])
            if far == num:
                hidden, *_ = layer(hidden, *state, **where)
                continue
            changed, *_ = layer(hidden[:, :far], *state, **cut(where, slice(0, far)))
            hidden = torch.cat([changed, alike.states[i + 1][alike.rows, far:].to(changed.dtype)], dim=1)
        return self.norm(hidden)

    def encode_strands(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, all_layers: bool = False
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return the hidden states of this strand, and of the other brought to the places of this one.

        Both strands are one batch of 2B rows: twice the cost of `encode`, whose arguments these are.
        """
        assert self.strands is not None
        keep = None if attention_mask is None else attention_mask.unsqueeze(-1)
        mirror = self.strands.mirror(input_ids, keep)
        rows = torch.cat([input_ids, self.strands.other(input_ids, mirror)])
        mask = None if attention_mask is None else torch.cat([attention_mask, attention_mask])
        pairs = [state.chunk(2) for state in self.encode(rows, mask, all_layers)]
        return [this for this, _ in pairs], [self.strands.back(other, mirror) for _, other in pairs]

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **_,
    ) -> BaseModelOutput | tuple:
        """Return hidden states (B, L, D); of an equivariant model the mean over strands, the same for either.

        Args:
            input_ids: (B, L).
            attention_mask: (B, L), 0 at padding on either side.
            output_hidden_states: the embedding and the output of every layer too; the last is normalised.
            return_dict: False for a tuple.
        """
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        if self.strands is None:
            states = self.encode(input_ids, attention_mask, bool(wanted))
        else:
            this, other = self.encode_strands(input_ids, attention_mask, bool(wanted))
            states = [(one + two) / 2 for one, two in zip(this, other, strict=True)]
        output = BaseModelOutput(last_hidden_state=states[-1], hidden_states=tuple(states) if wanted else None)
        return output if self.config.return_dict and return_dict is not False else output.to_tuple()


class GenoLMForMaskedLM(GenoLMPreTrainedModel):
    """A head that says what each masked token is. Equivariant: the logits are the mean over strands."""

    _tied_weights_keys = {"lm_head.weight": "model.embeddings.tokens.weight"}

    def __init__(self, config: GenoLMConfig):
        if config.causal:
            raise ValueError("the configuration says causal: true; a masked language model sees both sides")
        super().__init__(config)
        self.model = GenoLMModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: slice | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **_,
    ) -> MaskedLMOutput | tuple:
        """Return logits (B, L, V), and the mean loss in nats where labels (B, L) are given; -100 is not predicted.

        Args:
            input_ids: (B, L).
            attention_mask: (B, L), 0 at padding on either side.
            labels: (B, L).
            logits_to_keep: slice(first, last), logits of these tokens only, for less work; without labels.
            output_hidden_states: as `GenoLMModel`.
            return_dict: False for a tuple.
        """
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        strands = self.model.strands
        if strands is None:
            states = self.model.encode(input_ids, attention_mask, bool(wanted), logits_to_keep)
            logits = self.lm_head(states[-1])
        else:
            this, other = self.model.encode_strands(input_ids, attention_mask, bool(wanted))
            logits = (self.lm_head(this[-1]) + strands.exchange(self.lm_head(other[-1]))) / 2
            states = [(one + two) / 2 for one, two in zip(this, other, strict=True)]
            logits = logits if logits_to_keep is None else logits[:, logits_to_keep]
        loss = None if labels is None else token_loss(logits, labels)
        output = MaskedLMOutput(loss=loss, logits=logits, hidden_states=tuple(states) if wanted else None)
        return output if self.config.return_dict and return_dict is not False else output.to_tuple()


class GenoLMForCausalLM(GenoLMPreTrainedModel, GenerationMixin):
    """A head that says the next token."""

    _tied_weights_keys = {"lm_head.weight": "model.embeddings.tokens.weight"}
    _is_stateful = True  # filters and `ssm` cannot be set back to an earlier token, as assisted generation would

    def __init__(self, config: GenoLMConfig):
        if not config.causal:
            raise ValueError("the configuration says causal: false; a causal language model sees earlier tokens only")
        super().__init__(config)
        self.model = GenoLMModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        past_key_values: Past | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **_,
    ) -> CausalLMOutputWithPast | tuple:
        """Return logits (B, L, V) for the token after each, and the mean loss in nats.

        Args:
            input_ids: (B, L).
            attention_mask: (B, L), 0 at padding on either side; or that of the tokens before too.
            labels: (B, L), at their own place, as `input_ids`; -100 is not predicted.
            logits_to_keep: logits of the last so many tokens only, or of these; 0 for all.
            past_key_values: what was kept of the tokens before `input_ids`; it is not changed.
            use_cache: return as `past_key_values` what the tokens after `input_ids` need.
            output_hidden_states: as `GenoLMModel`.
            return_dict: False for a tuple.
        """
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        past, keeps = past_key_values, self.config.use_cache if use_cache is None else use_cache
        if getattr(past, "alike", None) is not None:
            if keeps or wanted or attention_mask is not None:
                raise ValueError(
                    "rows that are like others give logits only, and have no padding; see Past.followed_by"
                )
            states = [self.model.encode_alike(past, input_ids)]  # type: ignore[arg-type]
        elif past is None and not keeps:
            states = self.model.encode(input_ids, attention_mask, bool(wanted))
        else:
            before = self.model.first_past(input_ids) if past is None else past
            states, past = self.model.encode_after(before, input_ids, attention_mask, bool(wanted))
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(states[-1][:, kept])
        loss = None if labels is None else token_loss(logits[:, :-1], labels[:, 1:])
        hidden = tuple(states) if wanted else None
        after: Any = past if keeps else None
        output = CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=after, hidden_states=hidden)
        return output if self.config.return_dict and return_dict is not False else output.to_tuple()

    def generate(self, inputs: torch.Tensor | None = None, generation_config=None, **kwargs):
        """As transformers' own, and with a cache unless `use_cache` or a given `generation_config` says otherwise."""
        if generation_config is None:  # the model's own says what a forward returns
            kwargs.setdefault("use_cache", True)
        return super().generate(inputs, generation_config, **kwargs)  # type: ignore[misc]

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """Say that `generate` makes no cache of its own: the first forward returns one."""
        return False

    @staticmethod
    def _reorder_cache(past_key_values: Past, beam_idx: torch.Tensor) -> Past:
        """Return the past of the beams that are gone on with."""
        return past_key_values.rows(beam_idx)


class GenoLMForSequenceClassification(GenoLMPreTrainedModel):
    """A linear map of the mean over letters and ends, padding apart; equivariant: the same for either strand."""

    def __init__(self, config: GenoLMConfig):
        super().__init__(config)
        assert config.num_labels is not None
        self.num_labels = config.num_labels
        self.model = GenoLMModel(config)
        self.score = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **_,
    ) -> SequenceClassifierOutput | tuple:
        """Return logits (B, num_labels); the loss is transformers' own for `problem_type`."""
        outputs = self.model(input_ids, attention_mask, output_hidden_states, return_dict=True)
        hidden = outputs.last_hidden_state
        if attention_mask is None:
            pooled = hidden.mean(1)
        else:
            keep = attention_mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * keep).sum(1) / keep.sum(1).clamp(min=1)
        logits = self.score(pooled)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        output = SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)
        return output if self.config.return_dict and return_dict is not False else output.to_tuple()


class GenoLMForTokenClassification(GenoLMPreTrainedModel):
    """A linear map at every token; equivariant: the same for either strand, at the same base."""

    def __init__(self, config: GenoLMConfig):
        super().__init__(config)
        assert config.num_labels is not None
        self.num_labels = config.num_labels
        self.model = GenoLMModel(config)
        self.score = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **_,
    ) -> TokenClassifierOutput | tuple:
        """Return logits (B, L, num_labels), and the mean loss in nats where labels (B, L) are given."""
        outputs = self.model(input_ids, attention_mask, output_hidden_states, return_dict=True)
        logits = self.score(outputs.last_hidden_state)
        loss = None if labels is None else token_loss(logits, labels)
        output = TokenClassifierOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)
        return output if self.config.return_dict and return_dict is not False else output.to_tuple()


def token_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean of -ln p(label) over (B, L), in float32; -100 is left out."""
    return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100)


AUTO_CLASSES = {
    AutoModel: GenoLMModel,
    AutoModelForMaskedLM: GenoLMForMaskedLM,
    AutoModelForCausalLM: GenoLMForCausalLM,
    AutoModelForSequenceClassification: GenoLMForSequenceClassification,
    AutoModelForTokenClassification: GenoLMForTokenClassification,
}

if __name__.startswith("genolm."):  # exported code is found by its `auto_map` instead
    for auto, model in AUTO_CLASSES.items():
        auto.register(GenoLMConfig, model)
