"""Options of every measurement of a run: while it trains, when it is finished, and when it is measured again."""

from typing import Any

from transformers import TrainingArguments

from genolm.config.pretrain import PretrainRecipe
from genolm.data.masking import evaluation_masking
from genolm.tokenizers.encode import Encoder
from genolm.training.arguments import uses_bf16


def evaluation_options(
    recipe: PretrainRecipe, encoder: Encoder, window_tokens: int, batch_size: int | None = None
) -> dict[str, Any]:
    """Return the options of `measure_bits` that every measurement of a run shares.

    Args:
        recipe: of the run.
        encoder: of its tokenizer.
        window_tokens: tokens of a row in training.
        batch_size: micro-batch of the training; None: that of the recipe.
    """
    objective = recipe.objective
    masking = (
        evaluation_masking(encoder, objective.mask_rate, objective.span_tokens) if objective.kind == "masked" else None
    )
    if batch_size is None:
        default = TrainingArguments.per_device_train_batch_size
        batch_size = int(recipe.training.get("per_device_train_batch_size", default))
    return dict(
        window_bp=recipe.data.window_bp,
        window_tokens=window_tokens,
        masking=masking,
        seed=recipe.seed,
        soft_masked_weight=recipe.data.eval_soft_masked_weight,
        autocast=uses_bf16(recipe.training),
        both_strands=recipe.model.get("reverse_complement") == "average",
        batch_size=min(32, batch_size),  # what fits in training fits here
    )


def final_options(recipe: PretrainRecipe) -> dict[str, Any]:
    """Return the options of `measure_splits` that the final evaluation adds."""
    final = recipe.evaluation
    return dict(
        annotation=final.regions,
        max_bp=final.max_bp,
        markov_orders=final.markov_orders,
        markov_mixture=final.markov_mixture,
    )
