"""The GPU check of benchmarks/gpu runs every stage on a CPU, without a fault."""

import json
import re
import subprocess
import sys

import pytest


@pytest.mark.nightly
def test_every_stage_of_the_gpu_check_runs_on_a_cpu(project_dir, tmp_path):
    script = project_dir / "benchmarks/gpu/check.py"
    command = [sys.executable, str(script), "--out", str(tmp_path), "--dry-run"]
    done = subprocess.run(command, cwd=project_dir, capture_output=True, text=True)
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [row for row in rows if row["ok"] is False] == []
    ended = {row["stage"] for row in rows if row["name"] == "stage ran to its end" and row["ok"]}
    stages = set(re.findall(r"^    ([a-z]+)  ", script.read_text(), re.MULTILINE))
    assert len(stages) == 13 and ended == stages
    assert {row["stage"] for row in rows if row["name"] != "stage ran to its end"} == stages
    assert done.returncode == 0, done.stderr
    assert f"{len(rows)} results, 0 faults" in (tmp_path / "results.md").read_text()
