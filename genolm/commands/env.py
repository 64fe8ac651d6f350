"""`genolm env`: versions and hardware, for a bug report."""

import os
import platform


def env() -> None:
    """Print versions, machine and accelerators, for a bug report.

    Example: genolm env
    """
    import torch

    from genolm.config.provenance import versions
    from genolm.models.precision import has_fast_bf16

    for name, version in versions().items():
        print(f"{name:<14}{version or 'not installed'}")
    print(f"{'platform':<14}{platform.platform()}")
    print(f"{'cpu':<14}{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}")
    print(f"{'bf16':<14}{'fast' if has_fast_bf16() else 'emulated, so off by default'}")
    for i in range(torch.cuda.device_count()):
        print(f"{f'gpu {i}':<14}{torch.cuda.get_device_name(i)}, CUDA {torch.version.cuda}")
    if not torch.cuda.is_available():
        print(f"{'gpu':<14}none")
