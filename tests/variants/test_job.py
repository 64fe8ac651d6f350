"""What every zero-shot command begins with."""

import subprocess
import sys

from genolm.genome.store import prepare_store
from genolm.variants.job import trained_on


def test_a_reference_that_the_model_was_trained_on_is_named(tmp_path):
    files = [tmp_path / f"{name}.fa" for name in "abc"]
    for number, file in enumerate(files):
        file.write_text(f">one\n{'ACGT' * (number + 1)}\n")
    run = tmp_path / "run"
    run.mkdir()
    prepare_store({"x": [files[0]], "y": [files[1]]}, run / "genome")
    (tmp_path / "renamed.fa").write_text(files[0].read_text())
    same, other = (
        prepare_store({"g": [tmp_path / "renamed.fa"]}, tmp_path / "1"),
        prepare_store({"g": [files[2]]}, tmp_path / "2"),
    )
    assert trained_on(str(run), same) == trained_on(str(run / "checkpoint"), same) == ["renamed.fa"]
    assert trained_on(str(run), other) == []
    assert trained_on("somebody/model", same) == trained_on(str(tmp_path / "2"), same) == []


def test_nothing_of_training_is_imported_and_no_pandas(tmp_path):
    """Trainer brings `datasets`, and pyarrow's short ways bring pandas: a second of every zero-shot command."""
    (tmp_path / "a.fa").write_text(">one\nACGT\n")
    prepare_store({"a": [tmp_path / "a.fa"]}, tmp_path / "genome")
    code = (
        "import sys\nimport genolm.variants.job\n"
        f"store = genolm.variants.job.open_reference({str(tmp_path / 'genome')!r}, None)\n"
        "assert store.fetch(0, 1, 3).tobytes() == b'CG' and not store.lengths.flags.writeable\n"
        "print([m for m in ('transformers.trainer', 'datasets', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
