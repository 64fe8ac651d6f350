"""The mixer `ssm`: Mamba-2's selective state space, as matrix products over chunks of the row.

    state[t] = exp(Δ[t] A) · state[t - 1] + Δ[t] · B[t] x[t]ᵀ,    y[t] = C[t]ᵀ state[t] + D x[t]

Within a chunk this is attention with decaying weights; between chunks only states pass, in a tree of products whose
depth is log(L). A bidirectional mixer runs both ways with shared weights and adds, as Caduceus' BiMamba.

Source: state-space duality, Dao & Gu 2024, arXiv:2405.21060; Caduceus, arXiv:2403.03234.

Cost a token and head, forward: 2 · chunk · (N + P) + 4 · N · P FLOP, for N states of P channels.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from transformers import initialization as init

from .cache import concat_and_keep_tail
from .configuration import GenoLMConfig
from .filters import per_channel_filter
from .norm import rms_norm

FAN = 32
"""Chunks, or groups of chunks, between which states pass in one product."""


def decay_matrix(total: torch.Tensor) -> torch.Tensor:
    """Return exp(total[t] - total[s]) at (t, s), and 0 for s > t.

    Args:
        total: (…, L) float32, the decays' sums up to each token, falling.

    Returns:
        (…, L, L) float32.
    """
    length = total.shape[-1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=total.device).triu(1)
    # Masked before exp: above the diagonal it would overflow, and its gradient with it.
    return (total.unsqueeze(-1) - total.unsqueeze(-2)).masked_fill_(earlier, -math.inf).exp_()


class WithinChunks(torch.autograd.Function):
    """(scores · decay_matrix(total)) @ x: autograd's own would hold and fill five matrices of a chunk, this one two."""

    @staticmethod
    def forward(ctx, scores: torch.Tensor, total: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return (…, R, n, chunk, P) for scores (…, 1, n, chunk, chunk), total (…, R, n, chunk), x as the result."""
        decay = decay_matrix(total).to(x.dtype)
        weights = scores * decay
        ctx.save_for_backward(decay, weights, x)
        return weights @ x

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """Return the gradients of all three."""
        decay, weights, x = ctx.saved_tensors
        to_weights = grad @ x.transpose(-1, -2)
        # Σ_s - Σ_t of weights[t, s] times their gradients. The diagonal adds nothing, and being by far the largest it
        # must not be in the sums: their rounding would be larger than the difference.
        wide = torch.promote_types(x.dtype, torch.float32)
        each = (to_weights * weights).tril_(-1)
        to_total = each.sum(-1, dtype=wide) - each.sum(-2, dtype=wide)
        return to_weights.mul_(decay).sum(-4, keepdim=True), to_total, weights.transpose(-1, -2) @ grad


def pass_states(states: torch.Tensor, log_decay: torch.Tensor, first: torch.Tensor | None = None) -> torch.Tensor:
    """Return the state before each chunk, and after the last.

    after[n] = exp(log_decay[n]) · before[n] + states[n]

    Args:
        states: (B, H, n, S) float32, what each chunk adds.
        log_decay: (B, H, n) float32, over each whole chunk.
        first: (B, H, S) float32, the state before the first; zero by default.

    Returns:
        (B, H, n + 1, S) float32.
    """
    states = F.pad(states, (0, 0, 1, 0)) if first is None else torch.cat([first.unsqueeze(2), states], dim=2)
    return _scan(states, F.pad(log_decay, (1, 0)))


def _scan(states: torch.Tensor, log_decay: torch.Tensor) -> torch.Tensor:
    """Return sums[n] = exp(log_decay[n]) · sums[n - 1] + states[n]; arguments as in `pass_states`."""
    num = states.shape[2]
    if num <= FAN:
        return decay_matrix(log_decay.cumsum(-1)) @ states
    groups = -(-num // FAN)
    states = F.pad(states, (0, 0, 0, groups * FAN - num)).unflatten(2, (groups, FAN))
    log_decay = F.pad(log_decay, (0, groups * FAN - num)).unflatten(2, (groups, FAN))
    total = log_decay.cumsum(-1)
    within = decay_matrix(total) @ states  # (B, H, groups, FAN, S)
    before = pass_states(within[:, :, :, -1], total[..., -1])[:, :, :-1]
    within = torch.addcmul(within, total.exp().unsqueeze(-1), before.unsqueeze(3))
    return within.flatten(2, 3)[:, :, :num]


def state_space(
    x: torch.Tensor,
    step: torch.Tensor,
    rate: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    chunk: int,
    state: torch.Tensor | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Run the recurrence over a row, without the D x term.

    Args:
        x: (B, L, H, P).
        step: (B, L, H) float32, Δ ≥ 0; 0 leaves the state as it is.
        rate: (H,) float32, A < 0.
        b: (B, L, G, N); H / G neighbouring heads share it.
        c: (B, L, G, N).
        chunk: tokens of a chunk.
        state: (B, H, N · P) float32, before the row; zero by default.

    Returns:
        (B, L, H, P), of x's type; where a state is given, that after the row too.
    """
    batch, length, heads, channels = x.shape
    groups, size = b.shape[2:]
    chunk = min(chunk, length)
    num = -(-length // chunk)
    dtype = x.dtype

    def cut(tensor: torch.Tensor, *shape: int) -> torch.Tensor:
        """Cut (B, L, G · …) into (B, G, n, chunk, …)."""
        tensor = F.pad(tensor.flatten(2), (0, 0, 0, num * chunk - length))
        return tensor.view(batch, num, chunk, groups, *shape).movedim(3, 1)

    x = cut(x * step.unsqueeze(-1).to(dtype), -1, channels)  # (B, G, n, chunk, R, P), R heads a group
    b, c = cut(b, size), cut(c, size)
    total = cut(step * rate, -1).cumsum(3)  # (B, G, n, chunk, R)
    with torch.autocast(x.device.type, enabled=False):
        to_end = (total[:, :, :, -1:] - total).exp().unsqueeze(-1).to(dtype)
        added = b.transpose(-1, -2) @ (x * to_end).flatten(4)  # (B, G, n, N, R · P)
        added = added.unflatten(4, (-1, channels)).movedim(4, 2).to(total.dtype)
        states = pass_states(added.flatten(1, 2).flatten(3), total[:, :, :, -1].movedim(3, 2).flatten(1, 2), state)
        before = states[:, :, :-1].to(dtype).view(batch, groups, -1, num, size, channels).movedim(2, 4).flatten(4)
        between = (c @ before).unflatten(4, (-1, channels))  # (B, G, n, chunk, R, P)
        scores = (c @ b.transpose(-1, -2)).unsqueeze(2)
        within = WithinChunks.apply(scores, total.movedim(4, 2).contiguous(), x.movedim(4, 2)).movedim(2, 4)
        y = torch.addcmul(within, between, total.exp().unsqueeze(-1).to(dtype))
    y = y.movedim(1, 3).reshape(batch, num * chunk, heads, channels)[:, :length]
    return y if state is None else (y, states[:, :, -1].clone())  # a view would keep those of all chunks


class StateSpace(nn.Module):
    """The mixer `ssm`."""

    def __init__(self, config: GenoLMConfig):
        super().__init__()
        self.num_heads, self.head_dim = config.ssm_num_heads, config.ssm_head_dim
        self.num_groups, self.state_size = config.ssm_num_groups, config.ssm_state_size
        self.chunk, self.causal, self.eps = config.ssm_chunk_size, config.causal, config.norm_eps
        # A piece of a causal row needs no tokens around it, for it is given the state.
        self.reach = (0, 0) if self.causal else None
        self.inner = self.num_heads * self.head_dim
        self.filtered = self.inner + 2 * self.num_groups * self.state_size
        self.in_proj = nn.Linear(config.hidden_size, self.inner + self.filtered + self.num_heads, bias=config.bias)
        self.short_filter = nn.Parameter(torch.empty(self.filtered, config.ssm_convolution_size))
        self.short_filter_bias = nn.Parameter(torch.empty(self.filtered))
        self.step_bias = nn.Parameter(torch.empty(self.num_heads))
        self.log_rate = nn.Parameter(torch.empty(self.num_heads))
        self.skip = nn.Parameter(torch.empty(self.num_heads))
        self.norm_weight = nn.Parameter(torch.empty(self.inner))
        self.out_proj = nn.Linear(self.inner, config.hidden_size, bias=config.bias)

    def initial_state(self, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the short filter's inputs and the state before the first token of rows (B, L, D): zeros."""
        size = (hidden.shape[0], self.num_heads, self.state_size * self.head_dim)
        return (
            hidden.new_zeros(hidden.shape[0], self.short_filter.shape[1] - 1, self.filtered),
            torch.zeros(size, dtype=torch.float32, device=hidden.device),
        )

    def forward(
        self, hidden: torch.Tensor, keep: torch.Tensor | None = None, state: tuple[torch.Tensor, ...] = (), **_
    ) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Mix (B, L, D); `keep` (B, L, 1) is 0 at padding, which then leaves the state as it is.

        With a `state` (causal), as `initial_state` returns it, also return the next state.
        """
        projected = self.in_proj(hidden)
        if self.causal:
            mixed, *after = self._run(projected, keep, state)
            return (self.out_proj(mixed), *after) if after else self.out_proj(mixed)
        there, back = self._both_ways(projected), None if keep is None else self._both_ways(keep)
        forward, backward = self._run(there, back)[0].chunk(2)
        return self.out_proj(forward + backward.flip(1))

    @staticmethod
    def _both_ways(tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat([tensor, tensor.flip(1)])

    def _run(
        self, projected: torch.Tensor, keep: torch.Tensor | None, state: tuple[torch.Tensor, ...] = ()
    ) -> tuple[torch.Tensor, ...]:
        """Return gated and normalised outputs (B, L, inner) of projections (B, L, ·), and the state if one is given."""
        gate, filtered, step = projected.split([self.inner, self.filtered, self.num_heads], dim=-1)
        if keep is not None:
            filtered = filtered * keep.to(filtered.dtype)
        inputs, recurrent, num = None, None, filtered.shape[1]
        if state:
            filtered, inputs = concat_and_keep_tail(state[0], filtered)
            recurrent = state[1]
        filtered = per_channel_filter(filtered, self.short_filter, 0)
        filtered = filtered[:, filtered.shape[1] - num :] + self.short_filter_bias.to(filtered.dtype)
        x, b, c = F.silu(filtered).split([self.inner, *2 * [self.num_groups * self.state_size]], dim=-1)
        x = x.unflatten(-1, (self.num_heads, self.head_dim))
        b, c = (tensor.unflatten(-1, (self.num_groups, self.state_size)) for tensor in (b, c))
        step = F.softplus(step.float() + self.step_bias.float())
        if keep is not None:
            step = step * keep.float()
        y = state_space(x, step, -self.log_rate.float().exp(), b, c, self.chunk, recurrent)
        y, recurrent = (y, None) if isinstance(y, torch.Tensor) else y
        y = y + self.skip.to(x.dtype).unsqueeze(-1) * x
        mixed = self._gated_norm(y.flatten(2), gate)
        return (mixed,) if inputs is None or recurrent is None else (mixed, inputs, recurrent)

    def _gated_norm(self, y: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """Normalise y · silu(gate) within each group, in float32."""
        y, weight = (y * F.silu(gate)).float(), self.norm_weight.float()
        if self.num_groups == 1:
            return rms_norm(y, weight, self.eps, gate.dtype)
        y = y.unflatten(-1, (self.num_groups, -1))
        return (F.rms_norm(y, y.shape[-1:], eps=self.eps).flatten(2) * weight).to(gate.dtype)

    @torch.no_grad()
    def initialize(self) -> None:
        """Draw as Mamba-2 does: time steps between 0.001 and 0.1, rates between 1 and 16."""
        bound = max(1, self.short_filter.shape[-1]) ** -0.5
        init.uniform_(self.short_filter, -bound, bound)
        init.zeros_(self.short_filter_bias)
        init.ones_(self.skip)
        init.ones_(self.norm_weight)
        heads = self.step_bias.shape
        step = torch.exp(torch.rand(heads) * math.log(0.1 / 0.001) + math.log(0.001)).clamp(min=1e-4)
        init.copy_(self.step_bias, (step + torch.log(-torch.expm1(-step))).to(self.step_bias))
        init.copy_(self.log_rate, torch.log(1 + 15 * torch.rand(heads)).to(self.log_rate))
