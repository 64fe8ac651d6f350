"""Heads, pooling and the loss of labels, by hand and against scikit-learn and torch."""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from sklearn.metrics import log_loss, mean_squared_error
from tiny import config as genolm_config
from transformers import AutoModel, BertConfig, BertModel, LlamaConfig, LlamaModel

from genolm.labels.collate import RowEncoder
from genolm.models.label_model import LabelConfig, LabelModel, on_backbone, open_backbone
from genolm.models.loss import label_loss
from genolm.models.safe_loading import ModelError
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.tokenizers.encode import make_encoder

SIZES = {"vocab_size": 16, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def bert():
    torch.manual_seed(0)
    return BertModel(BertConfig(**SIZES, hidden_dropout_prob=0.0), add_pooling_layer=False).eval()


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Loss


def test_losses_are_those_of_scikit_learn():
    logits, labels = draw(6, 1), torch.tensor([0, 1, 1, 0, 1, 0])
    weight = torch.tensor([1.0, 2.0, 0.0, 0.5, 1.0, 3.0])
    total, mass = label_loss("binary", logits, labels, weight)
    expected = log_loss(labels, logits.squeeze(1).sigmoid().double(), sample_weight=weight)
    assert float(total / mass) == pytest.approx(expected, rel=1e-5)
    logits, labels = draw(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    total, mass = label_loss("multiclass", logits, labels, weight)
    expected = log_loss(labels, logits.double().softmax(1), sample_weight=weight)
    assert float(total / mass) == pytest.approx(expected, rel=1e-5)
    logits, labels, weight = draw(5, 3), (draw(5, 3, seed=1) > 0).float(), draw(5, 3, seed=2).abs()
    total, mass = label_loss("multilabel", logits, labels, weight)
    expected = log_loss(labels.flatten(), logits.sigmoid().flatten().double(), sample_weight=weight.flatten())
    assert float(total / mass) == pytest.approx(expected, rel=1e-5)
    labels = draw(5, 3, seed=3)
    total, mass = label_loss("regression", logits, labels, weight)
    expected = mean_squared_error(labels.flatten(), logits.flatten(), sample_weight=weight.flatten())
    assert float(total / mass) == pytest.approx(expected, rel=1e-5)


def test_losses_along_the_bases():
    logits, labels = draw(2, 4, 3), torch.tensor([[0, 2, 1, -100], [1, -100, -100, 2]])
    weight = (labels >= 0).float()
    total, mass = label_loss("per-base", logits, labels, weight)
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum", ignore_index=-100)
    assert float(mass) == 5 and float(total) == pytest.approx(float(expected), rel=1e-6)
    logits, numbers, weight = draw(2, 4, 3), draw(2, 4, 3, seed=1), (draw(2, 4, 3, seed=2) > 0).float()
    total, _ = label_loss("tracks", logits, numbers, weight)
    assert float(total) == pytest.approx(float(((logits - numbers)[weight > 0] ** 2).sum()), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_is_its_formula(gamma):
    logits, labels = draw(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    p = logits.softmax(1)[torch.arange(6), labels]
    total, _ = label_loss("multiclass", logits, labels, torch.ones(6), gamma)
    torch.testing.assert_close(total, (-((1 - p) ** gamma) * p.log()).sum())
    logits = draw(6, 1)
    p = torch.where(labels % 2 == 1, logits[:, 0].sigmoid(), 1 - logits[:, 0].sigmoid())
    total, _ = label_loss("binary", logits, labels % 2, torch.ones(6), gamma)
    torch.testing.assert_close(total, (-((1 - p) ** gamma) * p.log()).sum())


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("kind", ["multilabel", "regression", "per-base", "tracks"])
def test_a_missing_label_gives_no_gradient_and_certainty_no_nan(kind, gamma):
    shape = {"multilabel": (2, 3), "regression": (2, 3), "per-base": (2, 4, 3), "tracks": (2, 4, 3)}[kind]
    logits = (draw(*shape) * 200).requires_grad_()  # some are right beyond what float32 tells from 1
    labels = torch.zeros(shape[:-1], dtype=torch.int64) if kind == "per-base" else torch.zeros(shape)
    weight = torch.ones(labels.shape)
    weight[0] = 0
    if kind == "per-base":
        labels[0] = -100
    total, _ = label_loss(kind, logits, labels, weight, gamma)
    total.backward()
    assert logits.grad.isfinite().all() and (logits.grad[0] == 0).all() and (logits.grad[1] != 0).any()


# Pooling and pieces


def model_of(backbone=None, num_outputs=2, **settings):
    torch.manual_seed(1)
    return on_backbone(backbone or bert(), num_outputs, **settings).eval()


def test_pooling_by_hand():
    ids = torch.tensor([[5, 6, 7, 8, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    model = model_of(pooling="mean")
    hidden = draw(1, 6, 16)
    torch.testing.assert_close(model.pool(hidden, mask), hidden[:, :4].mean(1))
    torch.testing.assert_close(model_of(pooling="cls").pool(hidden, mask), hidden[:, 0])
    attentive = model_of(pooling="attention")
    score = attentive.weigh(hidden[:, :4]).squeeze(-1).softmax(1)
    torch.testing.assert_close(attentive.pool(hidden, mask), (hidden[:, :4] * score.unsqueeze(-1)).sum(1))
    for kind in ("mean", "cls", "attention"):
        model = model_of(pooling=kind)
        with torch.no_grad():
            short, long = model(ids[:, :4], mask[:, :4]).logits, model(ids, mask).logits
        torch.testing.assert_close(short, long, atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="pooling is 'max'"):
        LabelConfig(pooling="max")


def test_pieces_of_a_row_are_averaged_by_their_share():
    model = model_of()
    rows = RowEncoder(make_encoder(build_tokenizer(load_spec("char"))), 12, cut=True)
    batch = {k: torch.from_numpy(v) for k, v in rows(["ACGTTGCAGGATTACAGTACCA", "ACGT"]).items()}
    with torch.no_grad():
        logits = model(**batch).logits
        hidden = model.backbone(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        keep = batch["attention_mask"].unsqueeze(-1)
        vectors = (hidden * keep).sum(1) / keep.sum(1)
        torch.testing.assert_close(logits, model.head(batch["pieces"] @ vectors))


def test_every_base_is_answered_by_its_token():
    model = model_of(per_base=True)
    ids, at = torch.randint(5, 11, (2, 7)), torch.tensor([[0, 0, 3, 6], [1, 2, 2, 2]])
    with torch.no_grad():
        hidden = model.backbone(ids, torch.ones_like(ids)).last_hidden_state
        logits = model(ids, torch.ones_like(ids), token_of_base=at).logits
    for row in range(2):
        torch.testing.assert_close(logits[row], model.head(hidden[row, at[row]]))


# Opening


def test_a_saved_model_opens_alike(tmp_path):
    for backbone in (bert(), LlamaModel(LlamaConfig(**SIZES)).eval()):
        model = model_of(backbone, pooling="attention", dropout=0.3)
        folder = tmp_path / backbone.config.model_type
        model.save_pretrained(folder)
        ids = torch.randint(5, 11, (2, 9))
        again = LabelModel.from_pretrained(folder).eval()
        assert again.config.dropout == 0.3
        torch.testing.assert_close(again(ids).logits, model(ids).logits, atol=0, rtol=0)


def test_a_backbone_opens_without_a_word_and_with_every_weight(tmp_path, capfd):
    from transformers import BertForMaskedLM

    torch.manual_seed(0)
    whole = BertForMaskedLM(BertConfig(**SIZES))
    whole.save_pretrained(tmp_path / "good")
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = open_backbone(tmp_path / "good")
    assert capfd.readouterr() == ("", "")
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, whole.bert.state_dict()[name], atol=0, rtol=0)
    state = load_file(tmp_path / "good" / "model.safetensors")
    name = next(name for name in state if "layer.0.attention.self.query.weight" in name)
    del state[name]
    save_file(state, tmp_path / "good" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"1 weights of its bert are not there \(encoder.layer.0.attention.self.query"):
        open_backbone(tmp_path / "good")


def test_pickled_weights_and_no_configuration_are_refused(tmp_path):
    model = bert()
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="holds no model.safetensors; other formats can run code"):
        open_backbone(tmp_path)


def test_an_equivariant_model_says_the_same_of_both_strands():
    torch.manual_seed(0)
    settings = genolm_config("fir", "attention", "ssm", reverse_complement="equivariant")
    model = on_backbone(AutoModel.from_config(settings), 3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.2)
    letters = torch.randint(7, 11, (2, 12), generator=torch.Generator().manual_seed(0))
    other = (17 - letters).flip(1)  # ids 7 to 10 are A, C, G, T
    mask = torch.ones_like(letters)
    with torch.no_grad():
        torch.testing.assert_close(model(letters, mask).logits, model(other, mask).logits, atol=1e-5, rtol=1e-5)
        assert float(model(letters, mask).logits.std()) > 1e-3


def test_initial_loss_is_that_of_not_knowing():
    model = model_of(num_outputs=4)
    logits = model(torch.randint(5, 11, (8, 20))).logits.detach()
    total, mass = label_loss("multiclass", logits, torch.arange(8) % 4, torch.ones(8))
    assert float(total / mass) == pytest.approx(math.log(4), abs=0.3)
