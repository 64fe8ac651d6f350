"""Parameter groups of the optimizer: weight decay by parameter name, and the recipe's values after a resume."""

import re
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR


def decay_factors(model: torch.nn.Module) -> dict[torch.nn.Parameter, float]:
    """Return the factor of the weight decay for each parameter whose name the model's `weight_decay_factors` match."""
    patterns: dict[str, float] = getattr(model, "weight_decay_factors", dict)()
    return {
        parameter: factor
        for name, parameter in model.named_parameters()
        for pattern, factor in patterns.items()
        if re.search(pattern, name)
    }


def split_groups_by_decay(optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> None:
    """Move parameters that decay more, less or not at all to groups of their own."""
    factors = decay_factors(model)
    for group in list(optimizer.param_groups):
        for factor in sorted(set(factors.values()) if group["weight_decay"] else ()):
            moved = [p for p in group["params"] if factors.get(p) == factor]
            if moved:
                group["params"] = [p for p in group["params"] if factors.get(p) != factor]
                rest = {k: v for k, v in group.items() if k != "params"}
                optimizer.add_param_group(rest | {"params": moved, "weight_decay": factor * group["weight_decay"]})


def group_settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return learning rate, betas and weight decay of each parameter group."""
    return [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]


def restore_group_settings(optimizer: Any, schedule: Any, settings: list[dict[str, Any]]) -> None:
    """Set what `group_settings` returned, which loading a checkpoint replaced, and the scheduled learning rate."""
    groups = optimizer.param_groups
    for group, own in zip(groups, settings, strict=True):
        group.update(own)
    if isinstance(schedule, LambdaLR):
        schedule.base_lrs = [own["lr"] for own in settings]
        for group, base, factor in zip(groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
            group.update(initial_lr=base, lr=base * factor(schedule.last_epoch))
