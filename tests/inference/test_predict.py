"""What a model says of rows does not depend on how they were batched, and both strands are both strands."""

import numpy as np
import pytest
import torch
from tiny import config as genolm_config
from transformers import BertConfig, BertModel

from genolm.inference.predict import in_units, predict_rows
from genolm.labels.collate import LabelCollator, RowEncoder
from genolm.labels.dataset import Labelled, Task
from genolm.models.genolm.modeling import GenoLMModel
from genolm.models.label_model import on_backbone
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.tokenizers.encode import make_encoder

SIZES = {"vocab_size": 80, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
OUTPUTS = {"binary": 1, "multiclass": 3, "multilabel": 2, "regression": 2, "per-base": 2, "tracks": 2}
NAMES = ("x", "y", "z")


def rc(sequence):
    return sequence.translate(str.maketrans("ACGT", "TGCA"))[::-1]


def sequences_of(num=9, low=20, high=60):
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list("ACGT"), rng.integers(low, high))) for _ in range(num)]


def collator_of(kind, sequences, tokenizer="char", max_tokens=None, **options):
    text = np.array([f"r{i}" for i in range(len(sequences))])
    task = Task(kind, NAMES[: max(2, OUTPUTS[kind])])
    labelled = Labelled(task, text, list(sequences), np.zeros(len(sequences)), text, text)
    made = make_encoder(build_tokenizer(load_spec(tokenizer)))
    per_base = kind in ("per-base", "tracks")
    return LabelCollator(labelled, RowEncoder(made, max_tokens, max_tokens is not None, per_base), **options)


def model_of(kind, backbone=None):
    torch.manual_seed(0)
    backbone = backbone or BertModel(BertConfig(**SIZES), add_pooling_layer=False)
    model = on_backbone(backbone, OUTPUTS[kind], per_base=kind in ("per-base", "tracks"))
    with torch.no_grad():
        model.head.weight.mul_(20)
    return model.eval()


def close(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("tokenizer", ["char", "kmer3"])
def test_order_is_kept_and_the_batch_size_changes_nothing(kind, tokenizer):
    sequences = sequences_of()
    model, collator = model_of(kind), collator_of(kind, sequences, tokenizer)
    found = predict_rows(model, collator)
    for size in (1, 2, 4):
        close(predict_rows(model, collator, batch_size=size), found)
    for i in (0, 5):
        close(predict_rows(model, collator_of(kind, sequences[i : i + 1], tokenizer)), found[i : i + 1])
    if kind in ("per-base", "tracks"):
        assert [len(value) for value in found] == list(map(len, sequences))
    assert len({str(value) for value in found}) == len(sequences)
    assert not model.training


def test_the_model_is_left_in_the_mode_it_was_in():
    model = model_of("binary").train()
    predict_rows(model, collator_of("binary", sequences_of()))
    assert model.training
    assert predict_rows(model, collator_of("binary", [])) == []


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("max_tokens", [None, 18])
def test_both_strands_are_the_same_from_either(kind, max_tokens):
    per_base = kind in ("per-base", "tracks")
    if per_base and max_tokens:
        pytest.skip("answers at every base are never cut")
    sequences = sequences_of()
    model = model_of(kind)
    options = {"both_strands": True, "batch_size": 4}
    this = predict_rows(model, collator_of(kind, sequences, max_tokens=max_tokens), **options)
    other = predict_rows(model, collator_of(kind, [rc(x) for x in sequences], max_tokens=max_tokens), **options)
    close(this, [value[::-1] if per_base else value for value in other])
    one = predict_rows(model, collator_of(kind, sequences, max_tokens=max_tokens))
    assert max(np.abs(a - b).max() for a, b in zip(one, this, strict=True)) > 1e-4


@pytest.mark.parametrize("kind", ["binary", "per-base"])
def test_an_equivariant_model_needs_one_strand_only(kind):
    settings = genolm_config("fir", "attention", reverse_complement="equivariant", vocab_size=16)
    torch.manual_seed(0)
    model = model_of(kind, GenoLMModel(settings))
    sequences = sequences_of()
    this = predict_rows(model, collator_of(kind, sequences))
    other = predict_rows(model, collator_of(kind, [rc(x) for x in sequences]))
    close(this, [value[::-1] if kind == "per-base" else value for value in other])


def test_numbers_come_back_in_the_units_of_the_labels():
    logits = torch.tensor([[1.0, -2.0]])
    collator = collator_of("regression", [], centre=np.array([10.0, 0.0]), scale=np.array([2.0, 0.5]))
    assert in_units("regression", logits, collator).tolist() == [[12.0, -1.0]]
    assert in_units("regression", logits, collator_of("regression", [])).tolist() == [[1.0, -2.0]]
    assert in_units("binary", torch.zeros(3, 1), collator).tolist() == [0.5] * 3


def test_pieces_are_averaged_by_the_bases_they_hold():
    model, sequence = model_of("binary"), sequences_of(1, 50, 51)[0]
    collator = collator_of("binary", [sequence], max_tokens=20)
    batch = collator.rows([sequence])
    hidden, shares = [], batch["pieces"][0]
    with torch.no_grad():
        for i in range(len(shares)):
            ids = torch.from_numpy(batch["input_ids"][i][batch["attention_mask"][i] == 1])[None]
            hidden.append(model.backbone(ids).last_hidden_state.mean(1))
        expected = model.head((torch.cat(hidden) * torch.from_numpy(shares)[:, None]).sum(0)).sigmoid()
    assert len(shares) >= 3
    np.testing.assert_allclose(predict_rows(model, collator)[0], expected.item(), atol=1e-6)
