"""Heads: losses by hand, what is returned, generation."""

import math

import pytest
import tiny
import torch
from transformers import Trainer, TrainingArguments

from genolm.models.genolm.configuration import MIXERS
from genolm.models.genolm.modeling import (
    GenoLMBlock,
    GenoLMForCausalLM,
    GenoLMForSequenceClassification,
    GenoLMForTokenClassification,
    GenoLMModel,
)

ALL = {"all": MIXERS, **{mixer: [mixer] for mixer in MIXERS}}


def by_hand(logits, labels):
    """The mean of -ln softmax(logits)[label], label by label; -100 is left out."""
    nats = [
        math.log(sum(math.exp(float(x)) for x in row)) - float(row[label])
        for row, label in zip(logits.flatten(0, 1).tolist(), labels.flatten().tolist(), strict=True)
        if label != -100
    ]
    return sum(nats) / len(nats)


def test_the_masked_loss_by_hand():
    for changes in ({}, {"reverse_complement": "equivariant"}):
        model, ids = tiny.model("fir", "attention", **changes), tiny.letters(2, 9)
        labels = ids.clone()
        labels[:, ::2] = -100
        outputs = model(ids, labels=labels)
        assert outputs.loss.item() == pytest.approx(by_hand(outputs.logits, labels), rel=1e-6)


def test_the_causal_loss_by_hand_is_of_the_next_token():
    model, ids = tiny.model("fir", "attention", causal=True), tiny.letters(2, 9)
    labels = ids.clone()
    labels[0, :4], labels[1, 7] = -100, -100
    outputs = model(ids, labels=labels)
    assert outputs.loss.item() == pytest.approx(by_hand(outputs.logits[:, :-1], labels[:, 1:]), rel=1e-6)


def test_token_and_sequence_classification_by_hand():
    ids, mask = tiny.letters(2, 7), torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0]])
    torch.manual_seed(0)
    token = tiny.lively(GenoLMForTokenClassification(tiny.config("fir", "ssm", num_labels=3)))
    labels = torch.tensor([[-100, -100, 0, 1, 2, 0, 1], [2, 2, 1, 1, 0, 0, -100]])
    outputs = token(ids, mask, labels)
    assert outputs.logits.shape == (2, 7, 3)
    assert outputs.loss.item() == pytest.approx(by_hand(outputs.logits, labels), rel=1e-5)
    sequence = tiny.lively(GenoLMForSequenceClassification(tiny.config("fir", "ssm", num_labels=3)))
    hidden = sequence.model(ids, mask).last_hidden_state
    pooled = torch.stack([hidden[0, 2:].mean(0), hidden[1, :6].mean(0)])
    expected = pooled @ sequence.score.weight.T + sequence.score.bias
    outputs = sequence(ids, mask, torch.tensor([2, 0]))
    torch.testing.assert_close(outputs.logits, expected)
    assert outputs.loss.item() == pytest.approx(by_hand(outputs.logits[:, None], torch.tensor([[2], [0]])), rel=1e-5)
    torch.testing.assert_close(sequence(ids).logits, sequence(ids, torch.ones_like(ids)).logits)


def test_a_regression_and_several_labels_take_transformers_losses():
    ids = tiny.letters(2, 7)
    one = GenoLMForSequenceClassification(tiny.config("fir", num_labels=1)).eval()
    outputs = one(ids, labels=torch.tensor([0.5, -1.0]))
    expected = ((outputs.logits.flatten() - torch.tensor([0.5, -1.0])) ** 2).mean()
    torch.testing.assert_close(outputs.loss, expected)
    many = GenoLMForSequenceClassification(tiny.config("fir", num_labels=3)).eval()
    labels = torch.tensor([[1.0, 0, 1], [0, 0, 1]])
    outputs = many(ids, labels=labels)
    p = outputs.logits.sigmoid()
    torch.testing.assert_close(outputs.loss, -(labels * p.log() + (1 - labels) * (1 - p).log()).mean())


@pytest.mark.parametrize("changes", [{}, {"causal": True}, {"reverse_complement": "equivariant"}], ids=str)
def test_hidden_states_are_the_embedding_and_the_output_of_every_layer(changes):
    model, ids = tiny.model("fir", "ssm", "attention", **changes), tiny.letters(2, 9)
    assert model(ids).hidden_states is None
    outputs = model(ids, output_hidden_states=True)
    states = outputs.hidden_states
    assert len(states) == 4 and all(state.shape == (2, 9, 16) for state in states)
    backbone = model.model(ids, output_hidden_states=True)
    for one, other in zip(states, backbone.hidden_states, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(states[-1], backbone.last_hidden_state)
    if changes.get("reverse_complement") is None:
        torch.testing.assert_close(states[0], model.model.embeddings(ids))
        torch.testing.assert_close(states[-1] @ model.lm_head.weight.T, outputs.logits)
        seen = []
        hooks = [layer.register_forward_hook(lambda m, i, out: seen.append(out)) for layer in model.model.layers]
        model(ids)
        assert len(hooks) == 3 and all(torch.equal(a, b) for a, b in zip(seen[:2], states[1:3], strict=True))
        torch.testing.assert_close(model.model.norm(seen[2]), states[3])


def test_return_dict_false_gives_a_tuple():
    ids = tiny.letters(1, 5)
    for model in (tiny.model("fir"), tiny.model("fir", causal=True)):
        loss, logits = model(ids, labels=ids, return_dict=False)
        outputs = model(ids, labels=ids)
        assert torch.equal(loss, outputs.loss) and torch.equal(logits, outputs.logits)
        (hidden,) = model.model(ids, return_dict=False)
        assert torch.equal(hidden, model.model(ids).last_hidden_state)
        model.config.return_dict = False
        assert isinstance(model(ids), tuple)
    for kind in (GenoLMForSequenceClassification, GenoLMForTokenClassification):
        assert isinstance(kind(tiny.config("fir"))(ids, return_dict=False), tuple)


def test_logits_of_some_tokens_only():
    model, ids = tiny.model("fir", "ssm", causal=True), tiny.letters(2, 9)
    whole = model(ids).logits
    assert torch.equal(model(ids, logits_to_keep=0).logits, whole)
    torch.testing.assert_close(model(ids, logits_to_keep=1).logits, whole[:, -1:])
    torch.testing.assert_close(model(ids, logits_to_keep=4).logits, whole[:, -4:])
    torch.testing.assert_close(model(ids, logits_to_keep=torch.tensor([0, 5])).logits, whole[:, [0, 5]])


LAST = {
    "small": ["fir", "fir_medium", "ssm", "attention", "fir", "fir_medium"],
    "seen": ["local_attention", "convolution", "fir"],
    "whole": ["fir", "attention"],
}


@pytest.mark.parametrize("changes", [{}, {"reverse_complement": "equivariant"}, {"kmer_embeddings": [3]}], ids=str)
@pytest.mark.parametrize("name", LAST)
def test_masked_logits_of_some_tokens_cost_no_more_than_these_see(name, changes):
    model, ids, ran = tiny.model(*LAST[name], **changes), tiny.letters(3, 61), []
    mask = torch.ones_like(ids)
    mask[0, :9], mask[1, 50:] = 0, 0
    model.model.layers[-1].register_forward_pre_hook(lambda _, args: ran.append(args[0].shape[1]))
    with torch.no_grad():
        for given in (None, mask):
            whole = model(ids, given).logits
            for place in (slice(0, 1), slice(30, 32), slice(60, 61), slice(5, 58)):
                ran.clear()
                some = model(ids, given, logits_to_keep=place, output_hidden_states=place.start == 5).logits
                torch.testing.assert_close(some, whole[:, place], atol=3e-5, rtol=0)
                assert (ran[0] < 61) == (place.start != 5 and name != "whole" and "reverse_complement" not in changes)


@pytest.mark.parametrize("kind", [GenoLMForCausalLM, GenoLMForTokenClassification])
def test_plain_trainer_divides_the_loss_over_accumulated_batches(tmp_path, kind):
    ids, learnt = tiny.letters(4, 9), []
    rows = [{"input_ids": row, "labels": row % 2} for row in ids]
    for size, steps in ((4, 1), (2, 2), (1, 4)):
        torch.manual_seed(0)
        model = tiny.lively(kind(tiny.config("fir", causal=kind is GenoLMForCausalLM)))
        arguments = TrainingArguments(
            *(str(tmp_path),),
            **{"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "max_steps": 1},
            **{"optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0, "report_to": "none", "use_cpu": True},
            **{"save_strategy": "no", "disable_tqdm": True, "lr_scheduler_type": "constant"},
        )
        Trainer(model, arguments, train_dataset=rows).train()
        learnt.append(model.state_dict())
    for name, weight in learnt[0].items():
        for other in learnt[1:]:
            torch.testing.assert_close(other[name], weight, atol=1e-5, rtol=1e-4)


def test_a_block_without_an_mlp_is_norm_mixer_and_sum():
    block = GenoLMBlock(tiny.config("convolution", intermediate_size=0), 0)
    assert block.mlp is None
    x = torch.randn(1, 6, 16)
    torch.testing.assert_close(block(x), x + block.mixer(block.mixer_norm(x)))


@pytest.mark.parametrize("norm", ["rmsnorm", "layernorm"])
@pytest.mark.parametrize("mlp", ["swiglu", "gelu"])
@pytest.mark.parametrize("bias", [True, False])
def test_norms_and_mlps_by_hand(norm, mlp, bias):
    block = tiny.lively(GenoLMBlock(tiny.config("convolution", norm=norm, mlp=mlp, bias=bias), 0)).double()
    names = [name for name, _ in block.named_parameters() if name.endswith("bias")]
    assert bool(names) == bias
    x = torch.randn(1, 6, 16, dtype=torch.float64)

    def normalised(x, layer):
        if norm == "layernorm":
            x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * layer.weight
        return x + layer.bias if norm == "layernorm" and bias else x

    x_ = x + block.mixer(normalised(x, block.mixer_norm))
    inner, up = block.mlp, block.mlp.up_proj(normalised(x_, block.mlp_norm))
    if mlp == "swiglu":
        gate = inner.gate_proj(normalised(x_, block.mlp_norm))
        up = gate * gate.sigmoid() * up
    else:
        up = up * 0.5 * (1 + torch.erf(up / 2**0.5))
    torch.testing.assert_close(block(x), x_ + inner.out_proj(up))


def test_dropout_is_of_training_only():
    torch.manual_seed(0)
    model = tiny.model("fir", "attention", dropout=0.5)
    ids = tiny.letters(2, 9)
    assert torch.equal(model(ids).logits, model(ids).logits)
    model.train()
    assert not torch.equal(model(ids).logits, model(ids).logits)


@pytest.mark.parametrize("pattern", ALL)
def test_greedy_generation_is_the_argmax_step_by_step(pattern):
    """Of a batch padded on the left as of each row alone."""
    model = tiny.model(*ALL[pattern], causal=True, kmer_embeddings=[2], eos_token_id=None)
    prompts = [tiny.letters(n, seed=n).tolist() for n in (9, 4, 6)]
    expected = []
    with torch.no_grad():
        for prompt in prompts:
            row = list(prompt)
            for _ in range(8):
                row.append(int(model(torch.tensor([row])).logits[0, -1].argmax()))
            expected.append(row[len(prompt) :])
    ids = torch.tensor([[tiny.PAD] * (9 - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (9 - len(p)) + [1] * len(p) for p in prompts])
    for use_cache in (False, True):
        out = model.generate(ids, attention_mask=mask, max_new_tokens=8, do_sample=False, use_cache=use_cache)
        assert out[:, 9:].tolist() == expected
    assert len({token for row in expected for token in row}) > 1


def test_generation_stops_at_the_end_and_samples_what_temperature_allows():
    model = tiny.model("fir", "ssm", causal=True, dtype=torch.float32)
    ids = tiny.letters(1, 6)
    first = int(model(ids).logits[0, -1].argmax())
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, eos_token_id=first)
    assert out[0].tolist() == [*ids[0].tolist(), first]
    torch.manual_seed(0)
    sampled = model.generate(
        *(ids.expand(300, -1),),
        **{
            "attention_mask": torch.ones(300, 6),
            "max_new_tokens": 1,
            "do_sample": True,
            "temperature": 1.7,
            "top_k": 0,
        },
    )[:, -1]
    expected = (model(ids).logits[0, -1] / 1.7).softmax(-1)
    found = torch.bincount(sampled, minlength=16) / 300
    assert (found - expected).abs().max() < 5 * (expected * (1 - expected) / 300).max().sqrt()
    cold = model.generate(
        *(ids.expand(20, -1),),
        **{"attention_mask": torch.ones(20, 6), "max_new_tokens": 1, "do_sample": True, "temperature": 1e-3},
    )
    assert set(cold[:, -1].tolist()) == {first}


def test_the_embedding_can_be_replaced_and_grown():
    model = tiny.model("fir", causal=True, dtype=torch.float32)
    ids = tiny.letters(1, 6)
    before = model(ids).logits
    model.resize_token_embeddings(24, mean_resizing=False)
    assert model.get_input_embeddings().weight.shape == model.get_output_embeddings().weight.shape == (24, 16)
    torch.testing.assert_close(model(ids).logits[..., :16], before)


@pytest.mark.parametrize("changes", [{"kmer_embeddings": [2]}, {"reverse_complement": "equivariant"}], ids=str)
def test_a_grown_vocabulary_keeps_bases_and_strands(changes):
    """Tokens that are added later stand for no letter, and are the same on either strand."""
    model = tiny.model("fir", dtype=torch.float32, **changes)
    model.resize_token_embeddings(24, mean_resizing=False)
    ids = torch.tensor([[7, 8, 20, 23, 9]])
    assert model(ids).logits.shape == (1, 5, 24)
    if "reverse_complement" in changes:
        other = torch.tensor([[8, 23, 20, 9, 10]])
        columns = torch.arange(24)
        columns[tiny.BASES] = torch.tensor(tiny.BASES[::-1])
        torch.testing.assert_close(model(ids).logits, model(other).logits.flip(1)[..., columns])


def test_a_backbone_and_its_heads_compute_the_same():
    torch.manual_seed(0)
    model = tiny.lively(GenoLMForCausalLM(tiny.config(causal=True)))
    backbone = GenoLMModel(model.config)
    backbone.load_state_dict(model.model.state_dict())
    ids = tiny.letters(2, 9)
    torch.testing.assert_close(backbone.eval()(ids).last_hidden_state @ model.lm_head.weight.T, model(ids).logits)


@pytest.mark.parametrize("changes", [{}, {"causal": True}, {"reverse_complement": "equivariant"}], ids=str)
def test_a_mask_may_be_of_any_kind_of_number(changes):
    model, ids = tiny.model(kmer_embeddings=[2], **changes), tiny.letters(2, 11)
    mask = torch.ones(2, 11, dtype=torch.int64)
    mask[0, :3] = 0
    expected = model(ids, mask).logits[mask == 1]
    for kind in (torch.bool, torch.int32, torch.uint8, torch.float32):
        torch.testing.assert_close(model(ids, mask.to(kind)).logits[mask == 1], expected, msg=str(kind))
