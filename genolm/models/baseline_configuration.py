"""Configuration of the baselines: which one, the length of its rows, the width of its layers.

Outside their folder, so that AutoConfig finds it without importing torch and thirteen files of layers.
"""

from dataclasses import field
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig


@strict
class BaselineConfig(PreTrainedConfig):
    """Shape of a baseline; `num_labels` is the number of outputs.

    Attributes:
        baseline: its name, a key of `genolm.models.baselines.BASELINES`.
        length: the longest row, in bp.
        width: multiplies channels and units; 1 is as published.
        per_base: one output per base instead of one per row; some baselines can.
        base_token_ids: token ids of A, C, G, T; every other id is a column of zeros.
        dropout: instead of every published rate; None for those.
        options: the baseline's own options, all of them; see its class.
    """

    model_type = "genolm-baseline"

    baseline: str = "deepsea"
    length: int = 1000
    width: float | int = 1.0
    per_base: bool = False
    base_token_ids: list[int] = field(default_factory=lambda: [0, 1, 2, 3])
    dropout: float | int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self, **kwargs):
        """Raise ValueError for values that no model can have."""
        super().__post_init__(**kwargs)
        if self.length < 1:
            raise ValueError(f"length is {self.length}; the longest row has at least 1 base")
        if not 0 < self.width < float("inf"):
            raise ValueError(f"width is {self.width}; it multiplies channels and is above 0, 1 as published")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        ids = self.base_token_ids
        if len(ids) != 4 or len(set(ids)) < 4 or min(ids) < 0:
            raise ValueError(f"base_token_ids is {ids}; give the ids of A, C, G, T: four that differ")


AutoConfig.register(BaselineConfig.model_type, BaselineConfig)
