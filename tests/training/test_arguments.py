"""What the training block of a recipe becomes."""

import dataclasses

import pytest
import transformers

from genolm.training import arguments as module
from genolm.training.arguments import training_arguments

CPU = {"use_cpu": True, "bf16": False}


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing")
def test_activation_checkpointing_has_its_older_name_before_transformers_5_18(monkeypatch, tmp_path):
    fields = [f for f in dataclasses.fields(transformers.TrainingArguments) if not f.name.startswith("activation_")]
    monkeypatch.setattr(module.dataclasses, "fields", lambda _: fields)
    options = {"use_reentrant": False}
    block = {"activation_checkpointing": True, "activation_checkpointing_kwargs": options}
    made = training_arguments(CPU | block, tmp_path, 1)
    assert made.gradient_checkpointing
    assert made.gradient_checkpointing_kwargs == options


@pytest.mark.parametrize("name", ["activation_checkpointing", "gradient_checkpointing"])
def test_both_names_switch_it_on(name, tmp_path):
    assert training_arguments(CPU | {name: True}, tmp_path, 1).gradient_checkpointing


def test_copies_to_a_gpu_do_not_wait(tmp_path):
    assert not training_arguments(CPU, tmp_path, 1).accelerator_config.non_blocking
    assert training_arguments(CPU | {"use_cpu": False}, tmp_path, 1).accelerator_config.non_blocking
