"""Plain `accelerate launch` with real processes: two ranks see the batches that one rank sees, and learn the same."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

RECIPE = {
    "data": {"window_bp": 64, "test": {"fraction": 0.2}, "valid": {"fraction": 0.1}, "soft_masked_weight": 0.5},
    "objective": {"kind": "causal"},
    "model": {
        "architecture": "llama",
        **{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    },
    "training": {"max_steps": 4, "logging_steps": 1, "bf16": False, "learning_rate": 1e-2},
    "evaluation": {"markov_orders": [1], "max_bp": 500, "every_steps": 2},
}


@pytest.mark.slow
def test_two_ranks_of_four_are_one_rank_of_eight(tmp_path, project_dir):
    sequence = "".join(np.random.default_rng(0).choice(list("ACGTacgtN"), 9000))
    (tmp_path / "g.fa").write_text(f">one\n{sequence}\n")
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"run_dir": "x", **RECIPE}))
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(project_dir / "recipes/accelerate/cpu-ddp.yaml")]
    weights, losses = [], []
    for name, prefix, batch in (("one", [], 8), ("two", launch, 4)):
        where = tmp_path / name
        command = [sys.executable, *prefix, "-m", "genolm", "pretrain", str(tmp_path / "r.yaml")]
        changes = [
            f"run_dir={where}",
            f"data.fasta={tmp_path / 'g.fa'}",
            f"training.per_device_train_batch_size={batch}",
        ]
        done = subprocess.run(
            [*command, *changes],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(project_dir)},
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        weights.append(load_file(where / "checkpoint" / "model.safetensors"))
        rows = [json.loads(line) for line in (where / "log.jsonl").read_text().splitlines()]
        losses.append([row["loss"] for row in rows if "loss" in row])
        assert [row["samples"] for row in rows if "loss" in row] == [8, 16, 24, 32]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, rtol=1e-4, atol=1e-6)
