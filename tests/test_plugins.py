"""Baselines and architectures of a user's own: in recipes, and opened by the commands after."""

import os
import subprocess
import sys

import labelled_runs
import numpy as np
import pandas as pd
import pytest

from genolm.config.pretrain import PretrainRecipe
from genolm.config.yaml import SettingsError, build_settings

BASELINE = '''
import torch
from genolm.models.baselines import Baseline, register_baseline

class Mean(Baseline):
    """Base composition, and a linear map of it."""

    ONE_LENGTH = False

    def __init__(self, config):
        super().__init__(config)
        self.map = torch.nn.Linear(4, self.num_labels)
        self.post_init()

    def logits(self, one_hot, keep):
        return self.map(one_hot.mean(-1))

register_baseline("mean", Mean)
'''
ARCHITECTURE = """
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

class MineConfig(LlamaConfig):
    model_type = "mine"

class MineForCausalLM(LlamaForCausalLM):
    config_class = MineConfig

AutoConfig.register("mine", MineConfig)
AutoModelForCausalLM.register(MineConfig, MineForCausalLM)
"""


def genolm(*words, **variables):
    env = os.environ | {"HF_HUB_OFFLINE": "1"} | variables
    return subprocess.run([sys.executable, "-m", "genolm", *map(str, words)], capture_output=True, text=True, env=env)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "modules").mkdir()
    (folder / "modules" / "my_baseline.py").write_text(BASELINE)
    (folder / "modules" / "my_architecture.py").write_text(ARCHITECTURE)
    return folder


@pytest.fixture(scope="module")
def path(folder):
    return os.pathsep.join([str(folder / "modules"), os.environ.get("PYTHONPATH", "")])


def test_a_baseline_of_ones_own_learns_and_predicts(folder, path):
    rows, label = labelled_runs.planted(60)
    pd.DataFrame({"sequence": rows, "label": np.where(label, "yes", "no")}).to_csv(folder / "t.csv", index=False)
    short = [
        "training.max_steps=2",
        "training.bf16=false",
        f"labels.table={folder / 't.csv'}",
        f"run_dir={folder / 'b'}",
    ]
    words = ["finetune", "quickstart/baseline", "model.baseline=mean", *short]
    done = genolm(*words, "plugins=[my_baseline]", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    predict = ["predict", folder / "b", folder / "t.csv", "--out", folder / "p.csv"]
    done = genolm(*predict, PYTHONPATH=path, GENOLM_PLUGINS="my_baseline")
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(folder / "p.csv")) == 60
    done = genolm(*predict, PYTHONPATH=path)
    assert done.returncode == 2 and "baseline 'mean' is unknown" in done.stderr and "GENOLM_PLUGINS" in done.stderr


def test_an_architecture_of_ones_own_is_pretrained_and_generates(folder, path):
    (folder / "g.fa").write_text(f">one\n{labelled_runs.letters(np.random.default_rng(0), 3000)}\n")
    short = ["training.max_steps=2", "training.bf16=false", "model.num_hidden_layers=1", "evaluation.markov_orders=[0]"]
    words = ["pretrain", "quickstart/causal", "model.architecture=mine", *short]
    words += [f"data.fasta={folder / 'g.fa'}", f"run_dir={folder / 'a'}", "data.window_bp=64"]
    done = genolm(*words, "plugins=[my_architecture]", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    draw = ["generate", folder / "a", "--length", "20", "--out", folder / "n.fa"]
    done = genolm(*draw, PYTHONPATH=path, GENOLM_PLUGINS="my_architecture")
    assert done.returncode == 0, done.stderr
    done = genolm(*draw, "--seed", "1", PYTHONPATH=path)
    assert done.returncode == 2 and "GENOLM_PLUGINS" in done.stderr and "Traceback" not in done.stderr


def test_a_plugin_that_is_not_there_is_named():
    values = {"run_dir": "r", "data": {}, "objective": {"kind": "causal"}, "model": {}, "plugins": ["no_such_module"]}
    with pytest.raises(SettingsError, match="r.yaml:7: plugins: no_such_module cannot be imported.*PYTHONPATH"):
        build_settings(PretrainRecipe, values, {"plugins": "r.yaml:7"}, "r.yaml")
    done = genolm("env", GENOLM_PLUGINS="no_such_module")
    assert done.returncode == 0
