"""Model FLOPs utilization compared with transformers' ModernBERT and Llama: python benchmarks/mfu.py [--device cpu].

    MFU = FLOPs of a training step / (seconds of a step · the GPU's nominal bf16 FLOP/s)

FLOPs are `genolm.plan.trace`'s, for all alike: products of matrices, 6 a weight and token; convolutions; attention
12 · layers · hidden · length a token, half of it where causal; nothing element by element, nothing computed anew (PaLM,
arXiv:2204.02311, appendix B). `of GEMM` divides by the fastest product of two bf16 matrices found in the same run, the
most that any model can reach. All run under autocast to bf16 with `torch.compile`, fused AdamW, and the same loss;
peers have the hidden size, layers, heads and inner channels of ours. A round takes each in turn; the median counts.

    python benchmarks/mfu.py --sizes base large --windows 1024 2048 4096 8192
    python benchmarks/mfu.py --device cpu --sizes small --windows 512 --tokens 2048     # to see that it runs
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from genolm.models.build import build_model
from genolm.models.loss import weighted_token_loss
from genolm.plan.gpus import gpus_here
from genolm.plan.trace import step_cost
from genolm.tokenizers.build import build_tokenizer, load_spec

RECIPES = Path(__file__).parents[1] / "recipes" / "genolm"
PEERS = {"masked": "modernbert", "causal": "llama"}
GEMM = {"cuda": [(8192, 8192, 8192), (16384, 4096, 4096), (32768, 1024, 4096)], "cpu": [(2048, 1024, 2048)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=list(GEMM))
    parser.add_argument("--sizes", nargs="+", default=["base", "large"], help="of recipes/genolm")
    parser.add_argument("--objectives", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--windows", nargs="+", type=int, default=[1024, 2048, 4096, 8192])
    parser.add_argument("--tokens", type=int, default=32_768, help="of a batch")
    parser.add_argument("--steps", type=int, default=8, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU; --device cpu to see that it runs")
    torch.set_float32_matmul_precision("high")
    product, (name, peak) = gemm_flops(options.device), sold(options.device)
    peak_text = f"{peak / 1e12:,.0f} TFLOP/s" if peak else "unknown"
    print(f"{name}, torch {torch.__version__}; bf16: nominal {peak_text}, GEMM {product / 1e12:,.1f} TFLOP/s")
    head = f"{'model':<22}{'parameters':>11}{'window':>8}{'GFLOP/token':>12}{'tokens/s':>11}{'MFU':>7}{'of GEMM':>9}"
    print(f"{head}{'memory':>11}")
    for size in options.sizes:
        for objective in options.objectives:
            for window in options.windows:
                compare(size, objective, window, product, peak, options)


def compare(size: str, objective: str, window: int, product: float, peak: float | None, options) -> None:
    """Print a line for ours and for the peer."""
    batch, steps, lines = max(1, options.tokens // window), {}, {}
    for name, block in blocks(size, objective).items():
        make = partial(build_model, block, TOKENIZER, objective, window)
        lines[name] = cost(make, batch, window, objective == "causal")
        steps[name] = step_of(make, batch, window, objective == "causal", options.device)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    memory: dict[str, int] = {}
    for number in range(options.rounds + 1):  # the first compiles
        for name in list(steps):
            try:
                seconds[name].append(timed(steps[name], options.steps, options.device))
            except torch.OutOfMemoryError:
                print(f"{name:<22}{'':>11}{window:>8}   out of memory at {options.tokens:,} tokens a batch")
                del steps[name], seconds[name]
                continue
            if options.device == "cuda" and not number:
                memory[name] = torch.cuda.max_memory_allocated()
                torch.cuda.reset_peak_memory_stats()
    for name, times in seconds.items():
        flops, parameters = lines[name]
        rate = batch * window / statistics.median(times[1:])
        row = f"{name:<22}{parameters / 1e6:>9.1f} M{window:>8}{flops / 1e9:>12.3f}{rate:>11,.0f}"
        mfu = f"{flops * rate / peak:>7.1%}" if peak else f"{'':>7}"
        memory_text = f"{memory[name] / 2**30:>7.1f} GiB" if name in memory else ""
        print(f"{row}{mfu}{flops * rate / product:>9.1%}{memory_text}", flush=True)
    steps.clear()
    torch.compiler.reset()
    gc.collect()
    if options.device == "cuda":
        torch.cuda.empty_cache()


TOKENIZER = build_tokenizer(load_spec("char"))


def blocks(size: str, objective: str) -> dict[str, dict[str, Any]]:
    """Return the model blocks of ours and of the peer of its shape."""
    ours = yaml.safe_load((RECIPES / f"{size}-{objective}.yaml").read_text())["model"]
    shape = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    peer = {"architecture": PEERS[objective]} | {key: ours[key] for key in shape}
    return {f"genolm {size} {objective}": ours, f"{PEERS[objective]} {size}": peer}


def cost(make: Callable[[], Any], batch: int, window: int, causal: bool) -> tuple[float, int]:
    """Return FLOPs a token, forward and backward, and the number of parameters."""
    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in make().parameters())
    step = step_cost(make, batch, window, causal=causal, autocast=True)
    return (step.flops - step.causal_flops) / (batch * window), parameters


def step_of(make: Callable[[], Any], batch: int, window: int, causal: bool, device: str) -> Callable[[], None]:
    """Return a training step on rows that stay the same."""
    torch.manual_seed(0)
    model = make().train().to(device)
    model.config.use_cache = False
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(5, 9, (batch, window), device=device)
    weight = torch.ones(batch, window, device=device)
    if not causal:
        weight = (torch.rand(batch, window, device=device) < 0.15).float()

    @torch.compile
    def loss_of(ids: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        nats, total = weighted_token_loss(model(input_ids=ids).logits, ids, weight, causal)
        return nats / total

    def step() -> None:
        with torch.autocast(device, torch.bfloat16):
            loss = loss_of(ids, weight)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def timed(step: Callable[[], None], steps: int, device: str) -> float:
    """Return seconds a step."""
    began = time.perf_counter()
    for _ in range(steps):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / steps


def gemm_flops(device: str) -> float:
    """Return FLOP/s of the fastest bf16 product among a few shapes, each the best of ten."""
    best = 0.0
    for m, n, k in GEMM[device]:
        a, b = (torch.randn(shape, device=device, dtype=torch.bfloat16) for shape in ((m, k), (k, n)))
        for _ in range(10):
            best = max(best, 2 * m * n * k / timed(lambda a=a, b=b: a @ b, 10, device))
    return best


def sold(device: str) -> tuple[str, float | None]:
    """Return the device's name, and its bf16 FLOP/s if it is in the table."""
    if device == "cpu":
        return f"{torch.get_num_threads()} CPU threads", None
    here = gpus_here()
    assert here is not None
    return here[1].name, here[1].peak


if __name__ == "__main__":
    main()
