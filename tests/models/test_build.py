import re

import pytest
import torch
import yaml

from genolm.models.build import SUGGESTED, ModelError, build_model, describe
from genolm.models.loss import weighted_token_loss
from genolm.recipe import PretrainRecipe
from genolm.settings import load_settings
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.tokenizers.encode import make_encoder

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(load_spec("char"))


def test_the_tokenizer_sizes_the_model(tokenizer):
    model = build_model({"architecture": "llama", **SMALL}, tokenizer, "causal", 128)
    assert model.config.vocab_size == 16  # 12 entries, padded to a multiple of 8
    assert (model.config.pad_token_id, model.config.bos_token_id, model.config.eos_token_id) == (0, 5, 6)
    by_hand = 2 * 16 * 32 + 4 * 32 * 32 + 3 * 32 * 64 + 3 * 32
    assert model.num_parameters() == by_hand
    assert describe(model) == f"llama, {by_hand:,} parameters ({by_hand - 16 * 32:,} without embeddings)"


OTHER_NAMES = {
    "gpt2": {"n_embd": 32, "n_layer": 1, "n_head": 2},
    "mamba2": {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_heads": 4,
        "head_dim": 16,
        "state_size": 8,
        "n_groups": 1,
    },
    "qwen3": {**SMALL, "num_key_value_heads": 2, "head_dim": 16},
    "convbert": {**SMALL, "embedding_size": 32},
    "roformer": {**SMALL, "embedding_size": 32},
}


@pytest.mark.parametrize(("objective", "architecture"), [(o, a) for o in SUGGESTED for a in SUGGESTED[o]])
def test_every_suggested_architecture_learns(tokenizer, objective, architecture):
    torch.manual_seed(0)
    changes = OTHER_NAMES.get(architecture, SMALL)
    model = build_model({"architecture": architecture, **changes}, tokenizer, objective, 64)
    ids = torch.tensor([tokenizer("ACGT" * 16)["input_ids"]] * 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        nats, weight = weighted_token_loss(
            model(input_ids=ids).logits, ids, torch.ones(ids.shape), objective == "causal"
        )
        (nats / weight).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float((nats / weight).detach()))
    assert losses[-1] < 0.9 * losses[0]
    if objective == "causal":
        later = ids.clone()
        later[:, 40:] = 8
        with torch.no_grad():
            one, other = (model.eval()(input_ids=x).logits for x in (ids, later))
        torch.testing.assert_close(one[:, :40], other[:, :40], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(one[:, 40:], other[:, 40:])


@pytest.mark.parametrize(
    ("model", "objective", "message"),
    [
        ({}, "causal", "model.architecture is missing; some that fit: llama"),
        ({"architecture": "lama"}, "causal", "did you mean .*llama"),
        ({"architecture": "llama"}, "masked", "cannot learn a masked objective; some that can: bert, modernbert, esm"),
        ({"architecture": "esm"}, "causal", "esm.* a causal objective; some that can: llama"),
        ({"architecture": "bert"}, "causal", "'bert' is an encoder"),
        ({"architecture": "roberta"}, "causal", "'roberta' is an encoder"),
        ({"architecture": "llama", "hiden_size": 3}, "causal", "model.hiden_size .*did you mean 'hidden_size'"),
        ({"architecture": "llama", "max_position_embeddings": 8}, "causal", "is 8; a window has 64 tokens"),
        ({"architecture": "bert", **SMALL, "num_attention_heads": 5}, "masked", "bert refuses"),
    ],
)
def test_a_wrong_model_is_one_error(tokenizer, model, objective, message):
    with pytest.raises(ModelError, match=message):
        build_model(model, tokenizer, objective, 64)


def shipped(project_dir):
    return sorted((project_dir / "recipes").glob("*/*.yaml"))


def test_every_shipped_recipe_builds_on_the_meta_device(project_dir):
    built = 0
    for path in shipped(project_dir):
        values = yaml.safe_load(path.read_text())
        if path.parent.name == "accelerate":
            continue
        recipe = load_settings(PretrainRecipe, path, ["data.fasta=genome.fa"])
        tokenizer = build_tokenizer(load_spec(recipe.tokenizer), ["ACGT" * 100])
        length = make_encoder(tokenizer).encode_batch(torch.full((1, recipe.data.window_bp), 65).byte().numpy())
        with torch.device("meta"):
            model = build_model(values["model"], tokenizer, recipe.objective.kind, length.ids.shape[1])
        stated = re.search(r"([\d.]+) M parameters", path.read_text())
        assert stated, f"{path} does not say how large its model is"
        assert model.num_parameters() / 1e6 == pytest.approx(float(stated[1]), abs=0.06)
        built += 1
    assert built >= 2
