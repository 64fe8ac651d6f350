"""Reverse complement of rows of tokens: bases reversed and complemented, special tokens and padding in place."""

import torch

from .configuration import GenoLMConfig


class Strands:
    """Maps rows to the other strand, and what was computed there back."""

    def __init__(self, config: GenoLMConfig):
        self.base_token_ids, self.frame = config.base_token_ids or [], config.frame_token_ids

    def complement(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the token of the other strand for each token: A ↔ T, C ↔ G, every other token itself."""
        other = tokens
        for base, partner in zip(self.base_token_ids, reversed(self.base_token_ids), strict=True):
            other = torch.where(tokens == base, partner, other)
        return other

    def mirror(self, input_ids: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
        """Return (B, L) int64, the position whose base each position holds on the other strand; an involution.

        Everything from the first base to the last is reversed; special tokens and padding outside keep their position.

        Args:
            input_ids: (B, L).
            keep: (B, L, 1), 0 at padding, or None.
        """
        is_base = torch.ones_like(input_ids, dtype=torch.bool) if keep is None else keep.squeeze(-1) > 0
        for token in self.frame:
            is_base = is_base & (input_ids != token)
        length = input_ids.shape[1]
        position = torch.arange(length, device=input_ids.device).expand_as(input_ids)
        first = torch.where(is_base, position, length).amin(1, keepdim=True)
        last = torch.where(is_base, position, -1).amax(1, keepdim=True)
        return torch.where((position >= first) & (position <= last), first + last - position, position)

    def other(self, input_ids: torch.Tensor, mirror: torch.Tensor) -> torch.Tensor:
        """Return the other strand of (B, L) token ids."""
        return self.complement(input_ids).gather(1, mirror)

    def back(self, hidden: torch.Tensor, mirror: torch.Tensor) -> torch.Tensor:
        """Move (B, L, C) of the other strand to the positions of the given one."""
        return hidden.gather(1, mirror.unsqueeze(-1).expand_as(hidden))

    def exchange(self, logits: torch.Tensor) -> torch.Tensor:
        """Exchange the (…, V) logits of each token and its complement."""
        return logits[..., self.complement(torch.arange(logits.shape[-1], device=logits.device))]
