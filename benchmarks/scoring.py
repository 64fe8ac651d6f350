"""Variants a second beside other scorers, same weights, same scores: python benchmarks/scoring.py [--model DIR].

    straight   what TraitGym's scripts describe: windows of REF and of ALT on both strands, a row of the model each; of a
               causal model the difference of their log-likelihoods, of a masked model that of the touched bases, each
               hidden in a row of its own; windows and touched bases are genolm's (variants/haplotypes.py, pairs.py)
    gpn        what GPN's scripts describe, masked models and single bases: the site hidden in REF's window, a row a strand,
               logit of ALT minus logit of REF, for each ALT anew

Rows are batched as ours are, in the given order; windows have one length, so none is padded. The variants are

    dense      the three ALTs of neighbouring sites, a third of --sites
    dense-64   the same in windows that start at multiples of 64 bases, for all; causal models only, since a masked one
               shares no more than without
    isolated   one ALT a site, sites 1000 bases apart
    indels     insertions and deletions of 1 to 12 bases, 1000 bases apart; an eighth of --sites of a masked model, of which
               each needs 21 rows on average

Scores are compared in a first round that is not timed, and where they differ nothing is. Then rounds go from one scorer to
the next in one process, so that a noisy machine treats all alike; the median of their ratios counts. Without a model
weights are random.

    python benchmarks/scoring.py                             # recipes/genolm/small-{masked,causal}, 512 bp
    python benchmarks/scoring.py --sites 512 --rounds 5
    python benchmarks/scoring.py --device cuda --bf16 --window 512 2048 8192 --recipe base
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from genolm.genome.alphabet import letters, reverse_complement
from genolm.genome.store import Store, prepare
from genolm.models.build import build_model
from genolm.models.language import open_language_model
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.tokenizers.encode import Encoder, make_encoder
from genolm.variants import freed_memory
from genolm.variants.alleles import Allele, resolve
from genolm.variants.contigs import Contigs
from genolm.variants.likelihood import score_alleles

ROOT = Path(__file__).parents[1]
BASES = "ACGT"
ALLOWED = 1e-3
"""Nats by which scores in float32 may differ."""
MASKED = {"dense": ("straight", "gpn"), "isolated": ("straight", "gpn"), "indels": ("straight",)}
CAUSAL = {kind: ("straight",) for kind in ("dense", "dense-64", "isolated", "indels")}


def straight(
    store: Store, alleles: list[Allele], *, model: Any, encoder: Encoder, causal: bool, width: int, step: int, **batches
) -> np.ndarray:
    """Score as the protocol is written: nothing is shared between rows."""
    rows, owners, signs, sites = [], [], [], []
    for number, allele in enumerate(alleles):
        before = width // 2 + allele.start % step
        start = allele.start - before
        # Both windows have the same left edge and the same length; a deletion shows more of what follows.
        reach = store.fetch(allele.contig, start, start + width + len(allele.ref))
        changed = np.concatenate([reach[:before], letters(allele.alt), reach[before + len(allele.ref) :]])
        beside = len(allele.ref) != len(allele.alt)  # of an indel the base on each side is touched too
        for sign, window, bases in ((-1, reach[:width], allele.ref), (1, changed[:width], allele.alt)):
            first, last = before - beside, before + len(bases) + beside
            for strand, touched in (
                (window, range(first, last)),
                (reverse_complement(window), range(width - last, width - first)),
            ):
                ids = encoder.encode_batch(strand[None], special_tokens=False).ids[0]
                for site in [0] if causal else touched:
                    rows.append(ids)
                    owners.append(number)
                    signs.append(sign)
                    sites.append(site)
    found = []
    for first, ids in batched(rows, **batches):
        ids = ids.to(next(model.parameters()).device)
        if causal:
            logs = model(input_ids=ids).logits.float()[:, :-1].log_softmax(-1)
            found.append(logs.gather(2, ids[:, 1:, None])[..., 0].double().sum(1).cpu().numpy())
        else:
            at, place = torch.arange(len(ids)), torch.tensor(sites[first : first + len(ids)])
            hidden = ids.clone()
            hidden[at, place] = encoder.mask_id
            logs = model(input_ids=hidden).logits[at, place].float().log_softmax(-1)
            found.append(logs[at, ids[at, place]].double().cpu().numpy())
    return np.bincount(owners, np.concatenate(found) * signs, minlength=len(alleles)) / 2


def gpn(
    store: Store, alleles: list[Allele], *, model: Any, encoder: Encoder, width: int, step: int, **batches
) -> np.ndarray:
    """Score single bases by the odds of ALT against REF at the hidden site, a row a strand."""
    rows, sites, tokens = [], [], []
    for allele in alleles:
        site = width // 2 + allele.start % step
        start = allele.start - site
        window = store.fetch(allele.contig, start, start + width)
        two = letters(allele.alt + allele.ref)
        for strand, place, pair in (
            (window, site, two),
            (reverse_complement(window), width - 1 - site, reverse_complement(two)[::-1].copy()),
        ):
            rows.append(encoder.encode_batch(strand[None], special_tokens=False).ids[0].copy())
            rows[-1][place] = encoder.mask_id
            sites.append(place)
            tokens.append(encoder.encode_batch(pair[None], special_tokens=False).ids[0])
    found = []
    for first, ids in batched(rows, **batches):
        at, part = torch.arange(len(ids)), slice(first, first + len(ids))
        logits = model(input_ids=ids.to(next(model.parameters()).device)).logits[at, torch.tensor(sites[part])]
        found.append(logits.float().cpu().gather(1, torch.from_numpy(np.stack(tokens[part])).long()).double().numpy())
    alt, ref = np.concatenate(found).T
    return (alt - ref).reshape(-1, 2).mean(1)


def batched(rows: list[np.ndarray], *, batch: int, device: str, bf16: bool) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield the number of the first row of a batch and its ids, under the settings that all scorers run with."""
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bf16):
        for first in range(0, len(rows), batch):
            yield first, torch.from_numpy(np.stack(rows[first : first + batch])).long()


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
    freed_memory.keep()  # for all
    with tempfile.TemporaryDirectory() as folder:
        random = np.random.default_rng(0)
        contig = "".join(random.choice(list(BASES), 20_000 + 1000 * options.sites + 2 * max(options.window)))
        (Path(folder) / "g.fa").write_text(f">c\n{contig}\n")
        store = prepare({"g": [Path(folder) / "g.fa"]}, Path(folder) / "store")
        name = torch.cuda.get_device_name() if options.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
        print(f"{name}, {'bf16' if options.bf16 else 'fp32'}, batches of {options.batch_size}, {options.sites} sites")
        print("model            window  variants         peer        peer/s   genolm/s   ratio   greatest difference")
        for window in options.window:
            for label, model, encoder, causal in models(options, window):
                model.to(options.device).eval()
                for kind, peers in (CAUSAL if causal else MASKED).items():
                    alleles = chosen(store, contig, kind, options.sites, causal)
                    told = measure(model, encoder, store, alleles, causal, window, kind, peers, options)
                    for peer, slow, fast, ratio, most in told:
                        about = f"{label:<16} {window:>6}  {kind:<9} {len(alleles):>5}   {peer:<9}"
                        print(f"{about} {slow:>8.2f} {fast:>10.2f} {ratio:>7.2f}   {most:.1e}", flush=True)


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
        places = range(first, first + max(1, num_sites // 3))
        return [Allele(0, at, contig[at], alt) for at in places for alt in others[contig[at]]]
    if kind == "isolated":
        return [Allele(0, at, contig[at], others[contig[at]][0]) for at in range(first, first + 1000 * num_sites, 1000)]
    random, contigs, alleles = np.random.default_rng(1), Contigs(store, None), []
    for number in range(max(2, num_sites if causal else num_sites // 8)):
        at, length = first + 1000 * number, int(random.integers(1, 13))
        more = "".join(random.choice(list(BASES), length))
        ref, alt = (contig[at], contig[at] + more) if number % 2 else (contig[at : at + length + 1], contig[at])
        status, allele = resolve(contigs, store, "c", at + 1, ref, alt, 12)
        assert allele is not None, status
        alleles.append(allele)
    return alleles


def measure(model, encoder, store, alleles, causal, window, kind, peers, options):
    """Return of each peer its name, its and our variants a second, the median ratio and the greatest difference."""
    step = 64 if kind == "dense-64" else 1
    estimator = "likelihood" if causal or kind == "indels" else "masked_llr"
    shared = {"model": model, "encoder": encoder, "width": window, "step": step}
    shared |= {"batch": options.batch_size, "device": options.device, "bf16": options.bf16}
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
            sys.exit(f"{kind}: scores of {peer} and of genolm differ by {most:.1e}, allowed are {ALLOWED}; nothing is timed")
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
