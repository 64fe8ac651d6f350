"""What the stages of the GPU check share: results, timing, memory, models and alleles.

`stages.py` sets the environment variables read here before it imports this module.
"""

import contextlib
import fcntl
import gc
import json
import math
import os
import time
import traceback
from pathlib import Path

import numpy as np
import torch
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RECIPES = ROOT / "recipes" / "genolm"
STAGE = os.environ["GPU_CHECK_STAGE"]
RESULTS = Path(os.environ["GPU_CHECK_RESULTS"])
WORK = Path(os.environ["GPU_CHECK_WORK"])
DATA = WORK / "data"
DRY = os.environ["GPU_CHECK_DRY"] == "1"
"""Everything runs on a CPU, at sizes that show only that it runs."""
DEVICE = "cpu" if DRY else "cuda"
PEERS = {"masked": "modernbert", "causal": "llama"}


def emit(name, ok=None, /, **values):
    """Append a result to the results file and print it; `ok` is None for a number without a bound."""
    row = {"stage": STAGE, "name": name, "ok": ok} | {"what" if k == "name" else k: v for k, v in values.items()}
    with open(RESULTS, "a") as file:
        file.write(json.dumps(row, default=str) + "\n")
    print({True: "ok  ", False: "FAIL", None: "    "}[ok], name, json.dumps(values, default=str)[:400], flush=True)


def one_line(error, num=300):
    """Return an exception as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:num]}"


@contextlib.contextmanager
def attempt(name):
    """Record an exception as a fault of this part; the stage continues."""
    try:
        yield
    except Exception as error:
        traceback.print_exc()
        emit(name, False, error=one_line(error))
        if is_memory(error):
            free()


def is_memory(error):
    """Return whether an exception means that the GPU's memory is full."""
    words = ("out of memory", "ALLOC_FAILED", "CUFFT_INTERNAL")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


def synchronize():
    """Wait for the GPU."""
    if not DRY:
        torch.cuda.synchronize()


def free():
    """Return unused memory to the GPU."""
    gc.collect()
    if not DRY:
        torch.cuda.empty_cache()


def reset_peak():
    """Measure peak memory from now on."""
    if not DRY:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()


def peak_gib():
    """Return the peak of allocated memory, GiB; None on a CPU."""
    return None if DRY else round(torch.cuda.max_memory_allocated() / 2**30, 3)


def peak_reserved_gib():
    """Return the peak of reserved memory, GiB; None on a CPU."""
    return None if DRY else round(torch.cuda.max_memory_reserved() / 2**30, 3)


def seconds_of(step, times, warm=0):
    """Return the mean seconds of a call, after `warm` calls; the GPU is waited for before and after."""
    for _ in range(warm):
        step()
    synchronize()
    start = time.perf_counter()
    for _ in range(times):
        step()
    synchronize()
    return (time.perf_counter() - start) / times


def exact_float32():
    """Compute float32 products in float32, not TF32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")


def relative_error(values, expected):
    """Return ‖values − expected‖ / ‖expected‖ in float64; infinite where a value is not finite."""
    values, expected = values.detach().double().cpu(), expected.detach().double().cpu()
    if not torch.isfinite(values).all():
        return math.inf
    return float((values - expected).norm() / (expected.norm() + 1e-30))


def model_block(size, objective):
    """Return the model block of a recipe of recipes/genolm, made tiny in a dry run."""
    block = yaml.safe_load((RECIPES / f"{size}-{objective}.yaml").read_text())["model"]
    if DRY:
        block |= {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 2}
        block |= {"filter_groups": 8, "ssm_head_dim": 16, "ssm_state_size": 16, "ssm_chunk_size": 32}
    return block


def peer_block(size, objective):
    """Return the model block of the transformers model of the same shape."""
    ours = model_block(size, objective)
    shape = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return {"architecture": PEERS[objective]} | {key: ours[key] for key in shape}


def char_tokenizer():
    """Return the tokenizer of single nucleotides."""
    from genolm.tokenizers.build import build_tokenizer, load_spec

    return build_tokenizer(load_spec("char"))


def build(block, objective, window):
    """Return a model with fresh weights."""
    from genolm.models.build import build_model

    return build_model(block, char_tokenizer(), objective, window)


def genome_store():
    """Return the check's genome, prepared."""
    from genolm.genome.store import prepare_store

    return prepare_store({"genome": [DATA / "genome.fa"]}, WORK / f"store-{STAGE}-{os.getpid()}")


def some_alleles(store, num, kind, window):
    """Return alleles: `dense` (all ALTs of neighbouring sites), `isolated` (one ALT every 701 bases) or `indels`."""
    from genolm.variants.alleles import Allele

    sequence = store.fetch(0, 0, store.lengths[0]).tobytes().decode().upper()
    alleles, draw = [], np.random.default_rng(0)
    position = len(sequence) // 4 + window
    while len(alleles) < num:
        ref = sequence[position]
        if kind == "dense":
            alleles += [Allele(0, position, ref, alt) for alt in "ACGT" if alt != ref]
        elif kind == "isolated":
            alleles.append(Allele(0, position, ref, next(base for base in "GATC" if base != ref)))
        else:  # inserted bases differ from the base before, so that the insertion is left-aligned
            others = [base for base in "ACGT" if base != ref]
            alleles.append(Allele(0, position, "", "".join(draw.choice(others, int(draw.integers(1, 7))))))
        position += 1 if kind == "dense" else 701
    return alleles[:num]


class Gate:
    """A file lock: one process at a time fills the GPU's memory."""

    def __init__(self, path):
        self.path, self.file = path, None

    def take(self):
        """Wait for the lock."""
        if self.file is None:
            self.file = open(self.path, "w")
            fcntl.flock(self.file, fcntl.LOCK_EX)

    def leave(self):
        """Free unused memory and the lock."""
        if self.file is not None:
            free()
            self.file.close()
            self.file = None
