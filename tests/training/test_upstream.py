"""What transformers' Trainer does by itself. A test that fails here says that an addition of ours may go."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, index):
        ids = torch.arange(index, index + 8) % 16
        return {"input_ids": ids, "labels": ids}


def trainer(folder, cls=Trainer, **options):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=4,
        save_steps=2,
        logging_steps=1,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        **options,
    )
    return cls(model=AutoModelForCausalLM.from_config(config), args=arguments, train_dataset=Rows())


def test_it_resumes_without_an_optimizer_and_says_nothing(tmp_path):
    trainer(tmp_path).train()
    (tmp_path / "checkpoint-2" / "optimizer.pt").unlink()
    resumed = trainer(tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert resumed.state.global_step == 4


def test_it_writes_in_place_and_picks_what_is_half_written(tmp_path):
    class Dies(Trainer):
        def _save_optimizer_and_scheduler(self, output_dir):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, Dies).train()
    assert get_last_checkpoint(str(tmp_path)) == str(tmp_path / "checkpoint-2")
    assert not (tmp_path / "checkpoint-2" / "trainer_state.json").exists()


def test_it_trains_on_what_is_not_finite_and_logs_a_number(tmp_path):
    class Poisoned(Trainer):
        def compute_loss(self, *args, **kwargs):
            return super().compute_loss(*args, **kwargs) * float("nan")

    poisoned = trainer(tmp_path, Poisoned, max_grad_norm=0.0)
    poisoned.train()
    assert poisoned.state.global_step == 4
    state = json.loads((tmp_path / "checkpoint-4" / "trainer_state.json").read_text())
    assert [row["loss"] for row in state["log_history"] if "loss" in row] == [0.0] * 4
    assert all(torch.isnan(p).all() for p in poisoned.model.parameters())
