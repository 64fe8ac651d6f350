"""Faults put into a run before it starts: picklable, and called in the process of each rank."""

import ctypes
import os

import torch

from genolm.training.loop_callbacks import RunLog
from genolm.training.trainer import WeightedTrainer


def arm(folder: str, operation: int = 0, after_bytes: int = -1) -> None:
    """Die at an operation on a file of a folder, or after so many bytes: see kill_at.c."""
    ctypes.CDLL(None).kill_at(folder.encode(), ctypes.c_long(operation), ctypes.c_long(after_bytes))


def count(folder: str, report: str) -> None:
    """Count what `arm` could die at, and write it down at the end."""
    from multiprocessing import util

    library = ctypes.CDLL(None)
    library.operations.restype = library.written.restype = ctypes.c_long
    arm(folder)

    def tell():
        with open(report, "w") as file:
            file.write(f"{library.operations()} {library.written()}")

    util.Finalize(None, tell, exitpriority=0)  # processes of multiprocessing leave without atexit


def not_finite(where: str, value: float, step: int, rank: int) -> None:
    """Put a value into the loss, or into one element of the gradient of the logits, of one rank at one step."""
    compute, losses, due = WeightedTrainer.compute_loss, [], [False]

    def watched(self, *args, **kwargs):
        due[0] = self.state.global_step + 1 == step and self.args.process_index == rank
        if not losses:
            losses.append(self.loss)
            self.loss = poisoned
        return compute(self, *args, **kwargs)

    def poisoned(logits, *args, **kwargs):
        if due[0] and where == "gradient":

            def spoil(gradient):
                gradient = gradient.clone()
                gradient.view(-1)[0] = value
                return gradient

            logits.register_hook(spoil)
        nats, total = losses[0](logits, *args, **kwargs)
        return (nats + value if due[0] and where == "loss" else nats), total

    WeightedTrainer.compute_loss = watched


def out_of_memory(most: int) -> None:
    """Refuse memory to batches of more than so many windows."""
    compute = WeightedTrainer.compute_loss

    def refused(self, model, inputs, *args, **kwargs):
        if len(inputs["input_ids"]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return compute(self, model, inputs, *args, **kwargs)

    WeightedTrainer.compute_loss = refused


def signal_at(number: int, step: int, rank: int, moment: str) -> None:
    """Send this process a signal at an exact moment: mid-forward, evaluation or save."""
    owner, name = {
        "forward": (WeightedTrainer, "compute_loss"),
        "evaluation": (RunLog, "on_step_end"),
        "save": (WeightedTrainer, "_save_optimizer_and_scheduler"),
    }[moment]
    real = getattr(owner, name)

    def signalled(self, *args, **kwargs):
        state = self.state if hasattr(self, "state") else args[1]
        index = int(os.environ.get("RANK", "0"))
        if state.global_step >= step and index == rank and not getattr(owner, "sent", False):
            owner.sent = True
            os.kill(os.getpid(), number)
        return real(self, *args, **kwargs)

    setattr(owner, name, signalled)


def elsewhere(folder: str) -> None:
    """Work in a folder of this rank's own."""
    mine = os.path.join(folder, f"machine-{os.environ.get('RANK', '0')}")
    os.makedirs(mine)
    os.chdir(mine)


def scarce_at_the_end() -> None:
    """Let every write of the finished model fail, as on a disk that is full by then."""
    import genolm.pretraining.run as pretraining

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    pretraining.write_checkpoint = full


def no_memory_at_all() -> None:
    """Refuse memory when the optimizer is made."""

    def refused(self, model=None):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    WeightedTrainer.create_optimizer = refused


def killed_at_the_end() -> None:
    """Die when a fine-tuned model is about to be opened for its predictions."""
    import signal

    import genolm.finetuning.run as finetuning_run

    finetuning_run.open_labelled = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
