"""Base class of all baselines: token ids → one-hot bases → the published layers → logits.

A baseline whose layers want rows of one length gets every row with zeros up to `config.length` on its right; the others
leave padding out. Either way how far a batch was padded does not change its logits.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput, TokenClassifierOutput

from genolm.config.console import did_you_mean
from genolm.models.baseline_configuration import BaselineConfig


class Baseline(PreTrainedModel):
    """A model of one-hot bases. Made from a configuration, it becomes the class that `config.baseline` names.

    Attributes:
        OPTIONS: what `config.options` may hold, by default value; a tuple lists what is allowed, its first the default.
        CAN_PER_BASE: whether it can give one output per base.
        ONE_LENGTH: whether its layers want rows of `config.length`.
    """

    config_class = BaselineConfig
    OPTIONS: ClassVar[dict[str, Any]] = {}
    accepts_loss_kwargs = False  # forward's `**_` is no sign that it divides a loss by what Trainer counts
    CAN_PER_BASE: ClassVar[bool] = False
    ONE_LENGTH: ClassVar[bool] = True

    def __new__(cls, config: BaselineConfig | None = None, *args, **kwargs):
        """Choose the class, so that only this one is registered with the Auto classes."""
        if cls is Baseline and config is not None:
            from genolm.models.baselines import baseline_class  # it names all classes, and so comes after this one

            return super().__new__(baseline_class(config.baseline))  # type: ignore[arg-type]
        return super().__new__(cls)

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        assert config.num_labels is not None
        self.num_labels: int = config.num_labels
        self.options = complete_options(type(self), config.baseline, config.options)
        if config.per_base and not self.CAN_PER_BASE:
            raise ValueError(f"{config.baseline} gives one output per row, not per base")

    @abstractmethod
    def logits(self, one_hot: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Map one-hot bases to outputs.

        Args:
            one_hot: (B, 4, L), a column of zeros for what is neither A, C, G nor T; L is `config.length` where
                ONE_LENGTH.
            keep: (B, L), true for what is no padding; all padding lies on the right.

        Returns:
            (B, num_labels), or (B, num_labels, L) where `config.per_base`.
        """

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_of_base: torch.Tensor | None = None,
        **_,
    ) -> SequenceClassifierOutput | TokenClassifierOutput:
        """Return logits (B, num_labels), or (B, L, num_labels) where `config.per_base`.

        Args:
            input_ids: (B, L), tokens of single nucleotides.
            attention_mask: (B, L), 0 at padding, on the right; None where nothing is padded.
            token_of_base: (B, W), each base its own token; only W, the number of bases, is used; L by default.

        Raises:
            ValueError: a row is longer than `config.length`.
        """
        length = input_ids.shape[1]
        if length > self.config.length:
            raise ValueError(
                f"a row has {length} bp and this {self.config.baseline} was built for at most {self.config.length}; "
                "crop the row, or build it with a greater length"
            )
        keep = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        one_hot = torch.stack([(input_ids == base) & keep for base in self.config.base_token_ids], 1).to(self.dtype)
        if self.ONE_LENGTH:
            missing = self.config.length - length
            one_hot, keep = F.pad(one_hot, (0, missing)), F.pad(keep, (0, missing))
        logits = self.logits(one_hot, keep)
        if self.config.per_base:
            width = length if token_of_base is None else token_of_base.shape[1]
            return TokenClassifierOutput(logits=logits[:, :, :width].transpose(1, 2))
        return SequenceClassifierOutput(logits=logits)

    def odd(self, key: str) -> int:
        """Return an option that must be odd, for a kernel that is centred on a base."""
        if self.options[key] % 2 == 0:
            name = self.config.baseline
            raise ValueError(f"{key} of {name} is {self.options[key]}; an even one has no middle base: give an odd one")
        return self.options[key]

    def wide(self, units: int | float) -> int:
        """Return published channels or units times `config.width`, at least 1."""
        return max(1, round(units * self.config.width))

    def drop(self, rate: float) -> nn.Dropout:
        """Return a dropout of the published rate, or of the configuration's."""
        return nn.Dropout(rate if self.config.dropout is None else self.config.dropout)

    def draw(self, layer: nn.Linear | nn.Conv1d | nn.RNNBase) -> None:
        """Draw fresh weights of a layer; as torch does by default, unless a baseline was published otherwise."""
        layer.reset_parameters()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # transformers would draw them from N(0, 0.02): far too small for a stack of convolutions.
        if isinstance(module, nn.Linear | nn.Conv1d | nn.RNNBase):
            self.draw(module)
        else:
            super()._init_weights(module)
        if getattr(module, "starts_at_zero", False):
            init.zeros_(module.weight)  # type: ignore[arg-type]


def complete_options(baseline: type[Baseline], name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a baseline, given or default.

    Raises:
        ValueError: one is unknown, or has a value that is not allowed.
    """
    for key, value in given.items():
        if key not in baseline.OPTIONS:
            options = f"its options are {', '.join(baseline.OPTIONS)}" if baseline.OPTIONS else "it has no options"
            raise ValueError(f"{name} has no option {key!r}; {did_you_mean(key, baseline.OPTIONS, options)}")
        default = baseline.OPTIONS[key]
        if isinstance(default, tuple):
            if value not in default:
                raise ValueError(f"{key} of {name} is {value!r}; allowed: {', '.join(default)}")
        elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{key} of {name} is {value!r}; give a whole number from 1 on, such as {default}")
    return {key: given.get(key, v[0] if isinstance(v, tuple) else v) for key, v in baseline.OPTIONS.items()}


for auto in (AutoModelForSequenceClassification, AutoModelForTokenClassification):
    auto.register(BaselineConfig, Baseline)
