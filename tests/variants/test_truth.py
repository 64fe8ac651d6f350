"""Scores of a trained model beside the truth: a genome whose every letter has a known probability."""

import csv

import numpy as np
import pytest
import runs
import yaml
from scipy.stats import spearmanr
from scoring import BASES, score, write_vcf

from genolm.genome.alphabet import to_array, to_text
from genolm.genome.simulate import Generator, make_generator, write_fasta

SIZE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
CONTIG = 100_000
HELD_OUT = 400
"""SNVs' places at one end of the last contig."""


def draw(generator, length, rng):
    """Draw letters of the background alone, after AAA."""
    thresholds = generator.emission[:, :, 0].cumsum(1)[:, :3].tolist()
    context, drawn = 0, []
    for u in rng.random(length).tolist():
        drawn.append(sum(u >= threshold for threshold in thresholds[context]))
        context = (context << 2 | drawn[-1]) & 63
    return to_array(BASES)[drawn]


def true_llr(generator, contig, place, alt, flank=20):
    """Return log p(ALT) - log p(REF), nats, by the source: the bits of both haplotypes, all else alike.

    It is the answer for a causal model, and for a masked one too: the log-odds of the hidden base, given both flanks,
    are those of the two whole sequences.
    """
    ref = contig[place - flank : place + flank].copy()
    changed = ref.copy()
    changed[flank] = ord(alt)
    one, two = generator.bits([ref, changed])
    return float(one.sum() - two.sum()) * np.log(2)


def test_the_truth_by_hand():
    """A base is in four of the 4-mers whose probabilities make the sequence."""
    rng = np.random.default_rng(1)
    generator = Generator(make_generator(rng).emission[:, :, :1], ())
    contig = draw(generator, 200, rng)
    for place in (50, 90):
        for alt in BASES:
            sums = []
            for base in (to_text(contig)[place], alt):
                changed = to_text(contig)[:place] + base + to_text(contig)[place + 1 :]
                kmers = [changed[end - 3 : end + 1] for end in range(place, place + 4)]
                table = generator.emission[:, :, 0].reshape(4, 4, 4, 4)
                sums.append(sum(np.log(table[tuple(BASES.index(x) for x in kmer)]) for kmer in kmers))
            assert true_llr(generator, contig, place, alt) == pytest.approx(sums[1] - sums[0], abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "mixers", "steps"), [("causal", ["fir", "attention"], 250), ("masked", ["convolution"], 1500)]
)
def test_a_trained_model_ranks_variants_as_the_source_does(tmp_path, objective, mixers, steps):
    """The background of the simulator of `genolm demo`, a third-order chain, learnt by `genolm pretrain` in minutes.

    It is easier than the whole demo, whose genes and repeats take longer to learn than a test may last: after its
    2.9 M bases the demo's own model is half way to the floor, and its Spearman is 0.78, 0.90 within genes.
    """
    rng = np.random.default_rng(0)
    generator = Generator(make_generator(rng).emission[:, :, :1], ())
    contigs = [(f"c{i}", draw(generator, CONTIG, rng)) for i in range(8)]
    write_fasta(tmp_path / "g.fa", contigs)
    recipe = {
        "run_dir": str(tmp_path / "run"),
        "data": {
            "fasta": str(tmp_path / "g.fa"),
            "window_bp": 64,
            "test": {"contigs": ["c7"]},
            "valid": {"fraction": 0.02},
        },
        "objective": {"kind": objective},
        "model": {"architecture": "genolm", "mixers": mixers, **SIZE},
        "training": {
            "max_steps": steps,
            "per_device_train_batch_size": 64,
            "learning_rate": 3e-3 if objective == "causal" else 4e-3,
            "bf16": False,
            "warmup_steps": 20,
            "lr_scheduler_type": "linear",
            "logging_steps": 50,
        },
        "evaluation": {"markov_orders": [3], "max_bp": 10_000, "every_steps": 1000},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    told = tmp_path / "told"
    assert runs.verb(["pretrain", str(tmp_path / "recipe.yaml")], told, timeout=900) == 0, told.read_text()
    held_out = contigs[7][1]
    snvs = [(place, alt) for place in range(1000, 1000 + HELD_OUT) for alt in BASES if alt != chr(held_out[place])]
    path = write_vcf(
        tmp_path / "x.vcf", [f"c7\t{place + 1}\t.\t{chr(held_out[place])}\t{alt}\t.\t.\t." for place, alt in snvs]
    )
    assert score(tmp_path, path, "--out", tmp_path / "x.tsv", model="run")[0] == 0
    with (tmp_path / "x.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    found = [float(row["GENOLM_LIKELIHOOD" if objective == "causal" else "GENOLM_MASKED_LLR"]) for row in rows]
    truth = [true_llr(generator, held_out, *snv) for snv in snvs]
    rank = float(spearmanr(truth, found)[0])
    slope = float(np.polyfit(truth, found, 1)[0])
    print(f"{objective}: Spearman {rank:.3f}, slope {slope:.2f}, of {len(snvs)} SNVs after {steps * 64 * 64:,} bases")
    assert rank > 0.9
    assert 0.7 < slope < 1.3
