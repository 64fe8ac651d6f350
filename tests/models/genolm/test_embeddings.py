"""Tables of k-mers: rows by hand, what they must not see, widths and dropout."""

import pytest
import tiny
import torch

from genolm.models.genolm.embeddings import Embedding, KmerEmbedding


def made(*orders, **changes):
    torch.manual_seed(0)
    kmers = KmerEmbedding(tiny.config("fir", kmer_embeddings=list(orders), **changes))
    return tiny.lively(kmers)


def row_by_hand(letters, t, k, causal):
    """The table row at t of a list of letters 0 … 4, counted in base 4 (causal) or 5 with the first letter highest."""
    first = t - k + 1 if causal else t - (k - 1 - k // 2)
    word = [letters[i] if 0 <= i < len(letters) else 4 for i in range(first, first + k)]
    if causal and 4 in word:
        return 4**k
    row = 0
    for letter in word:
        row = row * (4 if causal else 5) + letter
    return row


def test_tokens_are_bases_and_everything_else_is_the_fifth():
    assert made(2).bases(torch.arange(16), None).tolist() == [4, 4, 4, 4, 4, 4, 4, 0, 1, 2, 3, 4, 4, 4, 4, 4]


def test_rows_of_small_orders_as_a_hand_counts_them():
    acgtn = torch.tensor([[0, 1, 2, 3, 4, 0]])
    causal = made(1, 2, 3, causal=True)
    assert causal.rows(acgtn, 1).tolist() == [[0, 1, 2, 3, 4, 0]]
    assert causal.rows(acgtn, 2).tolist() == [[16, 1, 6, 11, 16, 16]]  # AC = 0·4 + 1, CG = 1·4 + 2, GT = 2·4 + 3
    assert causal.rows(acgtn, 3).tolist() == [[64, 64, 6, 27, 64, 64]]  # ACG = 6, CGT = 27
    both = made(1, 2, 3)
    assert both.rows(acgtn, 1).tolist() == [[0, 1, 2, 3, 4, 0]]
    assert both.rows(acgtn, 2).tolist() == [[1, 7, 13, 19, 20, 4]]  # the letter and the next: AC, CG, GT, TN, NA, A-
    assert both.rows(acgtn, 3).tolist() == [[101, 7, 38, 69, 95, 104]]  # -AC, ACG, CGT, GTN, TNA, NA-


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("length", [1, 2, 6, 30])
def test_rows_are_those_of_a_hand(causal, k, length):
    letters = torch.randint(0, 5, (3, length), generator=torch.Generator().manual_seed(k * length))
    rows = made(k, causal=causal).rows(letters, k)
    expected = [[row_by_hand(row, t, k, causal) for t in range(length)] for row in letters.tolist()]
    assert rows.tolist() == expected


@pytest.mark.parametrize("causal", [True, False])
def test_what_is_added_is_the_sum_of_the_rows(causal):
    kmers = made(2, 4, causal=causal)
    assert [table.num_embeddings for table in kmers.tables] == ([17, 257] if causal else [25, 625])
    ids = torch.tensor([[tiny.CLS, 7, 8, tiny.MASK, 9, 10, tiny.N, 7, tiny.SEP, tiny.PAD]])
    letters = [4, 0, 1, 4, 2, 3, 4, 0, 4, 4]
    out = kmers(ids)
    for t in range(10):
        rows = (kmers.tables[i].weight[row_by_hand(letters, t, k, causal)] for i, k in enumerate((2, 4)))
        torch.testing.assert_close(out[0, t], sum(rows), atol=1e-6, rtol=0)


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_a_causal_table_never_looks_ahead_and_a_bidirectional_one_lies_around(k):
    ids = tiny.letters(1, 15)
    for causal in (True, False):
        kmers = made(k, causal=causal)
        before = kmers(ids)
        for t in range(15):
            changed = ids.clone()
            changed[0, t] = 7 + (ids[0, t] - 6) % 4
            moved = ((kmers(changed) - before)[0].abs().amax(-1) > 0).nonzero().flatten().tolist()
            back, ahead = (k - 1, 0) if causal else (k - 1 - k // 2, k // 2)
            # Words that reach over the start have an unknown letter, and causal tables one row for all of those.
            whole = k - 1 if causal else 0
            assert moved == [s for s in range(whole, 15) if t - ahead <= s <= t + back]


@pytest.mark.parametrize("causal", [True, False])
def test_padding_is_the_fifth_letter_whatever_stands_there(causal):
    kmers, ids = made(3, causal=causal), tiny.letters(1, 9)
    keep = torch.ones(1, 9, 1)
    keep[0, :2], keep[0, 7:] = 0, 0
    out = kmers(ids, keep)
    torch.testing.assert_close(out[:, 2:7], kmers(ids[:, 2:7]), atol=0, rtol=0)
    changed = torch.where(keep.squeeze(-1) == 1, ids, tiny.PAD)
    assert torch.equal(kmers(changed), out)


def test_a_masked_base_leaks_into_no_logit():
    """Every base hidden in turn: the model's input is the same whatever stood there, so its output is."""
    model = tiny.model(kmer_embeddings=[1, 2, 5], dtype=torch.float32)
    truth = tiny.letters(1, 12)
    for t in range(12):
        logits = []
        for base in tiny.BASES:
            ids = truth.clone()
            ids[0, t] = base
            hidden = ids.clone()
            hidden[0, t] = tiny.MASK
            rows = [
                model.model.embeddings.kmers.rows(model.model.embeddings.kmers.bases(hidden, None), k) for k in (2, 5)
            ]
            logits.append((model(hidden).logits, *rows))
        for others in logits[1:]:
            assert all(torch.equal(a, b) for a, b in zip(others, logits[0], strict=True))
    # The neighbours of a masked base still tell: their words are no single unknown row.
    hidden = truth.clone()
    hidden[0, 5] = tiny.MASK
    rows = model.model.embeddings.kmers.rows(model.model.embeddings.kmers.bases(hidden, None), 5)[0]
    assert len(set(rows[3:8].tolist())) == 5


def test_a_narrow_table_is_mapped_to_the_width_of_the_model():
    kmers = made(2, 3, kmer_embedding_size=6)
    assert [tuple(table.weight.shape) for table in kmers.tables] == [(25, 6), (125, 6)]
    ids = tiny.letters(2, 7)
    narrow = sum(t(kmers.rows(kmers.bases(ids, None), k)) for t, k in zip(kmers.tables, (2, 3), strict=True))
    torch.testing.assert_close(kmers(ids), narrow @ kmers.out_proj.weight.T)
    assert made(2).out_proj is None and made(2)(ids).shape == (2, 7, 16)


def test_rows_are_left_out_in_training_only_and_the_rest_makes_up_for_it():
    kmers, ids = made(2, kmer_dropout=0.25), tiny.letters(40, 50)
    whole = kmers(ids)
    assert torch.equal(kmers(ids), whole)
    torch.manual_seed(0)
    dropped = kmers.train()(ids)
    gone = (dropped == 0).all(-1)
    assert gone.float().mean().item() == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(dropped[~gone], whole[~gone] / 0.75)
    assert not torch.equal(kmers(ids), dropped)


def test_embedding_dropout_is_for_training_only():
    torch.manual_seed(0)
    embedding = tiny.lively(Embedding(tiny.config("fir", dropout=0.5)))
    ids = tiny.letters(8, 30)
    assert torch.equal(embedding(ids), embedding.tokens(ids))
    assert (embedding.train()(ids) == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
