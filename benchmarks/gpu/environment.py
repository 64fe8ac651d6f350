"""Stages `env` (versions and speed of the machine) and `plan` (memory of real steps against `--plan`)."""

import os
import platform
import shutil
import statistics
import subprocess
import time
from functools import partial
from importlib import metadata

import torch
import yaml
from harness import (
    DEVICE,
    DRY,
    RECIPES,
    ROOT,
    WORK,
    Gate,
    attempt,
    build,
    emit,
    exact_float32,
    free,
    model_block,
    peak_gib,
    peak_reserved_gib,
    reset_peak,
    seconds_of,
    synchronize,
)

PACKAGES = "torch transformers accelerate tokenizers huggingface-hub peft numpy pyarrow datasets deepspeed pysam triton"


def env():
    """Versions against pyproject.toml; speed of GEMM, copy, FFT, SDPA, and of starting an operation."""
    versions()
    the_device()
    products()
    memory_and_launches()
    transforms_and_attention()


def versions():
    """Compare installed versions with what pyproject.toml requires."""
    import tomllib

    from packaging.requirements import Requirement

    names = (d.metadata["Name"] for d in metadata.distributions() if d.metadata["Name"])
    installed = {name.lower().replace("_", "-"): metadata.version(name) for name in names}
    emit(
        "versions",
        python=platform.python_version(),
        **{name.replace("-", "_"): installed.get(name) for name in PACKAGES.split()},
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wrong = []
    for requirement in map(Requirement, project["dependencies"]):
        version = installed.get(requirement.name.lower().replace("_", "-"))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
    emit("versions are those that genolm requires", not wrong, wrong=wrong or None)


def the_device():
    """Name the device, and check that genolm knows its peak FLOP/s."""
    if DRY:
        emit("device", what="cpu", threads=torch.get_num_threads())
        return
    from torch.cuda import nccl

    from genolm.plan.gpus import gpus_here

    properties = torch.cuda.get_device_properties(0)
    free_bytes, total_bytes = torch.cuda.mem_get_info()
    query = "name,driver_version,memory.total,clocks.sm,clocks.max.sm,power.limit"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    emit(
        "device",
        what=properties.name,
        gib=round(total_bytes / 2**30, 2),
        free_gib=round(free_bytes / 2**30, 2),
        sm=properties.multi_processor_count,
        cuda=torch.version.cuda,
        cudnn=torch.backends.cudnn.version(),
        smi=subprocess.run(command, capture_output=True, text=True).stdout.strip(),
        cores=os.cpu_count(),
        nccl=".".join(map(str, nccl.version())),
        nvcc=shutil.which("nvcc"),
    )
    here = gpus_here()
    emit("genolm knows this GPU's peak", here is not None and here[1].peak is not None, gpus=str(here))


def products():
    """Time products of square matrices in bf16, float32 and TF32."""
    n = 512 if DRY else 8192
    for name, dtype, precision in (
        ("bf16", torch.bfloat16, "highest"),
        ("float32", torch.float32, "highest"),
        ("TF32", torch.float32, "high"),
    ):
        torch.set_float32_matmul_precision(precision)
        a, b = (torch.randn(n, n, device=DEVICE, dtype=dtype) for _ in range(2))
        times = [seconds_of(lambda a=a, b=b: a @ b, 10 if name == "bf16" else 3, warm=2) for _ in range(5)]
        median, best = (round(2 * n**3 / t / 1e12, 1) for t in (statistics.median(times), min(times)))
        emit(f"GEMM {n}³ {name}", tflops=median, best=best)
    exact_float32()


def memory_and_launches():
    """Time a copy within the device's memory, and the start of an operation (`plan` assumes 5 to 15 µs)."""
    x = torch.randn((1 if DRY else 512) * 2**20, device=DEVICE)
    y = torch.empty_like(x)
    times = [seconds_of(lambda: y.copy_(x), 10, warm=2) for _ in range(3)]
    emit("copy", tb_per_s=round(2 * x.numel() * 4 / min(times) / 1e12, 3))
    z = torch.zeros(8, device=DEVICE)
    seconds = seconds_of(lambda: z.add_(1), 1000 if DRY else 20_000, warm=100)
    emit("starting an operation", us=round(seconds * 1e6, 2))


def transforms_and_attention():
    """Time the FFTs of hyena, and scaled_dot_product_attention forward and backward."""
    for length in (256,) if DRY else (8192, 1 << 17):
        u = torch.randn(4, 256, length, device=DEVICE)

        def transform(u=u, num=2 * length):
            torch.fft.irfft(torch.fft.rfft(u, n=num), n=num)

        seconds = min(seconds_of(transform, 3, warm=1) for _ in range(3))
        rate = round(4 * 256 * 2 * length * 4 * 4 / seconds / 1e9)
        emit(f"rfft and irfft of {2 * length:,}", ms=round(seconds * 1e3, 3), gb_per_s=rate)
    shape = (1, 12, 256 if DRY else 8192, 64)
    q = torch.randn(shape, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
    for causal in (True, False):

        def attend(causal=causal):
            torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=causal).sum().backward()

        seconds = min(seconds_of(attend, 5, warm=2) for _ in range(3))
        flops = 3.5 * 4 * q.shape[2] ** 2 * 12 * 64 / (2 if causal else 1)
        name = f"SDPA forward and backward, {'causal' if causal else 'bidirectional'}"
        emit(name, ms=round(seconds * 1e3, 3), tflops=round(flops / seconds / 1e12, 1))


def plan():
    """Peak memory of real steps against what `--plan` computes: states (16 bytes a weight) and activations."""
    gate = Gate(WORK / "gate")
    gate.take()
    cases = [("small", "masked"), ("base", "causal"), ("large", "causal"), ("large", "masked"), ("base", "masked")]
    for size, objective in cases[:1] if DRY else cases:
        with attempt(f"{size}-{objective}"):
            compare_with_plan(size, objective)
        free()
    gate.leave()


def compare_with_plan(size, objective):
    """Run three steps of a recipe, and compare their peak with the plan's; a fault beyond 3 % and 0.1 GiB.

    The 0.1 GiB are for what cuBLAS works in.
    """
    from genolm.plan.trace import step_cost

    recipe = yaml.safe_load((RECIPES / f"{size}-{objective}.yaml").read_text())
    training = recipe["training"]
    window, batch = 64 if DRY else recipe["data"]["window_bp"], training["per_device_train_batch_size"]
    checkpointed = bool(training.get("activation_checkpointing") or training.get("gradient_checkpointing"))
    causal = objective == "causal"
    make = partial(build, model_block(size, objective), objective, window)
    options = dict(causal=causal, autocast=True, accumulated=False, checkpointing={} if checkpointed else None)
    cost = step_cost(make, batch, window, **options)
    num_weights, seconds = run_steps(make, batch, window, causal, checkpointed)
    states = 16 * num_weights / 2**30
    planned = states + cost.num_bytes / 2**30
    ratio = None if DRY else round(peak_gib() / planned, 3)
    emit(
        f"{size}-{objective}",
        None if DRY else abs(peak_gib() - planned) <= 0.03 * planned + 0.1,
        batch=batch,
        window=window,
        checkpointed=checkpointed,
        states_gib=round(states, 2),
        planned_activations_gib=round(cost.num_bytes / 2**30, 2),
        planned_gib=round(planned, 2),
        measured_gib=peak_gib(),
        reserved_gib=peak_reserved_gib(),
        tokens_per_s=round(batch * window / seconds),
        measured_to_planned=ratio,
    )


def run_steps(make, batch, window, causal, checkpointed):
    """Take three training steps; return the number of weights and the seconds of the last step."""
    from accelerate.utils.operations import convert_to_fp32

    from genolm.models.loss import weighted_token_loss

    torch.manual_seed(0)
    model = make().train().to(DEVICE)
    model.config.use_cache = False
    if checkpointed:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(5, 9, (batch, window), device=DEVICE)
    weight = torch.ones(batch, window, device=DEVICE)
    reset_peak()
    seconds = 0.0
    for number in range(3):
        start = time.perf_counter()
        with torch.autocast(DEVICE, torch.bfloat16):
            logits = model(input_ids=ids).logits
        logits = convert_to_fp32(logits)  # as Trainer's model does
        nats, total = weighted_token_loss(logits, ids, weight, causal)
        del logits
        (nats / total).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        synchronize()
        seconds = time.perf_counter() - start
        if number == 1:
            reset_peak()  # the optimizer's states exist from here on
    return sum(p.numel() for p in model.parameters()), seconds
