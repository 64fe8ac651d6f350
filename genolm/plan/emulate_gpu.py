"""Emulate a GPU where its memory differs from a CPU's: fused attention, dropout masks, autocast to float32."""

import math
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

FLOAT32 = {
    getattr(owner, name)
    for owner in (torch, F, torch.Tensor)
    for name in (
        *("layer_norm", "group_norm", "softmax", "log_softmax", "softplus", "exp", "log", "pow", "rsqrt"),
        *("reciprocal", "cumsum", "cumprod", "sum", "prod", "norm"),
    )
    if hasattr(owner, name)
}
"""What CUDA's autocast computes in float32. Source: torch's notes on automatic mixed precision."""


class TooManyCalls(Exception):
    """A trace went beyond the calls of torch that it may take."""


class CountsAttention(Protocol):
    """Takes the FLOPs of attention, which is no operation here."""

    def attend(self, flops: float, causal: bool) -> None:
        """Take the FLOPs of one call, forward or backward."""


class Attend(torch.autograd.Function):
    """Scaled dot-product attention with the memory of a fused kernel: inputs, output, a number a row and head."""

    @staticmethod
    def forward(ctx, query, key, value, mask, causal, tally):
        """Return a tensor of the output's shape; nothing is computed."""
        # Kernels lay it out as (B, L, H, head_dim), so that the heads are joined without a copy.
        *rows, heads, length, _ = query.shape
        out = query.new_empty(*rows, length, heads, value.shape[-1]).transpose(-2, -3)
        ctx.save_for_backward(query, key, value, mask, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        ctx.flops = 2.0 * query[..., 0].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])
        ctx.causal, ctx.tally = causal, tally
        tally.attend(ctx.flops, causal)
        return out

    @staticmethod
    def backward(ctx, *grad_outputs):
        """Return gradients of the right shapes."""
        query, key, value, mask, *_ = ctx.saved_tensors
        ctx.tally.attend(2 * ctx.flops, ctx.causal)
        of_mask = torch.empty_like(mask) if mask is not None and mask.requires_grad else None
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), of_mask, None, None


class EmulateGPU(TorchFunctionMode):
    """Replaces what differs on a CPU: attention, dropout's masks of one byte, autocast's float32.

    Args:
        tally: takes the FLOPs of attention.
        replaces: False changes nothing.
        most_calls: of torch, before giving up.
    """

    def __init__(self, tally: CountsAttention, replaces: bool = True, most_calls: float = math.inf):
        super().__init__()
        self.tally, self.replaces, self._left = tally, replaces, most_calls

    def __torch_function__(self, func, types, args=(), kwargs=None):
        # Counted here, for an error in a dispatch mode can end the process.
        self._left -= 1
        if self._left < 0:
            raise TooManyCalls
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and self.replaces:
            return self.attention(*args, **kwargs)
        if func is F.dropout and self.replaces:
            return self.dropout(*args, **kwargs)
        if func in FLOAT32 and self.replaces and torch.is_autocast_enabled("cpu"):
            args = (as_float32(args[0]), *args[1:]) if args else args
        return func(*args, **kwargs)

    def attention(
        self, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
    ):
        """Stand in for torch.nn.functional.scaled_dot_product_attention."""
        if torch.is_autocast_enabled("cpu"):
            query, key, value = (x.to(torch.bfloat16) for x in (query, key, value))
        return Attend.apply(query, key, value, attn_mask, is_causal, self.tally)

    def dropout(self, input, p=0.5, training=True, inplace=False):
        """Stand in for torch.nn.functional.dropout."""
        return torch.native_dropout(input, p, True)[0] if training and p > 0 else input


def as_float32(value: Any) -> Any:
    """Return a tensor of floats as float32, and anything else as it is."""
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
