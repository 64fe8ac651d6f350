"""The invariants of training, through the real Trainer, on a model small enough for exact sums."""

import hashlib
import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, TrainingArguments

from genolm.data.collate import CausalCollator, MaskedCollator, Masking
from genolm.data.corpus import Corpus
from genolm.genome.regions import Regions
from genolm.genome.store import prepare_store
from genolm.models.loss import weighted_token_loss
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.tokenizers.encode import make_encoder
from genolm.training.loop_callbacks import RunLog, bits_and_speed
from genolm.training.trainer import SampleNumbers, WeightedTrainer, seed_step

# torch warns where workers outnumber cores, which is beside the point here.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("genome")
    sequence = "".join(np.random.default_rng(3).choice(list("ACGTacgtN"), 4000))
    (folder / "g.fa").write_text(f">one\n{sequence}\n>two\n{sequence[:37]}\n>three\n{sequence[:20]}\n")
    store = prepare_store({"g": [folder / "g.fa"]}, folder / "store")
    encoder = make_encoder(build_tokenizer(load_spec("char")))
    return Corpus(store, Regions.whole(store), encoder, 64, seed=5, soft_masked_weight=0.3, pack=True)


def small_model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    return AutoModelForCausalLM.from_config(config).double()


def train(corpus, folder, steps, batch, accumulate, workers=0, model=None, **options):
    model = small_model() if model is None else model
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulate,
        dataloader_num_workers=workers,
        learning_rate=1e-2,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        remove_unused_columns=False,
        **options,
    )
    log = folder / "log.jsonl"
    trainer = WeightedTrainer(
        model=model,
        args=arguments,
        train_dataset=SampleNumbers(steps * batch * accumulate),
        data_collator=CausalCollator(corpus),
        loss=partial(weighted_token_loss, causal=True),
        callbacks=[RunLog(log, bits_and_speed(batch * accumulate * corpus.length_tokens, 1.0, "causal"))],
    )
    trainer.train()
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}, trainer.state.log_history


def test_eight_times_one_is_one_times_eight(corpus, tmp_path):
    whole_batch, log = train(corpus, tmp_path, 3, 8, 1)
    for batch, accumulate in ((1, 8), (4, 2)):
        parts, other = train(corpus, tmp_path, 3, batch, accumulate)
        for name in whole_batch:
            torch.testing.assert_close(parts[name], whole_batch[name], rtol=1e-6, atol=1e-9)
        losses = [[row["loss"] for row in rows if "loss" in row] for rows in (log, other)]
        np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


def test_the_loss_is_the_weighted_mean_over_the_batch(corpus, tmp_path):
    train(corpus, tmp_path, 1, 8, 1)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    batch = CausalCollator(corpus)(range(8))
    logits = small_model()(input_ids=batch["input_ids"]).logits.detach().log_softmax(-1)
    nats = weight = 0.0
    for row in range(8):
        for t in range(1, 64):
            w = float(batch["loss_weight"][row, t])
            if w:
                nats -= w * float(logits[row, t - 1, batch["input_ids"][row, t]])
                weight += w
    assert log[0]["loss"] == pytest.approx(nats / weight, rel=1e-5)
    assert log[0]["bits_per_base"] == pytest.approx(nats / weight / math.log(2), abs=1e-4)


def test_two_runs_give_the_same_bytes_whatever_the_workers(corpus, tmp_path):
    first, _ = train(corpus, tmp_path, 4, 4, 1)
    for workers in (0, 2):
        again, _ = train(corpus, tmp_path, 4, 4, 1, workers=workers)
        assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("batches", [6, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_workers_and_prefetching_give_the_same_batches(corpus, kind, batches):
    collate = CausalCollator(corpus) if kind == "causal" else MaskedCollator(corpus, Masking(corpus.encoder))
    hashes = []
    for workers, prefetch in [(0, None), *((workers, ahead) for workers in (1, 2, 4) for ahead in (1, 4))]:
        loader = DataLoader(
            SampleNumbers(8 * batches), batch_size=8, collate_fn=collate, num_workers=workers, prefetch_factor=prefetch
        )
        digest = hashlib.sha256()
        for batch in loader:
            for name in sorted(batch):
                digest.update(batch[name].numpy().tobytes())
        hashes.append(digest.hexdigest())
    assert len(hashes) == 7 and len(set(hashes)) == 1


def test_dropout_is_a_function_of_seed_step_and_rank():
    def drawn(*where):
        seed_step(*where)
        return tuple(torch.rand(4).tolist()), np.random.random()

    places = [(seed, step, rank) for seed in (0, 1) for step in (0, 1, 2) for rank in (0, 1, 2)]
    first = [drawn(*place) for place in places]
    assert [drawn(*place) for place in reversed(places)][::-1] == first
    assert len(set(first)) == len(places)


def test_the_log_tells_speed_and_held_out_bits(corpus, tmp_path):
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=4, use_cpu=True, report_to="none", save_strategy="no", logging_steps=2
    )
    log = RunLog(
        tmp_path / "log.jsonl", bits_and_speed(512, 2.0, "masked"), lambda model: {"masked_bits_per_base": 1.5}, 2
    )
    trainer = WeightedTrainer(
        model=small_model(),
        args=arguments,
        train_dataset=SampleNumbers(32),
        data_collator=CausalCollator(corpus),
        loss=partial(weighted_token_loss, causal=True),
        callbacks=[log],
    )
    trainer.train()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [row for row in rows if "loss" in row]
    assert [row["step"] for row in losses] == [2, 4]
    assert [row["samples"] for row in losses] == [16, 32]
    for row in losses:
        assert row["masked_bits_per_base"] == pytest.approx(row["loss"] / math.log(2) / 2, abs=1e-4)
        assert row["bases_per_second"] == pytest.approx(2 * row["tokens_per_second"], abs=2)
    assert [row["eval_masked_bits_per_base"] for row in rows if "eval_masked_bits_per_base" in row] == [1.5, 1.5]


def decays(model, folder, weight_decay: float) -> dict[str, float]:
    """Parameter name → weight decay in the trainer's optimizer."""
    arguments = TrainingArguments(output_dir=str(folder), use_cpu=True, report_to="none", weight_decay=weight_decay)
    trainer = WeightedTrainer(
        model=model, args=arguments, train_dataset=SampleNumbers(1), loss=partial(weighted_token_loss, causal=True)
    )
    names = {id(p): name for name, p in model.named_parameters()}
    groups = trainer.create_optimizer().param_groups
    found = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    assert len(found) == len(names) == sum(len(group["params"]) for group in groups)
    return found


def test_a_model_says_which_of_its_parameters_do_not_decay(tmp_path):
    mixers = ["fir", "hyena", "ssm", "attention"]
    config = AutoConfig.for_model(
        "genolm", hidden_size=32, num_hidden_layers=4, mixers=mixers, causal=True, ssm_head_dim=16
    )
    found = decays(AutoModelForCausalLM.from_config(config), tmp_path, 0.1)
    free = {name for name, decay in found.items() if decay == 0}
    assert all(decay in (0, 0.1) for decay in found.values())
    state_space = {f"model.layers.2.mixer.{name}" for name in ("log_rate", "skip", "step_bias", "norm_weight")}
    assert state_space <= free
    assert {name for name in free if ".filter." in name} == {
        *(f"model.layers.1.mixer.filter.layers.{i}.{part}" for i in range(3) for part in ("weight", "bias")),
        *(f"model.layers.1.mixer.filter.{name}" for name in ("frequency", "skip", "output.weight")),
    }
    assert found["model.layers.0.mixer.filter.weight"] == found["model.embeddings.tokens.weight"] == 0.1
    assert all("norm" in name or "bias" in name or name in state_space for name in free if ".filter." not in name)


def test_a_factor_makes_a_group_of_its_own(tmp_path):
    model = small_model()
    model.weight_decay_factors = lambda: {r"q_proj": 3.0, r"lm_head": 0.0, r"norm": 5.0}
    found = decays(model, tmp_path, 0.1)
    for name, decay in found.items():
        assert decay == pytest.approx(0.3 if "q_proj" in name else 0.0 if "norm" in name or "lm_head" in name else 0.1)
    assert set(decays(model, tmp_path, 0.0).values()) == {0.0}
