import os
from pathlib import Path

import pytest

# One thread in every process, whatever the machine is set to: tests compare what one process computed with what another
# did, bit for bit, and sums over another number of threads differ in the last one. Workers fill the cores anyway.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real genomes; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("GENOLM_DATA", ROOT / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set GENOLM_DATA")
    return folder


@pytest.fixture(scope="session")
def project_dir() -> Path:
    return ROOT
