"""What every zero-shot command begins with: processes that share the work, its folder, the reference and the model."""

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from genolm.config.files import folder_lock
from genolm.genome.reference import Reference, files_in_common, open_reference
from genolm.models.language_model import LanguageModel, open_language_model
from genolm.training import malloc
from genolm.training.signals import end_alone, lost_ranks
from genolm.variants.likelihood import check_estimators
from genolm.variants.regions import Span
from genolm.variants.result_shards import Parts
from genolm.variants.saturation import score_pieces


@dataclass(frozen=True)
class ZeroShot:
    """A command that has begun.

    Attributes:
        state: of accelerate; this process among those that share the work.
        parts: the folder of the job.
        store: the reference.
        language: the model, on its device.
        bf16: whether it runs in bf16.
        batch_size: rows of tokens in a forward pass.
    """

    state: Any
    parts: Parts
    store: Reference
    language: LanguageModel
    bf16: bool
    batch_size: int

    def estimators(self, wanted: Sequence[str] | None) -> list[str]:
        """Return the estimators that are wanted, or the model's own, once each.

        Raises:
            ValueError: the model does not have one of them.
        """
        own = "likelihood" if self.language.causal else "masked_llr"
        found = list(dict.fromkeys(wanted or [own]))
        check_estimators(found, self.language.encoder, self.language.causal)
        return found

    def take(self, job: dict[str, Any]) -> None:
        """Take the folder for this job, or go on with it.

        Raises:
            ValueError: the folder holds another one.
        """
        about = {"genome": self.store.fingerprint, "model": self.language.sha256, "window_bp": self.language.window_bp}
        about |= {"bf16": self.bf16, "batch_size": self.batch_size}
        with self.state.main_process_first():
            if self.parts.begin(about | job) and self.state.is_main_process:
                print(f"going on with {self.parts.folder}", file=sys.stderr)

    def options(self, estimators: Sequence[str]) -> dict[str, Any]:
        """Return the options of `score_alleles`."""
        language = self.language
        options: dict[str, Any] = {"estimators": estimators, "window_bp": language.window_bp, "causal": language.causal}
        return options | {
            "batch_size": self.batch_size, "autocast": self.bf16, "max_tokens": language.max_tokens
        }  # fmt: skip

    def score_pieces(self, pieces: list[Span], estimators: Sequence[str], **changes: Any) -> None:
        """Score the changes of every base of some pieces, shared among the processes; `changes` says which."""
        score_pieces(
            self.parts,
            pieces,
            self.store,
            self.language.model,
            self.language.encoder,
            shared=(self.state.process_index, self.state.num_processes),
            show=self.state.is_main_process,
            **changes,
            **self.options(estimators),
        )
        self.state.wait_for_everyone()

    def describe(self, estimators: Sequence[str], used: dict[str, str]) -> None:
        """Print which model reads what, and contigs under other names."""
        for one, other in used.items():
            print(f"contig {one} is {other} of the FASTA", file=sys.stderr)
        what = "causal" if self.language.causal else "masked"
        told = f"{what}, {self.language.window_bp} bp around a variant; {', '.join(estimators)}"
        print(f"model      {told}", file=sys.stderr)
        seen = trained_on(self.language.name, self.store)
        if seen:
            held = "but for what its recipe holds out"
            print(f"note: the model was trained on {', '.join(seen)}, {held}", file=sys.stderr)


def trained_on(model: str, reference: Reference) -> list[str]:
    """Return the files of a reference that a run of `genolm pretrain` was trained on, compared by their bytes."""
    for run in (Path(model), Path(model).parent):
        manifest = run / "genome" / "manifest.json"
        if manifest.is_file():
            return files_in_common(reference, json.loads(manifest.read_text())["inputs"])
    return []


@contextmanager
def zero_shot(
    folder: Path, fasta: str, model: str, *, bf16: bool, batch_size: int, **options: Any
) -> Iterator[ZeroShot]:
    """Begin; interrupted, the process ends with 75, and the same command goes on.

    Args:
        folder: of the job, made if need be.
        fasta: FASTA of the reference, or a prepared genome.
        model: see `open_language_model`, whose `options` these are.
        bf16: run the model in bf16.
        batch_size: rows of tokens in a forward pass.
        options: see there.
    """
    # A rank that is done waits for those that are not.
    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(days=30))
    parts = Parts(folder)
    malloc.keep_freed_pages()
    with ExitStack() as held:
        if state.is_main_process:
            refuse_foreign(folder)
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(folder_lock(folder))
        try:
            with state.main_process_first():
                store = open_reference(fasta, folder / "genome")
            language = open_language_model(model, **options)
            language.model.to(state.device)
            yield ZeroShot(state, parts, store, language, bf16, batch_size)
        except KeyboardInterrupt:
            print(f"stopped: what is done is in {folder}; the same command goes on", file=sys.stderr)
            raise SystemExit(75) from None
        except RuntimeError as error:
            if lost_ranks(error) and not state.is_main_process:
                end_alone(1)  # the first process has ended, and said why
            raise
        finally:
            if state.is_main_process and folder.is_dir() and not (folder / "job.json").is_file():
                shutil.rmtree(folder)  # a mistake that was found before anything was done


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that no job of ours has begun in: it is removed at the end, with all that is in it."""
    if not folder.exists() or (folder / "job.json").is_file():
        return
    begun = (".lock", "stdin", "genome", "job.json")  # what is there before a job is taken
    other = [] if not folder.is_dir() else sorted(x.name for x in folder.iterdir() if not x.name.startswith(begun))
    if other or not folder.is_dir():
        told = f"holds {other[0]!r}" if other else "is a file"
        raise ValueError(f"{folder} {told}, which is no part of a job; move it, or name another --out")
