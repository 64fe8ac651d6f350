import numpy as np
import pytest

from genolm.data.collate import CausalCollator, MaskedCollator, Masking, span_offsets
from genolm.data.corpus import Corpus
from genolm.genome.alphabet import reverse_complement, to_array, to_text
from genolm.genome.regions import Regions
from genolm.genome.store import prepare_store
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.tokenizers.encode import make_encoder

SEED = 11


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("genome")
    rng = np.random.default_rng(0)
    contigs = {"one": 5000, "two": 700, "tiny": 40, "tinier": 30}
    fasta = folder / "g.fa"
    with fasta.open("w") as file:
        for name, length in contigs.items():
            sequence = "".join(rng.choice(list("ACGT"), length))
            if name == "one":
                sequence = sequence[:1000] + sequence[1000:1500].lower() + "N" * 100 + sequence[1600:]
            file.write(f">{name}\n{sequence}\n")
    return prepare_store({"g": [fasta]}, folder / "store")


def corpus(store, spec="char", **options):
    encoder = make_encoder(build_tokenizer(load_spec(spec)))
    return Corpus(store, Regions.whole(store), encoder, **{"window_bp": 96, "seed": SEED, **options})


def test_a_batch_does_not_depend_on_its_neighbours(store):
    c = corpus(store)
    collate = MaskedCollator(c, Masking(c.encoder))
    together = collate(range(64))
    for i in (0, 17, 63):
        alone = collate([i])
        for key in alone:
            np.testing.assert_array_equal(alone[key][0], together[key][i])


def test_windows_are_the_genomes_letters_on_both_strands(store):
    c = corpus(store)
    unit, start, length, flip = c.windows(np.arange(200))
    rows, lengths, _ = c._letters(np.arange(200))
    assert flip.any() and not flip.all()
    for i in range(200):
        expected = store.fetch(int(c._contig[unit[i]]), int(start[i]), int(start[i] + length[i]))
        expected = reverse_complement(expected) if flip[i] else expected
        assert to_text(rows[i, : lengths[i]]) == to_text(expected)


def test_an_epoch_covers_every_base(store):
    c = corpus(store, reverse_complement=0.0)
    seen = np.zeros(5000, dtype=int)
    unit, start, length, _ = c.windows(np.arange(c.windows_per_epoch))
    for u, s, n in zip(unit, start, length, strict=True):
        if c._contig[u] == 0:
            seen[s : s + n] += 1
    assert seen[96:].min() >= 1  # the turn of the tiling may leave out the very first bases, another epoch has them
    assert seen.mean() < 1.1


def test_weights_follow_the_letters(store):
    c = corpus(store, soft_masked_weight=0.25, reverse_complement=0.0)
    samples = np.arange(c.windows_per_epoch)
    rows, _, _ = c._letters(samples)
    examples = c.examples(samples)
    upper, lower, n = (np.isin(rows, to_array(s)) for s in ("ACGT", "acgt", "N"))
    assert upper.any() and lower.any() and n.any()
    assert (examples.weight[upper] == 1).all()
    assert (examples.weight[lower] == 0.25).all()
    assert (examples.weight[n] == 0).all()
    assert (examples.weight[rows == 0] == 0).all()


def hide(masking, samples, ids):
    """Return ids as shown, and which are to be predicted, both (B, L)."""
    shown, places = masking(SEED, samples, ids)
    assert (np.diff(places) > 0).all()
    hidden = np.zeros(ids.shape, dtype=bool)
    hidden.ravel()[places] = True
    return shown, hidden


@pytest.mark.parametrize(("masked", "random"), [(0.8, 0.1), (0.5, 0.35)])
@pytest.mark.parametrize("spec", ["char", "kmer3", "kmer3-overlapping"])
def test_mask_rates(store, spec, masked, random):
    c = corpus(store, spec)
    masking = Masking(c.encoder, 0.15, masked, random, span=3 if spec == "kmer3-overlapping" else 1)
    samples = np.arange(3000)
    ids = c.examples(samples).ids
    shown, hidden = hide(masking, samples, ids)
    nucleotide = np.isin(ids, c.encoder.nucleotide_ids)
    assert not hidden[~nucleotide].any()
    assert (shown[~hidden] == ids[~hidden]).all()
    rate = hidden[nucleotide].mean()
    assert rate == pytest.approx(0.15, abs=0.006)
    assert (shown[hidden] == c.encoder.mask_id).mean() == pytest.approx(masked, abs=0.02)
    replaced = hidden & (shown != c.encoder.mask_id)
    assert np.isin(shown[replaced], c.encoder.nucleotide_ids).all()
    kept = (shown == ids) & hidden
    chance = 1 / len(c.encoder.nucleotide_ids)
    assert kept[hidden].mean() == pytest.approx(1 - masked - random + random * chance, abs=0.015)


def test_spans_are_dnaberts():
    assert list(span_offsets(6)) == [-2, -1, 0, 1, 2, 3]
    assert list(span_offsets(5)) == [-2, -1, 0, 1, 2]
    assert list(span_offsets(4)) == [-1, 0, 1, 2]
    assert list(span_offsets(3)) == [-1, 0, 1]


def test_a_masked_base_cannot_be_read_off_its_neighbours(store):
    c = corpus(store, "kmer3-overlapping", reverse_complement=0.0)
    masking = Masking(c.encoder, rate=0.1, mask_token_rate=1.0, random_token_rate=0.0)
    ids = c.examples(np.arange(500)).ids
    shown, hidden = hide(masking, np.arange(500), ids)
    assert masking.span == 3
    # Each run of masked 3-mers holds a base that no 3-mer left to see spells out: a run of 3 or more, or one cut short
    # by the row's end, an unknown k-mer or [CLS].
    nucleotide = np.isin(ids, c.encoder.nucleotide_ids)
    runs = 0
    for row, possible in zip(hidden, nucleotide, strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        for a, b in zip(edges[::2], edges[1::2], strict=True):
            runs += 1
            cut_short = a == 0 or b == len(row) or not possible[a - 1] or not possible[b]
            assert b - a >= 3 or cut_short
    assert runs > 100


def test_causal_labels_and_packing(store):
    c = corpus(store, pack=True, reverse_complement=0.0)
    batch = CausalCollator(c)(range(c.windows_per_epoch))
    ids, labels, weight = (batch[k].numpy() for k in ("input_ids", "labels", "loss_weight"))
    assert (labels[:, 0] == -100).all() and (weight[:, 0] == 0).all()
    assert ((labels == -100) == (weight == 0)).all()
    packed = (ids == c.encoder.eos_id).any(axis=1)
    assert packed.sum() == 1
    row = ids[packed][0]
    assert (row == c.encoder.eos_id).sum() == 2
    assert (row[-(96 - 72) :] == c.encoder.pad_id).all()


def test_sampling_by_contig(store):
    by_contig = corpus(store, by="contig")
    contig = by_contig._contig[by_contig.windows(np.arange(8000))[0]]
    np.testing.assert_allclose(np.bincount(contig) / 8000, 0.25, atol=0.02)


@pytest.mark.parametrize(
    ("options", "share"),
    [
        ({}, 0.9),
        ({"by": "genome"}, 0.5),
        ({"temperature": 2.0}, 3 / 4),  # √9 : √1
        ({"temperature": 1e9}, 0.5),
        ({"by": "contig"}, 0.25),
    ],
)
def test_a_large_genome_drowns_small_ones_only_if_asked_to(tmp_path, options, share):
    rng = np.random.default_rng(0)
    draw = lambda n: "".join(rng.choice(list("ACGT"), n))  # noqa: E731
    (tmp_path / "large.fa").write_text(f">chromosome\n{draw(90_000)}\n")
    (tmp_path / "small.fa").write_text("".join(f">c{i}\n{draw(n)}\n" for i, n in enumerate((5000, 3000, 2000))))
    both = prepare_store({"large": [tmp_path / "large.fa"], "small": [tmp_path / "small.fa"]}, tmp_path / "store")
    c = corpus(both, window_bp=100, **options)
    contig = c._contig[c.windows(np.arange(20_000))[0]]
    assert (contig == 0).mean() == pytest.approx(share, abs=0.015)


def test_bed_regions_in_and_out(store, tmp_path):
    from genolm.genome.regions import available_regions

    (tmp_path / "in.bed").write_text("one\t100\t1000\ntwo\t0\t300\n")
    (tmp_path / "out.bed").write_text("one\t500\t600\n")
    regions = available_regions(store, tmp_path / "in.bed", tmp_path / "out.bed")
    assert list(regions) == [(0, 100, 500), (0, 600, 1000), (1, 0, 300)]
    encoder = make_encoder(build_tokenizer(load_spec("char")))
    c = Corpus(store, regions, encoder, 96, seed=SEED)
    unit, start, length, _ = c.windows(np.arange(500))
    for u, s, n in zip(unit, start, length, strict=True):
        assert any(contig == c._contig[u] and a <= s and s + n <= b for contig, a, b in regions)


def test_no_region_is_an_error(store):
    encoder = make_encoder(build_tokenizer(load_spec("char")))
    with pytest.raises(ValueError, match="no region"):
        Corpus(store, Regions.from_rows([]), encoder, 96)
