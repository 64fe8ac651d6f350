"""What a run will take, and whether it fits, before anything is run or written.

model → FLOPs and memory of a step (`genolm.plan.trace`) → memory by profile, days, and one line that says it
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from genolm.models.build import describe as describe_model
from genolm.plan.gpus import GPU
from genolm.plan.memory_model import ALONE, ORDER, PROFILES, Row, gathered_parameters, model_states
from genolm.plan.trace import Step, step_cost
from genolm.training.memory import gibibytes


@dataclass(frozen=True)
class Run:
    """What is to be planned.

    Attributes:
        make_model: makes the model; called under `torch.device("meta")`.
        objective: "masked" or "causal".
        window_bp: letters in a window.
        length_tokens: tokens in a window.
        about: that number is an estimate.
        batch_size: windows of a micro-batch.
        accumulation: micro-batches of a step.
        num_gpus: ranks.
        gpu: their kind.
        profile: the one of PROFILES that was asked for; None for the first that fits.
        steps: optimizer updates; None where not known.
        windows_per_epoch: about; None where not known.
        precision: "bf16", "fp16" or "float32".
        checkpointing: options of activation checkpointing; None for none.
        padded: batches carry an attention mask.
    """

    make_model: Callable[[], Any]
    objective: str
    window_bp: int
    length_tokens: int
    about: bool
    batch_size: int
    accumulation: int
    num_gpus: int
    gpu: GPU
    profile: str | None
    steps: int | None
    windows_per_epoch: float | None
    precision: str
    checkpointing: dict[str, Any] | None
    padded: bool

    @property
    def half(self) -> bool:
        """Whether it computes in 16 bits."""
        return self.precision != "float32"

    @property
    def windows_per_step(self) -> int:
        """The global batch."""
        return self.batch_size * self.accumulation * self.num_gpus


MFU = (0.25, 0.45)
"""Share of the peak that training is assumed to reach. Published, of 100 M to 8 B parameters on H100s: 33 to 39 %
(torchtitan), 41 to 49 % (nanochat), 52 % (OpenGenome2-Llama 7B), 18 to 20 % (Evo 2 1B). Small models reach less."""

START = (5e-6, 15e-6)
"""Seconds that PyTorch is assumed to take to start an operation. Where a GPU computes faster, it waits."""

ROOM = 0.9
"""Share of a GPU's memory that can be planned with; CUDA, NCCL and the allocator's gaps take the rest."""


def percent(share: float) -> str:
    """Return a share as text."""
    return f"{100 * share:.0f} %"


class Tracer:
    """Traces the steps of a run, each once."""

    def __init__(self, run: Run):
        self.run = run
        self._found: dict[tuple, Step] = {}
        self._start_at: int | None = None

    def step(self, profile: str, batch_size: int, checkpointing: dict[str, Any] | None) -> Step:
        """Return the cost of a micro-batch under a profile."""
        half, whole = torch.bfloat16 if self.run.half else torch.float32, torch.float32
        kinds = {"ddp": (whole, self.run.half), "fsdp2": (half, self.run.half)}
        weights, autocast = kinds.get(profile, (half, False))
        key = (weights, autocast, batch_size, checkpointing is not None)
        if key not in self._found:
            options: dict[str, Any] = dict(weights=weights, autocast=autocast, checkpointing=checkpointing)
            options |= {"causal": self.run.objective == "causal", "padded": self.run.padded}
            size = batch_size, self.run.length_tokens, self._start_at
            self._found[key] = step_cost(self.run.make_model, *size, **options)
            self._start_at = self._found[key].traced_tokens
        return self._found[key]

    def most_windows(self, row: Row, room: float, checkpointing: dict[str, Any] | None) -> int:
        """Return the largest micro-batch that fits in `room` bytes; 0 where not one window does."""
        # A second micro-batch tells a window from what does not grow with them, as bf16 copies of weights.
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


def say(label: str, text: str) -> None:
    """Print a line, aligned as those of `genolm pretrain`."""
    Console(soft_wrap=True, highlight=False, markup=False).print(f"{label:<11}{text}")


def print_plan(run: Run) -> None:
    """Print what a run takes; nothing is run."""
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
        say("note", f"{model.config.model_type} cannot be traced; what is not shown is not counted: {reason}")
    print_memory(run, rows)
    fits, told = verdict(tracer, rows, run.checkpointing)
    told += "" if fits or run.checkpointing is not None else with_checkpointing(tracer, model)
    say("fits", f"{told}; {took}" if took else told)


def memory_rows(run: Run, model, tracer: Tracer | None, checkpointing: dict[str, Any] | None) -> list[Row]:
    """Return what each profile holds; without a tracer, but for activations."""
    names = [name for name in PROFILES if run.num_gpus > 1 or name in ALONE]
    states = model_states(model.num_parameters(), run.num_gpus, run.half, gathered_parameters(model))
    held = {name: tracer.step(name, run.batch_size, checkpointing).num_bytes if tracer else math.nan for name in names}
    return [Row(name, *states[name], held[name]) for name in names]


def with_checkpointing(tracer: Tracer, model) -> str:
    """Return what activation checkpointing would change for a run that does not fit; nothing where that is little."""
    try:
        fits, told = verdict(tracer, memory_rows(tracer.run, model, tracer, {}), {})
    except Exception:  # some architectures have none
        return ""
    return f"; with training.activation_checkpointing=true {told}" if fits or "training." in told else ""


def print_size(run: Run, model) -> None:
    """Print model, window, batch and length."""
    tokens, windows = run.windows_per_step * run.length_tokens, run.windows_per_step
    saved = "" if run.checkpointing is None else ", activations checkpointed"
    say("model", f"{describe_model(model)}; {run.precision}{saved}")
    say("windows", f"{run.window_bp:,} bp = {'about ' if run.about else ''}{run.length_tokens:,} tokens")
    parts = f"{run.batch_size:,} windows × {run.accumulation:,} × {run.num_gpus:,} GPU{'s' * (run.num_gpus > 1)}"
    say("batch", f"{parts} = {windows:,} windows, {tokens:,} tokens a step")
    if run.steps is None:
        say("length", "not known before a genome is; set training.max_steps, or data.fasta to a file that is here")
        return
    seen = run.steps * windows
    epochs = f", about {seen / run.windows_per_epoch:,.2g} epochs" if run.windows_per_epoch else ""
    say("length", f"{run.steps:,} steps: {seen:,} windows, {in_words(run.steps * tokens)} tokens{epochs}")


def print_flops(run: Run, step: Step, ran: Step, num_inner: int) -> None:
    """Print FLOPs a token; beside them what the rule of 6 FLOPs a parameter gives."""
    tokens = run.batch_size * run.length_tokens
    again = f", {in_words(ran.flops / tokens)} with what checkpointing runs again" if ran is not step else ""
    short = f"; from windows of {step.traced_tokens:,} tokens" if step.traced_tokens < run.length_tokens else ""
    share = f"attention {percent(step.attention_flops / step.flops)}" if step.flops else "nothing was counted"
    rule = f"6 a parameter: {in_words(6 * num_inner)}"
    say("FLOPs", f"{in_words(step.flops / tokens)} a token, forward and backward ({share}; {rule}){again}{short}")


def print_time(run: Run, ran: Step) -> str | None:
    """Print how long training takes, evaluation apart; return the time, None where it cannot be told."""
    gpus = f"{run.num_gpus:,} × {run.gpu.name}"
    if run.gpu.peak is None:
        say("time", f"not known: the peak of {run.gpu.name} is not; name a GPU with --gpus")
        return None
    if not run.half:
        say(
            "time",
            "not known: peaks are those of 16 bits, and the run is in float32; set training.bf16 or training.fp16",
        )
        return None
    if run.precision == "bf16" and not run.gpu.bf16:
        say("time", f"not known: {run.gpu.name} has no bf16; set training.fp16=true training.bf16=false")
        return None
    steps = run.steps or 1e9 / (run.windows_per_step * run.length_tokens)
    # Causal kernels skip half of what attention is counted as.
    flops = steps * run.accumulation * run.num_gpus * (ran.flops - ran.causal_flops)
    starts = steps * run.accumulation * ran.num_ops
    computing = [flops / (run.num_gpus * run.gpu.peak * share) for share in reversed(MFU)]
    times = [max(pair) for pair in zip(computing, (starts * each for each in START), strict=True)]
    took = f"{time_in_words(times[0])} to {time_in_words(times[1])} on {gpus}"
    took += "" if run.steps else " for each G tokens"
    halved = "; causal attention at half its FLOPs" if ran.causal_flops else ""
    why = f"at {percent(MFU[1])} to {percent(MFU[0])} of {in_words(run.gpu.peak)}FLOP/s{halved}"
    if times != computing:
        why = f"for starting {ran.num_ops:,.0f} operations a micro-batch; larger ones make better use of the GPUs"
    say("time", f"{took}, {why}")
    return took


def print_memory(run: Run, rows: list[Row]) -> None:
    """Print what each profile holds on a GPU."""
    room = ROOM * run.gpu.gib * 2**30
    say(
        "memory", f"of each GPU; states are weights, gradients and optimizer, activations of {run.batch_size:,} windows"
    )
    table = Table("profile", "states", "buffers", "activations", "sum", f"of {run.gpu.gib:.0f} GiB")
    for row in rows:
        name = "one GPU" if row.profile == "ddp" and run.num_gpus == 1 else row.profile
        parts = ["–" if math.isnan(x) else gibibytes(x) for x in (row.states, row.buffers, row.activations, row.total)]
        fits = "fits" if row.total <= room else "not known" if math.isnan(row.total) else "too large"
        table.add_row(name, *parts, fits)
    Console(highlight=False).print(table)


def verdict(tracer: Tracer, rows: list[Row], checkpointing: dict[str, Any] | None) -> tuple[bool, str]:
    """Say whether the run fits as it is, and else what does with the same global batch."""
    run = tracer.run
    room = ROOM * run.gpu.gib * 2**30
    order = sorted(rows, key=lambda row: ORDER.index(row.profile))
    asked = [row for row in order if row.profile == run.profile] or order
    if math.isnan(asked[0].total):
        return True, "not known, as activations are not counted"
    fitting = [row for row in asked if row.total <= room]
    if fitting:
        most = tracer.most_windows(fitting[0], room, checkpointing)
        takes = f"{gibibytes(fitting[0].total)} of {run.gpu.gib:.0f} GiB"
        return True, f"yes{named(run, fitting[0])}: {takes}, at most {most:,} windows a GPU"
    others = [row for row in order if row.total <= room]
    no = f"no{named(run, asked[0])}: {gibibytes(asked[0].total)} of {run.gpu.gib:.0f} GiB"
    if others:
        return False, f"{no}; yes{named(run, others[0])}"
    # Where states and buffers alone do not fit, nothing is traced.
    tried = ((row, tracer.most_windows(row, room, checkpointing)) for row in asked if row.states + row.buffers < room)
    row, most = next((pair for pair in tried if pair[1] > 0), (asked[0], 0))
    if not most:
        return False, f"{no}, and not one window does; take a smaller model or window, or another GPU"
    size, times = smaller_batch(run.batch_size, run.accumulation, most)
    keys = f"training.per_device_train_batch_size={size} training.gradient_accumulation_steps={times}"
    return False, f"{no}; yes{named(run, row)}, with the same global batch: {keys}"


def named(run: Run, row: Row) -> str:
    """Return how a profile is asked for, where there is more than one GPU."""
    return f" with --launch {row.profile}" if run.num_gpus > 1 or row.profile != "ddp" else ""
