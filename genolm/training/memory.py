"""Memory: an estimate, smaller parts of a global batch where a micro-batch does not fit, pages that are freed."""

import ctypes
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from genolm.config.files import write_text
from genolm.training.signals import BatchTooLarge, OutOfMemory, RunStopped

FITTED = "fitted_batch.json"
_KEYS = ("per_device_train_batch_size", "gradient_accumulation_steps")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device or the machine has no memory left."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    libraries = ("CUFFT_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED")  # which say it in their own words
    return isinstance(error, Exception) and (should_reduce_batch_size(error) or any(t in str(error) for t in libraries))


def halved(per_device: int, accumulation: int) -> dict[str, int] | None:
    """Return the settings for a smaller micro-batch of the same global batch; None where there is none.

    The smallest divisor is taken out, so that 6 becomes 3 and 9 becomes 3.
    """
    if per_device < 2:
        return None
    factor = next(f for f in range(2, per_device + 1) if per_device % f == 0)
    return dict(zip(_KEYS, (per_device // factor, accumulation * factor), strict=True))


def fitted(run_dir: Path, per_device: int, accumulation: int) -> dict[str, int]:
    """Return the settings that an earlier start noted to fit, where they make the same global batch; else none."""
    path = run_dir / FITTED
    if not path.is_file():
        return {}
    try:
        settings = {key: int(json.loads(path.read_text())[key]) for key in _KEYS}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path}: not what genolm writes; remove it") from None
    size, times = settings.values()
    return settings if 0 < size < per_device and size * times == per_device * accumulation else {}


def gibibytes(num_bytes: float) -> str:
    """Return bytes as text."""
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.0f} MiB"


def estimate(model: torch.nn.Module, batch: dict[str, torch.Tensor], per_device: int, autocast: bool) -> str:
    """Describe the memory of weights and windows, measured by a forward pass of one window.

    Weights, gradients and Adam's two moments in float32 are 16 bytes a parameter; a window takes what its forward pass
    keeps for the backward.
    """
    parameters = list(model.parameters())
    fixed = 16 * sum(p.numel() for p in parameters)
    device = parameters[0].device
    clear_device_cache(garbage_collection=True)
    try:
        window = _kept_bytes(model, batch["input_ids"][:1].to(device), {p.data_ptr() for p in parameters}, autocast)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return f"weights, gradients and optimizer take about {gibibytes(fixed)}; not even one window fits in addition"
    total = f"about {gibibytes(fixed)} for weights, gradients and optimizer, and {gibibytes(window)} a window"
    text = f"{total}: {gibibytes(fixed + per_device * window)} for {per_device}"
    if device.type == "cuda":
        text += f"; the device has {gibibytes(torch.cuda.get_device_properties(device).total_memory)}"
    return text


def _kept_bytes(model: torch.nn.Module, ids: torch.Tensor, weights: set[int], autocast: bool) -> int:
    """Return the bytes that a forward pass keeps for the backward, weights left out."""
    kept: dict[int, int] = {}

    def pack(tensor: Any):
        storage = tensor.untyped_storage()
        if tensor.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # an output that keeps itself is a cycle, which nothing frees

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=autocast):
            output = model(input_ids=ids).logits.float().log_softmax(-1).sum()
    size = sum(kept.values())
    del output  # which holds what is counted
    return size


def out_of_memory(error: Exception, trainer, fit_batch: bool, run_dir: Path) -> RunStopped:
    """Return what to raise for an error of memory: what to change, or that the next start takes a smaller batch.

    Args:
        error: raised in training; anything but an error of memory is raised again.
        trainer: as it was then.
        fit_batch: note a smaller micro-batch for the next start.
        run_dir: where.
    """
    if not is_out_of_memory(error):
        raise error
    traceback.clear_frames(error.__traceback__)  # they hold what the failed pass computed
    arguments = trainer.args
    per_device = arguments.per_device_train_batch_size
    text = f"out of memory with {per_device} windows at a time on a device"
    if arguments.world_size == 1 and trainer.last_batches:  # of many ranks, the others would have to take part
        trainer.model.zero_grad()
        text += f"; {estimate(trainer.model, trainer.last_batches[0], per_device, bool(arguments.bf16))}"
    smaller = halved(per_device, arguments.gradient_accumulation_steps)
    if smaller is None:
        return OutOfMemory(f"{text}. Set a smaller data.window_bp or model, or training.activation_checkpointing=true")
    settings = " ".join(f"training.{key}={value}" for key, value in smaller.items())
    if not fit_batch:
        return OutOfMemory(f"{text}. The same global batch in smaller parts: {settings}, or fit_batch=true")
    write_text(run_dir / FITTED, json.dumps(smaller))
    return BatchTooLarge(f"{text}; starting again with {settings}")


def peak_bytes() -> int:
    """Return the peak memory of this process: of the GPU where there is one, else of the machine."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_malloc_trim = []


def keep_freed_pages() -> None:
    """Keep the pages of what is freed from now on, where glibc would return them to the system (mallopt).

    It returns blocks above 32 MB at once, and new ones are zeroed page by page: up to 40 % of a CPU forward pass. Kept
    blocks of many sizes add up, so trim them between the parts of a job. Without glibc, or with MALLOC_… in the
    environment, nothing is changed. Source: mallopt(3), malloc_trim(3).
    """
    if _malloc_trim or any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_MMAP_MAX, 0)
        _malloc_trim.append(libc.malloc_trim)
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return


def trim_freed_pages() -> None:
    """Return the free pages that were kept to the system."""
    for malloc_trim in _malloc_trim:
        malloc_trim(0)
