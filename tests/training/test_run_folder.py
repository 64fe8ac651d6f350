"""A trainer in its run folder."""

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import resource
from types import SimpleNamespace
from genolm.training.run_folder import train_in_folder
from genolm.training.signals import RunStopped

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

def page_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def train(checkpoint, manifest):
    faults = page_faults()
    for size in range(10):
        b"x" * (2**26 - size)
    print(page_faults() - faults)
    blocks = [b"x" * 2**26 for _ in range(4)]
    del blocks
    trainer.resident = resident()
    if {stopped}:
        raise RunStopped("by a signal")

trainer = SimpleNamespace(resume=train, payload=True, stopped=False, is_world_process_zero=lambda: False)
try:
    peak = train_in_folder(trainer, None, {{}}, False)
except RunStopped:
    peak = 0
print(trainer.resident - resident())
print(peak >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed pages on request")
@pytest.mark.parametrize("stopped", [False, True])
def test_training_keeps_freed_pages_and_trims_them_however_it_ends(stopped):
    """Ten tensors of 64 MB, one after the other, fault in the pages of about one; afterwards all is trimmed."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    code = CODE.format(stopped=stopped)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    faults, trimmed_mb, peak_mb = map(int, done.stdout.split())
    assert faults < 3 * 2**26 / os.sysconf("SC_PAGE_SIZE")
    assert trimmed_mb > 200
    assert stopped or peak_mb > 256
