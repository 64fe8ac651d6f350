"""Trace a training step without running it: its FLOPs, and its peak memory in addition to model states.

The step is traced with tensors that have shapes and no storage, so that any architecture and any window take seconds
and no memory. What a GPU does otherwise than a CPU is put in its place (`EmulateGPU`).

FLOPs: the formulas of torch.utils.flop_counter (matrix products, convolutions), and for attention 4 · Q · K · head_dim
a head forward and twice that backward, causal or not, which is the 12 · layers · hidden · length a token of PaLM
(arXiv:2204.02311, appendix B). As there, what a kernel computes anew for the backward pass is not counted. Not counted
at all: whatever goes element by element (norms, activations, rotary positions, softmax, the scans of state spaces) and
Fourier transforms; all of them take time by memory, not by arithmetic. Mamba's own kernels are not traced: its
products are those of transformers' plain PyTorch.

Memory: every storage that is alive, from the first operation of the forward to the last of the backward pass, weights,
gradients and buffers left out. Not seen: what a kernel takes within itself, and how an allocator rounds.

Cost: 0.03 s a layer; of models that loop over tokens 1 s.
"""

import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from transformers import masking_utils

from genolm.models.genolm.filters import emulate_gpu_forms
from genolm.models.loss import weighted_token_loss
from genolm.plan.emulate_gpu import EmulateGPU, TooManyCalls

MOST_CALLS = 12_000
"""Calls of torch in a forward pass; beyond, as in one that loops over tokens, shorter windows are traced. A layer takes
60 to 150."""

SHORTER = (2048, 16)
"""Tokens of those."""

RECURRENT = 16
"""A model that can be traced at no more tokens loops over them, and is taken to be linear in them."""


@dataclass(frozen=True)
class StepCost:
    """The cost of a training step of one micro-batch.

    Attributes:
        flops: of the forward and the backward pass, and of what checkpointing runs again.
        attention_flops: the part of them that scaled dot-product attention takes.
        causal_flops: the part of those that a causal kernel skips: half.
        num_ops: operations that are started, one after the other.
        num_bytes: peak memory, without weights, gradients and optimizer; gradients that are not there yet count
            negatively.
        traced_tokens: of the window that was traced; where it is shorter than the recipe's, it and its half were.
    """

    flops: float
    attention_flops: float
    causal_flops: float
    num_ops: float
    num_bytes: float
    traced_tokens: int


class Tally(TorchDispatchMode):
    """Adds up the FLOPs of operations and the bytes of the storages that are alive.

    Args:
        free: tensors that are not counted.
    """

    def __init__(self, free):
        super().__init__()
        self.flops = self.attention_flops = self.causal_flops = 0.0
        self.now = self.most = self.num_ops = 0
        # The address of a storage identifies it, for as long as it lives.
        self._sizes = {tensor.untyped_storage()._cdata: 0 for tensor in free}
        self._watched: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func._overloadpacket is torch.ops.aten.convolution_backward:
            self.flops += convolution_backward_flops(*args)
        elif func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **kwargs, out_val=out)
        fresh = [self._hold(leaf) for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.num_ops += any(fresh) or func._schema.is_mutable  # views start nothing
        return out

    def _hold(self, tensor: torch.Tensor) -> bool:
        """Watch a tensor's storage; return whether it is a new one."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return False
        self._sizes[key] = storage.nbytes()
        self.now += self._sizes[key]
        self.most = max(self.most, self.now)
        self._watched[key] = weakref.ref(storage, lambda _: self._drop(key))
        return True

    def _drop(self, key: int) -> None:
        self.now -= self._sizes.pop(key)
        del self._watched[key]

    def attend(self, flops: float, causal: bool) -> None:
        """Count attention, which is no operation here."""
        self.flops += flops
        self.attention_flops += flops
        self.causal_flops += flops / 2 if causal else 0.0


def convolution_backward_flops(grad, x, weight, *rest) -> float:
    """Return 2 · outputs · taps for each requested gradient; torch's formula counts all groups for each."""
    transposed, output_mask = rest[4], rest[7]
    inputs = x if transposed else grad
    return 2.0 * inputs.numel() * weight[0].numel() * sum(output_mask[:2])


@contextmanager
def one_sequence_a_row() -> Iterator[None]:
    """Keep transformers from masks between the sequences of a row, which it makes where it cannot read positions."""
    find = masking_utils.find_packed_sequence_indices
    masking_utils.find_packed_sequence_indices = lambda position_ids: None
    try:
        yield
    finally:
        masking_utils.find_packed_sequence_indices = find


def without_storage(model: torch.nn.Module) -> list[torch.Tensor]:
    """Turn a model on the meta device into one of fake CPU tensors, ties kept; call it under a FakeTensorMode.

    Returns:
        Weights and buffers.
    """
    pairs: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for module in model.modules():
        both: list[dict[str, Any]] = [module._parameters, module._buffers]
        for tensors in both:
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in pairs:
                    fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
                    if isinstance(tensor, torch.nn.Parameter):
                        fake = torch.nn.Parameter(fake, tensor.requires_grad)
                    pairs[id(tensor)] = (tensor, fake)
                tensors[name] = pairs[id(tensor)][1]
    return [fake for _, fake in pairs.values()]


def checkpoint_activations(model: Any, options: dict[str, Any], recompute: Callable[[], EmulateGPU]) -> None:
    """Do as transformers.Trainer does with `training.activation_checkpointing`.

    Args:
        model: to be changed.
        options: `training.activation_checkpointing_kwargs`.
        recompute: gives what to run again under, as a backward pass leaves all modes.
    """
    layers = {name: options[name] for name in ("every_n_layers", "offload") if name in options}
    rest = {name: value for name, value in options.items() if name not in layers}
    # There are no generators to keep the state of; the reentrant kind takes no contexts, and holds as much.
    rest |= {"use_reentrant": False, "preserve_rng_state": False}
    rest["context_fn"] = lambda: (nullcontext(), recompute())
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable(rest, **layers)


def trace(
    make_model: Callable[[], Any],
    batch_size: int,
    length_tokens: int,
    *,
    causal: bool,
    weights: torch.dtype = torch.float32,
    autocast: bool = False,
    checkpointing: dict[str, Any] | None = None,
    padded: bool = False,
    accumulated: bool = True,
    as_on_gpu: bool = True,
    most_calls: float = math.inf,
) -> StepCost:
    """Trace the forward and backward pass of one micro-batch.

    Args:
        make_model: makes the model, on the meta device.
        batch_size: windows of the micro-batch.
        length_tokens: tokens of a window.
        causal: the objective is causal.
        weights: of the model while it computes. DDP has float32, DeepSpeed and FSDP2 bf16 where the recipe does.
        autocast: to bf16. DDP and FSDP2 run under it, DeepSpeed does not.
        checkpointing: options of activation checkpointing; None for none.
        padded: batches carry an attention mask.
        accumulated: gradients of an earlier micro-batch are there; else each is made when it is computed, and what is
            computed before may take its place.
        as_on_gpu: memory of a GPU; else that of this CPU.
        most_calls: of torch in the forward pass, before giving up.

    Raises:
        TooManyCalls: there are more.
    """
    with torch.device("meta"):
        model = make_model()
    model = model.to(weights).train()
    model.config.use_cache = False  # as Trainer does
    shape = (batch_size, length_tokens)
    with one_sequence_a_row(), FakeTensorMode(allow_non_fake_inputs=True):
        fakes = without_storage(model)
        weights_trained = [fake for fake in fakes if fake.requires_grad]
        gradients = sum(fake.untyped_storage().nbytes() for fake in weights_trained)
        if accumulated:
            for fake in weights_trained:
                fake.grad = torch.empty_like(fake)
            fakes, gradients = fakes + [fake.grad for fake in weights_trained if fake.grad is not None], 0
        tally = Tally(fakes)
        if checkpointing is not None:
            checkpoint_activations(model, checkpointing, lambda: EmulateGPU(tally, as_on_gpu))
        with emulate_gpu_forms(as_on_gpu), EmulateGPU(tally, as_on_gpu, most_calls), tally:
            batch = {"input_ids": torch.zeros(shape, dtype=torch.int64, device="cpu")}
            if padded:
                batch["attention_mask"] = torch.ones(shape, dtype=torch.int64, device="cpu")
            labels, weight = torch.zeros_like(batch["input_ids"]), torch.ones(shape, device="cpu")
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                logits = model(**batch).logits
            # Trainer's model gives float32.
            nats, total = weighted_token_loss(logits.float(), labels, weight, causal)
            del logits
            (nats / total).backward()
    counts = tally.flops, tally.attention_flops, tally.causal_flops, tally.num_ops, tally.most - gradients
    return StepCost(*map(float, counts), traced_tokens=length_tokens)


def step_cost(
    make_model: Callable[[], Any], batch_size: int, length_tokens: int, start_at: int | None = None, **options: Any
) -> StepCost:
    """Trace a step; where that is too much, trace shorter windows, and as many more of them.

    At an equal number of tokens, what is linear in the length of a window is equal, and what is quadratic, as
    attention, is linear; so are operations. Windows of two lengths thus give a third.

    Args:
        make_model: makes the model, on the meta device.
        batch_size: windows of the micro-batch.
        length_tokens: tokens of a window.
        start_at: tokens that an earlier trace of this model could take.
        options: as for `trace`.

    Raises:
        TooManyCalls: even the shortest windows take too many.
    """
    longest = min(length_tokens, start_at or length_tokens)
    for length in (longest, *(n for n in SHORTER if n < longest)):
        rows = max(1, round(batch_size * length_tokens / length))
        try:
            whole = trace(make_model, rows, length, most_calls=MOST_CALLS, **options)
        except TooManyCalls:
            continue
        if length == length_tokens:
            return whole
        half = trace(make_model, 2 * rows, length // 2, **options)
        longer = (length_tokens - length) / (length - length // 2)
        rising = ("num_ops",) if length <= RECURRENT else (n for n in vars(whole) if n != "traced_tokens")
        pairs = {name: (getattr(half, name), getattr(whole, name)) for name in rising}
        return replace(whole, **{name: b + max(0.0, b - a) * longer for name, (a, b) in pairs.items()})
    shortest = min(longest, *SHORTER)
    raise TooManyCalls(f"the forward pass of {shortest} tokens takes more than {MOST_CALLS:,} calls of torch")
