"""Rows of tokens through a language model, each once, and what was asked of them.

Rows of a causal model that begin alike, REF and the ALTs of a site, share the pass over what they begin with, where the
model can go on with a row: genolm's own and transformers' with a cache of keys and values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from genolm.genome.alphabet import letters
from genolm.tokenizers.encode import Encoder


class Asked:
    """Rows of tokens, each once, and what is asked of them.

    Attributes:
        rows: the rows.
        terms: row, position and token of a log-probability. Of a causal model the answer is the sum of those of the
            tokens that spell bases, from the position to the end of the row, whatever the token.
        pools: row, first and one past the last token of a mean of last hidden states.
        odds: rows whose log-odds of the four bases are wanted at all places.
        families: row → the rows that begin like it, itself among them.
        shared: row → the tokens that all of them share.
    """

    def __init__(self, encoder: Encoder, causal: bool):
        self.encoder, self.causal = encoder, causal
        self.base_ids = encoder.encode_batch(letters("ACGT")[None], special_tokens=False).ids[0]
        self.rows: list[np.ndarray] = []
        self.terms: list[tuple[int, int, int]] = []
        self.pools: list[tuple[int, int, int]] = []
        self.odds: dict[int, None] = {}
        self.families: dict[int, dict[int, None]] = {}
        self.shared: dict[int, int] = {}
        self._numbers: dict[bytes, int] = {}

    def join(self, first: int, other: int, differ: int) -> None:
        """Say that two rows are the same before a token; all that are joined to the same first one share a pass."""
        self.families.setdefault(first, {first: None})[other] = None
        self.shared[first] = min(differ, self.shared.get(first, differ))

    def row(self, ids: np.ndarray, hidden: Sequence[int] = ()) -> int:
        """Return the number of a row in which these places are hidden."""
        if hidden:
            ids = ids.copy()
            ids[hidden[0] : hidden[-1] + 1] = self.encoder.mask_id
        key = ids.tobytes()
        if key not in self._numbers:
            self._numbers[key] = len(self.rows)
            self.rows.append(ids)
        return self._numbers[key]


@dataclass(frozen=True)
class Answers:
    """What was asked: terms (T,) float64, pools (P, D) float32, and row → its log-odds (L, 4) float32."""

    terms: np.ndarray
    pools: np.ndarray
    odds: dict[int, np.ndarray]


@torch.inference_mode()
def run(
    model: Any,
    asked: Asked,
    batch_size: int,
    autocast: bool,
    on_rows: Callable[[int], object] = lambda number: None,
) -> Answers:
    """Compute every row once, in batches of like length, and answer; `on_rows` is told how many each batch held."""
    device = next(model.parameters()).device
    terms, pools = (np.array(of, dtype=np.int64).reshape(-1, 3) for of in (asked.terms, asked.pools))
    values, vectors, odds = np.zeros(len(terms)), np.zeros((len(pools), 0), dtype=np.float32), {}
    rows, left = np.arange(len(asked.rows)), np.arange(len(terms))
    if asked.families and goes_on(model):
        sums = together(model, asked, batch_size, autocast, device, on_rows)
        told = np.array([row in sums for row in terms[:, 0].tolist()])
        values[told] = [sums[row][1][position - sums[row][0]] for row, position, _ in terms[told].tolist()]
        left = np.flatnonzero(~told)
        rows = np.union1d(pools[:, 0], terms[left, 0])
    is_base = torch.from_numpy(asked.encoder.num_bases > 0).to(device)
    base_ids = torch.from_numpy(asked.base_ids).to(device)
    order = rows[np.argsort([len(asked.rows[row]) for row in rows], kind="stable")]
    rank = np.zeros(len(asked.rows), dtype=np.int64)
    rank[order] = np.arange(len(order))
    of_term, of_pool = (_by_batch(rank[table[:, 0]], len(order), batch_size) for table in (terms[left], pools))
    for number, first in enumerate(range(0, len(order), batch_size)):
        batch = order[first : first + batch_size]
        ids, mask = padded([asked.rows[row] for row in batch], asked.encoder.pad_id)
        inputs = {"input_ids": torch.from_numpy(ids).to(device)}
        if not mask.all():
            inputs["attention_mask"] = torch.from_numpy(mask.astype(np.int64)).to(device)
        mine, pooled = left[of_term[number]], of_pool[number]
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            output = model(**inputs, output_hidden_states=len(pooled) > 0)
        if len(mine):
            at = torch.from_numpy(np.stack([rank[terms[mine, 0]] - first, terms[mine, 1], terms[mine, 2]])).to(device)
            if asked.causal:
                sums = suffix_sums(token_logs(output.logits, inputs["input_ids"], is_base))
                values[mine] = sums[at[0], at[1]].cpu().numpy()
            else:
                logs = output.logits[at[0], at[1]].float().log_softmax(-1)
                values[mine] = logs.gather(1, at[2][:, None])[:, 0].double().cpu().numpy()
        if len(pooled):
            hidden = output.hidden_states[-1].float()
            found = [hidden[rank[row] - first, start:end].mean(0) for row, start, end in pools[pooled].tolist()]
            if not vectors.shape[1]:
                vectors = np.zeros((len(pools), hidden.shape[-1]), dtype=np.float32)
            vectors[pooled] = torch.stack(found).cpu().numpy()
        for row in batch.tolist():
            if row in asked.odds:
                four = output.logits[rank[row] - first][:, base_ids].float().log_softmax(-1)
                odds[row] = (four - torch.log1p(-four.exp().clamp(max=1 - 1e-7))).cpu().numpy()
        on_rows(len(batch))
    return Answers(values, vectors, odds)


def _by_batch(rank: np.ndarray, num_rows: int, batch_size: int) -> list[np.ndarray]:
    """Return, for each batch of rows, which requests are of its rows."""
    order = np.argsort(rank, kind="stable")
    return np.split(order, np.searchsorted(rank[order], np.arange(batch_size, num_rows, batch_size)))


def goes_on(model: Any) -> bool:
    """Say whether a causal model can go on with a row whose first part it has seen, once for many."""
    config = getattr(model, "config", None)
    stateful = getattr(model, "_is_stateful", False)  # transformers' word for those that keep other things than keys
    return config is not None and (config.model_type == "genolm" or (not stateful and hasattr(config, "use_cache")))


def together(
    model: Any,
    asked: Asked,
    batch_size: int,
    autocast: bool,
    device: torch.device,
    on_rows: Callable[[int], object],
) -> dict[int, tuple[int, np.ndarray]]:
    """Return row → a place, and the sums from there and every later place to the end; what rows share is computed once.

    Rows that differ from their first token on are left out.
    """
    is_base = torch.from_numpy(asked.encoder.num_bases > 0).to(device)
    sums: dict[int, tuple[int, np.ndarray]] = {}
    families = [first for first in asked.families if asked.shared[first]]
    families.sort(key=lambda first: (asked.shared[first], len(asked.rows[first])))
    alone = {row for first, rows in asked.families.items() if not asked.shared[first] for row in rows}
    start = 0
    while start < len(families):
        shared = asked.shared[families[start]]
        stop, rows, parents = start, [], []
        while stop < len(families) and asked.shared[families[stop]] == shared and len(rows) < batch_size:
            rows += asked.families[families[stop]]
            parents += [stop - start] * len(asked.families[families[stop]])
            stop += 1
        begin = torch.from_numpy(np.stack([asked.rows[first][:shared] for first in families[start:stop]])).to(device)
        ids, mask = padded([asked.rows[row][shared:] for row in rows], asked.encoder.pad_id)
        suffix, parent = torch.from_numpy(ids).to(device), torch.tensor(parents, device=device)
        options = {}
        if not mask.all():
            whole = np.concatenate([np.ones((len(mask), shared), dtype=bool), mask], axis=1)
            options["attention_mask"] = torch.from_numpy(whole.astype(np.int64)).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            output = model(input_ids=begin, use_cache=True)
            logits, past = output.logits[:, -1:], output.past_key_values
            if hasattr(past, "rows"):
                past = past.rows(parent)
            else:
                past.batch_select_indices(parent)
            after = model(input_ids=suffix, past_key_values=past, use_cache=False, **options).logits
        before = torch.cat([begin[:, -1:][parent], suffix], dim=1)
        logs = token_logs(torch.cat([logits[parent], after], dim=1), before, is_base)[:, 1:]
        found = suffix_sums(logs).cpu().numpy()
        for row, values in zip(rows, found, strict=True):
            # A row may be of two families, as REF of one and as ALT of another. What is shared least reaches furthest.
            if row not in alone and (row not in sums or sums[row][0] > shared):
                sums[row] = shared, values
        on_rows(len(rows))
        start = stop
    return sums


def padded(rows: list[np.ndarray], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids (B, L), padded on the right, and (B, L) bool where there is a token."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = np.concatenate(rows)
    return ids, mask


def token_logs(logits: torch.Tensor, ids: torch.Tensor, is_base: torch.Tensor) -> torch.Tensor:
    """Return (B, L) float64: log p of tokens that spell bases, given all before; 0 for others and for the first."""
    logs = logits[:, :-1].float().log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0].double()
    return torch.nn.functional.pad(logs * is_base[ids[:, 1:]], (1, 0))


def suffix_sums(logs: torch.Tensor) -> torch.Tensor:
    """Return (B, L + 1): sums from each place to the end of the row."""
    return torch.nn.functional.pad(logs, (0, 1)).flip(1).cumsum(1).flip(1)
