import subprocess
import sys

import pytest

from genolm.config.console import did_you_mean
from genolm.config.files import atomic_path, file_sha256, folder_lock, write_text
from genolm.config.yaml import SettingsError


def test_atomic_path_keeps_the_old_file_where_the_block_fails(tmp_path):
    out = tmp_path / "deep" / "x.txt"
    write_text(out, "old")
    with pytest.raises(ZeroDivisionError), atomic_path(out) as aside:
        aside.write_text("half")
        raise ZeroDivisionError
    assert (out.read_text(), sorted(path.name for path in out.parent.iterdir())) == ("old", ["x.txt"])


def test_atomic_path_removes_a_link_and_never_follows_it(tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("theirs")
    (tmp_path / "x.txt.partial").symlink_to(other)
    write_text(tmp_path / "x.txt", "mine")
    assert (other.read_text(), (tmp_path / "x.txt").read_text()) == ("theirs", "mine")
    (tmp_path / "y.partial").mkdir()
    (tmp_path / "y.partial" / "left").touch()
    with atomic_path(tmp_path / "y") as aside:
        aside.mkdir()
    assert not list((tmp_path / "y").iterdir())


def test_file_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert file_sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_one_process_at_a_time_in_a_folder(tmp_path):
    code = (
        "import sys, os\nfrom pathlib import Path\nfrom genolm.config.files import folder_lock\n"
        f"with folder_lock(Path({str(tmp_path)!r})):\n"
        # A worker that outlives it by seconds must not hold the lock; it has given it up once its fork returns.
        "    if os.fork() == 0:\n        print('held', flush=True); import time; time.sleep(20); os._exit(0)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(SettingsError, match="another process is at work"), folder_lock(tmp_path):
            pass
        holder.kill()
        holder.wait()
        with folder_lock(tmp_path):
            pass


def test_did_you_mean():
    assert did_you_mean("pretain", ["pretrain", "score"]) == "did you mean 'pretrain'?"
    assert did_you_mean("xyz", ["pretrain"], otherwise="commands: pretrain") == "commands: pretrain"
