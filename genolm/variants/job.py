"""A scoring job: the processes that share it, its folder of results, the reference and the model."""

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from genolm.config.files import atomic_path, folder_lock, write_text
from genolm.genome.reference import Reference, files_in_common, open_reference
from genolm.models.language_model import LanguageModel, open_language_model
from genolm.training.memory import keep_freed_pages, trim_freed_pages
from genolm.training.signals import end_alone, lost_ranks
from genolm.variants.alleles import Allele
from genolm.variants.likelihood import AlleleScores, check_estimators, score_alleles

ENDED = '"ended"'
"""Content of `job.json` once the job is finished and its folder is being removed."""


class ResultShards:
    """The folder of a job: its settings (`job.json`), and the results of each stretch, each file written atomically.

    A folder `OUT.parts` next to the output, so that a long job resumes.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def begin(self, job: dict[str, Any]) -> bool:
        """Record the settings of a job; return whether it had begun before.

        Raises:
            ValueError: the folder holds another one.
        """
        path = self.folder / "job.json"
        job = json.loads(json.dumps(job))
        if not path.is_file():
            write_text(path, json.dumps(job, indent=1))
            return False
        before = json.loads(path.read_text())
        for key, value in job.items():
            if before.get(key) != value:
                raise ValueError(
                    f"{self.folder} holds an unfinished job whose {key} was {before.get(key)!r} and is now "
                    f"{value!r}; use the former value, remove the folder, or give another --out"
                )
        return True

    def path(self, stretch: int) -> Path:
        """Return the file of a stretch."""
        return self.folder / f"{stretch:08d}.npz"

    def background(self, length: int) -> Path:
        """Return the file of the background of a signed length."""
        return self.folder / f"background-{length:+d}.json"

    def num_left(self, sizes: Sequence[int]) -> int:
        """Return the sum of the sizes of stretches that have no results yet."""
        return sum(size for stretch, size in enumerate(sizes) if not self.path(stretch).is_file())

    def save(self, stretch: int, values: dict[str, np.ndarray]) -> None:
        """Save the results of a stretch."""
        with atomic_path(self.path(stretch)) as aside, aside.open("wb") as file:
            np.savez(file, **values)  # pyright: ignore[reportArgumentType]
        trim_freed_pages()

    def load(self, stretch: int) -> dict[str, np.ndarray]:
        """Return the results of a stretch."""
        with np.load(self.path(stretch), allow_pickle=False) as arrays:
            return dict(arrays)

    def end(self) -> None:
        """Mark the job as finished and remove its folder; killed in between, it is not begun again."""
        write_text(self.folder / "job.json", ENDED)
        clear(self.folder)


@dataclass(frozen=True)
class ScoringJob:
    """An opened job.

    Attributes:
        state: accelerate's state: this process among those that share the work.
        shards: results on disk.
        store: the reference.
        language: the model, on its device.
        bf16: whether the model runs in bf16.
        batch_size: rows of tokens in a forward pass.
    """

    state: Any
    shards: ResultShards
    store: Reference
    language: LanguageModel
    bf16: bool
    batch_size: int

    def estimators(self, requested: Sequence[str] | None) -> list[str]:
        """Return the requested estimators without repeats, or the model's default one.

        Raises:
            ValueError: the model does not have one of them.
        """
        default = "likelihood" if self.language.causal else "masked_llr"
        estimators = list(dict.fromkeys(requested or [default]))
        check_estimators(estimators, self.language.encoder, self.language.causal)
        return estimators

    def begin(self, settings: dict[str, Any]) -> None:
        """Record the job's settings in its folder, or check that the unfinished job there has the same.

        Raises:
            ValueError: the folder holds another job.
        """
        settings = {
            "genome": self.store.fingerprint,
            "model": self.language.sha256,
            "window_bp": self.language.window_bp,
            "bf16": self.bf16,
            "batch_size": self.batch_size,
            **settings,
        }
        with self.state.main_process_first():
            if self.shards.begin(settings) and self.state.is_main_process:
                print(f"resuming {self.shards.folder}", file=sys.stderr)

    def score(self, alleles: Sequence[Allele], estimators: Sequence[str], **options: Any) -> AlleleScores:
        """Score alleles by the job's model; options as `score_alleles`: `step` and `on_done`."""
        return score_alleles(
            self.language.model,
            self.language.encoder,
            self.store,
            alleles,
            causal=self.language.causal,
            window_bp=self.language.window_bp,
            estimators=estimators,
            batch_size=self.batch_size,
            autocast=self.bf16,
            max_tokens=self.language.max_tokens,
            **options,
        )

    def describe(self, estimators: Sequence[str], used: dict[str, str]) -> None:
        """Print which model scores, and which contigs go by another name in the FASTA."""
        for name, fasta_name in used.items():
            print(f"contig {name} is {fasta_name} of the FASTA", file=sys.stderr)
        kind = "causal" if self.language.causal else "masked"
        width = f"{self.language.window_bp} bp around a variant"
        print(f"model      {kind}, {width}; {', '.join(estimators)}", file=sys.stderr)
        if seen := ", ".join(trained_on(self.language.name, self.store)):
            print(f"note: the model was trained on {seen}, except for what its recipe holds out", file=sys.stderr)


def trained_on(model: str, reference: Reference) -> list[str]:
    """Return the files of a reference that a run of `genolm pretrain` was trained on, compared by their bytes."""
    for run in (Path(model), Path(model).parent):
        manifest = run / "genome" / "manifest.json"
        if manifest.is_file():
            return files_in_common(reference, json.loads(manifest.read_text())["inputs"])
    return []


@contextmanager
def scoring_job(
    folder: Path,
    fasta: str,
    model: str,
    batch_size: int,
    bf16: bool,
    language: LanguageModel | None = None,
    store: Reference | None = None,
    **options: Any,
) -> Iterator[ScoringJob]:
    """Open a job; interrupted, the process exits with 75, and the same command resumes.

    Args:
        folder: of the job, created if need be.
        fasta: FASTA of the reference, or a prepared genome.
        model: see `genolm.models.language_model.open_language_model`.
        batch_size: rows of tokens in a forward pass.
        bf16: run the model in bf16.
        language: the model, where it is open already.
        store: the reference, where it is open already.
        options: of `open_language_model`: `window_bp`, `tokenizer`, `revision`, `trust_remote_code`.
    """
    # A rank that is done waits for those that are not.
    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(days=30))
    keep_freed_pages()
    with ExitStack() as exit_stack:
        if state.is_main_process:
            refuse_foreign(folder)
            folder.mkdir(parents=True, exist_ok=True)
            exit_stack.enter_context(folder_lock(folder))
        try:
            with state.main_process_first():
                store = store or open_reference(fasta, folder / "genome")
            language = language or open_language_model(model, **options)
            language.model.to(state.device)
            yield ScoringJob(state, ResultShards(folder), store, language, bf16, batch_size)
        except KeyboardInterrupt:
            print(f"stopped: results so far are in {folder}; the same command resumes", file=sys.stderr)
            raise SystemExit(75) from None
        except RuntimeError as error:
            if lost_ranks(error) and not state.is_main_process:
                end_alone(1)  # the first process has ended, and said why
            raise
        finally:
            if state.is_main_process and folder.is_dir() and not (folder / "job.json").is_file():
                shutil.rmtree(folder)  # a user's mistake, before anything was done


def clear(folder: Path) -> None:
    """Remove the folder of a finished job, or the rest of it; `job.json` goes last."""
    job = folder / "job.json"
    if not job.is_file() or job.read_text() != ENDED:
        return
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path != job:
            path.unlink()
    job.unlink()
    folder.rmdir()


def refuse_existing(out: Path, folder: Path) -> None:
    """Clear what a finished job left in `folder`; refuse an existing output that no unfinished job is to replace.

    An output folder may be empty, or hold nothing but that of the job.
    """
    clear(folder)
    if not out.exists() or (folder / "job.json").is_file():
        return
    if folder.parent != out or not out.is_dir() or any(path != folder for path in out.iterdir()):
        kind = "folder" if folder.parent == out else "file"
        raise ValueError(f"--out {out} is there already; remove it, or name another {kind}")


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that no job of ours has begun in: it is removed at the end, with all that is in it."""
    if not folder.exists() or (folder / "job.json").is_file():
        return
    ours = (".lock", "stdin", "genome", "alleles.jsonl", "job.json")  # what is there before a job begins
    other = [] if not folder.is_dir() else sorted(x.name for x in folder.iterdir() if not x.name.startswith(ours))
    if other or not folder.is_dir():
        reason = f"holds {other[0]!r}" if other else "is a file"
        raise ValueError(f"{folder} {reason}, which does not belong to a job; move it, or name another --out")
