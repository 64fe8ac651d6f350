"""Normalisation of a layer's input: RMS norm or layer norm.

    y = x / sqrt(mean(x²) + eps) · weight

On a CPU torch's RMS norm takes six operations forward and a dozen backward, each of which reads and writes the row;
this one takes three and three. On a GPU, and under torch.compile, which fuses them anyway, torch's own runs.

Source: Zhang & Sennrich 2019, arXiv:1910.07467.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from .configuration import GenoLMConfig


class RowNorm(torch.autograd.Function):
    """RMS norm of (…, D) float32 or float64 on a CPU."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
        """Return (…, D) in `dtype`."""
        inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor):
        """Return the gradients of x and weight."""
        x, weight, inverse = ctx.saved_tensors
        grad = grads[0].to(x.dtype)
        # Layer norm's backward, one operation, with mean 0. It subtracts the gradient's mean, which is added back.
        output_mask = [True, ctx.needs_input_grad[1], False]
        to_x, to_weight, _ = torch.ops.aten.native_layer_norm_backward(
            grad, x, weight.shape, torch.zeros_like(inverse), inverse, weight, None, output_mask
        )
        mean = (grad @ weight).div_(x.shape[-1]).unsqueeze(-1)
        return to_x.addcmul_(inverse, mean), to_weight, None, None


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
    """Return the RMS norm of (…, D) in `dtype`; x and weight (D,) are float32 or float64."""
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        return RowNorm.apply(x, weight, eps, dtype)  # type: ignore[return-value]
    return F.rms_norm(x, weight.shape, weight, eps).to(dtype)


class RMSNorm(nn.RMSNorm):
    """torch's RMSNorm, in fewer passes on a CPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (…, D). Under autocast the result is in its type: one cast, not one for each map that reads it."""
        if x.dtype != self.weight.dtype or x.dtype not in (torch.float32, torch.float64):
            return super().forward(x)
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        return rms_norm(x, self.weight, self.eps or torch.finfo(x.dtype).eps, dtype)


def make_norm(config: GenoLMConfig) -> nn.Module:
    """Return the norm of the configuration."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.hidden_size, eps=config.norm_eps)
    return nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.bias)
