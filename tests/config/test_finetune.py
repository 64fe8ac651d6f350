"""The recipe of `genolm finetune`."""

import pytest

from genolm.config.finetune import FinetuneRecipe, LabelsRecipe, StoppingRecipe, keys_without_effect


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"method": "lora", "lora": {"r": 4}, "pooling": "cls", "merge": True}, []),
        ({"method": "full", "lora": {"r": 4}, "focal_gamma": 1.0}, ["lora", "focal_gamma"]),
        (
            {"model": {"baseline": "danq"}, "method": None, "long_inputs": "windows", "merge": True},
            ["long_inputs", "merge"],
        ),
        (
            {"method": "probe", "dropout": 0.1, "training": {"learning_rate": 1e-3, "bf16": False}},
            ["dropout", "training.learning_rate"],
        ),
        ({"method": "probe", "stopping": StoppingRecipe(evaluations=3, metric="loss")}, ["stopping.evaluations"]),
    ],
)
def test_keys_that_a_method_does_not_use_are_listed(changes, expected):
    recipe = FinetuneRecipe(**{"run_dir": "x", "model": "y", "labels": LabelsRecipe("t.csv"), **changes})
    assert keys_without_effect(recipe) == expected
