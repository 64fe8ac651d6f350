"""Fresh weights are drawn as published or as torch does, and never from transformers' N(0, 0.02)."""

import math

import pytest
import torch
from torch import nn

from genolm.models.baselines import BASELINES, build_baseline


def build(name, width=0.5, **options):
    torch.manual_seed(0)
    return build_baseline(name, 200, 2, width, base_token_ids=[0, 1, 2, 3], **options)


def weights(model, kind):
    return [module.weight.detach() for module in model.modules() if isinstance(module, kind)]


@pytest.mark.parametrize("name", ["deepsea", "basset", "deepbind", "mlp", "gru", "deepsite", "deep6mapred"])
def test_torch_default(name):
    """torch draws evenly from ±1/√(fan in)."""
    for weight in weights(build(name), nn.Linear | nn.Conv1d):
        bound = 1 / math.sqrt(weight[0].numel())
        assert weight.abs().max() <= bound
        if weight.numel() > 500:
            assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


@pytest.mark.parametrize("name", ["deepcpg", "resnet"])
def test_glorot(name):
    for weight in weights(build(name), nn.Linear | nn.Conv1d):
        window = weight[0, 0].numel()
        bound = math.sqrt(6 / (window * (weight.shape[0] + weight.shape[1])))
        assert weight.abs().max() <= bound
        if weight.numel() > 500:
            assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


@pytest.mark.parametrize(("name", "variance"), [("basenji", 2), ("enformer", 1)])
def test_he_and_lecun(name, variance):
    found = [weight for weight in weights(build(name), nn.Conv1d) if weight.any()]
    assert len(found) > 4
    for weight in found:
        assert weight.std().item() == pytest.approx(math.sqrt(variance / weight[0].numel()), rel=0.1)


def test_danq_is_even_within_a_twentieth():
    model = build("danq")
    for name, parameter in model.named_parameters():
        if "bias" in name:
            assert not parameter.any()
        else:
            assert 0.045 < parameter.abs().max() <= 0.05


def test_what_starts_at_zero():
    model = build("basenji")
    for block in model.dilated:
        assert block[2].weight.eq(1).all() and not block[-2].weight.any()
    model = build("enformer")
    assert not any(attention.by_distance.weight.any() for attention in model.attention)
    assert not build("kmer-logistic", 1.0).score.weight.any()


@pytest.mark.parametrize("name", BASELINES)
def test_norms_start_neutral(name):
    for module in build(name, 1.0 if name == "kmer-logistic" else 0.1).modules():
        if isinstance(module, nn.BatchNorm1d) and not getattr(module, "starts_at_zero", False):
            assert module.weight.eq(1).all() and not module.bias.any()
            assert module.running_var.eq(1).all() and not module.running_mean.any()
