"""Variants per second compared with other scorers, same weights and scores: python benchmarks/scoring.py [--model DIR].

    straight   what TraitGym's scripts describe: windows of REF and of ALT on both strands, a row of the model each; of
               a causal model the difference of their log-likelihoods, of a masked one that of the touched bases
    gpn        what GPN's scripts describe, for masked models and single bases: the site hidden in REF's window, a row
               a strand, logit of ALT minus logit of REF, for each ALT anew

They are in benchmarks/peers/variant_scorers.py. Variants are

    dense      the three ALTs of neighbouring sites, a quarter of --sites
    dense-64   the same in windows that start at multiples of 64 bases, for both scorers; only causal models gain by it
    isolated   one ALT a site, sites 1000 bases apart
    indels     insertions and deletions of 1 to 12 bases, 1000 bases apart: half of --sites, and of a masked model,
               where each needs about 21 rows, a sixteenth

Scores are compared in a first round that is not timed; where they differ the script ends. Then rounds go from one
scorer to the next in one process, so that a noisy machine treats all alike; the median of their ratios counts. Without
a model weights are random.

    python benchmarks/scoring.py                             # recipes/genolm/small-{masked,causal}, 512 bp
    python benchmarks/scoring.py --sites 512 --rounds 5
    python benchmarks/scoring.py --device cuda --bf16 --window 512 2048 8192 --recipe base
"""

import argparse
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import yaml
from peers.variant_scorers import gpn, straight

from genolm.genome.store import Store, prepare_store
from genolm.models.build import build_model
from genolm.models.language_model import open_language_model
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.tokenizers.encode import make_encoder
from genolm.training.memory import keep_freed_pages
from genolm.variants.alleles import Allele, Contigs, resolve_allele
from genolm.variants.likelihood import score_alleles

ROOT = Path(__file__).parents[1]
BASES = "ACGT"
ALLOWED = 1e-3
"""Nats by which scores in float32 may differ."""
MASKED_PEERS = {"dense": ("straight", "gpn"), "isolated": ("straight", "gpn"), "indels": ("straight",)}
CAUSAL_PEERS = {kind: ("straight",) for kind in ("dense", "dense-64", "isolated", "indels")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="*", default=[], help="folders; else the recipe's models, weights random")
    parser.add_argument("--recipe", default="small", help="of recipes/genolm: small, base")
    parser.add_argument("--window", type=int, nargs="*", default=[512])
    parser.add_argument("--sites", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    keep_freed_pages()  # for all
    with tempfile.TemporaryDirectory() as folder:
        random = np.random.default_rng(0)
        contig = "".join(random.choice(list(BASES), 20_000 + 1000 * options.sites + 2 * max(options.window)))
        (Path(folder) / "g.fa").write_text(f">c\n{contig}\n")
        store = prepare_store({"g": [Path(folder) / "g.fa"]}, Path(folder) / "store")
        name = torch.cuda.get_device_name() if options.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
        print(f"{name}, {'bf16' if options.bf16 else 'fp32'}, batches of {options.batch_size}, {options.sites} sites")
        print("model            window  variants         peer        peer/s   genolm/s   ratio   greatest difference")
        for window in options.window:
            for label, model, encoder, causal in models(options, window):
                model.to(options.device).eval()
                for kind, peers in (CAUSAL_PEERS if causal else MASKED_PEERS).items():
                    alleles = chosen(store, contig, kind, options.sites, causal)
                    results = measure(model, encoder, store, alleles, causal, window, kind, peers, options)
                    for peer, slow, fast, ratio, most in results:
                        row = f"{label:<16} {window:>6}  {kind:<9} {len(alleles):>5}   {peer:<9}"
                        print(f"{row} {slow:>8.2f} {fast:>10.2f} {ratio:>7.2f}   {most:.1e}", flush=True)


def models(options, window: int):
    """Yield name, model, encoder and whether it is causal."""
    for folder in options.model:
        language = open_language_model(folder, window_bp=window)
        if language.encoder.kind != "char" or language.encoder.prefix_ids or language.encoder.suffix_ids:
            sys.exit(f"{folder}: the peers here read a token a base and no others; give a model of `tokenizer: char`")
        yield Path(folder).name, language.model, language.encoder, language.causal
    for objective in () if options.model else ("masked", "causal"):
        tokenizer = build_tokenizer(load_spec("char"))
        block = yaml.safe_load((ROOT / f"recipes/genolm/{options.recipe}-{objective}.yaml").read_text())["model"]
        torch.manual_seed(0)
        model = build_model(block, tokenizer, objective, window + 2)
        yield f"{options.recipe}-{objective}", model, make_encoder(tokenizer), objective == "causal"


def chosen(store: Store, contig: str, kind: str, num_sites: int, causal: bool) -> list[Allele]:
    """Return the three ALTs of neighbouring sites, or one ALT of sites far apart, or indels far apart."""
    others = {base: [other for other in BASES if other != base] for base in BASES}
    first = 10_000 + 48
    if kind.startswith("dense"):
        places = range(first, first + max(1, num_sites // 4))
        return [Allele(0, at, contig[at], alt) for at in places for alt in others[contig[at]]]
    if kind == "isolated":
        return [Allele(0, at, contig[at], others[contig[at]][0]) for at in range(first, first + 1000 * num_sites, 1000)]
    random, contigs, alleles = np.random.default_rng(1), Contigs(store, None), []
    for number in range(max(2, num_sites // (2 if causal else 16))):
        at, length = first + 1000 * number, int(random.integers(1, 13))
        more = "".join(random.choice(list(BASES), length))
        ref, alt = (contig[at], contig[at] + more) if number % 2 else (contig[at : at + length + 1], contig[at])
        status, allele = resolve_allele(contigs, store, "c", at + 1, ref, alt, 12)
        assert allele is not None, status
        alleles.append(allele)
    return alleles


def measure(model, encoder, store, alleles, causal, window, kind, peers, options):
    """Return of each peer its name, its and our variants a second, the median ratio and the greatest difference."""
    step = 64 if kind == "dense-64" else 1
    estimator = "likelihood" if causal or kind == "indels" else "masked_llr"
    shared = {"model": model, "encoder": encoder, "width": window, "step": step}
    shared |= {"batch_size": options.batch_size, "device": options.device, "bf16": options.bf16}
    scorers = {"straight": partial(straight, causal=causal, **shared), "gpn": partial(gpn, **shared)}

    def ours(store, alleles):
        return score_alleles(
            model, encoder, store, alleles, causal=causal, window_bp=window, step=step, estimators=[estimator],
            batch_size=options.batch_size, autocast=options.bf16,
        ).values[estimator]  # fmt: skip

    # The first round warms up and compares.
    expected = ours(store, alleles)
    differ = {peer: float(np.abs(scorers[peer](store, alleles) - expected).max()) for peer in peers}
    for peer, most in differ.items():
        if not options.bf16 and not most <= ALLOWED:
            sys.exit(
                f"{kind}: scores of {peer} and of genolm differ by {most:.1e}, allowed are {ALLOWED}; nothing is timed"
            )
    times: dict[str, list[float]] = {name: [] for name in (*peers, "genolm")}
    for _ in range(options.rounds):
        for name, seconds in times.items():
            began = time.perf_counter()
            (ours if name == "genolm" else scorers[name])(store, alleles)
            seconds.append(time.perf_counter() - began)
    fast = statistics.median(times["genolm"])
    for peer in peers:
        ratio = statistics.median(a / b for a, b in zip(times[peer], times["genolm"], strict=True))
        yield peer, len(alleles) / statistics.median(times[peer]), len(alleles) / fast, ratio, differ[peer]


if __name__ == "__main__":
    main()
