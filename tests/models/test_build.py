import re

import pytest
import torch
import yaml
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from genolm.config.finetune import FinetuneRecipe
from genolm.config.pretrain import PretrainRecipe
from genolm.config.yaml import load_settings
from genolm.models.build import SUGGESTED, ModelError, build_model, config_class_of, describe_model
from genolm.models.genolm.configuration import MIXERS
from genolm.models.loss import weighted_token_loss
from genolm.models.safe_loading import without_bars
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
    assert describe_model(model) == f"llama, {by_hand:,} parameters ({by_hand - 16 * 32:,} without embeddings)"


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
    "genolm": {**SMALL, "num_hidden_layers": 7, "mixers": list(MIXERS), "kmer_embeddings": [2]},
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
        ({}, "causal", "model.architecture is missing; some that fit: genolm, llama"),
        ({"architecture": "lama"}, "causal", "did you mean .*llama"),
        (
            {"architecture": "llama"},
            "masked",
            "cannot learn a masked objective; some that can: genolm, bert, modernbert, esm",
        ),
        ({"architecture": "esm"}, "causal", "esm.* a causal objective; some that can: genolm, llama"),
        ({"architecture": "bert"}, "causal", "'bert' is an encoder"),
        ({"architecture": "roberta"}, "causal", "'roberta' is an encoder"),
        ({"architecture": "llama", "hiden_size": 3}, "causal", "model.hiden_size .*did you mean 'hidden_size'"),
        ({"architecture": "llama", "max_position_embeddings": 8}, "causal", "is 8; a window has 64 tokens"),
        ({"architecture": "bert", **SMALL, "num_attention_heads": 5}, "masked", "bert refuses"),
        ({"architecture": "genolm", "mixer": ["fir"]}, "masked", "model.mixer .*did you mean 'mixers'"),
        (
            {"architecture": "genolm", "mixers": ["fur"]},
            "masked",
            r"genolm refuses .*: mixers has \['fur'\]; allowed: att",
        ),
        (
            {"architecture": "genolm", "causal": True},
            "masked",
            "model.causal is True and objective.kind masked; leave it",
        ),
        (
            {"architecture": "genolm", "causal": False},
            "causal",
            "model.causal is False and objective.kind causal; leave",
        ),
        ({"architecture": "genolm", "hidden_size": "big"}, "causal", "genolm refuses .* 'hidden_size'.* int.* 'big'"),
    ],
)
def test_a_wrong_model_is_one_error(tokenizer, model, objective, message):
    with pytest.raises(ModelError, match=message):
        build_model(model, tokenizer, objective, 64)


def shipped(project_dir):
    return sorted((project_dir / "recipes").glob("*/*.yaml"))


def test_every_shipped_recipe_builds_on_the_meta_device(project_dir):
    built, finetuned = 0, []
    for path in shipped(project_dir):
        if path.parent.name in ("accelerate", "benchmarks"):
            continue
        if "objective" not in yaml.safe_load(path.read_text()):
            finetuned.append(path.stem)
            continue
        recipe = load_settings(PretrainRecipe, path, ["data.fasta=genome.fa"])
        tokenizer = build_tokenizer(load_spec(recipe.tokenizer), ["ACGT" * 100])
        length = make_encoder(tokenizer).encode_batch(torch.full((1, recipe.data.window_bp), 65).byte().numpy())
        tokens = length.ids.shape[1]
        if (
            tokenizer.init_kwargs["genolm"]["kind"] == "bpe"
        ):  # as many as a genome makes them; here, none was learnt from
            tokens = min(tokens, recipe.model.get("max_position_embeddings", tokens))
        with torch.device("meta"):
            model = build_model(recipe.model, tokenizer, recipe.objective.kind, tokens)
        stated = re.search(r"([\d.]+) M parameters", path.read_text())
        assert stated, f"{path} does not say how large its model is"
        assert model.num_parameters() / 1e6 == pytest.approx(float(stated[1]), abs=0.06)
        built += 1
    assert built == 36 and sorted(finetuned) == ["baseline", "full", "lora", "probe", "sweep"]


def test_every_quickstart_of_labels_is_a_recipe(project_dir):
    for name in ("baseline", "full", "lora", "probe"):
        recipe = load_settings(FinetuneRecipe, project_dir / "recipes" / "quickstart" / f"{name}.yaml")
        assert recipe.labels.table == "labels.csv" and recipe.method == (None if name == "baseline" else name)


def words(number: int, **special: str) -> PreTrainedTokenizerFast:
    """A tokenizer of so many entries, the special ones first."""
    vocabulary = [*special.values(), *(f"w{i}" for i in range(number - len(special)))]
    model = WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token=vocabulary[0])
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), **special)


ENDS = {"pad_token": "<p>", "bos_token": "<b>", "eos_token": "<e>", "mask_token": "<m>"}


@pytest.mark.parametrize(("entries", "rows"), [(7, 8), (8, 8), (9, 16), (16, 16), (4097, 4104)])
def test_the_vocabulary_is_the_next_multiple_of_eight(entries, rows):
    with torch.device("meta"):
        model = build_model({"architecture": "llama", **SMALL}, words(entries, **ENDS), "causal", 32)
    assert model.get_input_embeddings().weight.shape == model.get_output_embeddings().weight.shape == (rows, 32)


def test_special_ids_are_the_tokenizers_own():
    with torch.device("meta"):
        # Every default of these configurations would be out of range, or another token.
        llama = build_model({"architecture": "llama", **SMALL}, words(9, **ENDS), "causal", 32).config
        esm = build_model({"architecture": "esm", **SMALL}, words(9, **ENDS), "masked", 32).config
        plain = build_model({"architecture": "gpt2", **OTHER_NAMES["gpt2"]}, words(9), "causal", 32).config
    assert (llama.pad_token_id, llama.bos_token_id, llama.eos_token_id) == (0, 1, 2)
    assert (esm.pad_token_id, esm.mask_token_id) == (0, 3)
    assert (plain.pad_token_id, plain.bos_token_id, plain.eos_token_id) == (None, None, None)


def test_a_bert_on_the_meta_device_has_the_parameters_of_a_hand_count():
    with torch.device("meta"):
        model = build_model({"architecture": "bert", **SMALL}, words(9, **ENDS), "masked", 100)
    assert all(p.is_meta for p in model.parameters())
    vocabulary, width, inner, positions = 16, 32, 64, 100 + 2
    embeddings = (vocabulary + positions + 2) * width + 2 * width  # words, positions, segments; norm
    attention = 4 * (width * width + width) + 2 * width
    mlp = width * inner + inner + inner * width + width + 2 * width
    head = width * width + width + 2 * width + vocabulary  # its matrix is that of the embeddings
    assert model.num_parameters() == embeddings + attention + mlp + head
    assert sum(p.numel() for p in set(model.parameters())) == model.num_parameters()


@pytest.mark.parametrize(("objective", "architecture"), [("causal", "llama"), ("masked", "bert"), ("masked", "esm")])
def test_the_longest_row_fits_and_weights_are_fresh(objective, architecture):
    tokenizer, ids = words(9, **ENDS), torch.full((1, 50), 5)
    torch.manual_seed(0)
    one = build_model({"architecture": architecture, **SMALL}, tokenizer, objective, 50).eval()
    other = build_model({"architecture": architecture, **SMALL}, tokenizer, objective, 50).eval()
    torch.manual_seed(0)
    again = build_model({"architecture": architecture, **SMALL}, tokenizer, objective, 50).eval()
    with torch.no_grad():
        logits = [model(input_ids=ids).logits for model in (one, other, again)]
    assert logits[0].shape == (1, 50, 16) and logits[0].isfinite().all()
    assert torch.equal(logits[0], logits[2]) and not torch.equal(logits[0], logits[1])


def test_the_recipes_block_is_left_as_it_was():
    block = {"architecture": "bert", **SMALL}
    with torch.device("meta"):
        build_model(block, words(9, **ENDS), "masked", 32)
    assert block == {"architecture": "bert", **SMALL}


def test_what_the_recipe_says_goes_over_what_the_tokenizer_says():
    changes = {"max_position_embeddings": 77, "vocab_size": 24, "pad_token_id": 8}
    with torch.device("meta"):
        config = build_model({"architecture": "llama", **SMALL, **changes}, words(9, **ENDS), "causal", 77).config
    assert {key: getattr(config, key) for key in changes} == changes


@pytest.mark.parametrize("objective", SUGGESTED)
def test_every_suggestion_is_one_that_works(objective):
    for architecture in SUGGESTED[objective]:
        assert config_class_of(architecture, objective).model_type == architecture


def test_bars_are_shown_again_afterwards():
    shown = logging.is_progress_bar_enabled()
    try:
        for before in (logging.enable_progress_bar, logging.disable_progress_bar):
            before()
            as_it_was = logging.is_progress_bar_enabled()
            with pytest.raises(KeyError), without_bars():
                assert not logging.is_progress_bar_enabled()
                raise KeyError
            assert logging.is_progress_bar_enabled() == as_it_was
    finally:
        (logging.enable_progress_bar if shown else logging.disable_progress_bar)()


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden_size": "big"},
        {"hidden_size": 33},
        {"num_hidden_layers": 1.5},
        {"num_attention_heads": 0},
        {"hidden_act": "nope"},
        {"max_position_embeddings": "long"},
        {"architecture": ["llama"]},
    ],
)
def test_a_wrong_value_is_one_error(wrong):
    with torch.device("meta"), pytest.raises(ModelError):
        build_model({"architecture": "llama", **SMALL, **wrong}, words(9, **ENDS), "causal", 32)


def test_a_vocabulary_smaller_than_the_tokenizer_is_refused():
    with torch.device("meta"), pytest.raises(ModelError, match="vocab_size"):
        build_model({"architecture": "llama", **SMALL, "vocab_size": 4}, words(9, **ENDS), "causal", 32)


def test_gpt2s_own_name_for_positions_is_heard():
    gpt2 = {"architecture": "gpt2", **OTHER_NAMES["gpt2"]}
    with torch.device("meta"):
        assert build_model({**gpt2, "n_positions": 128}, words(9, **ENDS), "causal", 32).config.n_positions == 128
        with pytest.raises(ModelError, match="model.n_positions is 8; a window has 32 tokens"):
            build_model({**gpt2, "n_positions": 8}, words(9, **ENDS), "causal", 32)


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_the_genolm_architecture_takes_objective_and_base_ids_from_the_recipe(tokenizer, objective):
    config = build_model({"architecture": "genolm", **SMALL}, tokenizer, objective, 64).config
    assert config.causal == (objective == "causal")
    assert config.base_token_ids == [7, 8, 9, 10]
    assert config.frame_token_ids == [0, 2, 3, 5, 6]


@pytest.mark.parametrize("key", [{"reverse_complement": "equivariant"}, {"kmer_embeddings": [2]}], ids=str)
def test_tokens_of_several_bases_have_no_base_ids(key):
    tokenizer = build_tokenizer(load_spec("kmer3"))
    assert build_model({"architecture": "genolm", **SMALL}, tokenizer, "masked", 64).config.base_token_ids is None
    with pytest.raises(ModelError, match="base_token_ids, the ids of A, C, G, T: a tokenizer of single nucleotides"):
        build_model({"architecture": "genolm", **SMALL, **key}, tokenizer, "masked", 64)


def test_the_parameters_of_our_own_architecture_are_those_of_a_hand_count(tokenizer):
    block = {"architecture": "genolm", **SMALL, "mixers": ["fir", "ssm"], "num_hidden_layers": 2, "filter_groups": 4}
    model = build_model(block, tokenizer, "causal", 64)
    width, inner, states = 32, 64, 64
    fir = 3 * width * width + 3 * width * 3 + 4 * 7 + width * width
    filtered = inner + 2 * states
    ssm = width * (inner + filtered + 1) + filtered * 5 + 3 * 1 + inner + inner * width
    assert model.num_parameters() == 2 * 16 * width + fir + ssm + 2 * (3 * width * 64 + 2 * width) + width
