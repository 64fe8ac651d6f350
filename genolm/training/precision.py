"""Which number formats are fast on this machine."""

from pathlib import Path


def has_fast_bf16() -> bool:
    """Say whether bf16 is native here: a GPU that has it, or a CPU with AVX512-BF16 or AMX.

    Elsewhere bf16 is emulated and slower than float32.
    """
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
