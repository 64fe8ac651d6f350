"""Exact reverse-complement equivariance: of letters, through published tokenizers, ends and padding, in training."""

import pytest
import tiny
import torch

from genolm.models.build import build_model
from genolm.models.genolm.modeling import (
    GenoLMForMaskedLM,
    GenoLMForSequenceClassification,
    GenoLMForTokenClassification,
)
from genolm.models.genolm.strands import Strands
from genolm.tokenizers.build import build_tokenizer, load_spec

OTHER = torch.arange(16)
OTHER[tiny.BASES] = torch.tensor(tiny.BASES[::-1])
EQUIVARIANT = {"reverse_complement": "equivariant", "kmer_embeddings": [2, 3]}


def rows(*letters: list[int], before=(), after=(), pad_left=False):
    """Rows of tokens with ends and padding, their other strands, the mask, and where the letters are."""
    width = max(map(len, letters)) + len(before) + len(after)
    both, mask, places = ([], []), [], []
    for row in letters:
        strands = (row, [int(OTHER[i]) for i in reversed(row)])
        padding = [tiny.PAD] * (width - len(row) - len(before) - len(after))
        for out, strand in zip(both, strands, strict=True):
            tokens = [*before, *strand, *after]
            out.append(padding + tokens if pad_left else tokens + padding)
        first = len(before) + (len(padding) if pad_left else 0)
        places.append(range(first, first + len(row)))
        mask.append([int(i != tiny.PAD) for i in both[0][-1]])
    return torch.tensor(both[0]), torch.tensor(both[1]), torch.tensor(mask), places


def some_letters(length, seed=0):
    """Bases with N and [MASK] among them, at the ends too."""
    row = tiny.letters(length, seed=seed).tolist()
    for place, token in ((0, tiny.N), (-1, tiny.MASK), (length // 3, tiny.MASK), (length // 2, tiny.N)):
        if length > 3:
            row[place] = token
    return row


FRAMES = {
    "bare": {},
    "ends": {"before": [tiny.CLS], "after": [tiny.SEP]},
    "bos": {"before": [tiny.BOS]},
    "eos": {"after": [tiny.EOS]},
}


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("pad_left", [True, False])
@pytest.mark.parametrize("lengths", [(1, 2), (7, 12), (20, 20), (33, 5)])
def test_the_other_strand_gives_the_same_reversed_and_complemented(frame, pad_left, lengths):
    model = tiny.model(dtype=torch.float32, **EQUIVARIANT)
    one, other, mask, places = rows(*map(some_letters, lengths), **FRAMES[frame], pad_left=pad_left)
    given = [None, mask] if mask.all() else [mask]
    for attention_mask in given:
        outputs = [model(x, attention_mask, output_hidden_states=True) for x in (one, other)]
        for i, place in enumerate(places):
            at, mirrored = list(place), list(place)[::-1]
            this, that = (out.logits[i] for out in outputs)
            torch.testing.assert_close(this[at], that[mirrored][:, OTHER], atol=1e-5, rtol=1e-5)
            ends = [j for j in range(len(mask[i])) if mask[i, j] and j not in place]
            torch.testing.assert_close(this[ends], that[ends][:, OTHER], atol=1e-5, rtol=1e-5)
            for h, g in zip(outputs[0].hidden_states, outputs[1].hidden_states, strict=True):
                torch.testing.assert_close(h[i, at], g[i, mirrored], atol=1e-5, rtol=1e-5)
        # The two sides tell apart what is on them: it is no model that does not know left from right.
        if lengths == (20, 20):
            assert (outputs[0].logits[0] - outputs[1].logits[0][:, OTHER]).abs().max() > 0.1


def test_a_model_that_only_augments_is_not_equivariant():
    model = tiny.model(dtype=torch.float32, kmer_embeddings=[2, 3])
    one, other, _, _ = rows(some_letters(20))
    assert (model(one).logits - model(other).logits.flip(1)[..., OTHER]).abs().max() > 0.1


def test_losses_and_gradients_are_the_same_on_either_strand():
    model = tiny.model(**EQUIVARIANT)
    truth = tiny.letters(2, 21)
    hidden = torch.rand(2, 21, generator=torch.Generator().manual_seed(3)) < 0.3
    labels, ids = torch.where(hidden, truth, -100), torch.where(hidden, tiny.MASK, truth)
    other_labels = torch.where(hidden, OTHER[truth], -100).flip(1)
    found = []
    for x, y in ((ids, labels), (OTHER[ids].flip(1), other_labels)):
        model.zero_grad()
        loss = model(x, labels=y).loss
        loss.backward()
        found.append((loss.detach(), [p.grad.clone() for p in model.parameters()]))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-6, rtol=0)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pad_left", [True, False])
def test_classifiers_do_not_see_the_strand(pad_left):
    one, other, mask, places = rows(
        some_letters(9), some_letters(16), before=[tiny.CLS], after=[tiny.SEP], pad_left=pad_left
    )
    torch.manual_seed(0)
    sequence = tiny.lively(GenoLMForSequenceClassification(tiny.config(num_labels=3, **EQUIVARIANT)))
    torch.testing.assert_close(sequence(one, mask).logits, sequence(other, mask).logits, atol=1e-5, rtol=1e-5)
    token = tiny.lively(GenoLMForTokenClassification(tiny.config(num_labels=3, **EQUIVARIANT)))
    for i, place in enumerate(places):
        here, there = token(one, mask).logits[i, list(place)], token(other, mask).logits[i, list(place)[::-1]]
        torch.testing.assert_close(here, there, atol=1e-5, rtol=1e-5)


def assert_equivariant(model, atol):
    one, other, mask, places = rows(some_letters(15), some_letters(20), before=[tiny.CLS], after=[tiny.SEP])
    logits, others = model(one, mask).logits.float(), model(other, mask).logits.float()
    for i, place in enumerate(places):
        torch.testing.assert_close(logits[i, list(place)], others[i, list(place)[::-1]][:, OTHER], atol=atol, rtol=0)


def test_training_saving_and_bfloat16_keep_it(tmp_path):
    torch.manual_seed(0)
    model = GenoLMForMaskedLM(tiny.config(**EQUIVARIANT)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    ids = tiny.letters(4, 24)
    losses = []
    for _ in range(15):
        loss = model(ids.where(torch.arange(24) % 3 != 0, torch.tensor(tiny.MASK)), labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert_equivariant(model.eval(), 1e-5)
    model.save_pretrained(tmp_path)
    again = GenoLMForMaskedLM.from_pretrained(tmp_path)
    assert_equivariant(again, 1e-5)
    assert torch.equal(again(ids).logits, model(ids).logits)
    with torch.autocast("cpu", torch.bfloat16):
        assert_equivariant(model, 2e-2)
    assert_equivariant(model.bfloat16(), 2e-2)  # the two strands are rounded alike, places beside each other not


@pytest.mark.parametrize("name", ["char", "caduceus", "gpn", "plantcad"])
def test_bases_of_the_other_strand_give_their_logits(name):
    """Letters → tokenizer → model: columns of logits are exchanged by the letters they stand for."""
    tokenizer = build_tokenizer(load_spec(name))
    changes = {key: value for key, value in tiny.SIZES.items() if key != "max_position_embeddings"}
    pattern = ["convolution", "fir", "hyena", "ssm", "local_attention", "attention"]
    block = {"architecture": "genolm", **changes, "mixers": pattern, "num_hidden_layers": 6, **EQUIVARIANT}
    torch.manual_seed(0)
    model = tiny.lively(build_model(block, tokenizer, "masked", 40))
    letters = ["ACGTTGCANACGGTTTACA", "ACCCCATGNNNTTTGA"]
    others = [row.translate(str.maketrans("ACGT", "TGCA"))[::-1] for row in letters]
    assert others[1] == "TCAAANNNCATGGGGT"
    one, other = (tokenizer(x, return_tensors="pt", padding=True) for x in (letters, others))
    given = [{key: batch[key] for key in ("input_ids", "attention_mask")} for batch in (one, other)]
    logits, others = (model(**batch).logits for batch in given)
    case = str.lower if name == "gpn" else str.upper
    columns = torch.arange(logits.shape[-1])
    for base, partner in ("AT", "TA", "CG", "GC"):
        columns[tokenizer.convert_tokens_to_ids(case(base))] = tokenizer.convert_tokens_to_ids(case(partner))
    assert sorted(columns.tolist()) != columns.tolist()
    for i, row in enumerate(letters):
        start = one.char_to_token(i, 0)
        at = list(range(start, start + len(row)))
        assert other.char_to_token(i, len(row) - 1) == at[-1]
        torch.testing.assert_close(logits[i, at], others[i, at[::-1]][:, columns], atol=1e-5, rtol=1e-5)


def test_the_mirror_by_hand():
    strands = Strands(tiny.config(reverse_complement="equivariant"))
    rows_ = torch.tensor([[0, 0, 3, 7, 8, 5, 4], [3, 7, 11, 9, 4, 0, 0], [3, 4, 0, 0, 0, 0, 0], [7, 8, 9, 10, 7, 8, 9]])
    mirror = strands.mirror(rows_, (rows_ != 0).unsqueeze(-1).long())
    assert mirror.tolist() == [
        [0, 1, 2, 5, 4, 3, 6],
        [0, 3, 2, 1, 4, 5, 6],
        [0, 1, 2, 3, 4, 5, 6],
        [6, 5, 4, 3, 2, 1, 0],
    ]
    other = strands.other(rows_, mirror)
    assert other.tolist() == [
        [0, 0, 3, 5, 9, 10, 4],
        [3, 8, 11, 10, 4, 0, 0],
        [3, 4, 0, 0, 0, 0, 0],
        [8, 9, 10, 7, 8, 9, 10],
    ]
    assert torch.equal(strands.other(other, strands.mirror(other, None)), rows_)  # without a mask [PAD] is an end
    values = torch.arange(7.0).expand(4, 7).unsqueeze(-1)
    assert torch.equal(strands.back(values, mirror).squeeze(-1).long(), mirror)


def test_a_pass_is_one_batch_of_both_strands():
    model, ids = tiny.model(**EQUIVARIANT), tiny.letters(3, 10)
    shapes = []
    model.model.layers[0].register_forward_hook(lambda module, given, out: shapes.append(tuple(out.shape)))
    model(ids)
    assert shapes == [(6, 10, 16)]


@pytest.mark.parametrize("pad_left", [True, False])
def test_padding_changes_nothing(pad_left):
    """Both strands know of it: a padded row is what it is alone, whatever stands at the padding."""
    model = tiny.model(**EQUIVARIANT)
    ids, _, mask, _ = rows(some_letters(9), some_letters(16), before=[tiny.CLS], pad_left=pad_left)
    logits = model(ids, mask).logits
    for i in range(2):
        real = mask[i] == 1
        alone = model(ids[i : i + 1, real]).logits[0]
        torch.testing.assert_close(logits[i, real], alone, atol=2e-5, rtol=1e-5)
    garbage = torch.where(mask == 1, ids, 8)
    torch.testing.assert_close(model(garbage, mask).logits[mask == 1], logits[mask == 1], atol=1e-9, rtol=0)
