"""Writing files whole or not at all, one process at a time in a folder, and hashes of files."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from genolm.config.yaml import SettingsError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the name `path` when the block ends, and is removed on an error.

    The block may write a file or a folder there. Links and leftovers of that name are removed first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.partial")
    remove(aside)
    try:
        yield aside
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            remove(aside)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically.

    Raises:
        OSError: naming the file and the reason.
    """
    try:
        with atomic_path(path) as aside:
            aside.write_text(text)
    except OSError as error:
        raise OSError(f"{path} could not be written: {error.strerror or error}") from error


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, if it exists. A link is removed, never followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def file_sha256(path: str | Path) -> str:
    """Return the sha256 of a file's bytes as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def folder_lock(folder: Path, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold a folder's lock; it is released when this process ends, however it ends.

    Args:
        folder: an existing folder; the lock is its file `.lock`.
        wait_seconds: how long to wait for another process.

    Raises:
        SettingsError: another process still holds the lock.
    """
    lock = FileLock(folder / ".lock", timeout=wait_seconds)
    try:
        lock.acquire()
    except Timeout:
        raise SettingsError(f"another process is at work in {folder}; wait for it, or name another folder") from None
    except (OSError, NotImplementedError):  # a disk without locks
        yield
        return
    try:
        yield
    finally:
        lock.release()


def refuse_links(run_dir: Path) -> None:
    """Refuse links where a run writes, in a run folder that came from elsewhere: they may lead to anyone's files.

    `checkpoints`, `checkpoint` and `genome` may be links: what is written there is checked or replaced whole.

    Raises:
        ValueError: naming the link.
    """
    written = [run_dir / "log.jsonl", run_dir / "loss.png", run_dir / "genome" / "sources.json"]
    for name in ("tokenizer", "sequences", "not-finite"):
        written += [run_dir / name, *(run_dir / name).rglob("*")]
    for path in written:
        if path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir()):
            raise ValueError(f"{path}: a link or a special file, and the run would write there; remove it")


def refuse_other(out: Path, names: Collection[str], what: str) -> None:
    """Refuse an output folder that holds anything but what an earlier start of the same command left there.

    Args:
        out: the folder, which need not exist.
        names: files and folders that the command writes.
        what: the name of such a folder in the message, such as "comparison".

    Raises:
        ValueError: naming what else is there.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"--out {out} is not a folder")
    other = sorted({path.name.removesuffix(".partial") for path in out.iterdir()}.difference(names))
    if other:
        raise ValueError(f"--out {out} holds {other[0]!r}, which does not belong to a {what}; give a new folder")
