"""The device that commands compute on."""

import pytest
import torch

from genolm.models.precision import available_device


@pytest.mark.parametrize("cpu", [False, True])
def test_a_cuda_build_without_a_gpu_computes_on_the_cpu(monkeypatch, cpu):
    """Such a build of torch names `cuda` unless it is asked whether one is there."""
    there = {False: torch.device("cuda"), True: None}
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: there[check_available])
    assert available_device(cpu) == torch.device("cpu")


def test_a_gpu_is_used_unless_the_cpu_is_asked_for(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("cuda"))
    assert available_device() == torch.device("cuda")
    assert available_device(cpu=True) == torch.device("cpu")
