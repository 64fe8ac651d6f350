"""Peak memory and speed of preparing a large genome: python benchmarks/prepare_memory.py [--gb 1.2].

Writes a random genome as plain and as gzip FASTA, contigs up to 250 Mb, prepares each in a process of its own and reads
that process's peak from the system. Needs about 4 bytes of disk a base.
"""

import argparse
import gzip
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from genolm.genome.simulate import write_fasta

CHILD = """
import json, sys, time
from genolm.genome.store import prepare_store
began = time.perf_counter()
store = prepare_store({"genome": [sys.argv[1]]}, sys.argv[2])
seconds = time.perf_counter() - began
# Not getrusage: its peak is inherited from the process that started this one.
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "peak": peak, "bases": store.num_bases}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=1.2, help="bases, in thousands of millions")
    parser.add_argument("--folder", help="where to write; a temporary folder by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        plain, packed = Path(folder) / "g.fa", Path(folder) / "g.fa.gz"
        rng, left = np.random.default_rng(0), int(options.gb * 1e9)
        alphabet = np.frombuffer(b"ACGTacgtN", dtype=np.uint8)
        with plain.open("wb") as file:
            while left > 0:
                length = min(left, 250_000_000)
                part = Path(folder) / "part.fa"
                write_fasta(part, [(f"chr{left}", alphabet[rng.integers(0, 9, length, dtype=np.uint8)])])
                with part.open("rb") as source:
                    shutil.copyfileobj(source, file)
                left -= length
            part.unlink()
        with plain.open("rb") as source, gzip.open(packed, "wb", compresslevel=1) as target:
            shutil.copyfileobj(source, target, 2**22)
        for path in (plain, packed):
            store = Path(folder) / "store"
            done = subprocess.run(
                [sys.executable, "-c", CHILD, path, store], capture_output=True, text=True, check=True
            )
            result = json.loads(done.stdout)
            speed = result["bases"] / result["seconds"] / 1e6
            print(f"{path.name:<8}{result['bases']:,} bp in {result['seconds']:.0f} s, {speed:.0f} Mb/s, ", end="")
            print(f"peak {result['peak'] / 2**20:.0f} MiB")
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", CHILD, path, store], capture_output=True, check=True)
            print(f"        again: {time.perf_counter() - began:.1f} s, imports included")
            shutil.rmtree(store)


if __name__ == "__main__":
    main()
