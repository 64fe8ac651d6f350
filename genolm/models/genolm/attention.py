"""The mixers `attention` and `local_attention`: rotary positions, grouped heads.

Cost a token, forward: 4 · L · D FLOP (half of it where causal) against 4 · W · D within a window of W.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .cache import concat_and_keep_tail
from .configuration import GenoLMConfig


def rotary(position: torch.Tensor, head_dim: int, theta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosines and sines of rotary positions.

    Args:
        position: (L,) or (B, L), tokens.
        head_dim: channels of a head, even.
        theta: base of the frequencies.

    Returns:
        Two (1 or B, 1, L, head_dim / 2) float32.
    """
    channel = torch.arange(0, head_dim, 2, device=position.device, dtype=torch.float32)
    angle = position[..., None].float() * theta ** (-channel / head_dim)
    angle = angle.view(-1, 1, *angle.shape[-2:])
    return angle.cos(), angle.sin()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate (B, H, L, head_dim) by its positions; channels i and i + head_dim / 2 form a pair.

    Source: arXiv:2104.09864.
    """
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Attention(nn.Module):
    """The mixer `attention`, through transformers' attention interface: SDPA, flex, flash or eager."""

    reach: tuple[int, int] | None = None

    def __init__(self, config: GenoLMConfig):
        super().__init__()
        assert config.head_dim is not None and config.num_key_value_heads is not None
        self.config, self.head_dim = config, config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = config.head_dim**-0.5
        self.is_causal = config.causal
        inner, shared = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, inner, bias=config.bias)
        self.k_proj = nn.Linear(config.hidden_size, shared, bias=config.bias)
        self.v_proj = nn.Linear(config.hidden_size, shared, bias=config.bias)
        self.out_proj = nn.Linear(inner, config.hidden_size, bias=config.bias)

    def heads(self, hidden: torch.Tensor, cos_sin) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return query (B, H, L, head_dim), key and value (B, key-value heads, L, head_dim)."""
        shape = (*hidden.shape[:-1], -1, self.head_dim)
        query, key, value = (p(hidden).view(shape).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        return rotate(query, *cos_sin), rotate(key, *cos_sin), value

    def initial_state(self, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the state before the first token of rows (B, L, D): no keys and values."""
        shared = self.config.num_attention_heads // self.num_key_value_groups
        none = hidden.new_zeros(hidden.shape[0], shared, 0, self.head_dim)
        return none, none

    def forward(
        self,
        hidden: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        cos_sin=None,
        state: tuple[torch.Tensor, ...] = (),
        **_,
    ) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Mix (B, L, D); the mask is in the chosen implementation's form, None where nothing is padded.

        With a `state` (causal), the keys and values before, also return all keys and values.
        """
        query, key, value = self.heads(hidden, cos_sin)
        if state:
            key, value = (torch.cat([old.to(new), new], dim=2) for old, new in zip(state, (key, value), strict=True))
        chosen = self.config._attn_implementation or "sdpa"
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(chosen, sdpa_attention_forward)
        mixed, _ = attend(self, query, key, value, attention_mask, dropout=0.0, scaling=self.scaling)
        mixed = self.out_proj(mixed.reshape(*hidden.shape[:-1], -1))
        return (mixed, key, value) if state else mixed


class LocalAttention(Attention):
    """The mixer `local_attention`: a token sees itself and the W - 1 before, or as many on both sides.

    The row is cut into blocks of W, and each attends to itself and its neighbours: linear in the length on any device.
    """

    def __init__(self, config: GenoLMConfig):
        super().__init__(config)
        self.window = config.attention_window
        self.reach = (self.window - 1, 0 if self.is_causal else self.window - 1)

    def initial_state(self, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return keys and values of the W - 1 tokens before rows (B, L, D), and which of them are attended to: none."""
        batch, before = hidden.shape[0], self.window - 1
        shared = self.config.num_attention_heads // self.num_key_value_groups
        none = hidden.new_zeros(batch, shared, before, self.head_dim)
        return none, none, torch.zeros(batch, before, 1, dtype=torch.bool, device=hidden.device)

    def forward(
        self,
        hidden: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        cos_sin=None,
        keep=None,
        state: tuple[torch.Tensor, ...] = (),
        **_,
    ) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Mix (B, L, D); `keep` (B, L, 1) is 0 at padding, which is not seen. `state`: see `initial_state`."""
        query, key, value = self.heads(hidden, cos_sin)
        if not state:
            return self.out_proj(self.mix(query, key, value, keep))
        new = hidden.new_ones(*hidden.shape[:2], 1, dtype=torch.bool) if keep is None else keep > 0
        seen, seen_after = concat_and_keep_tail(state[2], new)
        (key, key_after), (value, value_after) = (
            (both.transpose(1, 2) for both in concat_and_keep_tail(old.transpose(1, 2), new.transpose(1, 2)))
            for old, new in zip(state, (key, value), strict=False)
        )
        if hidden.shape[1] <= self.window:
            mixed = self._mix_few(query, key, value, seen)
        else:  # with queries for the tokens before too, which are then left out
            before = self.window - 1
            mixed = self.mix(F.pad(query, (0, 0, before, 0)), key, value, seen)[:, before:]
        return self.out_proj(mixed), key_after, value_after, seen_after

    def _mix_few(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Do `mix` for queries of the last L tokens only, at once; `seen` (B, W - 1 + L, 1) bool."""
        key, value = (x.repeat_interleave(self.num_key_value_groups, dim=1) for x in (key, value))
        position = torch.arange(query.shape[2], device=query.device).unsqueeze(1) + self.window - 1
        distance = position - torch.arange(key.shape[2], device=query.device)
        within = (distance >= 0) & (distance < self.window) & seen.squeeze(-1)[:, None, None]
        mixed = F.scaled_dot_product_attention(query, key, value, within | (distance == 0))
        return mixed.transpose(1, 2).flatten(2)

    def mix(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, keep: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attend within the window: from (B, H, L, head_dim), and as many or fewer heads of keys, to (B, L, D)."""
        batch, length, window = query.shape[0], query.shape[2], self.window
        key, value = (x.repeat_interleave(self.num_key_value_groups, dim=1) for x in (key, value))
        num, sides = -(-length // window), 1 if self.is_causal else 2
        query = self._blocks(F.pad(query, (0, 0, 0, num * window - length)), num, 1)
        edges = (0, 0, window, num * window - length + (sides - 1) * window)
        key, value = (self._blocks(F.pad(x, edges), num, 1 + sides) for x in (key, value))
        seen = self._seen(length, num, sides, keep, query.device)
        mixed = F.scaled_dot_product_attention(query, key, value, seen)  # (n, B · H, W, head_dim)
        mixed = mixed.unflatten(1, (batch, -1)).permute(1, 0, 3, 2, 4)
        return mixed.reshape(batch, num * window, -1)[:, :length]

    def _cut(self, x: torch.Tensor, num: int, width: int, dim: int) -> torch.Tensor:
        """Cut a dimension into `num` overlapping pieces of `width` windows: (…, n, width · W, …)."""
        pieces = [x.narrow(dim, i * self.window, num * self.window) for i in range(width)]
        return torch.cat([piece.unflatten(dim, (num, self.window)) for piece in pieces], dim=dim + 1)

    def _blocks(self, x: torch.Tensor, num: int, width: int) -> torch.Tensor:
        """Cut (B, H, ·, head_dim) into (n, B · H, width · W, head_dim): one mask then serves all rows and heads."""
        return self._cut(x, num, width, dim=2).permute(2, 0, 1, 3, 4).flatten(1, 2)

    def _seen(self, length: int, num: int, sides: int, keep: torch.Tensor | None, device) -> torch.Tensor:
        """Return (n, 1 or B · H, W, (1 + sides) · W) bool: which keys a query sees."""
        window = self.window
        block = torch.arange(num, device=device).view(num, 1, 1, 1) * window
        position = block + torch.arange(window, device=device).view(window, 1)
        other = block - window + torch.arange((1 + sides) * window, device=device)
        distance = position - other
        seen = (distance < window) & (distance > (-window if sides == 2 else -1)) & (other >= 0) & (other < length)
        if keep is not None:
            real = F.pad(keep.squeeze(-1) > 0, (window, num * window - length + (sides - 1) * window))
            real = self._cut(real, num, 1 + sides, dim=1).transpose(0, 1)  # (n, B, (1 + sides) · W)
            seen = seen & real.repeat_interleave(self.config.num_attention_heads, dim=1).unsqueeze(2)
        # A query with nothing to see, at padding, would be NaN: it sees itself.
        return seen | (distance == 0)
