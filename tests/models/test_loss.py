import math

import pytest
import torch

from genolm.models.loss import weighted_token_loss


def test_the_sum_is_what_a_hand_count_gives():
    # Logits of log p: the loss of a label is -ln p exactly.
    p = torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]]])
    labels, weight = torch.tensor([[1, 2, -100]]), torch.tensor([[1.0, 0.5, 0.0]])
    nats, total = weighted_token_loss(p.log(), labels, weight, causal=False)
    assert nats.item() == pytest.approx(-math.log(0.25) - 0.5 * math.log(0.3))
    assert total.item() == 1.5
    nats, total = weighted_token_loss(p.log(), labels, weight, causal=True)
    assert nats.item() == pytest.approx(-0.5 * math.log(0.25))  # place 0 predicts label 2 of place 1
    assert total.item() == 0.5


def test_unlabelled_places_get_no_gradient():
    logits = torch.randn(2, 5, 4, requires_grad=True)
    labels = torch.tensor([[-100, 1, -100, 2, -100], [0, -100, -100, -100, 3]])
    weight = (labels >= 0).float()
    weighted_token_loss(logits, labels, weight, causal=False)[0].backward()
    assert (logits.grad.abs().sum(-1) > 0).equal(labels >= 0)


def test_low_precision_logits_are_summed_in_float32():
    logits = torch.zeros(1, 4096, 4, dtype=torch.bfloat16)
    labels = torch.zeros(1, 4096, dtype=torch.long)
    nats, _ = weighted_token_loss(logits, labels, torch.ones(1, 4096), causal=False)
    assert nats.item() == pytest.approx(4096 * math.log(4), rel=1e-5)
