"""Adapters: on what they sit, that they learn there, and that they come back from disk as they were."""

import pytest
import torch
from safetensors.torch import load_file
from tiny import config as genolm_config
from transformers import AutoConfig, AutoModel
from transformers.pytorch_utils import Conv1D

from genolm.models.genolm.configuration import MIXERS
from genolm.models.label_model import linear_maps, on_backbone
from genolm.models.lora import named_as_in_model, open_adapter, save_adapter, with_adapter
from genolm.models.safe_loading import ModelError

SMALL = {"vocab_size": 16, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
OTHERS = {
    "llama": SMALL,
    "bert": SMALL,
    "modernbert": SMALL | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 3},
    "esm": SMALL | {"pad_token_id": 0, "mask_token_id": 5, "max_position_embeddings": 40},
    "roformer": SMALL | {"embedding_size": 16},
    "deberta-v2": SMALL,
    "convbert": SMALL | {"embedding_size": 16, "num_groups": 1, "head_ratio": 2, "num_attention_heads": 4},
    "qwen3": SMALL | {"num_key_value_heads": 2, "head_dim": 8},
    "olmo2": SMALL | {"num_key_value_heads": 2, "pad_token_id": 0},
    "gpt_neox": SMALL,
    "gpt2": {"vocab_size": 16, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40},
    "mamba2": {
        **{"vocab_size": 16, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 8, "num_heads": 4},
        **{"head_dim": 8, "n_groups": 1, "chunk_size": 8},
    },
}
ALL = [*MIXERS, *OTHERS]


def backbone_of(name):
    torch.manual_seed(0)
    if name in MIXERS:
        return AutoModel.from_config(genolm_config(name, name))
    return AutoModel.from_config(AutoConfig.for_model(name, **OTHERS[name]))


def adapted(name, **lora):
    backbone = backbone_of(name)
    torch.manual_seed(1)
    return with_adapter(on_backbone(backbone, 2), {"lora_dropout": 0.0, **lora})


def perturb(model):
    """Move the second factor off zero, where every adapter starts: the first learns nothing there."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "magnitude" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def batch(length=12):
    ids = torch.randint(7, 11, (3, length), generator=torch.Generator().manual_seed(3))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("name", ALL)
def test_every_map_that_an_adapter_sits_on_learns(name):
    model = perturb(adapted(name))
    model.train()
    model(**batch()).logits.square().sum().backward()
    chosen = linear_maps(on_backbone(backbone_of(name), 2))
    assert chosen
    factors = {n: p for n, p in model.named_parameters() if "lora_" in n}
    assert len(factors) == 2 * len(chosen)
    for path, parameter in factors.items():
        assert parameter.grad is not None and float(parameter.grad.abs().max()) > 0, path
    # And nothing but adapters and the head is learnt.
    for path, parameter in model.named_parameters():
        assert parameter.requires_grad == ("lora_" in path or "modules_to_save" in path), path


def test_which_maps_are_chosen():
    def found(name):
        maps = linear_maps(on_backbone(backbone_of(name), 2))
        return {path.removeprefix("backbone.").split("layers.0.")[-1] for path in maps}

    assert not any("filter" in path and "short" not in path for path in found("hyena"))
    assert {"self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"} <= found("llama")
    assert "mixer.in_proj" in found("mamba2") and not any("out_proj" in path for path in found("mamba2"))
    model = on_backbone(backbone_of("gpt2"), 2)
    modules = dict(model.named_modules())
    assert all(isinstance(modules[path], Conv1D) for path in linear_maps(model)) and len(linear_maps(model)) == 8
    assert not any("head" in path for path in linear_maps(model))


@pytest.mark.parametrize("name", ["attention", "ssm", "llama", "bert", "gpt2", "mamba2", "convbert"])
@pytest.mark.parametrize("lora", [{}, {"use_dora": True}, {"use_rslora": True}], ids=["lora", "dora", "rslora"])
def test_saved_opened_and_merged_are_the_same(tmp_path, name, lora):
    model = perturb(adapted(name, **lora)).eval()
    before = {key: value.clone() for key, value in backbone_of(name).state_dict().items()}
    with torch.no_grad():
        expected = model(**batch()).logits
        fresh = on_backbone(backbone_of(name), 2).eval()(**batch()).logits
    assert float((expected - fresh).abs().max()) > 1e-3
    save_adapter(model, tmp_path)
    assert not (tmp_path / "model.safetensors").exists() and not (tmp_path / "README.md").exists()
    again = open_adapter(tmp_path, backbone_of(name)).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(**batch()).logits, expected, atol=1e-6, rtol=1e-6)
        merged = again.merge_and_unload()
        torch.testing.assert_close(merged(**batch()).logits, expected, atol=1e-5, rtol=1e-5)
    base = {
        key.replace(".base_layer", "").removeprefix("base_model.model.backbone."): value
        for key, value in model.state_dict().items()
        if ".backbone." in key and "lora_" not in key
    }
    for key, value in before.items():
        torch.testing.assert_close(base[key], value, atol=0, rtol=0)


def test_the_learned_pooling_is_saved_too(tmp_path):
    model = perturb(with_adapter(on_backbone(backbone_of("bert"), 2, pooling="attention"), {})).eval()
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if "weigh.modules_to_save" in n).add_(1)
        expected = model(**batch()).logits
    save_adapter(model, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(open_adapter(tmp_path, backbone_of("bert")).eval()(**batch()).logits, expected)


@pytest.mark.parametrize("lora", [{}, {"use_dora": True}], ids=["lora", "dora"])
def test_names_on_disk_are_found_in_the_model(tmp_path, lora):
    model = perturb(with_adapter(on_backbone(backbone_of("bert"), 2, pooling="attention"), lora))
    save_adapter(model, tmp_path)
    found = named_as_in_model(model, load_file(tmp_path / "adapter_model.safetensors"))
    learnt = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == learnt.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, learnt[name].detach(), atol=0, rtol=0)
    with pytest.raises(ModelError, match="does not fit"):
        named_as_in_model(model, dict(list(found.items())[:3]))


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"rank": 4}, "lora.rank is unknown"),
        ({"lora_alfa": 4}, "lora.lora_alfa is unknown; did you mean 'lora_alpha'"),
        ({"task_type": "SEQ_CLS"}, "lora.task_type is decided by genolm"),
        ({"modules_to_save": ["x"]}, "lora.modules_to_save is decided by genolm"),
        ({"r": 0}, "PEFT refuses these settings: `r` should be a positive"),
        ({"target_modules": ["nothing"]}, "PEFT refuses these settings: .*target_modules"),
        ({"init_lora_weights": "bogus"}, "PEFT refuses|init_lora_weights"),
        ({"r": "four"}, "lora"),
    ],
)
def test_wrong_settings_are_one_error(lora, message):
    with pytest.raises(ModelError, match=message):
        adapted("bert", **lora)


def test_settings_given_as_text_are_read(tmp_path):
    assert adapted("bert", r=4, lora_alpha=8, target_modules="all-linear").peft_config["default"].r == 4
    assert adapted("bert", target_modules=["query"]).peft_config["default"].target_modules == {"query"}


def test_an_adapter_of_another_model_is_refused(tmp_path):
    save_adapter(adapted("bert"), tmp_path)
    with pytest.raises(ModelError, match="the adapter does not fit its model"):
        open_adapter(tmp_path, backbone_of("llama"))
