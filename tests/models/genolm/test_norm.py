"""RMS norm on a CPU: torch's own, in fewer passes."""

import pytest
import torch

from genolm.models.genolm.norm import RMSNorm


def norm(width, dtype=torch.float32, **options):
    torch.manual_seed(0)
    made = RMSNorm(width, **options).to(dtype)
    torch.nn.init.normal_(made.weight)
    return made


def torchs(made, x):
    return torch.nn.functional.rms_norm(x, made.weight.shape, made.weight, made.eps)


@pytest.mark.parametrize("shape", [(3, 7, 16), (2, 1, 1), (5, 8), (0, 5, 8)])
def test_it_is_torchs_with_its_gradients(shape):
    made = norm(shape[-1], torch.float64, eps=1e-3)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(made(x), torchs(made, x), rtol=1e-12, atol=1e-12)
    ours = torch.autograd.grad(made(x), (x, made.weight), grad)
    theirs = torch.autograd.grad(torchs(made, x), (x, made.weight), grad)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_gradients_are_those_of_small_differences():
    made = norm(6, torch.float64, eps=1e-5)
    rows = torch.randn(2, 6, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: made(x.transpose(1, 2)), (rows,))  # not as it lies in memory


def test_rows_far_from_one_in_size():
    made = norm(64, eps=1e-12)
    for size in (1e-4, 1e4):
        x = size * torch.randn(9, 64) + 3 * size
        exact = torchs(made.double(), x.double())
        torch.testing.assert_close(made.float()(x).double(), exact, rtol=1e-5, atol=1e-5)


def test_under_autocast_it_is_rounded_once_and_for_all_linear_maps():
    made = norm(32, eps=1e-6)
    x = torch.randn(4, 32, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = made(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, made(x).to(torch.bfloat16), rtol=0, atol=0)
    y.backward(torch.ones_like(y))
    assert x.grad is not None and x.grad.dtype == torch.float32 and made.weight.grad.dtype == torch.float32
    with torch.autocast("cpu", enabled=False):
        assert made(x).dtype == torch.float32


def test_a_weight_that_is_frozen_gets_no_gradient():
    made = norm(8)
    made.weight.requires_grad_(False)
    x = torch.randn(3, 8, requires_grad=True)
    made(x).sum().backward()
    assert made.weight.grad is None
    torch.testing.assert_close(x.grad, torch.autograd.grad(torchs(made, x).sum(), x)[0], rtol=1e-4, atol=1e-6)


def test_other_number_formats_and_a_compiler_get_torchs():
    made = norm(8, torch.bfloat16)
    x = torch.randn(3, 8, dtype=torch.bfloat16)
    assert torch.equal(made(x), torchs(made, x))
    wide = norm(8)
    traced = torch.export.export(wide, (torch.randn(3, 8),))
    assert "rms_norm" in str(traced.graph) and "layer_norm" not in str(traced.graph)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_under_autocast_the_result_is_in_its_type_on_every_device(device):
    """On a GPU too: else each linear map after it makes, and keeps, a cast of its own."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    before = torch.is_autocast_enabled(device)
    torch.set_autocast_enabled(device, True)  # torch.autocast turns itself off where there is no GPU
    torch.set_autocast_dtype(device, torch.bfloat16)
    try:
        with FakeTensorMode(), torch.no_grad():
            layer = RMSNorm(8, eps=1e-6, device=device)
            assert layer(torch.empty(2, 5, 8, device=device)).dtype == torch.bfloat16
    finally:
        torch.set_autocast_enabled(device, before)
