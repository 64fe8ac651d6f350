"""Scorers of variants that share nothing between rows, for scoring.py: what TraitGym's and GPN's scripts describe.

Models read a token a base and no others. Rows go to the model in the order of the variants, in batches of one size; all
windows have one length, so none is padded. Windows are genolm's (variants/haplotypes.py): of REF and of ALT alike they
start half a window before the first changed base, or at the multiple of `step` before that, and hold as many bases.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from genolm.genome.alphabet import reverse_complement, to_array
from genolm.genome.store import Store
from genolm.tokenizers.encode import Encoder
from genolm.variants.alleles import Allele


def straight(
    store: Store, alleles: list[Allele], *, model: Any, encoder: Encoder, causal: bool, width: int, step: int, **batches
) -> np.ndarray:
    """Score by the windows of REF and of ALT on both strands, (n,) float64.

    Of a causal model the difference of their log-likelihoods, a row each. Of a masked one that of their touched bases,
    each hidden in a row of its own: the changed ones and, where the length changes, one on each side.
    """
    rows, owners, signs, sites = [], [], [], []
    for number, allele in enumerate(alleles):
        before = width // 2 + allele.start % step
        start = allele.start - before
        # A deletion shows more of what follows, and an insertion less.
        ref = store.fetch(allele.contig, start, start + width + len(allele.ref))
        alt = np.concatenate([ref[:before], to_array(allele.alt), ref[before + len(allele.ref) :]])
        flank = len(allele.ref) != len(allele.alt)
        for sign, window, bases in ((-1, ref[:width], allele.ref), (1, alt[:width], allele.alt)):
            first, last = before - flank, before + len(bases) + flank
            for strand, touched in (
                (window, range(first, last)),
                (reverse_complement(window), range(width - last, width - first)),
            ):
                ids = tokens(encoder, strand)
                for site in [0] if causal else touched:
                    rows.append(ids)
                    owners.append(number)
                    signs.append(sign)
                    sites.append(site)
    values = []
    for part, ids in batched(rows, **batches):
        if causal:
            logs = model(input_ids=ids).logits.float()[:, :-1].log_softmax(-1)
            values.append(logs.gather(2, ids[:, 1:, None])[..., 0].double().sum(1).cpu().numpy())
        else:
            row, site = torch.arange(len(ids), device=ids.device), torch.tensor(sites[part], device=ids.device)
            hidden = ids.clone()
            hidden[row, site] = encoder.mask_id
            logs = model(input_ids=hidden).logits[row, site].float().log_softmax(-1)
            values.append(logs[row, ids[row, site]].double().cpu().numpy())
    return np.bincount(owners, np.concatenate(values) * signs, minlength=len(alleles)) / 2


def gpn(
    store: Store, alleles: list[Allele], *, model: Any, encoder: Encoder, width: int, step: int, **batches
) -> np.ndarray:
    """Score single bases by the logits of ALT and of REF at the hidden site of REF's window, (n,) float64."""
    rows, sites, pairs = [], [], []
    for allele in alleles:
        site = width // 2 + allele.start % step
        start = allele.start - site
        window = store.fetch(allele.contig, start, start + width)
        for strand, place, alt, ref in (
            (window, site, to_array(allele.alt), to_array(allele.ref)),
            (
                reverse_complement(window),
                width - 1 - site,
                *(reverse_complement(to_array(x)) for x in (allele.alt, allele.ref)),
            ),
        ):
            ids = tokens(encoder, strand).copy()
            ids[place] = encoder.mask_id
            rows.append(ids)
            sites.append(place)
            pairs.append(tokens(encoder, np.concatenate([alt, ref])))
    values = []
    for part, ids in batched(rows, **batches):
        row, site = torch.arange(len(ids), device=ids.device), torch.tensor(sites[part], device=ids.device)
        logits = model(input_ids=ids).logits[row, site].double().cpu().numpy()
        values.append(np.take_along_axis(logits, np.stack(pairs[part]), axis=1))
    alt, ref = np.concatenate(values).T
    return (alt - ref).reshape(-1, 2).mean(1)


def tokens(encoder: Encoder, strand: np.ndarray) -> np.ndarray:
    """Return the ids of some letters."""
    return encoder.encode_batch(strand[None], special_tokens=False).ids[0]


def batched(
    rows: list[np.ndarray], *, batch_size: int, device: str, bf16: bool
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield which rows and their ids, under the settings that every scorer runs with."""
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bf16):
        for first in range(0, len(rows), batch_size):
            part = slice(first, first + batch_size)
            yield part, torch.from_numpy(np.stack(rows[part])).long().to(device)
