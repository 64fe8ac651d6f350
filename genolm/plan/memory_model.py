"""Memory of a GPU under each profile of recipes/accelerate: weights, gradients, optimizer and buffers."""

from dataclasses import dataclass

BUCKET, LIVE = 500_000_000, 1_000_000_000
"""DeepSpeed's defaults, which recipes/accelerate leaves: elements of its reduce_bucket_size, and of the weights that
ZeRO-3 keeps gathered (stage3_max_live_parameters, stage3_max_reuse_distance)."""

ALONE = ("ddp", "zero3-offload")
"""Profiles that differ on one GPU; the former is then none."""

PROFILES = ("ddp", "zero1", "zero2", "zero3", "zero3-offload", "fsdp2")
ORDER = ("ddp", "zero1", "zero2", "fsdp2", "zero3", "zero3-offload")
"""From the fastest to the one with the least memory."""


def model_states(num_parameters: int, num_gpus: int, half: bool, gathered: int) -> dict[str, tuple[float, float]]:
    """Return, for each profile, the bytes on a GPU of weights, gradients and AdamW's states, and those of buffers.

    DDP and FSDP2 keep float32 weights, gradients and two moments: 16 bytes a parameter, which FSDP2 divides. DDP has
    its gradients a second time, in the buckets it sends; FSDP2 gathers weights, and as many gradients, of `gathered`.
    DeepSpeed keeps weights and gradients in bf16 or fp16, 2 bytes each (its grad_accum_dtype is by default that of the
    model), or in float32, and float32 weights and two moments, 12 bytes, in its optimizer. ZeRO-1 divides these 12,
    ZeRO-2 gradients as well, ZeRO-3 everything; offloading holds the 12 in main memory. Source: arXiv:1910.02054, and
    DeepSpeed's `stage_1_and_2.py` and `config.py`.

    Args:
        num_parameters: of the model, tied ones once.
        num_gpus: ranks.
        half: training.bf16 or training.fp16.
        gathered: parameters of what FSDP2 holds whole at a time.
    """
    n, shard, width = num_parameters, num_parameters / num_gpus, 2 if half else 4
    bucket = width * BUCKET
    return {
        "ddp": (16 * n, 4 * n if num_gpus > 1 else 0),
        "zero1": (2 * width * n + 12 * shard, bucket),
        "zero2": (width * n + (width + 12) * shard, bucket),
        "zero3": ((2 * width + 12) * shard, bucket + width * min(n, LIVE)),
        "zero3-offload": (2 * width * shard, bucket + width * min(n, LIVE)),
        "fsdp2": (16 * shard, 2 * width * gathered),
    }


def gathered_parameters(model) -> int:
    """Return the parameters that FSDP2 holds whole at a time: what is in no layer, and two layers of the largest."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    layers = [sum(p.numel() for p in m.parameters()) for m in model.modules() if type(m).__name__ in names]
    total = sum(p.numel() for p in model.parameters())
    return min(total, max(0, total - sum(layers)) + 2 * max(layers, default=0))


@dataclass(frozen=True)
class ProfileMemory:
    """Bytes on a GPU under a profile; activations are NaN where they are unknown."""

    profile: str
    states: float
    buffers: float
    activations: float

    @property
    def total(self) -> float:
        """The sum."""
        return self.states + self.buffers + self.activations
