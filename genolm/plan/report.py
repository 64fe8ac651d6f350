"""Print FLOPs, memory and time of a planned run, and whether it fits; nothing is run or written.

model → FLOPs and memory of a step (`genolm.plan.trace`) → memory by profile, days, and a verdict
"""

import math
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from genolm.config.pretrain import PretrainRecipe
from genolm.models.build import describe_model
from genolm.plan.gpus import gpus_to_plan
from genolm.plan.memory_model import ALONE, ORDER, PROFILES, ProfileMemory, gathered_parameters, model_states
from genolm.plan.run import PlannedRun, planned_run
from genolm.plan.trace import StepCost, step_cost
from genolm.training.launch import parallelism_of_profile
from genolm.training.memory import gibibytes

MFU = (0.25, 0.45)
"""Fraction of the peak that training is assumed to reach. Published, of 100 M to 8 B parameters on H100s: 33 to 39 %
(torchtitan), 41 to 49 % (nanochat), 52 % (OpenGenome2-Llama 7B), 18 to 20 % (Evo 2 1B). Small models reach less."""

START = (5e-6, 15e-6)
"""Seconds that PyTorch is assumed to take to start an operation. Where a GPU computes faster, it waits."""

ROOM = 0.9
"""Fraction of a GPU's memory that can be planned with; CUDA, NCCL and the allocator's gaps take the rest."""


def percent(fraction: float) -> str:
    """Return a fraction as text."""
    return f"{100 * fraction:.0f} %"


class Tracer:
    """Traces the steps of a run, each once."""

    def __init__(self, run: PlannedRun):
        self.run = run
        self._steps: dict[tuple, StepCost] = {}
        self._start_at: int | None = None

    def step(self, profile: str, batch_size: int, checkpointing: dict[str, Any] | None) -> StepCost:
        """Return the cost of a micro-batch under a profile."""
        half, whole = torch.bfloat16 if self.run.half else torch.float32, torch.float32
        kinds = {"ddp": (whole, self.run.half), "fsdp2": (half, self.run.half)}
        weights, autocast = kinds.get(profile, (half, False))
        accumulated = profile != "ddp" or self.run.accumulation > 1
        key = (weights, autocast, accumulated, batch_size, checkpointing is not None)
        if key not in self._steps:
            options: dict[str, Any] = dict(weights=weights, autocast=autocast, checkpointing=checkpointing)
            options |= {"causal": self.run.objective == "causal", "padded": self.run.padded}
            options["accumulated"] = accumulated
            size = batch_size, self.run.length_tokens, self._start_at
            self._steps[key] = step_cost(self.run.make_model, *size, **options)
            self._start_at = self._steps[key].traced_tokens
        return self._steps[key]

    def most_windows(self, row: ProfileMemory, room: float, checkpointing: dict[str, Any] | None) -> int:
        """Return the largest micro-batch that fits in `room` bytes; 0 where not one window does."""
        # A second micro-batch separates a window from what does not grow with them, as bf16 copies of weights.
        size = self.run.batch_size
        other = 1 if size > 1 else 2
        there = self.step(row.profile, other, checkpointing).num_bytes
        window = max(1.0, (row.activations - there) / (size - other))
        return max(0, size + math.floor((room - row.total) / window))


def smaller_batch(batch_size: int, accumulation: int, most: int) -> tuple[int, int]:
    """Return the largest micro-batch of at most `most` windows, and its accumulation, of the same global batch."""
    windows = batch_size * accumulation
    size = next(n for n in range(min(most, windows), 0, -1) if windows % n == 0)
    return size, windows // size


def in_words(number: float) -> str:
    """Return a number with three digits: `25.6 M`, `1.63 T`."""
    for unit, name in ((1e18, " E"), (1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}" if number < 999.5 * unit else f"{number / unit:.0f}{name}"
    return f"{number:.3g}"


def time_in_words(seconds: float) -> str:
    """Return a length of time in the unit that suits it."""
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * unit:
            return f"{seconds / unit:,.1f} {name}" if seconds < 9.95 * unit else f"{seconds / unit:,.0f} {name}"
    return f"{seconds:.0f} s"


def show(label: str, text: str) -> None:
    """Print a labelled line, aligned as those of `genolm pretrain`."""
    Console(soft_wrap=True, highlight=False, markup=False).print(f"{label:<11}{text}")


def plan_recipe(recipe: PretrainRecipe, gpus: str, launch: str) -> None:
    """Print what a recipe takes on some GPUs, under a profile where one is named."""
    num, gpu = gpus_to_plan(gpus, parallelism_of_profile(launch).processes if launch else None)
    profile = launch.split()[0].removeprefix("cpu-") if launch else None
    print_planned_run(planned_run(recipe, num, gpu, profile))


def print_planned_run(run: PlannedRun) -> None:
    """Print model, FLOPs, time, memory by profile and a verdict."""
    with torch.device("meta"):
        model = run.make_model()
    print_size(run, model)
    tracer, took, rows = Tracer(run), None, memory_rows(run, model, None, None)
    try:
        step = tracer.step("ddp", run.batch_size, None)
        ran = step if run.checkpointing is None else tracer.step("ddp", run.batch_size, run.checkpointing)
        print_flops(run, step, ran, model.num_parameters(exclude_embeddings=True))
        took = print_time(run, ran)
        rows = memory_rows(run, model, tracer, run.checkpointing)
    except Exception as error:  # as many kinds as there are architectures
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        show("note", f"{model.config.model_type} cannot be traced; what is not shown is not counted: {reason}")
    print_memory(run, rows)
    fits, text = fit_verdict(tracer, rows, run.checkpointing)
    text += "" if fits or run.checkpointing is not None else with_checkpointing(tracer, model)
    show("fits", f"{text}; {took}" if took else text)


def memory_rows(
    run: PlannedRun, model, tracer: Tracer | None, checkpointing: dict[str, Any] | None
) -> list[ProfileMemory]:
    """Return the memory of each profile; without a tracer, but for activations."""
    names = [name for name in PROFILES if run.num_gpus > 1 or name in ALONE]
    states = model_states(model.num_parameters(), run.num_gpus, run.half, gathered_parameters(model))
    activations = {
        name: tracer.step(name, run.batch_size, checkpointing).num_bytes if tracer else math.nan for name in names
    }
    return [ProfileMemory(name, *states[name], activations[name]) for name in names]


def with_checkpointing(tracer: Tracer, model) -> str:
    """Return how activation checkpointing would let a run fit; empty where it would not."""
    try:
        fits, text = fit_verdict(tracer, memory_rows(tracer.run, model, tracer, {}), {})
    except Exception:  # some architectures have none
        return ""
    return f"; with training.activation_checkpointing=true {text}" if fits or "training." in text else ""


def print_size(run: PlannedRun, model) -> None:
    """Print model, window, batch and length."""
    tokens, windows = run.windows_per_step * run.length_tokens, run.windows_per_step
    saved = "" if run.checkpointing is None else ", activations checkpointed"
    show("model", f"{describe_model(model)}; {run.precision}{saved}")
    show("windows", f"{run.window_bp:,} bp = {'about ' if run.estimated else ''}{run.length_tokens:,} tokens")
    parts = f"{run.batch_size:,} windows × {run.accumulation:,} × {run.num_gpus:,} GPU{'s' * (run.num_gpus > 1)}"
    show("batch", f"{parts} = {windows:,} windows, {tokens:,} tokens a step")
    if run.steps is None:
        show("length", "unknown before there is a genome; set training.max_steps, or data.fasta to an existing file")
        return
    seen = run.steps * windows
    epochs = f", about {seen / run.windows_per_epoch:,.2g} epochs" if run.windows_per_epoch else ""
    show("length", f"{run.steps:,} steps: {seen:,} windows, {in_words(run.steps * tokens)} tokens{epochs}")


def print_flops(run: PlannedRun, step: StepCost, ran: StepCost, num_inner: int) -> None:
    """Print FLOPs a token, compared with the rule of 6 FLOPs a parameter."""
    tokens = run.batch_size * run.length_tokens
    again = f", {in_words(ran.flops / tokens)} with what checkpointing recomputes" if ran is not step else ""
    short = f"; from windows of {step.traced_tokens:,} tokens" if step.traced_tokens < run.length_tokens else ""
    attention = f"attention {percent(step.attention_flops / step.flops)}" if step.flops else "nothing was counted"
    rule = f"6 a parameter: {in_words(6 * num_inner)}"
    show("FLOPs", f"{in_words(step.flops / tokens)} a token, forward and backward ({attention}; {rule}){again}{short}")


def print_time(run: PlannedRun, ran: StepCost) -> str | None:
    """Print how long training takes, without evaluation, and return it; None where it is unknown."""
    gpus = f"{run.num_gpus:,} × {run.gpu.name}"
    unknown = ""
    if run.gpu.peak is None:
        unknown = f"the peak of {run.gpu.name} is unknown; name a GPU with --gpus"
    elif not run.half:
        unknown = "peaks are those of 16 bits, and the run is in float32; set training.bf16 or training.fp16"
    elif run.precision == "bf16" and not run.gpu.bf16:
        unknown = f"{run.gpu.name} has no bf16; set training.fp16=true training.bf16=false"
    if run.gpu.peak is None or unknown:
        show("time", f"unknown: {unknown}")
        return None
    steps = run.steps or 1e9 / (run.windows_per_step * run.length_tokens)
    # Causal kernels skip half of what attention is counted as.
    flops = steps * run.accumulation * run.num_gpus * (ran.flops - ran.causal_flops)
    starts = steps * run.accumulation * ran.num_ops
    computing = [flops / (run.num_gpus * run.gpu.peak * fraction) for fraction in reversed(MFU)]
    times = [max(pair) for pair in zip(computing, (starts * each for each in START), strict=True)]
    took = f"{time_in_words(times[0])} to {time_in_words(times[1])} on {gpus}"
    took += "" if run.steps else " for each G tokens"
    halved = "; causal attention at half its FLOPs" if ran.causal_flops else ""
    why = f"at {percent(MFU[1])} to {percent(MFU[0])} of {in_words(run.gpu.peak)}FLOP/s{halved}"
    if times != computing:
        why = f"for starting {ran.num_ops:,.0f} operations a micro-batch; larger ones make better use of the GPUs"
    show("time", f"{took}, {why}")
    return took


def print_memory(run: PlannedRun, rows: list[ProfileMemory]) -> None:
    """Print a table of the memory of each profile on a GPU."""
    room = ROOM * run.gpu.gib * 2**30
    windows = f"{run.batch_size:,} windows"
    show("memory", f"of each GPU; states are weights, gradients and optimizer, activations of {windows}")
    table = Table("profile", "states", "buffers", "activations", "sum", f"of {run.gpu.gib:.0f} GiB")
    for row in rows:
        name = "one GPU" if row.profile == "ddp" and run.num_gpus == 1 else row.profile
        parts = ["–" if math.isnan(x) else gibibytes(x) for x in (row.states, row.buffers, row.activations, row.total)]
        fits = "fits" if row.total <= room else "unknown" if math.isnan(row.total) else "too large"
        table.add_row(name, *parts, fits)
    Console(highlight=False).print(table)


def fit_verdict(tracer: Tracer, rows: list[ProfileMemory], checkpointing: dict[str, Any] | None) -> tuple[bool, str]:
    """Return whether the run fits, and in words: with which profile, or what fits with the same global batch."""
    run = tracer.run
    room = ROOM * run.gpu.gib * 2**30
    order = sorted(rows, key=lambda row: ORDER.index(row.profile))
    candidates = [row for row in order if row.profile == run.profile] or order
    if math.isnan(candidates[0].total):
        return True, "unknown, as activations are not counted"
    fitting = [row for row in candidates if row.total <= room]
    if fitting:
        most = tracer.most_windows(fitting[0], room, checkpointing)
        memory = f"{gibibytes(fitting[0].total)} of {run.gpu.gib:.0f} GiB"
        return True, f"yes{launch_option(run, fitting[0])}: {memory}, at most {most:,} windows a GPU"
    others = [row for row in order if row.total <= room]
    no = f"no{launch_option(run, candidates[0])}: {gibibytes(candidates[0].total)} of {run.gpu.gib:.0f} GiB"
    if others:
        return False, f"{no}; yes{launch_option(run, others[0])}"
    # Where states and buffers alone do not fit, nothing is traced.
    possible = [row for row in candidates if row.states + row.buffers < room]
    tried = ((row, tracer.most_windows(row, room, checkpointing)) for row in possible)
    row, most = next((pair for pair in tried if pair[1] > 0), (candidates[0], 0))
    if not most:
        return False, f"{no}, and not one window does; take a smaller model or window, or another GPU"
    size, times = smaller_batch(run.batch_size, run.accumulation, most)
    keys = f"training.per_device_train_batch_size={size} training.gradient_accumulation_steps={times}"
    return False, f"{no}; yes{launch_option(run, row)}, with the same global batch: {keys}"


def launch_option(run: PlannedRun, row: ProfileMemory) -> str:
    """Return the option that selects a profile, where there is more than one GPU."""
    return f" with --launch {row.profile}" if run.num_gpus > 1 or row.profile != "ddp" else ""
