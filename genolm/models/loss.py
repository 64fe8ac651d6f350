"""Weighted losses of token predictions and of labels."""

import torch
import torch.nn.functional as F


def weighted_token_loss(
    logits: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor, causal: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum weight · -ln p(label) over all labelled tokens, in float32.

    Shapes are those of the input and do not depend on the labels: no host sync, no recompilation.

    Args:
        logits: (B, L, V), any float dtype.
        labels: (B, L) int64; -100 where nothing is predicted.
        weight: (B, L) float32; 0 where nothing is predicted.
        causal: logits at t are for the label at t + 1.

    Returns:
        The weighted sum in nats, and the total weight; both scalars. Divide them over the global batch.
    """
    if causal:
        logits, labels, weight = logits[:, :-1], labels[:, 1:], weight[:, 1:]
    nats = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="none", ignore_index=-100)
    weight = weight.flatten()
    return (nats * weight).sum(), weight.sum()


def label_loss(
    kind: str, logits: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor, focal_gamma: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum weight · loss over all labels, in float32: cross-entropy in nats, squared error for numbers.

    Args:
        kind: of the task, as `genolm.labels.dataset.Task`.
        logits: (B, 1) binary; (B, C) multiclass; (B, T) multilabel, regression; (B, W, C) per-base; (B, W, T) tracks.
        labels: (B,) of classes, int64; (B, T) or (B, W, T) float32; (B, W) int64, -100 where missing.
        weight: as labels; 0 where a label is missing.
        focal_gamma: cross-entropy times (1 - p)^gamma of the label's probability p. Source: arXiv:1708.02002.

    Returns:
        The weighted sum and the total weight; both scalars.
    """
    logits, weight = logits.float(), weight.float()
    if kind in ("regression", "tracks"):
        return ((logits - labels).square() * weight).sum(), weight.sum()
    if kind in ("binary", "multilabel"):
        target = labels.view(logits.shape).to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none").view(weight.shape)
    else:
        classes = logits.shape[-1]
        loss = F.cross_entropy(logits.reshape(-1, classes), labels.flatten(), reduction="none", ignore_index=-100)
        loss = loss.view(weight.shape)
    if focal_gamma:
        # Not below the smallest step of float32 under 1: the slope of x^gamma is infinite at 0 where gamma < 1.
        loss = loss * (-torch.expm1(-loss)).clamp_min(2**-24) ** focal_gamma
    return (loss * weight).sum(), weight.sum()
