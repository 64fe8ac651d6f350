"""Scores of alleles: by hand where a model's probabilities are known, and against a scorer that shares nothing."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genolm.genome.alphabet import reverse_complement, to_array, to_text
from genolm.genome.store import prepare_store
from genolm.models.build import build_model
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.tokenizers.encode import make_encoder
from genolm.variants.alleles import Allele
from genolm.variants.haplotypes import windows_of
from genolm.variants.likelihood import CAUSAL, MASKED, check_estimators, columns_of_estimators, score_alleles

W = 24
BASES = "ACGT"


def sequence(size, seed=0):
    return "".join(np.random.default_rng(seed).choice(list(BASES), size))


def genome(folder, *contigs):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "g.fa"
    path.write_text("".join(f">c{i}\n{contig}\n" for i, contig in enumerate(contigs)))
    return prepare_store({"g": [path]}, folder / "store")


def applied(contig, allele):
    assert contig[allele.start : allele.start + len(allele.ref)] == allele.ref
    return contig[: allele.start] + allele.alt + contig[allele.start + len(allele.ref) :]


def other(contig):
    return to_text(reverse_complement(to_array(contig)))


@pytest.fixture(scope="module")
def encoder():
    return make_encoder(build_tokenizer(load_spec("char")))


class Table(torch.nn.Module):
    """Log-probabilities of a token by its neighbours, or by the one before it: a model that can be followed by hand."""

    def __init__(self, vocab_size, causal):
        super().__init__()
        shape = (vocab_size,) * (2 if causal else 3)
        generator = torch.Generator().manual_seed(1)
        self.table = torch.nn.Parameter(torch.randn(shape, generator=generator).log_softmax(-1), requires_grad=False)
        self.causal = causal

    def forward(self, input_ids, attention_mask=None, output_hidden_states=False):
        if self.causal:
            return SimpleNamespace(logits=self.table[input_ids])
        left, right = (torch.nn.functional.pad(input_ids, pad) for pad in ((1, 0), (0, 1)))
        return SimpleNamespace(logits=self.table[left[:, :-1], right[:, 1:]])

    def log(self, *tokens):
        return float(self.table[tokens])


def ids_of(encoder, contig):
    return encoder.encode_batch(to_array(contig)[None], special_tokens=False).ids[0].tolist()


def test_a_masked_score_by_hand(tmp_path, encoder):
    contig = sequence(60)
    store, model = genome(tmp_path, contig), Table(encoder.vocab_size, causal=False)
    at = 30
    alleles = [Allele(0, at, contig[at], alt) for alt in BASES if alt != contig[at]]
    found = score_alleles(
        model, encoder, store, alleles, causal=False, window_bp=W, estimators=["masked_llr", "entropy", "unmasked_llr"]
    )
    for i, allele in enumerate(alleles):
        both = []
        for strand, ref, alt in (
            (contig[at - 1 : at + 2], allele.ref, allele.alt),
            (other(contig[at - 1 : at + 2]), other(allele.ref), other(allele.alt)),
        ):
            left, _, right = ids_of(encoder, strand)
            (one,), (two,) = ids_of(encoder, ref), ids_of(encoder, alt)
            both.append(model.log(left, right, two) - model.log(left, right, one))
        for name in ("masked_llr", "unmasked_llr"):  # this model does not look at the token itself
            assert found.values[name][i] == pytest.approx(np.mean(both), abs=1e-5)
            assert found.strand_difference[name][i] == pytest.approx(both[0] - both[1], abs=1e-5)
    left, _, right = ids_of(encoder, contig[at - 1 : at + 2])
    four = model.table[left, right][ids_of(encoder, BASES)].log_softmax(0)
    forward = found.values["entropy"] + found.strand_difference["entropy"] / 2
    np.testing.assert_allclose(forward, -float((four.exp() * four).sum()), atol=1e-5)


def test_a_causal_score_by_hand(tmp_path, encoder):
    contig = sequence(60, 3)
    store, model = genome(tmp_path, contig), Table(encoder.vocab_size, causal=True)
    alleles = [
        Allele(0, 30, contig[30], "A" if contig[30] != "A" else "G"),
        Allele(0, 30, contig[30:33], ""),
        Allele(0, 30, "", "TTG"),
    ]
    found = score_alleles(model, encoder, store, alleles, causal=True, window_bp=W, estimators=["likelihood"])
    for i, allele in enumerate(alleles):
        both = []
        for turn in (str, other):
            sums = []
            for haplotype in (applied(contig, allele), contig):
                row = ids_of(encoder, turn(haplotype[18 : 18 + W]))
                sums.append(sum(model.log(a, b) for a, b in zip(row[:-1], row[1:], strict=True)))
            both.append(sums[0] - sums[1])
        assert found.values["likelihood"][i] == pytest.approx(np.mean(both), abs=1e-5)
        assert found.strand_difference["likelihood"][i] == pytest.approx(both[0] - both[1], abs=1e-5)


def test_the_site_stands_where_it_should(tmp_path):
    contig = sequence(100)
    store = genome(tmp_path, contig)
    for width in (24, 25):
        ref, alt, cut = windows_of(store, [Allele(0, 50, contig[50], "N")], width)
        assert ref.start[0] == width // 2 and not cut[0]
        assert to_text(ref.letters[0]) == contig[50 - width // 2 : 50 - width // 2 + width]
        back = alt.on_other_strand()
        assert to_text(back.letters[0]) == other(to_text(alt.letters[0]))
        assert back.start[0] == (width // 2 - 1 if width % 2 == 0 else width // 2) and back.letters[
            0, back.start[0]
        ] == ord("N")


def test_windows_at_the_ends_of_a_contig(tmp_path):
    contig = sequence(40)
    store = genome(tmp_path, contig, "ACGTAC")
    alleles = [
        Allele(0, 0, contig[0], "N"),
        Allele(0, 39, contig[39], "N"),
        Allele(1, 2, "GT", ""),
        Allele(0, 20, contig[20], "N"),
        Allele(1, 6, "", "TT"),
    ]
    ref, alt, cut = windows_of(store, alleles, W)
    assert cut.tolist() == [True, True, True, False, True]
    shown = [to_text(row[:n]) for row, n in zip(ref.letters, ref.length, strict=True)]
    assert shown == [contig[:W], contig[27:], "ACGTAC", contig[8:32], "ACGTAC"]
    assert to_text(alt.letters[2][: alt.length[2]]) == "ACAC" and to_text(alt.letters[4][: alt.length[4]]) == "ACGTACTT"


KINDS = ["char", "kmer3", "kmer3-overlapping", "bpe"]


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """kind and objective → encoder and a random model."""
    found = {}
    for kind in KINDS:
        spec = replace(load_spec("bpe512"), vocab_size=64) if kind == "bpe" else load_spec(kind)
        tokenizer = build_tokenizer(spec, [sequence(4000, 9)] if kind == "bpe" else None)
        for objective in ("masked", "causal"):
            torch.manual_seed(0)
            block = {
                "architecture": "genolm",
                "mixers": ["attention", "convolution"],
                "hidden_size": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 16,
            }
            model = build_model(block, tokenizer, objective, 64).double().eval()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn(parameter.shape, dtype=parameter.dtype) * 0.3)
            found[kind, objective] = make_encoder(tokenizer), model
    return found


def some_alleles(contig, number=0):
    """Of every kind."""
    return [
        Allele(number, 40, contig[40], BASES[BASES.index(contig[40]) - 1]),
        Allele(number, 41, contig[41:43], other(contig[41:43])[::-1]),
        Allele(number, 50, contig[50:52], ""),
        Allele(number, 55, "", "GAT"),
        Allele(number, 60, contig[60:64], BASES[BASES.index(contig[60]) - 1]),
        Allele(number, 2, contig[2], BASES[BASES.index(contig[2]) - 2]),
    ]


@pytest.mark.parametrize("objective", ["masked", "causal"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_other_way_round_is_the_negative(tmp_path, machines, kind, objective):
    encoder, model = machines[kind, objective]
    contig = sequence(100, 5)
    alleles = some_alleles(contig)
    options = {
        "causal": objective == "causal",
        "window_bp": W,
        "estimators": ["likelihood"] + ["masked_llr"] * (objective == "masked"),
    }
    there = score_alleles(model, encoder, genome(tmp_path / "there", contig), alleles, **options)
    back = [
        score_alleles(
            model, encoder, genome(tmp_path / f"{i}", applied(contig, a)), [Allele(0, a.start, a.alt, a.ref)], **options
        )
        for i, a in enumerate(alleles)
    ]
    for name in options["estimators"]:
        np.testing.assert_allclose(there.values[name], [-b.values[name][0] for b in back], atol=1e-5)
        assert np.abs(there.values[name]).min() > 1e-3


@pytest.mark.parametrize("objective", ["masked", "causal"])
@pytest.mark.parametrize("kind", KINDS)
def test_order_batches_and_duplicates_change_nothing(tmp_path, machines, kind, objective):
    encoder, model = machines[kind, objective]
    contigs = [sequence(100, 5), sequence(70, 6)]
    store = genome(tmp_path, *contigs)
    alleles = [a for i, contig in enumerate(contigs) for a in some_alleles(contig, i)]
    names = [
        n for n in (MASKED if objective == "masked" else CAUSAL) if kind == "char" or n not in ("entropy", "influence")
    ]
    options = {"causal": objective == "causal", "window_bp": W, "estimators": names}
    whole = score_alleles(model, encoder, store, alleles, **options)
    turned = score_alleles(model, encoder, store, [*alleles[::-1], alleles[0]], batch_size=3, **options)
    assert list(whole.values) == columns_of_estimators(names)
    for name, values in whole.values.items():
        assert np.isfinite(values).any()
        for mine, others in (
            (values, turned.values[name]),
            (whole.strand_difference[name], turned.strand_difference[name]),
        ):
            np.testing.assert_allclose(mine, others[:-1][::-1], atol=1e-5)
            assert others[-1] == pytest.approx(mine[0], abs=1e-5, nan_ok=True)
    assert whole.cut.tolist() == turned.cut[:-1][::-1].tolist()


def straight(model, encoder, contig, allele, mask):
    """A scorer that shares nothing: REF and ALT, both strands, the touched tokens hidden together."""
    first = allele.start - W // 2
    both = []
    for turn in (str, other):
        sums = []
        for haplotype, size in ((applied(contig, allele), len(allele.alt)), (contig, len(allele.ref))):
            window = haplotype[first : first + W]
            begin = W // 2 if turn is str else W - W // 2 - size
            encoded = encoder.encode_batch(to_array(turn(window))[None])
            ids = torch.from_numpy(encoded.ids.copy())
            hidden = torch.from_numpy(
                (encoded.start < begin + size) & (encoded.end > begin) & (encoded.end > encoded.start)
            )[0]
            shown = ids.clone()
            if mask:
                shown[0, hidden] = encoder.mask_id
                logs = model(input_ids=shown).logits.log_softmax(-1)[0].gather(1, ids[0, :, None])[:, 0]
                sums.append(float(logs[hidden].detach().sum()))
            else:
                logs = model(input_ids=shown).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
                bases = torch.from_numpy(encoder.num_bases[ids[0, 1:]] > 0)
                sums.append(float(logs[bases].detach().sum()))
        both.append(sums[0] - sums[1])
    return np.mean(both)


@pytest.mark.parametrize("objective", ["masked", "causal"])
@pytest.mark.parametrize("kind", ["char", "kmer3-overlapping"])
def test_a_scorer_that_shares_nothing_agrees(tmp_path, machines, kind, objective):
    encoder, model = machines[kind, objective]
    contig = sequence(100, 8)
    alleles = [Allele(0, at, contig[at], base) for at in range(30, 34) for base in BASES if base != contig[at]]
    name = "likelihood" if objective == "causal" else "masked_llr"
    found = score_alleles(
        model, encoder, genome(tmp_path, contig), alleles, causal=objective == "causal", window_bp=W, estimators=[name]
    )
    expected = [straight(model, encoder, contig, allele, objective == "masked") for allele in alleles]
    np.testing.assert_allclose(found.values[name], expected, atol=1e-5)


@pytest.mark.parametrize("objective", ["masked", "causal"])
@pytest.mark.parametrize("kind", ["char", "kmer3-overlapping"])
def test_on_the_other_strand_of_the_genome_scores_are_the_same(tmp_path, machines, kind, objective):
    """Of an odd width, so that the windows are the same ones too; forward and reverse change places."""
    encoder, model = machines[kind, objective]
    contig = sequence(100, 8)
    alleles = [Allele(0, at, contig[at], base) for at in range(15, 85, 7) for base in BASES if base != contig[at]]
    turned = [Allele(0, 100 - a.end, other(a.ref), other(a.alt)) for a in alleles]
    names = MASKED if objective == "masked" and kind == "char" else ("likelihood", "embedding")
    one, two = (
        score_alleles(
            model,
            encoder,
            genome(tmp_path / name, letters_of_it),
            shown,
            causal=objective == "causal",
            window_bp=W + 1,
            estimators=names,
        )
        for name, letters_of_it, shown in (("as it is", contig, alleles), ("turned", other(contig), turned))
    )
    for name, values in one.values.items():
        np.testing.assert_allclose(values, two.values[name], atol=1e-5)
        np.testing.assert_allclose(one.strand_difference[name], -two.strand_difference[name], atol=1e-5)
        assert np.abs(one.strand_difference[name]).max() > 1e-4


def test_on_the_other_strand_indels_too_where_only_neighbours_count(tmp_path, encoder):
    """Windows keep their left edge, so that the longer haplotype ends elsewhere; this model does not see as far."""
    contig, model = sequence(100, 8), Table(encoder.vocab_size, causal=False)
    alleles = [Allele(0, 40, contig[40:43], ""), Allele(0, 60, contig[60:62], other(contig[60:62])[::-1] + "AC")]
    alleles += [Allele(0, 50, "", base * 2) for base in BASES if base not in contig[49:51]]
    turned = [Allele(0, 100 - a.end, other(a.ref), other(a.alt)) for a in alleles]
    for allele, same in zip(alleles, turned, strict=True):
        assert applied(other(contig), same) == other(applied(contig, allele))
    options = {"causal": False, "window_bp": W, "estimators": ["likelihood", "masked_llr"]}
    one = score_alleles(model, encoder, genome(tmp_path / "one", contig), alleles, **options)
    two = score_alleles(model, encoder, genome(tmp_path / "two", other(contig)), turned, **options)
    for name in options["estimators"]:
        np.testing.assert_allclose(one.values[name], two.values[name], atol=1e-5)


@pytest.mark.parametrize("objective", ["masked", "causal"])
def test_embeddings_and_influence_computed_straight(tmp_path, machines, objective):
    encoder, model = machines["char", objective]
    contig = sequence(100, 8)
    allele = Allele(0, 40, contig[40], other(contig[40]))
    names = ["embedding", *(["influence"] if objective == "masked" else [])]
    found = score_alleles(
        model, encoder, genome(tmp_path, contig), [allele], causal=objective == "causal", window_bp=W, estimators=names
    ).values
    four = torch.from_numpy(encoder.encode_batch(to_array(BASES)[None], special_tokens=False).ids[0].astype(np.int64))
    both = {name: [] for name in found}
    for turn in (str, other):
        at = W // 2 if turn is str else W - 1 - W // 2
        states, odds = [], []
        for haplotype in (contig, applied(contig, allele)):
            encoded = encoder.encode_batch(to_array(turn(haplotype[40 - W // 2 : 40 - W // 2 + W]))[None])
            output = model(input_ids=torch.from_numpy(encoded.ids.astype(np.int64)), output_hidden_states=True)
            bases = torch.from_numpy(encoded.end > encoded.start)[0]
            states.append(output.hidden_states[-1][0][bases].detach().numpy())
            p = output.logits[0][bases][:, four].softmax(-1).detach().numpy()
            odds.append(np.log(p / (1 - p)))
        assert len(states[0]) == W
        for where, (one, two) in {"site": [s[at] for s in states], "window": [s.mean(0) for s in states]}.items():
            both[f"embedding_{where}_dot"].append(one @ two)
            both[f"embedding_{where}_l2"].append(np.linalg.norm(one - two))
            both[f"embedding_{where}_cosine"].append(one @ two / np.linalg.norm(one) / np.linalg.norm(two))
        if objective == "masked":
            both["influence"].append(np.delete(np.abs(odds[0] - odds[1]).max(1), at).mean())
    for name, values in found.items():
        assert values[0] == pytest.approx(np.mean(both[name]), abs=1e-4, rel=1e-4), name


def test_a_masked_site_is_computed_once_for_its_three_alleles(tmp_path, machines):
    encoder, model = machines["char", "masked"]
    contig, rows = sequence(100, 8), []
    hook = model.register_forward_pre_hook(lambda m, a, k: rows.append(len(k["input_ids"])), with_kwargs=True)
    alleles = [Allele(0, 40, contig[40], base) for base in BASES if base != contig[40]]
    score_alleles(
        model, encoder, genome(tmp_path, contig), alleles, causal=False, window_bp=W, estimators=["masked_llr"]
    )
    hook.remove()
    assert sum(rows) == 2  # a strand each


def test_estimators_that_a_model_does_not_have(machines):
    for key, names, message in (
        (("char", "causal"), ["masked_llr"], "not available for causal models; allowed are likelihood, embedding"),
        (("char", "masked"), ["llr"], "not available for masked models"),
        (("kmer3", "masked"), ["entropy"], "needs a token for each base"),
    ):
        with pytest.raises(ValueError, match=message):
            check_estimators(names, machines[key][0], key[1] == "causal")
    with pytest.raises(ValueError, match="no mask token"):
        check_estimators(["masked_llr"], replace(machines["char", "masked"][0], mask_id=None), False)


@pytest.mark.parametrize(
    "block",
    [
        {
            "architecture": "genolm",
            "mixers": ["fir", "fir_medium", "ssm", "attention", "hyena"],
            "kmer_embeddings": [2, 3],
            "ssm_head_dim": 8,
            "filter_groups": 4,
            "fir_medium_size": 12,
        },
        {"architecture": "llama", "num_key_value_heads": 1},
    ],
    ids=["genolm", "llama"],
)
@pytest.mark.parametrize("kind", ["char", "kmer3", "hyenadna"])
def test_rows_that_begin_alike_share_what_they_begin_with(tmp_path, monkeypatch, block, kind):
    tokenizer = build_tokenizer(load_spec(kind))
    block = {key: value for key, value in block.items() if kind != "kmer3" or key != "kmer_embeddings"}
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 5, "num_attention_heads": 2, "intermediate_size": 16}
    model = build_model(size | block, tokenizer, "causal", 64).double().eval()
    contig, tokens = sequence(100, 8), []
    alleles = [Allele(0, 40, contig[40], base) for base in BASES if base != contig[40]] + some_alleles(contig)
    alleles += [Allele(0, 100, "", "ACG"), Allele(0, 97, contig[97:], ""), Allele(0, 99, contig[99], contig[98] * 2)]
    hook = model.register_forward_pre_hook(lambda m, a, k: tokens.append(k["input_ids"].numel()), with_kwargs=True)
    options = {"causal": True, "window_bp": W, "estimators": ["likelihood"], "batch_size": 4}
    store, encoder = genome(tmp_path, contig), make_encoder(tokenizer)
    shared = score_alleles(model, encoder, store, alleles, **options)
    num, tokens[:] = sum(tokens), []
    monkeypatch.setattr("genolm.variants.query_batch.supports_prefix_cache", lambda model: False)
    alone = score_alleles(model, encoder, store, alleles, **options)
    hook.remove()
    np.testing.assert_allclose(shared.values["likelihood"], alone.values["likelihood"], atol=1e-5)
    np.testing.assert_allclose(shared.strand_difference["likelihood"], alone.strand_difference["likelihood"], atol=1e-5)
    assert num < 0.85 * sum(tokens)


@pytest.mark.parametrize("objective", ["masked", "causal"])
def test_with_a_step_neighbours_share_the_window_of_ref(tmp_path, machines, objective):
    encoder, model = machines["char", objective]
    contig, tokens = sequence(100, 8), []
    store = genome(tmp_path, contig)
    alleles = [
        Allele(0, at, contig[at], other_base)
        for at in range(40, 48)
        for other_base in BASES
        if other_base != contig[at]
    ]
    ref, _, cut = windows_of(store, alleles, W, step=4)
    assert {to_text(row) for row in ref.letters} == {contig[28:52], contig[32:56]} and not cut.any()
    assert [chr(row[at]) for row, at in zip(ref.letters, ref.start, strict=True)] == [a.ref for a in alleles]
    name = "likelihood" if objective == "causal" else "unmasked_llr"
    options = {"causal": objective == "causal", "window_bp": W, "estimators": [name]}
    hook = model.register_forward_pre_hook(lambda m, a, k: tokens.append(k["input_ids"].numel()), with_kwargs=True)
    score_alleles(model, encoder, store, alleles, **options)
    centred, tokens[:] = sum(tokens), []
    stepped = score_alleles(model, encoder, store, alleles, step=4, **options)
    assert sum(tokens) < 0.9 * centred
    hook.remove()
    at_start = [i for i, allele in enumerate(alleles) if allele.start % 4 == 0]
    same = score_alleles(model, encoder, store, [alleles[i] for i in at_start], **options)
    np.testing.assert_allclose(stepped.values[name][at_start], same.values[name], atol=1e-5)


@pytest.mark.parametrize(
    ("causal", "estimator"), [(False, "masked_llr"), (False, "unmasked_llr"), (True, "likelihood")]
)
def test_work_that_is_done_is_told_as_it_goes_on(tmp_path, encoder, causal, estimator):
    contig = sequence(90)
    store, model = genome(tmp_path, contig), Table(encoder.vocab_size, causal)
    alleles = [Allele(0, at, contig[at], "A" if contig[at] != "A" else "C") for at in range(20, 60)]
    options = {"causal": causal, "window_bp": W, "estimators": [estimator], "batch_size": 8}
    told = []
    score_alleles(model, encoder, store, alleles, on_done=told.append, **options)
    assert sum(told) == len(alleles) and min(told) >= 0
    assert 5 < np.count_nonzero(told) and max(told) <= len(alleles) // 4
    told = []
    score_alleles(model, encoder, store, [Allele(0, 30, contig[30], "")], on_done=told.append, **options)
    assert sum(told) == 1
