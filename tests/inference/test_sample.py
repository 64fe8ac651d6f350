"""Bases drawn from language models: what is drawn how often, step by step by hand, and whatever the batch."""

import numpy as np
import pytest
import tiny
import torch

from genolm.inference.sample import Sampling, Spelling, encode_prompt, fill, generate_after, matching_tokens
from genolm.tokenizers.build import TokenizerSpec, build_tokenizer
from genolm.tokenizers.encode import make_encoder

SPECS = {
    "char": TokenizerSpec("char"),
    "kmer": TokenizerSpec("kmer", k=3),
    "kmer-overlapping": TokenizerSpec("kmer-overlapping", k=3),
    "bpe": TokenizerSpec("bpe", vocab_size=40, max_token_bp=5),
    "prefixed": TokenizerSpec("char", prefix=["[BOS]"]),
}


def parts(name: str, causal: bool = True):
    """A model with a vocabulary larger than the tokenizer's, its encoder, and the letters of its tokens."""
    rng = np.random.default_rng(0)
    learnt = ["".join(rng.choice(list("ACGT"), 60)) for _ in range(20)] if name == "bpe" else None
    tokenizer = build_tokenizer(SPECS[name], learnt)
    encoder = make_encoder(tokenizer)
    size = len(tokenizer) + 5
    model = tiny.model("fir", "attention", causal=causal, vocab_size=size, base_token_ids=None, dtype=torch.float32)
    return model, encoder, Spelling.of(tokenizer, encoder, size)


def test_tokens_are_drawn_as_often_as_they_are_likely():
    logits = torch.tensor([[1.0, -torch.inf, 0.0, 2.0, -1.0]]).expand(20_000, -1)
    numbers, places = np.arange(20_000), np.zeros(20_000, dtype=int)

    def shares(**options):
        drawn = Sampling(**options).draw(logits, numbers, places)
        return np.bincount(drawn.numpy(), minlength=5) / 20_000

    def softmax(values):
        weights = np.exp(np.array(values))
        return weights / weights.sum()

    for temperature in (1.0, 0.5, 2.0):
        expected = softmax(logits[0].double().numpy() / temperature)
        np.testing.assert_allclose(shares(temperature=temperature), expected, atol=0.02)
    none = -np.inf
    np.testing.assert_allclose(shares(top_k=2), softmax([1.0, none, none, 2.0, none]), atol=0.02)
    np.testing.assert_allclose(shares(top_k=9), softmax(logits[0].double().numpy()), atol=0.02)
    # 0.64, 0.24, 0.09, 0.03: three have 0.9 together, two have 0.88.
    np.testing.assert_allclose(shares(top_p=0.9), softmax([1.0, none, 0.0, 2.0, none]), atol=0.02)
    np.testing.assert_allclose(shares(top_p=0.88), softmax([1.0, none, none, 2.0, none]), atol=0.02)
    assert shares(top_p=0.1)[3] == shares(top_k=1)[3] == shares(temperature=0)[3] == 1
    one, other = (Sampling(seed=seed).draw(logits, numbers, places) for seed in (0, 1))
    assert 0.3 < (one == other).float().mean() < 0.7
    assert torch.equal(one[5:9], Sampling().draw(logits[5:9], numbers[5:9], places[5:9]))


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}], ids=str)
def test_what_is_no_way_to_draw_is_refused(wrong):
    (key,) = wrong
    with pytest.raises(ValueError, match=f"^{key} is"):
        Sampling(**wrong)


def test_spelling_by_hand():
    _, encoder, spelling = parts("kmer")
    ids = encoder.encode_batch(np.frombuffer(b"ACGTTAC", dtype=np.uint8)[None], special_tokens=False).ids[0].tolist()
    assert [spelling.text(i, int(spelling.num_bases[i])) for i in ids] == ["ACG", "TTA", "C"]
    assert spelling.text(ids[0], 2) == "CG" and spelling.num_bases.sum() == 64 * 3 + 4
    found = matching_tokens(spelling, np.frombuffer(b"NCG", dtype=np.uint8))
    assert sorted(spelling.text(int(i), 3) for i in np.flatnonzero(found)) == ["ACG", "CCG", "GCG", "TCG"]
    assert matching_tokens(spelling, np.frombuffer(b"N", dtype=np.uint8)).sum() == 4
    assert not matching_tokens(spelling, np.frombuffer(b"NNNN", dtype=np.uint8)).any()
    assert (parts("kmer-overlapping")[2].adds[-70:-5] <= 1).all()


def test_prompts_end_where_whole_k_mers_can_follow():
    _, encoder, spelling = parts("kmer")
    for prompt, shown in (("ACGTTAC", "CGTTAC"), ("ACGTTA", "ACGTTA"), ("AC", "AC")):
        ids = encode_prompt(encoder, prompt, 0, 0)
        assert "".join(spelling.text(i, int(spelling.num_bases[i])) for i in ids) == shown
    firsts = [encode_prompt(encoder, "", 0, number) for number in range(50)]
    assert all(len(first) == 1 and spelling.num_bases[first[0]] for first in firsts) and len({*map(tuple, firsts)}) > 20
    _, prefixed, _ = parts("prefixed")
    assert encode_prompt(prefixed, "", 0, 0) == [*prefixed.prefix_ids]
    assert len(encode_prompt(prefixed, "ACG", 0, 0)) == 4
    with pytest.raises(ValueError, match="the prompt has 2 bp; the tokenizer's tokens are 3 bp long"):
        encode_prompt(parts("kmer-overlapping")[1], "AC", 0, 0)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("prompt", ["ACGTTGCAT", ""])
def test_what_is_drawn_step_by_step(name, prompt):
    """With the whole row shown again at each step, by the same numbers."""
    model, encoder, spelling = parts(name)
    sampling = Sampling(temperature=0.7, top_k=9, seed=3)
    drawn_first = not prompt and not encoder.prefix_ids
    overlapping = name == "kmer-overlapping"
    expected = []
    for number in (0, 1, 5):
        row = encode_prompt(encoder, prompt, 3, number)
        num_given = len(row)
        text = prompt if not drawn_first else spelling.text(row[0], int(spelling.num_bases[row[0]]))
        while len(text) < len(prompt) + 31:
            with torch.no_grad():
                logits = model(torch.tensor([row])).logits[:, -1]
            for token in range(logits.shape[1]):
                spelled = spelling.text(token, int(spelling.num_bases[token]))
                if not spelled or (overlapping and text and spelled[:2] != text[-2:]):
                    logits[0, token] = -torch.inf
            token = int(sampling.draw(logits, np.array([number]), np.array([len(row) - num_given]))[0])
            spelled = spelling.text(token, int(spelling.num_bases[token]))
            text += spelled[-1:] if overlapping and text else spelled
            row.append(token)
        expected.append(text[len(prompt) : len(prompt) + 31])
    assert all(set(text) <= set("ACGT") and len(text) == 31 for text in expected) and len(set(expected)) > 1
    options = {"length_bp": 31, "sampling": sampling, "drawn_first": drawn_first}
    numbers = np.array([0, 1, 5])
    given = [encode_prompt(encoder, prompt, 3, int(number)) for number in numbers]
    assert generate_after(model, encoder, spelling, given, numbers, **options) == expected
    assert generate_after(model, encoder, spelling, given[1:2], numbers[1:2], **options) == expected[1:2]


def test_generation_stops_at_the_last_position_of_the_model():
    model, encoder, spelling = parts("char")
    given = [encode_prompt(encoder, "ACGT", 0, 0)]
    options = {"sampling": Sampling(), "most_tokens": 10}
    assert len(generate_after(model, encoder, spelling, given, np.array([0]), 6, **options)[0]) == 6
    with pytest.raises(ValueError, match="10 tokens, the most the model has positions for, held 6 new bp of 7"):
        generate_after(model, encoder, spelling, given, np.array([0]), 7, **options)


@pytest.mark.parametrize("name", ["char", "kmer", "prefixed"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_most_certain_is_filled_first(name, temperature):
    model, encoder, spelling = parts(name, causal=False)
    sequence, sampling = "ACNNGTACNTTGNNNNACGTA", Sampling(temperature, seed=2)
    row = np.frombuffer(sequence.encode(), dtype=np.uint8)
    encoded = encoder.encode_batch(np.where(row == ord("N"), ord("A"), row)[None])
    ids, text = encoded.ids.copy(), list(sequence)
    cells = [i for i in range(ids.shape[1]) if "N" in sequence[encoded.start[0, i] : encoded.end[0, i]]]
    ids[0, cells] = encoder.mask_id
    order = []
    while cells:
        with torch.no_grad():
            logits = model(torch.from_numpy(ids)).logits[0].double()
        best = None
        for i in cells:
            known = sequence[encoded.start[0, i] : encoded.end[0, i]]
            for token in range(logits.shape[1]):
                spelled = spelling.text(token, int(spelling.num_bases[token]))
                if len(spelled) != len(known) or any(k not in ("N", s) for k, s in zip(known, spelled, strict=True)):
                    logits[i, token] = -torch.inf
            certain = float(logits[i].softmax(-1).max())
            if best is None or certain > best[0]:
                best = certain, i
        i = best[1]
        token = int(sampling.draw(logits[i : i + 1], np.array([7]), np.array([i]))[0])
        ids[0, i] = token
        text[encoded.start[0, i] : encoded.end[0, i]] = spelling.text(token, int(spelling.num_bases[token]))
        cells.remove(i)
        order.append(i)
    expected = "".join(text)
    assert all(s in ("N", e) for s, e in zip(sequence, expected, strict=True)) and order != sorted(order)
    other = "N" * len(sequence)
    assert fill(model, encoder, spelling, [sequence], np.array([7]), sampling) == [expected]
    both = fill(model, encoder, spelling, [other, sequence], np.array([1, 7]), sampling)
    assert both[1] == expected and set(both[0]) <= set("ACGT")


def test_fewer_passes_fill_more_at_a_time():
    model, encoder, spelling = parts("char", causal=False)
    calls = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    for passes, expected in ((0, 10), (1, 1), (3, 3), (4, 4), (99, 10)):
        calls.clear()
        (text,) = fill(model, encoder, spelling, ["AC" + "N" * 10 + "GT"], np.array([0]), Sampling(), passes)
        assert len(calls) == expected and set(text) <= set("ACGT")
    assert fill(model, encoder, spelling, ["ACGT"], np.array([0]), Sampling()) == ["ACGT"]


@pytest.mark.parametrize("name", ["bpe", "kmer-overlapping"])
def test_tokenizers_whose_boundaries_depend_on_bases_are_refused(name):
    model, encoder, spelling = parts(name, causal=False)
    with pytest.raises(ValueError, match=f"^the tokenizer is {name}: "):
        fill(model, encoder, spelling, ["ACNGT"], np.array([0]), Sampling())
