"""Kinds of GPUs: peak FLOP/s and memory."""

import re
from dataclasses import dataclass

import torch

from genolm.config.yaml import SettingsError


@dataclass(frozen=True)
class GPU:
    """A kind of GPU.

    Attributes:
        name: as `--gpus` takes it.
        peak: FLOP/s of dense matrix products in bf16, in fp16 where there is no bf16; None where unknown.
        gib: memory as torch reports it, in GiB: some less than the data sheet's.
        bf16: it computes in bf16.
    """

    name: str
    peak: float | None
    gib: float
    bf16: bool = True


# Peaks are those of the makers' data sheets without sparsity, of which some give twice as much first. torchtitan's
# `get_peak_flops` has the same for B200, H200, H100, A100 and L40S; RTX 4090 with sums in float32.
GPUS = [
    GPU("B200", 2250e12, 178),
    GPU("H200", 989e12, 139),
    GPU("H100", 989e12, 79),
    GPU("H100-NVL", 835e12, 93),
    GPU("H100-PCIe", 756e12, 79),
    GPU("A100", 312e12, 79),
    GPU("A100-40", 312e12, 39),
    GPU("L40S", 362e12, 44),
    GPU("L4", 121e12, 22),
    GPU("A10", 125e12, 22),
    GPU("RTX4090", 165e12, 23),
    GPU("V100", 125e12, 31, bf16=False),
    GPU("MI300X", 1307e12, 191),
]


def parse_gpus(text: str) -> tuple[int | None, GPU | None]:
    """Parse `8xH100`, `H100` (which is one) or `8`: number and kind, None for what is missing.

    Raises:
        SettingsError: no such GPU, or less than one.
    """
    match = re.fullmatch(r"\s*(?:(\d+)(?:\s*[x×*]\s*|\s+|$))?(.*?)\s*", text, re.IGNORECASE)
    assert match is not None  # whatever follows the number is a kind
    count, name = match.groups()
    matches = [gpu for gpu in GPUS if squeezed(gpu.name) == squeezed(name)]
    if (name and not matches) or (count and int(count) < 1):
        kinds = ", ".join(gpu.name for gpu in GPUS)
        raise SettingsError(f"--gpus {text}: give a number and a kind, as 8xH100; the kinds are {kinds}")
    return int(count) if count else None, matches[0] if matches else None


def squeezed(name: str) -> str:
    """Return a name in lower case without spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]", "", name.lower())


def gpus_here() -> tuple[int, GPU] | None:
    """Return number and kind of this machine's GPUs, with their real name and memory; None where there are none."""
    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    gib = properties.total_memory / 2**30
    name = re.sub(r"RTX (\d)", r"RTX\1", properties.name)
    alike = [gpu for gpu in GPUS if gpu.name.split("-")[0] in re.split(r"[\s-]", name)]
    # Of several of a kind the one whose other word is in the name, as PCIe, else the one with this memory.
    other = {gpu.name: gpu.name.partition("-")[2].lower() for gpu in alike}
    said = {name: -len(word) if word in properties.name.lower() else 1 for name, word in other.items()}
    alike.sort(key=lambda gpu: (said[gpu.name], abs(gpu.gib - gib)))
    peak = alike[0].peak if alike else None
    return torch.cuda.device_count(), GPU(properties.name, peak, gib, torch.cuda.is_bf16_supported(False))


def gpus_to_plan(text: str, num_launched: int | None = None) -> tuple[int, GPU]:
    """Return number and kind of the GPUs to plan for: as given, else those of this machine, else 8 H100.

    Args:
        text: as for `parse_gpus`; a kind alone is one GPU.
        num_launched: processes that a profile starts; None without one.

    Raises:
        SettingsError: another number than `num_launched`.
    """
    count, kind = parse_gpus(text)
    if num_launched is not None and count not in (None, num_launched):
        raise SettingsError(f"--gpus {text}, and the profile of --launch starts {num_launched}; leave the number out")
    here = gpus_here() or (8, next(gpu for gpu in GPUS if gpu.name == "H100"))
    return num_launched or count or (1 if kind else here[0]), kind or here[1]
