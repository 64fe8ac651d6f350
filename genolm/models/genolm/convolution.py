"""The mixer `convolution`: dense, dilated convolutions as in GPN.

    linear map of GELU(conv(x)),  dilation growing from layer to layer

Source: GPN, Benegas et al. 2023, doi:10.1073/pnas.2311219120. Cost a token, forward: 2 · K · D² + 2 · D² FLOP.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .cache import concat_and_keep_tail
from .configuration import GenoLMConfig


class DilatedConvolution(nn.Module):
    """The mixer `convolution`.

    Args:
        config: gives channels, taps and dilations.
        number: of this layer among those of this mixer, from 0.
    """

    def __init__(self, config: GenoLMConfig, number: int):
        super().__init__()
        width = config.hidden_size
        size = config.convolution_size if number else config.convolution_first_size
        assert size is not None
        dilation = config.convolution_dilations[number % len(config.convolution_dilations)]
        self.conv = nn.Conv1d(width, width, size, dilation=dilation, bias=config.bias)
        self.out_proj = nn.Linear(width, width, bias=config.bias)
        around = (size - 1) * dilation
        before = around if config.causal else around // 2  # as padding="same" of torch, for even sizes too
        self.reach = (before, around - before)

    def initial_state(self, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the state before the first token of rows (B, L, D): zeros."""
        return (hidden.new_zeros(hidden.shape[0], self.reach[0], hidden.shape[2]),)

    def forward(
        self, hidden: torch.Tensor, keep: torch.Tensor | None = None, state: tuple[torch.Tensor, ...] = (), **_
    ) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Mix (B, L, D); `keep` (B, L, 1) is 0 at padding, which then adds nothing.

        With a `state` (causal), the last inputs of the row before, also return the next state.
        """
        if keep is not None:
            hidden = hidden * keep.to(hidden.dtype)
        if state:
            hidden, after = concat_and_keep_tail(state[0], hidden)
            return self._activated(self.conv(hidden.transpose(1, 2))), after
        return self._activated(self.conv(F.pad(hidden.transpose(1, 2), self.reach)))

    def _activated(self, mixed: torch.Tensor) -> torch.Tensor:
        return self.out_proj(F.gelu(mixed.transpose(1, 2)))
