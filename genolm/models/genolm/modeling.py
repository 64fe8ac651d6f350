"""The genolm backbone and its heads.

    tokens (+ k-mers) → [norm → mixer → +, norm → MLP → +] · num_hidden_layers → norm → head

Every mixer maps (B, L, D) to (B, L, D), and padding never influences a token. A causal mixer given a state continues a
row and returns the next state: see cache.py. Nothing is compiled; shapes depend on the input's shape alone, so that
torch.compile takes the model whole.
"""

import math
from functools import partial
from typing import Any, ClassVar

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
from transformers.modeling_outputs import (
    BaseModelOutput,
    CausalLMOutputWithPast,
    MaskedLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils.generic import can_return_tuple

from .blocks import GenoLMBlock, join_row, mixer_inputs, receptive_fields, run_layer, slice_inputs, split_row
from .cache import RecurrentCache, check_cache
from .configuration import GenoLMConfig
from .embeddings import Embedding
from .norm import make_norm
from .ssm import StateSpace
from .strands import Strands


class GenoLMPreTrainedModel(PreTrainedModel):
    """Base of the family: how fresh weights are drawn, and which features of transformers are supported."""

    config: GenoLMConfig
    config_class = GenoLMConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["GenoLMBlock"]
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True
    _can_compile_fullgraph = True
    accepts_loss_kwargs = False  # the loss is a mean over this batch; Trainer divides it over accumulated ones

    def weight_decay_factors(self) -> dict[str, float]:
        """Return factors of the weight decay by patterns of parameter names.

        Rates, gains and the networks that make filters do not decay: it would change their time scale.
        """
        return {r"\.(log_rate|skip|norm_weight|frequency)$": 0.0, r"\.filter\.(layers|output)\.": 0.0}

    def all_layers(self, output_hidden_states: bool | None) -> bool:
        """Return whether to output every layer's hidden states: by the argument, else by the configuration."""
        return bool(self.config.output_hidden_states if output_hidden_states is None else output_hidden_states)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        initialize = getattr(module, "initialize", None)
        if initialize is not None:
            initialize()
        # The linear map is marked, not its owner: modules without parameters of their own never come here.
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
        tokens: slice | None = None,
    ) -> list[torch.Tensor]:
        """Return hidden states on the given strand, the last of them normalised.

        Args:
            input_ids: (B, L).
            attention_mask: (B, L), 0 at padding on either side; None where nothing is padded.
            all_layers: return the embedding and every earlier layer too.
            tokens: return the last hidden states of these tokens only; the last layers then run over no more than
                their receptive field.

        Returns:
            One (B, L, D), or num_hidden_layers + 1 of them; the last has only `tokens` where these are given.
        """
        keep = None if attention_mask is None else attention_mask.unsqueeze(-1)
        hidden = self.embeddings(input_ids, keep)
        inputs = mixer_inputs(self.config, hidden, keep, attention_mask)
        checkpointed = self.training and any(layer.gradient_checkpointing for layer in self.layers)
        pieces, states = split_row(hidden) if checkpointed else [hidden], []
        fields: list[slice] = []
        if tokens is not None and not checkpointed and not all_layers:
            fields = receptive_fields(self.layers, tokens, hidden.shape[1])
        for layer in self.layers[: len(self.layers) - len(fields)]:
            if all_layers:  # kept on request only: each is large at a million tokens
                states.append(join_row(pieces))
            pieces = run_layer(layer, pieces, inputs)
        if tokens is not None:
            hidden, first = join_row(pieces), 0
            for layer, field in zip(self.layers[len(self.layers) - len(fields) :], fields, strict=True):
                hidden = layer(hidden[:, field.start - first : field.stop - first], **slice_inputs(inputs, field))
                first = field.start
            return [*states, self.norm(hidden[:, tokens.start - first : tokens.stop - first])]
        if len(pieces) == 1:
            return [*states, self.norm(pieces[0])]
        norm = partial(self.layers[0]._gradient_checkpointing_func, self.norm)  # type: ignore[operator,arg-type]
        return [*states, join_row([norm(piece) for piece in pieces])]

    def empty_cache(self, input_ids: torch.Tensor) -> RecurrentCache:
        """Return the cache before the first token of rows (B, L)."""
        hidden = self.embeddings.tokens(input_ids[:, :0])
        mixers: list[Any] = [layer.mixer for layer in self.layers]
        layers = tuple(mixer.initial_state(hidden) for mixer in mixers)
        return RecurrentCache(0, layers, self.embeddings.initial_bases(len(input_ids)))

    def encode_with_cache(
        self,
        cache: RecurrentCache,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        all_layers: bool = False,
    ) -> tuple[list[torch.Tensor], RecurrentCache]:
        """Return hidden states of tokens after a cached prefix, as `encode`, and the cache after these tokens.

        Args:
            cache: of the prefix; it is not changed.
            input_ids: (B, L).
            attention_mask: (B, L), or (B, cache.length + L); 0 at padding on either side.
            all_layers: as `encode`.

        Raises:
            ValueError: the cache is of another model, or of another number of rows.
        """
        check_cache(cache, len(self.layers), len(input_ids))
        attended = cache.attended_with(input_ids, attention_mask)
        keep = None if attended is None else attended[:, cache.length :].unsqueeze(-1)
        hidden = self.embeddings(input_ids, keep, cache.bases)
        bases = self.embeddings.next_bases(cache.bases, input_ids, keep)
        inputs = mixer_inputs(self.config, hidden, keep, attended, cache)
        states, after = [], []
        for layer, state in zip(self.layers, cache.layers, strict=True):
            if all_layers:
                states.append(hidden)
            hidden, *state = layer(hidden, *state, **inputs)
            after.append(tuple(state))
        length = cache.length + input_ids.shape[1]
        return [*states, self.norm(hidden)], RecurrentCache(length, tuple(after), bases, attended)

    def encode_changed_tokens(self, cache: RecurrentCache, input_ids: torch.Tensor) -> torch.Tensor:
        """Return the last hidden states (B, L, D) after a cached prefix of rows that differ little from reference rows.

        Layers of filters or of local attention run only as far as a change reaches, and take the states beyond from
        the reference rows. From the first layer with a longer reach on, all tokens run.

        Args:
            cache: of the prefix, with its reference rows.
            input_ids: (B, L), without padding.
        """
        reference = cache.reference
        assert reference is not None
        hidden, num = self.embeddings(input_ids, None, cache.bases), input_ids.shape[1]
        inputs, changed = mixer_inputs(self.config, hidden, None, None, cache), reference.num_changed
        if cache.bases is not None:
            changed += cache.bases.shape[1]
        for i, (layer, state) in enumerate(zip(self.layers, cache.layers, strict=True)):
            mixer: Any = layer.mixer
            reach = None if isinstance(mixer, StateSpace) or i + 1 == len(self.layers) else mixer.reach
            changed = num if reach is None else min(num, changed + reach[0])
            if changed == num:
                hidden, *_ = layer(hidden, *state, **inputs)
                continue
            first, *_ = layer(hidden[:, :changed], *state, **slice_inputs(inputs, slice(0, changed)))
            hidden = torch.cat([first, reference.states[i + 1][reference.rows, changed:].to(first.dtype)], dim=1)
        return self.norm(hidden)

    def encode_strands(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, all_layers: bool = False
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return the hidden states of both strands, those of the other strand at the positions of the given one.

        Both strands are one batch of 2B rows: twice the cost of `encode`, which has the same arguments.
        """
        assert self.strands is not None
        keep = None if attention_mask is None else attention_mask.unsqueeze(-1)
        mirror = self.strands.mirror(input_ids, keep)
        rows = torch.cat([input_ids, self.strands.other(input_ids, mirror)])
        mask = None if attention_mask is None else torch.cat([attention_mask, attention_mask])
        pairs = [state.chunk(2) for state in self.encode(rows, mask, all_layers)]
        return [this for this, _ in pairs], [self.strands.back(other, mirror) for _, other in pairs]

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        **_,
    ) -> BaseModelOutput:
        """Return hidden states (B, L, D); of an equivariant model the mean over strands, the same for either.

        Args:
            input_ids: (B, L).
            attention_mask: (B, L), 0 at padding on either side.
            output_hidden_states: return the embedding and the output of every layer too; the last is normalised.
        """
        all_layers = self.all_layers(output_hidden_states)
        if self.strands is None:
            states = self.encode(input_ids, attention_mask, all_layers)
        else:
            states = mean_of_strands(*self.encode_strands(input_ids, attention_mask, all_layers))
        return BaseModelOutput(last_hidden_state=states[-1], hidden_states=tuple(states) if all_layers else None)


def mean_of_strands(this: list[torch.Tensor], other: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the mean of the two strands' hidden states, layer by layer."""
    return [(one + two) / 2 for one, two in zip(this, other, strict=True)]


class _LanguageModel(GenoLMPreTrainedModel):
    """The backbone and a linear map to the vocabulary."""

    _tied_weights_keys = {"lm_head.weight": "model.embeddings.tokens.weight"}
    _causal: ClassVar[bool]

    def __init__(self, config: GenoLMConfig):
        if config.causal != self._causal:
            sees = (
                "causal language model sees earlier tokens only"
                if self._causal
                else "masked language model sees both sides"
            )
            raise ValueError(f"the configuration says causal: {str(config.causal).lower()}; a {sees}")
        super().__init__(config)
        self.model = GenoLMModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()


class GenoLMForMaskedLM(_LanguageModel):
    """Predicts each masked token. Equivariant: the logits are the mean over strands."""

    _causal = False

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: slice | None = None,
        output_hidden_states: bool | None = None,
        **_,
    ) -> MaskedLMOutput:
        """Return logits (B, L, V), and the mean loss in nats where labels (B, L) are given; -100 is not predicted.

        Args:
            input_ids: (B, L).
            attention_mask: (B, L), 0 at padding on either side.
            labels: (B, L).
            logits_to_keep: slice(first, last), logits of these tokens only, for less work; without labels.
            output_hidden_states: as `GenoLMModel`.
        """
        all_layers, strands = self.all_layers(output_hidden_states), self.model.strands
        if strands is None:
            states = self.model.encode(input_ids, attention_mask, all_layers, logits_to_keep)
            logits = self.lm_head(states[-1])
        else:
            this, other = self.model.encode_strands(input_ids, attention_mask, all_layers)
            logits = (self.lm_head(this[-1]) + strands.exchange(self.lm_head(other[-1]))) / 2
            states = mean_of_strands(this, other)
            logits = logits if logits_to_keep is None else logits[:, logits_to_keep]
        loss = None if labels is None else token_loss(logits, labels)
        return MaskedLMOutput(loss=loss, logits=logits, hidden_states=tuple(states) if all_layers else None)


class GenoLMForCausalLM(_LanguageModel, GenerationMixin):
    """Predicts the next token."""

    _causal = True
    _is_stateful = True  # filters and `ssm` cannot be set back to an earlier token, as assisted generation would

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        past_key_values: RecurrentCache | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        **_,
    ) -> CausalLMOutputWithPast:
        """Return logits (B, L, V) for the token after each, and the mean loss in nats.

        Args:
            input_ids: (B, L).
            attention_mask: (B, L), 0 at padding on either side; or (B, past + L), with the cached tokens.
            labels: (B, L), aligned with `input_ids`; -100 is not predicted.
            logits_to_keep: number of last tokens, or indices of tokens, to return logits for; 0 for all.
            past_key_values: cache of the tokens before `input_ids`; it is not changed.
            use_cache: return `past_key_values`, the cache after `input_ids`.
            output_hidden_states: as `GenoLMModel`.
        """
        all_layers, cache = self.all_layers(output_hidden_states), past_key_values
        use_cache = self.config.use_cache if use_cache is None else use_cache
        if getattr(cache, "reference", None) is not None:
            if use_cache or all_layers or attention_mask is not None:
                raise ValueError(
                    "with reference rows the model returns logits only, and rows have no padding; see "
                    "RecurrentCache.with_reference"
                )
            states = [self.model.encode_changed_tokens(cache, input_ids)]  # type: ignore[arg-type]
        elif cache is None and not use_cache:
            states = self.model.encode(input_ids, attention_mask, all_layers)
        else:
            before = self.model.empty_cache(input_ids) if cache is None else cache
            states, cache = self.model.encode_with_cache(before, input_ids, attention_mask, all_layers)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(states[-1][:, kept])
        loss = None if labels is None else token_loss(logits[:, :-1], labels[:, 1:])
        hidden = tuple(states) if all_layers else None
        after: Any = cache if use_cache else None
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=after, hidden_states=hidden)

    def generate(self, inputs: torch.Tensor | None = None, generation_config=None, **kwargs):
        """Generate as transformers does, with a cache unless `use_cache` or `generation_config` says otherwise."""
        if generation_config is None:  # the model's own has its forward's default, without a cache
            kwargs.setdefault("use_cache", True)
        return super().generate(inputs, generation_config, **kwargs)  # type: ignore[misc]

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """Return False: the first forward of `generate` returns the cache."""
        return False

    @staticmethod
    def _reorder_cache(past_key_values: RecurrentCache, beam_idx: torch.Tensor) -> RecurrentCache:
        """Return the cache of the selected beams."""
        return past_key_values.rows(beam_idx)


class _Classifier(GenoLMPreTrainedModel):
    """The backbone and a linear map to labels."""

    def __init__(self, config: GenoLMConfig):
        super().__init__(config)
        assert config.num_labels is not None
        self.num_labels = config.num_labels
        self.model = GenoLMModel(config)
        self.score = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()


class GenoLMForSequenceClassification(_Classifier):
    """A linear map of the mean over tokens without padding; equivariant: the same for either strand."""

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        **_,
    ) -> SequenceClassifierOutput:
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
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)


class GenoLMForTokenClassification(_Classifier):
    """A linear map at every token; equivariant: the same for either strand, at the same base."""

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        **_,
    ) -> TokenClassifierOutput:
        """Return logits (B, L, num_labels), and the mean loss in nats where labels (B, L) are given."""
        outputs = self.model(input_ids, attention_mask, output_hidden_states, return_dict=True)
        logits = self.score(outputs.last_hidden_state)
        loss = None if labels is None else token_loss(logits, labels)
        return TokenClassifierOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)


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
