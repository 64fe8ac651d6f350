"""Which number formats are fast on this machine, and how to get the same bits twice."""

import os
from pathlib import Path


def has_fast_bf16(cpu: bool = False) -> bool:
    """Say whether bf16 is native here: a GPU that has it, or, with `cpu` or no GPU, a CPU with AVX512-BF16 or AMX.

    Elsewhere bf16 is emulated and slower than float32.
    """
    import torch

    if torch.cuda.is_available() and not cpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def set_deterministic(wanted: bool) -> None:
    """Choose operations that give the same bits twice on one machine, or free the choice again.

    An operation that has no such form is an error of torch that names it. Source: torch's notes on reproducibility.
    """
    import torch

    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS when it is first used
    torch.use_deterministic_algorithms(wanted)
    torch.backends.cudnn.benchmark = False
