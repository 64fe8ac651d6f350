"""Whether a model is causal or masked, by the class that its configuration names."""

import json

import pytest

from genolm.models.language_model import objective_of
from genolm.models.safe_loading import ModelError


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("BertForMaskedLM", "masked"),
        ("BertForPreTraining", "masked"),
        ("GenoLMForMaskedLM", "masked"),
        ("LlamaForCausalLM", "causal"),
        ("GPT2LMHeadModel", "causal"),
    ],
)
def test_a_class_has_one_objective(tmp_path, name, objective):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [name]}))
    assert objective_of(tmp_path) == objective


@pytest.mark.parametrize("names", [None, [], ["BertForSequenceClassification"]])
def test_a_model_without_a_language_head_is_refused(tmp_path, names):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": names}))
    with pytest.raises(ModelError, match="which is no language model with a head"):
        objective_of(tmp_path)
