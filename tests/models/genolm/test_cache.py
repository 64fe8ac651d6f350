"""Decoding cache: a prefix and its suffixes give the outputs of the whole rows."""

import pytest
import tiny
import torch
from transformers import DynamicCache

from genolm.models.genolm.configuration import MIXERS
from genolm.models.genolm.filters import grouped_filter, last_outputs, long_filter

PATTERNS = {mixer: [mixer, mixer] for mixer in MIXERS}
PATTERNS |= {"small": ["fir", "fir_medium", "ssm", "attention", "fir", "fir_medium"], "all": list(MIXERS)}
# The state of `ssm` is float32 in a float64 model too, and other lengths round otherwise.
CLOSE = {name: 3e-5 if "ssm" in pattern else 1e-10 for name, pattern in PATTERNS.items()}
LENGTH = 61


def causal(name: str, **changes):
    return tiny.model(*PATTERNS[name], causal=True, **{"kmer_embeddings": [1, 3], "eos_token_id": None, **changes})


@pytest.mark.parametrize("name", PATTERNS)
def test_a_row_in_two_parts_is_the_row_whole(name):
    """Around k-mers of 3, windows of 4, chunks of 8, taps of 12, and the number of tokens filtered at once, 32."""
    model, ids = causal(name), tiny.letters(2, LENGTH)
    with torch.no_grad():
        whole = model(ids).logits
        for at in (0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 28, 29, 30, 47, 60):
            past = model(ids[:, :at], use_cache=True).past_key_values if at else model.model.empty_cache(ids)
            rest = model(ids[:, at:], past_key_values=past)
            torch.testing.assert_close(
                rest.logits, whole[:, at:], atol=CLOSE[name], rtol=0, msg=lambda m, at=at: f"{at}: {m}"
            )
            assert rest.past_key_values is None and past.length == past.get_seq_length() == at


@pytest.mark.parametrize("name", PATTERNS)
def test_token_by_token_and_in_unequal_parts(name):
    model, ids = causal(name), tiny.letters(2, LENGTH)
    with torch.no_grad():
        whole = model(ids, output_hidden_states=True)
        for sizes in ([1] * LENGTH, [5, 1, 37, 2, 1, 15]):
            past, at = None, 0
            for size in sizes:
                out = model(ids[:, at : at + size], past_key_values=past, use_cache=True, output_hidden_states=True)
                for part, state in zip(out.hidden_states, whole.hidden_states, strict=True):
                    torch.testing.assert_close(part, state[:, at : at + size], atol=CLOSE[name], rtol=0)
                torch.testing.assert_close(out.logits, whole.logits[:, at : at + size], atol=CLOSE[name], rtol=0)
                past, at = out.past_key_values, at + size
            assert past.length == LENGTH


@pytest.mark.parametrize("name", PATTERNS)
def test_float32_and_bfloat16(name):
    model, ids = causal(name, dtype=torch.float32), tiny.letters(2, LENGTH)
    with torch.no_grad():
        for parameter in model.parameters():  # near fresh weights: lively ones amplify what is rounded
            parameter.mul_(0.5)
        whole = model(ids).logits

        def apart(at):
            past = model(ids[:, :at], use_cache=True).past_key_values
            return model(ids[:, at:], past_key_values=past).logits

        torch.testing.assert_close(apart(23), whole[:, 23:], atol=1e-5, rtol=0)
        torch.testing.assert_close(apart(59), whole[:, 59:], atol=1e-5, rtol=0)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(apart(59).float(), whole[:, 59:], atol=0.2, rtol=0)
        model.bfloat16()
        torch.testing.assert_close(apart(59).float(), whole[:, 59:], atol=0.2, rtol=0)


def tensors(past):
    yield from (tensor for layer in past.layers for tensor in layer)
    yield from (tensor for tensor in (past.bases, past.attended) if tensor is not None)


@pytest.mark.parametrize("name", PATTERNS)
def test_one_prefix_serves_many_suffixes_and_is_not_changed(name):
    model, prefix = causal(name), tiny.letters(1, 19)
    with torch.no_grad():
        past = model(prefix, use_cache=True).past_key_values
        before = [tensor.clone() for tensor in tensors(past)]
        for length in (1, 7, 40):
            suffixes = tiny.letters(5, length, seed=length)
            whole = model(torch.cat([prefix.expand(5, -1), suffixes], dim=1)).logits[:, 19:]
            many = past.repeat(5)
            for use_cache in (True, False):
                out = model(suffixes, past_key_values=many, use_cache=use_cache)
                torch.testing.assert_close(out.logits, whole, atol=CLOSE[name], rtol=0)
        assert all(torch.equal(one, other) for one, other in zip(tensors(past), before, strict=True))
        assert all(
            a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
            for a, b in zip(tensors(past), tensors(many), strict=True)
        )


@pytest.mark.parametrize("name", ["small", "all"])
def test_rows_of_a_cache_are_repeated_and_selected(name):
    model, prefix, suffix = causal(name), tiny.letters(3, 14), tiny.letters(6, 9, seed=1)
    with torch.no_grad():
        past = model(prefix, use_cache=True).past_key_values
        for index, taken in (
            (torch.tensor([0, 0, 1, 1, 2, 2]), past.repeat(2)),
            (torch.tensor([2, 0, 0, 1, 2, 0]), past.rows(torch.tensor([2, 0, 0, 1, 2, 0]))),
        ):
            whole = model(torch.cat([prefix[index], suffix], dim=1)).logits[:, 14:]
            torch.testing.assert_close(model(suffix, past_key_values=taken).logits, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PATTERNS)
def test_padding_before_between_and_after(name):
    """On the left of prompts, on the right of suffixes; the mask may be of the new tokens or of all."""
    model, ids = causal(name), tiny.letters(3, 40)
    mask = torch.ones_like(ids)
    mask[0, :6], mask[1, :1], mask[1, 33:], mask[2, 20:25], mask[2, 39:] = 0, 0, 0, 0, 0
    with torch.no_grad():
        whole = model(ids, mask).logits
        for at in (3, 17, 22, 36):
            past = model(ids[:, :at], mask[:, :at], use_cache=True).past_key_values
            for given in (mask, mask[:, at:]):
                rest = model(ids[:, at:], given, past_key_values=past).logits
                real = mask[:, at:] == 1
                torch.testing.assert_close(rest[real], whole[:, at:][real], atol=CLOSE[name], rtol=0)
        # Suffixes of unequal length after one prefix, each as it is alone.
        past = model(ids[:1, 6:20], use_cache=True).past_key_values
        lengths = [1, 9, 14]
        suffixes = tiny.letters(3, 14, seed=1)
        real = torch.arange(14) < torch.tensor(lengths)[:, None]
        padded = model(suffixes.where(real, tiny.PAD), real.long(), past_key_values=past.repeat(3)).logits
        for row, length in enumerate(lengths):
            alone = model(suffixes[row : row + 1, :length], past_key_values=past).logits[0]
            torch.testing.assert_close(padded[row, :length], alone, atol=CLOSE[name], rtol=0)
        # A mask from here on only, after a prefix that had none; and none, after a prefix that had one.
        past = model(ids[:, :10], mask[:, :10], use_cache=True).past_key_values
        torch.testing.assert_close(
            model(ids[:, 10:20], past_key_values=past).logits, whole[:, 10:20], atol=CLOSE[name], rtol=0
        )


@pytest.mark.parametrize("name", PATTERNS)
def test_generation_with_the_cache_is_that_without(name):
    model, ids = causal(name), tiny.letters(3, 9)
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    for options in (
        {"do_sample": False, "max_new_tokens": 45},
        {"do_sample": False, "num_beams": 3, "max_new_tokens": 12},
        {"do_sample": True, "top_k": 0, "num_return_sequences": 2, "max_new_tokens": 12},
    ):
        found = []
        for use_cache in (True, False):
            torch.manual_seed(0)
            found.append(model.generate(ids, attention_mask=mask, use_cache=use_cache, **options))
        assert torch.equal(*found)
    assert len(found[0].unique()) > 2


def test_generation_uses_a_cache_by_default_and_continues_a_given_one():
    model, ids = causal("small"), tiny.letters(1, 9)
    lengths = []
    model.model.layers[0].register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 3, "do_sample": False}
    out = model.generate(ids, **options)
    assert lengths == [9, 1, 1]
    model.generate(ids, **options, use_cache=False)
    assert lengths[3:] == [9, 10, 11]
    past = model(ids[:, :6], use_cache=True).past_key_values
    lengths.clear()
    assert torch.equal(model.generate(ids, past_key_values=past, **options), out)
    assert lengths == [3, 1, 1] and past.length == 6
    with pytest.raises(ValueError, match="stateful"):
        model.generate(ids, assistant_model=causal("small"), **options)


@pytest.mark.parametrize("name", PATTERNS)
def test_nothing_is_cached_by_default_and_no_more_than_is_needed(name):
    model, ids = causal(name), tiny.letters(2, 50)
    assert model(ids).past_key_values is None and len(model(ids, return_dict=False)) == 1
    for layer in model.model.layers:
        layer.mixer.initial_state = None  # not even looked at
    model(ids)
    with torch.no_grad():
        past = causal(name)(ids, use_cache=True).past_key_values
    for tensor in tensors(past):
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    kept = sum(tensor[0].numel() for tensor in past.layers[0])
    expected = {
        "attention": 2 * 50 * 8,
        "local_attention": 2 * 3 * 8 + 3,
        "convolution": 4 * 16,
        "fir": 2 * 48 + 6 * 16,
        "fir_medium": 2 * 48 + 11 * 16,
        "hyena": 2 * 48 + 50 * 16,
        "ssm": 3 * (32 + 2 * 2 * 4) + 4 * 4 * 8,
    }
    assert kept == expected[PATTERNS[name][0]]


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_pass_through_the_cache(name, checkpointing):
    model, ids = causal(name), tiny.letters(2, 30)
    model.train()
    weight = torch.randn(2, 13, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def learn(at):
        model.zero_grad()
        past = model(ids[:, :at], use_cache=True).past_key_values if at else None
        (model(ids[:, at:], past_key_values=past).logits[:, -13:] * weight).sum().backward()
        return {key: parameter.grad.clone() for key, parameter in model.named_parameters()}

    whole = learn(0)
    if checkpointing:
        model.gradient_checkpointing_enable()
    for key, gradient in learn(17).items():
        scale = whole[key].abs().max()
        assert (gradient - whole[key]).abs().max() <= 1e-5 * scale + 1e-9, key


def test_a_cache_of_another_model_or_other_rows_is_refused():
    model, ids = causal("small"), tiny.letters(2, 9)
    with pytest.raises(ValueError, match="past_key_values is a DynamicCache; give what this model returned"):
        model(ids, past_key_values=DynamicCache())
    with pytest.raises(ValueError, match="past_key_values is of 7 layers, and this model has 6"):
        model(ids, past_key_values=causal("all")(ids, use_cache=True).past_key_values)
    past = model(ids[:1], use_cache=True).past_key_values
    with pytest.raises(ValueError, match="past_key_values has 1 rows and input_ids 2; see `past_key_values.repeat`"):
        model(ids, past_key_values=past)
    with pytest.raises(ValueError, match="attention_mask has 4 columns; it may have 9, of the tokens given, or 18"):
        model(ids, torch.ones(2, 4), past_key_values=past.repeat(2))


@pytest.mark.parametrize("size", [1, 2, 7, 40])
@pytest.mark.parametrize("num", [1, 5, 20])
def test_the_last_outputs_are_those_of_the_whole_row(size, num):
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(2, 20, 12, dtype=torch.float64, generator=generator)
    taps = torch.randn(4, size, dtype=torch.float64, generator=generator)
    expected = torch.zeros(2, 20, 12, dtype=torch.float64)
    for t in range(20):
        for i in range(min(size, t + 1)):
            expected[:, t] += taps[:, i].repeat_interleave(3) * u[:, t - i]
    torch.testing.assert_close(last_outputs(u, taps, num), expected[:, -num:])
    torch.testing.assert_close(grouped_filter(u, taps), expected)
    if size >= 20:
        torch.testing.assert_close(long_filter(u, taps), expected)


@pytest.mark.parametrize("num_changed", [1, 3, 20])
@pytest.mark.parametrize("name", PATTERNS)
def test_layers_run_only_as_far_as_changed_tokens_reach(name, num_changed):
    model, prefix, first = causal(name), tiny.letters(2, 19), tiny.letters(2, 40, seed=1)
    rows = torch.tensor([0, 1, 1, 0, 0])
    others = first[rows]
    others[:, :num_changed] = tiny.letters(5, num_changed, seed=2)
    ran, layers = [], model.model.layers
    with torch.no_grad():
        past = model(prefix, use_cache=True).past_key_values
        states = model(first, past_key_values=past, output_hidden_states=True).hidden_states
        hooks = [layer.register_forward_pre_hook(lambda _, args: ran.append(args[0].shape[1])) for layer in layers]
        known = past.rows(rows).with_reference(states, rows, num_changed)
        found = model(others, past_key_values=known, use_cache=False).logits
        for hook in hooks:
            hook.remove()
        whole = model(torch.cat([prefix[rows], others], dim=1)).logits[:, 19:]
        torch.testing.assert_close(found, whole, atol=CLOSE[name], rtol=0)
        with pytest.raises(ValueError, match="no padding"):
            model(others, torch.ones_like(others), past_key_values=known, use_cache=False)
    if name in ("fir", "fir_medium", "convolution", "local_attention", "small"):
        assert ran[0] < 40 and ran[0] >= num_changed
    assert ran[-1] == 40
