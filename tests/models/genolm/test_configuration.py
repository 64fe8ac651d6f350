"""The configuration: what follows from other keys, and every mistake in one line."""

import pytest
import tiny
from transformers import AutoConfig

from genolm.models.genolm.configuration import MIXERS, GenoLMConfig
from genolm.models.genolm.modeling import GenoLMForCausalLM, GenoLMForMaskedLM


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixers": ["atention"]}, r"mixers has \['atention'\]; allowed: attention, local_attention, .*ssm$"),
        ({"mixers": []}, "mixers has nothing; allowed: attention"),
        ({"mlp": "relu"}, "mlp is 'relu'; allowed: swiglu, gelu"),
        ({"norm": "batchnorm"}, "norm is 'batchnorm'; allowed: rmsnorm, layernorm"),
        ({"reverse_complement": "yes"}, "reverse_complement is 'yes'; allowed: augment, average, equivariant"),
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3; it must divide num_attention_heads, 4"),
        ({"num_key_value_heads": 0}, "num_key_value_heads is 0; it must divide"),
        ({"head_dim": 5}, "head_dim is 5; rotary positions turn pairs of channels"),
        ({"head_dim": 0}, "head_dim is 0; rotary positions turn pairs of channels"),
        ({"hidden_size": 18}, "filter_groups is 4; it must divide hidden_size, 18"),
        ({"filter_groups": 3}, "filter_groups is 3; it must divide hidden_size, 16"),
        ({"filter_groups": 0}, "filter_groups is 0; it must divide hidden_size, 16"),
        ({"ssm_head_dim": 7}, r"ssm_head_dim is 7; it must divide ssm_expand \* hidden_size, 32"),
        ({"ssm_head_dim": 0}, r"ssm_head_dim is 0; it must divide ssm_expand \* hidden_size, 32"),
        ({"ssm_num_groups": 3}, "ssm_num_groups is 3; it must divide the number of ssm heads, 4"),
        ({"hyena_position_size": 4}, "hyena_position_size is 4; allowed: 3, 5, 7"),
        ({"hyena_position_size": 1}, "hyena_position_size is 1; allowed: 3, 5, 7"),
        ({"kmer_embeddings": [2, 13]}, r"kmer_embeddings is \[2, 13\]; .* 1 to 12"),
        ({"kmer_embeddings": [0]}, r"kmer_embeddings is \[0\]; .* 1 to 12"),
        (
            {"reverse_complement": "equivariant", "causal": True},
            "equivariant and causal is true; .* augment and average",
        ),
        ({"reverse_complement": "equivariant", "base_token_ids": None}, "equivariant needs base_token_ids"),
        ({"reverse_complement": "equivariant", "base_token_ids": [1, 2]}, "equivariant needs base_token_ids"),
        (
            {"kmer_embeddings": [2], "base_token_ids": None},
            "kmer_embeddings needs base_token_ids, .* single nucleotides",
        ),
        ({"base_token_ids": [7, 8, 9, 16]}, r"base_token_ids is \[7, 8, 9, 16\]; .* below vocab_size, 16"),
        ({"base_token_ids": [7, 7, 9, 10]}, r"base_token_ids is \[7, 7, 9, 10\]; they must differ"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0; .* at least 1"),
        ({"fir_size": 0}, "fir_size is 0; .* at least 1"),
        ({"fir_medium_size": -1}, "fir_medium_size is -1; .* at least 1"),
        ({"short_filter_size": 0}, "short_filter_size is 0; .* at least 1"),
        ({"convolution_size": 0}, "convolution_size is 0; .* at least 1"),
        ({"convolution_first_size": 0}, "convolution_first_size is 0; .* at least 1"),
        ({"convolution_dilations": []}, r"convolution_dilations is \[\]; .* at least 1"),
        ({"convolution_dilations": [1, 0]}, r"convolution_dilations is \[1, 0\]; .* at least 1"),
        ({"attention_window": 0}, "attention_window is 0; .* at least 1"),
        ({"ssm_chunk_size": 0}, "ssm_chunk_size is 0; .* at least 1"),
        ({"ssm_state_size": 0}, "ssm_state_size is 0; .* at least 1"),
        ({"ssm_convolution_size": 0}, "ssm_convolution_size is 0; .* at least 1"),
        ({"hyena_filter_size": 0}, "hyena_filter_size is 0; .* at least 1"),
        ({"max_position_embeddings": 0}, "max_position_embeddings is 0; .* at least 1"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0; .* at least 1"),
        ({"hidden_size": 0}, "hidden_size is 0; .* at least 1"),
        ({"intermediate_size": -1}, "intermediate_size is -1; .* at least 0"),
        ({"dropout": 1.0}, "dropout is 1.0; .* below 1"),
        ({"dropout": -0.1}, "dropout is -0.1; .* below 1"),
        ({"kmer_dropout": 1.0}, "kmer_dropout is 1.0; .* below 1"),
    ],
)
def test_every_mistake_is_one_line(changes, message):
    settings = {**tiny.SIZES, **tiny.SPECIAL, "mixers": list(MIXERS), "num_hidden_layers": 7, **changes}
    with pytest.raises(ValueError, match=message) as raised:
        GenoLMConfig(**settings)
    assert "\n" not in str(raised.value)


def test_keys_of_mixers_that_are_not_used_are_not_checked():
    tiny.config("convolution", filter_groups=3, ssm_head_dim=7, head_dim=5, num_key_value_heads=3)
    tiny.config("fir", ssm_head_dim=7, head_dim=5)
    tiny.config("attention", filter_groups=3)
    tiny.config("ssm", filter_groups=3, head_dim=5)


@pytest.mark.parametrize("changes", [{"hidden_size": "big"}, {"mixers": "fir"}, {"base_token_ids": ["A"]}])
def test_values_of_another_type_are_refused(changes):
    with pytest.raises(Exception, match=next(iter(changes))):
        GenoLMConfig(**changes)


def test_what_follows_from_other_keys():
    config = GenoLMConfig(hidden_size=64, num_attention_heads=4)
    assert (config.head_dim, config.num_key_value_heads, config.convolution_first_size) == (16, 4, 5)
    config = GenoLMConfig(head_dim=8, num_key_value_heads=2, convolution_first_size=9, ssm_expand=2, hidden_size=64)
    assert (config.head_dim, config.num_key_value_heads, config.convolution_first_size) == (8, 2, 9)
    assert config.ssm_num_heads == 2


def test_the_pattern_is_repeated_over_the_layers():
    config = GenoLMConfig(mixers=["fir", "ssm", "attention"], num_hidden_layers=7)
    assert config.layer_mixers == ["fir", "ssm", "attention"] * 2 + ["fir"]
    assert GenoLMConfig(mixers=["fir", "nonsense"], num_hidden_layers=1).layer_mixers == ["fir"]  # it is not used


def test_special_tokens_are_no_bases():
    config = tiny.config(eos_token_id=[2, 6], cls_token_id=None, sep_token_id=2)
    assert config.frame_token_ids == [0, 1, 2, 6]
    assert GenoLMConfig().frame_token_ids == []


def test_defaults_of_one_configuration_are_not_those_of_another():
    one, other = GenoLMConfig(), GenoLMConfig()
    one.mixers.append("x")
    one.convolution_dilations.clear()
    assert other.mixers == ["fir", "fir_medium", "ssm", "attention"] and len(other.convolution_dilations) == 8


def test_a_saved_configuration_is_the_same(tmp_path):
    config = tiny.config(kmer_embeddings=[2], reverse_complement="equivariant", kmer_embedding_size=4)
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is GenoLMConfig
    differs = {"transformers_version", "_name_or_path"}
    one, other = ({k: v for k, v in c.to_dict().items() if k not in differs} for c in (config, again))
    assert one == other and one["kmer_embeddings"] == [2]


def test_a_head_refuses_the_other_objective():
    with pytest.raises(
        ValueError, match="^the configuration says causal: true; a masked language model sees both sides$"
    ):
        GenoLMForMaskedLM(tiny.config("fir", causal=True))
    with pytest.raises(
        ValueError, match="^the configuration says causal: false; a causal .* sees earlier tokens only$"
    ):
        GenoLMForCausalLM(tiny.config("fir"))
