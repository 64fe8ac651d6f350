"""Speed and memory of the genolm mixers compared with attention: python benchmarks/mixers.py [--lengths 1024 16384].

Forward and backward of one row, 256 channels, 4 heads of 64. `operator` is the gated filter, the recurrence or the
window alone, given what `F.scaled_dot_product_attention` (sdpa) is given: query, key and value. `layer` is the whole
mixer, linear maps and short filters included, compared with the mixer `attention`. Rounds alternate in one
process, so that a noisy machine treats all alike; medians count. A cell is thousands of tokens a second and, in
brackets, how many times attention's; ~ is attention extrapolated by the square of the length. The last column is the
exponent of cost from 16k tokens on.

    python benchmarks/mixers.py                       # all of it: about an hour, most of it attention
    python benchmarks/mixers.py --lengths 16384 --formats fp32 --modes causal --parts operator
    python benchmarks/mixers.py --memory              # peak memory of a training step at 131,072 tokens
    python benchmarks/mixers.py --device cuda         # 8k to 1M tokens in bf16, memory, longest row that trains
"""

import argparse
import contextlib
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from genolm.models.genolm.attention import rotary
from genolm.models.genolm.configuration import MIXERS, GenoLMConfig
from genolm.models.genolm.modeling import GenoLMForCausalLM, GenoLMModel
from genolm.models.genolm.ssm import state_space

WIDTH, HEADS, SIZE = 256, 4, 64
LENGTHS = {"cpu": [2**10, 2**12, 2**14, 2**16, 2**17], "cuda": [2**13, 2**16, 2**18, 2**20]}
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}
"""For glibc: freed memory stays with the process. Else every tensor of more than 32 MB is new pages, which the system
fills with zeros, and that takes longer than a filter does: from 16k to 131k tokens `fir` slows down to a quarter."""
FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}
PEER = {"operator": "sdpa", "layer": "attention"}
PATTERNS = (["fir", "fir_medium", "ssm", "local_attention"], ["fir", "fir_medium", "ssm", "attention"], ["attention"])


def make_layer(name: str, causal: bool, span: int, device: str) -> Any:
    config = GenoLMConfig(
        hidden_size=WIDTH, num_attention_heads=HEADS, intermediate_size=0, num_hidden_layers=1,
        mixers=[name], causal=causal, max_position_embeddings=span,
    )  # fmt: skip
    block: Any = GenoLMModel(config).layers[0]
    return block.mixer.to(device)


def make_cases(
    part: str, names: list[str], length: int, causal: bool, dtype: torch.dtype, device: str
) -> dict[str, Callable[[], torch.Tensor]]:
    """Return functions that run forward once; all that they are given wants a gradient."""

    def draw(*shape: int, dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.randn(shape, dtype=dtype, device=device, requires_grad=True)

    layers = {name: make_layer(name, causal, length, device) for name in names}
    where = rotary(torch.arange(length, device=device), SIZE, 10_000.0)
    if part == "layer":
        hidden = draw(1, length, WIDTH, dtype=torch.float32)
        return {name: lambda layer=layer: layer(hidden, cos_sin=where) for name, layer in layers.items()}
    heads, flat = [draw(1, HEADS, length, SIZE) for _ in range(3)], [draw(1, length, WIDTH) for _ in range(3)]
    x, step, shared = (
        draw(1, length, HEADS, SIZE),
        torch.rand(1, length, HEADS, device=device) / 10,
        draw(1, length, 1, SIZE),
    )
    rate = -torch.rand(HEADS, device=device) * 15 - 1
    step, rate = step.requires_grad_(), rate.requires_grad_()
    query, key, value = heads
    cases = {"sdpa": lambda: F.scaled_dot_product_attention(query, key, value, is_causal=causal)}
    for name, layer in layers.items():
        if name in ("fir", "fir_medium", "hyena"):
            cases[name] = lambda layer=layer: flat[0] * layer.filter(flat[1] * flat[2])
        elif name == "ssm":
            cases[name] = lambda layer=layer: recur(x, step, rate, shared, layer.chunk, causal)
        elif name == "local_attention":
            cases[name] = lambda layer=layer: layer.mix(*heads)
    return cases


def recur(x, step, rate, shared, chunk: int, causal: bool) -> Any:
    if causal:
        return state_space(x, step, rate, shared, shared, chunk)
    x, step, shared = (torch.cat([tensor, tensor.flip(1)]) for tensor in (x, step, shared))
    both: Any = state_space(x, step, rate, shared, shared, chunk)
    there, back = both.chunk(2)
    return there + back.flip(1)


def seconds_of(case: Callable[[], torch.Tensor], device: str, amp: bool) -> float:
    began = time.perf_counter()
    with torch.autocast(device, torch.bfloat16, enabled=amp):
        y = case()
    y.backward(torch.ones_like(y))
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def measure(cases: dict, rounds: int, patience: float, device: str, amp: bool, expected: dict) -> tuple[dict, dict]:
    """Return median seconds and peak bytes; a case that would take longer than `patience` is left out."""
    times, peaks = {name: [] for name in cases if expected.get(name, 0) < patience}, {}
    for number in range(rounds + 1):  # the first is warming up, unless it is all there is time for
        for name, series in times.items():
            if series and sum(series) + series[-1] > patience:
                continue
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            series.append(seconds_of(cases[name], device, amp))
            if number == 0 and device == "cuda":
                peaks[name] = torch.cuda.max_memory_allocated()
    return {name: statistics.median(series[1:] or series) for name, series in times.items()}, peaks


def compare(part: str, causal: bool, form: str, options: argparse.Namespace) -> None:
    names = [name for name in MIXERS if name in options.mixers]
    if part == "layer" and "attention" not in names:
        names.insert(0, "attention")
    table: dict[int, dict[str, float]] = {}
    memory: dict[int, dict[str, int]] = {}
    expected: dict[str, float] = {}
    for length in options.lengths:
        cases = make_cases(part, names, length, causal, FORMATS[form], options.device)
        amp = form == "bf16"
        table[length], memory[length] = measure(cases, options.rounds, options.patience, options.device, amp, expected)
        after = next((n for n in options.lengths if n > length), length)
        expected = {name: expected.get(name, 0) * (after / length) ** 2 for name in cases}
        power = {name: 2 if name == PEER[part] else 1 for name in cases}
        expected |= {name: t * (after / length) ** power[name] for name, t in table[length].items()}
    print(f"\n{part}, {'causal' if causal else 'bidirectional'}, {form}")
    print(f"{'tokens':<17}" + "".join(f"{n:>16,}" for n in options.lengths) + f"{'exponent':>10}")
    peer = PEER[part]
    for name in [peer, *(n for n in names if n != peer and n in table[options.lengths[0]])]:
        row, base = "", 0.0
        for i, length in enumerate(options.lengths):
            # Where attention was too slow to run: its last time and the square of the length.
            measured = [n for n in options.lengths[: i + 1] if peer in table[n]]
            base = table[measured[-1]][peer] * (length / measured[-1]) ** 2
            mark = "" if measured[-1] == length else "~"
            seconds = base if name == peer else table[length].get(name, math.inf)
            speed = f"{mark if name == peer else ''}{length / seconds / 1e3:.1f}"
            row += f"{speed + ('' if name == peer else f' ({mark}{base / seconds:.1f}x)'):>16}"
        long = [n for n in options.lengths if n >= 2**14 and name in table[n]]
        if len(long) > 1:
            first, last = long[0], long[-1]
            row += f"{math.log(table[last][name] / table[first][name]) / math.log(last / first):>10.2f}"
        print(f"{name:<17}{row}", flush=True)
        if options.device == "cuda":
            print(f"{'':<17}" + "".join(f"{memory[n].get(name, 0) / 2**30:>12.2f} GiB" for n in options.lengths))
    long = [n for n in options.lengths if n >= 2**14]
    if len(long) > 1:
        growth = math.log(math.log(long[-1]) / math.log(long[0])) / math.log(long[-1] / long[0])
        print(f"n log n has exponent {1 + growth:.2f} from {long[0]:,} to {long[-1]:,} tokens")


def train(pattern: list[str], length: int, steps: int, device: str) -> tuple[float, int]:
    """Take steps of a causal model of 30 M parameters; return seconds of the last, and the number of parameters."""
    config = GenoLMConfig(
        hidden_size=512, num_attention_heads=8, intermediate_size=1664, num_hidden_layers=8,
        mixers=pattern, causal=True, max_position_embeddings=length,
    )  # fmt: skip
    model: Any = GenoLMForCausalLM(config).train()
    model.to(device)
    model.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    rows, seconds = torch.randint(0, config.vocab_size, (1, length), device=device), 0.0
    for _ in range(steps):
        began = time.perf_counter()
        with torch.autocast(device, torch.bfloat16):
            loss = model(rows, labels=rows).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    return seconds, sum(p.numel() for p in model.parameters())


def resident(key: str) -> int:
    """Return bytes: VmRSS now, or VmHWM at most. Not getrusage's, which a process inherits from its parent."""
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))


def memory_of_step(options: argparse.Namespace) -> None:
    """Print what two steps add to the memory of a process that has its libraries loaded."""
    train(options.mixers, 2, 1, "cpu")  # loads what is loaded late
    before = resident("VmRSS")
    seconds, parameters = train(options.mixers, options.lengths[0], 2, "cpu")
    print(
        f"{', '.join(options.mixers):<40} {parameters / 1e6:.1f} M parameters, {options.lengths[0]:,} tokens: "
        f"{(resident('VmHWM') - before) / 1e9:.2f} GB, {options.lengths[0] / seconds / 1e3:.1f} ktok/s"
    )


def longest_row(options: argparse.Namespace) -> None:
    for pattern in PATTERNS:
        length, fits = 2**15, 0
        while length <= 2**23:
            with contextlib.suppress(torch.OutOfMemoryError):
                torch.cuda.reset_peak_memory_stats()
                seconds, _ = train(pattern, length, 2, "cuda")
                peak = torch.cuda.max_memory_allocated() / 2**30
                print(
                    f"{', '.join(pattern):<40}{length:>10,} tokens{length / seconds / 1e3:9.1f} ktok/s {peak:.1f} GiB"
                )
                fits = length
            torch.cuda.empty_cache()
            if fits != length:
                break
            length *= 2
        print(
            f"{', '.join(pattern):<40}{fits:>10,} tokens are the longest row of a power of two that trains", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--lengths", type=int, nargs="+", help="tokens, ascending; by default as the device allows")
    parser.add_argument("--mixers", nargs="+", choices=MIXERS, default=list(MIXERS))
    parser.add_argument("--parts", nargs="+", choices=list(PEER), default=list(PEER))
    parser.add_argument("--modes", nargs="+", choices=["causal", "bidirectional"], default=["causal", "bidirectional"])
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), help="both on a CPU, bf16 on a GPU, by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--patience", type=float, default=60, help="seconds for a cell; what would be slower is left out"
    )
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--memory", action="store_true", help="peak memory of a training step instead, on a CPU")
    parser.add_argument("--memory-of-step", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.memory:
        length = str(options.lengths[0] if options.lengths else 2**17)
        for pattern in PATTERNS[:1] if options.mixers == list(MIXERS) else [options.mixers]:
            # Large blocks go back to the system when freed: kept, glibc leaves holes between them and the peak doubles.
            environment = {"MALLOC_MMAP_THRESHOLD_": "4000000"} | os.environ
            command = [sys.executable, __file__, "--memory-of-step", "--lengths", length, "--mixers", *pattern]
            subprocess.run([*command, "--threads", str(options.threads)], check=True, env=environment)
        return
    if options.device == "cpu" and not options.memory_of_step and not KEPT.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], KEPT | os.environ)  # read when a process starts
    options.lengths = options.lengths or LENGTHS[options.device]
    options.formats = options.formats or (list(FORMATS) if options.device == "cpu" else ["bf16"])
    if options.memory_of_step:
        memory_of_step(options)
        return
    for part in options.parts:
        for form in options.formats:
            for mode in options.modes:
                compare(part, mode == "causal", form, options)
    if options.device == "cuda":
        longest_row(options)


if __name__ == "__main__":
    main()
