import os
from pathlib import Path

import pytest

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
