"""The norm of a layer's input: RMS or mean and variance, as the configuration says.

    y = x / sqrt(mean(x²) + eps) · weight

torch has RMS norm on a CPU as six operations forward and a dozen backward, each of which reads and writes the row; here
it takes three and three, and one less to the number format that the linear map after it wants. Elsewhere, and where
torch.compile joins them anyway, torch's own.

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
        """Return (…, D) of a type."""
        inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor):
        """Return the gradients of x and weight."""
        x, weight, inverse = ctx.saved_tensors
        grad = grads[0].to(x.dtype)
        # That of layer norm, one operation, told that the mean is 0. It takes the gradient's mean away: put back.
        wanted = [True, ctx.needs_input_grad[1], False]
        to_x, to_weight, _ = torch.ops.aten.native_layer_norm_backward(
            grad, x, weight.shape, torch.zeros_like(inverse), inverse, weight, None, wanted
        )
        mean = (grad @ weight).div_(x.shape[-1]).unsqueeze(-1)
        return to_x.addcmul_(inverse, mean), to_weight, None, None


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
    """Return RMS norms of (…, D) in a type, for x and weight (D,) of float32 or float64."""
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        return RowNorm.apply(x, weight, eps, dtype)  # type: ignore[return-value]
    return F.rms_norm(x, weight.shape, weight, eps).to(dtype)


class RMSNorm(nn.RMSNorm):
    """torch's, in fewer passes on a CPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (…, D). Under autocast on a CPU the result has its type, to which a linear map would cast it."""
        if x.device.type != "cpu" or x.dtype != self.weight.dtype or x.dtype not in (torch.float32, torch.float64):
            return super().forward(x)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        return rms_norm(x, self.weight, self.eps or torch.finfo(x.dtype).eps, dtype)


def make_norm(config: GenoLMConfig) -> nn.Module:
    """Return the norm that the configuration names."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.hidden_size, eps=config.norm_eps)
    return nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.bias)
