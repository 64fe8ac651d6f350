"""The loss of token predictions, each with its own weight."""

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
