"""Variants a second beside a straight scorer, same weights, same scores: python benchmarks/scoring.py [--model DIR].

The straight scorer does what TraitGym's scripts describe: for each variant windows of REF and of ALT around it, on both
strands, one row of the model each; of a masked model the log-odds of ALT at the hidden site, of a causal model the
difference of the windows' log-likelihoods. Its rows are batched as ours are. `dense` is the three ALTs of neighbouring
sites, `isolated` one ALT a site, sites a thousand bases apart, `dense-64` the dense ones in windows that start at
multiples of 64 bases, for both scorers. Rounds go from one scorer to the other in one process,
so that a noisy machine treats both alike; the median of their ratios counts. Without a model weights are random.

    python benchmarks/scoring.py                             # recipes/genolm/small-{masked,causal}, 512 bp: 15 minutes
    python benchmarks/scoring.py --sites 512 --rounds 5
    python benchmarks/scoring.py --device cuda --bf16 --window 512 2048 8192 --recipe base
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from genolm.genome.alphabet import reverse_complement
from genolm.genome.store import Store, prepare
from genolm.models.build import build_model
from genolm.models.language import open_language_model
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.tokenizers.encode import Encoder, make_encoder
from genolm.variants import freed_memory
from genolm.variants.alleles import Allele
from genolm.variants.likelihood import score_alleles

ROOT = Path(__file__).parents[1]
BASES = "ACGT"


def straight(
    model: Any,
    encoder: Encoder,
    store: Store,
    alleles: list[Allele],
    causal: bool,
    width: int,
    step: int,
    batch: int,
    bf16: bool,
) -> np.ndarray:
    """Score single bases as the protocol is written: nothing is shared between rows."""
    device, rows, sites, targets = next(model.parameters()).device, [], [], []
    for allele in alleles:
        site = width // 2 + allele.start % step
        start = allele.start - site
        window = store.fetch(allele.contig, start, start + width)
        for haplotype in (allele.ref, allele.alt):
            shown = window.copy()
            shown[site] = ord(haplotype)
            for strand in (shown, reverse_complement(shown)):
                rows.append(encoder.encode_batch(strand[None]).ids[0])
                sites.append(site if strand is shown else width - 1 - site)
                targets.append(int(rows[-1][sites[-1]]))
                if not causal:
                    rows[-1][sites[-1]] = encoder.mask_id
    found = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for first in range(0, len(rows), batch):
            ids = torch.from_numpy(np.stack(rows[first : first + batch])).to(device)
            logits = model(input_ids=ids).logits.float()
            if causal:
                logs = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0].double().sum(1)
            else:
                place = torch.tensor(sites[first : first + batch], device=device)
                token = torch.tensor(targets[first : first + batch], device=device)
                at = torch.arange(len(ids), device=device)
                logs = logits[at, place].log_softmax(-1)[at, token].double()
            found.append(logs.cpu().numpy())
    ref, alt = np.concatenate(found).reshape(-1, 2, 2).transpose(1, 0, 2)
    return (alt - ref).mean(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="*", default=[], help="folders; else the recipe's models, weights random")
    parser.add_argument("--recipe", default="small", help="of recipes/genolm: small, base")
    parser.add_argument("--window", type=int, nargs="*", default=[512])
    parser.add_argument("--sites", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    freed_memory.keep()  # for both
    with tempfile.TemporaryDirectory() as folder:
        random = np.random.default_rng(0)
        contig = "".join(random.choice(list(BASES), 20_000 + 1000 * options.sites))
        (Path(folder) / "g.fa").write_text(f">c\n{contig}\n")
        store = prepare({"g": [Path(folder) / "g.fa"]}, Path(folder) / "store")
        name = torch.cuda.get_device_name() if options.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
        print(f"{name}, {'bf16' if options.bf16 else 'fp32'}, batches of {options.batch_size}, {options.sites} sites")
        print("model            window  variants   straight/s   genolm/s   ratio   greatest difference")
        for window in options.window:
            for label, model, encoder, causal in models(options, window):
                model.to(options.device).eval()
                for kind, step in (("dense", 1), ("dense-64", 64), ("isolated", 1)):
                    alleles = chosen(contig, kind, options.sites)
                    slow, fast, ratio, most = measure(model, encoder, store, alleles, causal, window, step, options)
                    about = f"{label:<16} {window:>6}  {kind:<9} {slow:>11.2f} {fast:>10.2f}"
                    print(f"{about} {ratio:>7.2f}   {most:.1e}", flush=True)


def models(options, window: int):
    """Yield name, model, encoder and whether it is causal."""
    for folder in options.model:
        language = open_language_model(folder, window_bp=window)
        yield Path(folder).name, language.model, language.encoder, language.causal
    for objective in () if options.model else ("masked", "causal"):
        tokenizer = build_tokenizer(load_spec("char"))
        block = yaml.safe_load((ROOT / f"recipes/genolm/{options.recipe}-{objective}.yaml").read_text())["model"]
        torch.manual_seed(0)
        model = build_model(block, tokenizer, objective, window + 2)
        yield f"{options.recipe}-{objective}", model, make_encoder(tokenizer), objective == "causal"


def chosen(contig: str, kind: str, num_sites: int) -> list[Allele]:
    """Return the three ALTs of neighbouring sites, or one ALT of sites far apart."""
    apart = 1000 if kind == "isolated" else 1
    places = [10_048 + apart * i for i in range(num_sites)]
    others = {base: [other for other in BASES if other != base] for base in BASES}
    return [
        Allele(0, at, contig[at], alt) for at in places for alt in others[contig[at]][: 1 if kind == "isolated" else 3]
    ]


def measure(model, encoder, store, alleles, causal, window, step, options) -> tuple[float, float, float, float]:
    """Return variants a second of both, the median ratio, and the greatest difference of a score."""
    estimator = "likelihood" if causal else "masked_llr"
    times: list[tuple[float, float]] = []
    for _ in range(options.rounds + 1):  # the first one warms up
        began = time.perf_counter()
        one = straight(model, encoder, store, alleles, causal, window, step, options.batch_size, options.bf16)
        between = time.perf_counter()
        two = score_alleles(
            model, encoder, store, alleles, causal=causal, window_bp=window, step=step, estimators=[estimator],
            batch_size=options.batch_size, autocast=options.bf16,
        ).values[estimator]  # fmt: skip
        times.append((between - began, time.perf_counter() - between))
    slow, fast = (statistics.median(pair[i] for pair in times[1:]) for i in (0, 1))
    ratio = statistics.median(a / b for a, b in times[1:])
    return len(alleles) / slow, len(alleles) / fast, ratio, float(np.abs(one - two).max())


if __name__ == "__main__":
    main()
