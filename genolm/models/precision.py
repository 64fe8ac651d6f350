"""The device of this machine, its fast number formats, and deterministic operations."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def has_fast_bf16(cpu: bool = False) -> bool:
    """Return whether bf16 is native here: a GPU that has it, or, with `cpu` or no GPU, a CPU with AVX512-BF16 or AMX.

    Elsewhere bf16 is emulated and slower than float32.
    """
    import torch

    if torch.cuda.is_available() and not cpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def available_device(cpu: bool = False) -> "torch.device":
    """Return the accelerator that can be used here, else the CPU; with `cpu`, the CPU.

    A CUDA build of torch names `cuda` on a machine without a GPU too, unless it is asked to look.
    """
    import torch

    accelerator = None if cpu else torch.accelerator.current_accelerator(check_available=True)
    return accelerator or torch.device("cpu")


def set_deterministic(deterministic: bool) -> None:
    """Switch deterministic operations on or off: with them, a run gives the same bits twice on one machine.

    An operation without a deterministic form raises an error of torch that names it.
    Source: torch's notes on reproducibility.
    """
    import torch

    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS when it is first used
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = False
