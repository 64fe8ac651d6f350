"""Query a language model: each row of tokens is computed once, and many log-probabilities are read off it.

Rows of a causal model with a common prefix, REF and the ALTs of a site, share the pass over it, where the model has a
prefix cache: genolm's own and transformers' with a cache of keys and values. Where ALT continues as REF does, genolm's
first layers are run only as far as they carry the change.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from genolm.genome.alphabet import to_array
from genolm.tokenizers.encode import Encoder

SITES = 16
"""Neighbouring sites in windows of the same start share the pass over the tokens before the first of them."""


class QueryBatch:
    """Rows of tokens, each once, and the queries about them.

    Attributes:
        rows: the rows.
        terms: row, position and token of a log-probability. Of a causal model the result is the sum of those of the
            tokens that spell bases, from the position to the end of the row, whatever the token.
        pools: row, first and one past the last token of a mean of last hidden states.
        odds: rows whose log-odds of the four bases are needed at all positions.
        prefix_groups: a row, and where others begin to differ from it in units of SITES → those rows, itself first.
        shared: group → the tokens that all of them share.
    """

    def __init__(self, encoder: Encoder, causal: bool):
        self.encoder, self.causal = encoder, causal
        self.base_ids = encoder.encode_batch(to_array("ACGT")[None], special_tokens=False).ids[0]
        self.rows: list[np.ndarray] = []
        self.terms: list[tuple[int, int, int]] = []
        self.pools: list[tuple[int, int, int]] = []
        self.odds: dict[int, None] = {}
        self.prefix_groups: dict[tuple[int, int], dict[int, None]] = {}
        self.shared: dict[tuple[int, int], int] = {}
        self._numbers: dict[bytes, int] = {}

    def join(self, first: int, other: int, differ: int) -> None:
        """Record that two rows are the same before a token."""
        group = first, differ // SITES
        self.prefix_groups.setdefault(group, {first: None})[other] = None
        self.shared[group] = min(differ, self.shared.get(group, differ))

    def row(self, ids: np.ndarray, hidden: Sequence[int] = ()) -> int:
        """Add a row with these positions masked, unless it is there already; return its number."""
        if hidden:
            ids = ids.copy()
            ids[hidden[0] : hidden[-1] + 1] = self.encoder.mask_id
        key = ids.tobytes()
        if key not in self._numbers:
            self._numbers[key] = len(self.rows)
            self.rows.append(ids)
        return self._numbers[key]


@dataclass(frozen=True)
class QueryResults:
    """Results of queries: terms (T,) float64, pools (P, D) float32, and row → its log-odds (L, 4) float32."""

    terms: np.ndarray
    pools: np.ndarray
    odds: dict[int, np.ndarray]


@torch.inference_mode()
def run_queries(
    model: Any,
    queries: QueryBatch,
    batch_size: int,
    autocast: bool,
    on_rows: Callable[[int], object] = lambda number: None,
) -> QueryResults:
    """Compute every row once, in batches of similar length; `on_rows` is called with the size of each batch."""
    device = next(model.parameters()).device
    terms, pools = (np.array(of, dtype=np.int64).reshape(-1, 3) for of in (queries.terms, queries.pools))
    values, vectors, odds = np.zeros(len(terms)), np.zeros((len(pools), 0), dtype=np.float32), {}
    rows, left = np.arange(len(queries.rows)), np.arange(len(terms))
    if queries.prefix_groups and supports_prefix_cache(model):
        sums = score_with_shared_prefix(model, queries, batch_size, autocast, device, on_rows)
        by_prefix = np.array([row in sums for row in terms[:, 0].tolist()])
        values[by_prefix] = [sums[row][1][position - sums[row][0]] for row, position, _ in terms[by_prefix].tolist()]
        left = np.flatnonzero(~by_prefix)
        rows = np.union1d(pools[:, 0], terms[left, 0])
    is_base = torch.from_numpy(queries.encoder.num_bases > 0).to(device)
    base_ids = torch.from_numpy(queries.base_ids).to(device)
    place = np.zeros(len(queries.rows), dtype=np.int64)
    place[terms[:, 0]] = terms[:, 1]
    lengths = np.array([len(queries.rows[row]) for row in rows], dtype=np.int64)
    order = rows[np.lexsort((place[rows], lengths))]
    crops = not queries.causal and is_genolm(model)
    rank = np.zeros(len(queries.rows), dtype=np.int64)
    rank[order] = np.arange(len(order))
    of_term, of_pool = (_by_batch(rank[table[:, 0]], len(order), batch_size) for table in (terms[left], pools))
    for number, first in enumerate(range(0, len(order), batch_size)):
        batch = order[first : first + batch_size]
        ids, mask = pad_right([queries.rows[row] for row in batch], queries.encoder.pad_id)
        inputs: dict[str, Any] = {"input_ids": torch.from_numpy(ids).to(device)}
        if not mask.all():
            inputs["attention_mask"] = torch.from_numpy(mask.astype(np.int64)).to(device)
        mine, pooled = left[of_term[number]], of_pool[number]
        start = 0
        if crops and len(mine) and not len(pooled) and not queries.odds.keys() & set(batch.tolist()):
            start = int(terms[mine, 1].min())
            inputs["logits_to_keep"] = slice(start, int(terms[mine, 1].max()) + 1)
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            output = model(**inputs, output_hidden_states=len(pooled) > 0)
        if len(mine):
            here = np.stack([rank[terms[mine, 0]] - first, terms[mine, 1] - start, terms[mine, 2]])
            at = torch.from_numpy(here).to(device)
            if queries.causal:
                sums = suffix_sums(token_logs(output.logits, inputs["input_ids"], is_base))
                values[mine] = sums[at[0], at[1]].cpu().numpy()
            else:
                logs = output.logits[at[0], at[1]].float().log_softmax(-1)
                values[mine] = logs.gather(1, at[2][:, None])[:, 0].double().cpu().numpy()
        if len(pooled):
            hidden = output.hidden_states[-1].float()
            means = [hidden[rank[row] - first, start:end].mean(0) for row, start, end in pools[pooled].tolist()]
            if not vectors.shape[1]:
                vectors = np.zeros((len(pools), hidden.shape[-1]), dtype=np.float32)
            vectors[pooled] = torch.stack(means).cpu().numpy()
        for row in batch.tolist():
            if row in queries.odds:
                four = output.logits[rank[row] - first][:, base_ids].float().log_softmax(-1)
                odds[row] = (four - torch.log1p(-four.exp().clamp(max=1 - 1e-7))).cpu().numpy()
        on_rows(len(batch))
    return QueryResults(values, vectors, odds)


def _by_batch(rank: np.ndarray, num_rows: int, batch_size: int) -> list[np.ndarray]:
    """Return, for each batch of rows, which requests are of its rows."""
    order = np.argsort(rank, kind="stable")
    return np.split(order, np.searchsorted(rank[order], np.arange(batch_size, num_rows, batch_size)))


def supports_prefix_cache(model: Any) -> bool:
    """Return whether a causal model can reuse the cache of a prefix for many suffixes."""
    config = getattr(model, "config", None)
    stateful = getattr(model, "_is_stateful", False)  # transformers' word for those that keep other things than keys
    return is_genolm(model) or (config is not None and not stateful and hasattr(config, "use_cache"))


def is_genolm(model: Any) -> bool:
    """Return whether a model is of the genolm family, which skips layers that a change does not reach."""
    return getattr(getattr(model, "config", None), "model_type", None) == "genolm"


def score_with_shared_prefix(
    model: Any,
    queries: QueryBatch,
    batch_size: int,
    autocast: bool,
    device: torch.device,
    on_rows: Callable[[int], object],
) -> dict[int, tuple[int, np.ndarray]]:
    """Return row → a position, and the sums from there and every later one to the end; prefixes are computed once.

    Rows that differ from their first token on are left out.
    """
    is_base = torch.from_numpy(queries.encoder.num_bases > 0).to(device)
    sums: dict[int, tuple[int, np.ndarray]] = {}
    prefix_groups = [group for group in queries.prefix_groups if queries.shared[group]]
    prefix_groups.sort(key=lambda group: (queries.shared[group], len(queries.rows[group[0]])))
    alone = {row for group, rows in queries.prefix_groups.items() if not queries.shared[group] for row in rows}
    start = 0
    while start < len(prefix_groups):
        shared, length = queries.shared[prefix_groups[start]], len(queries.rows[prefix_groups[start][0]])
        stop, rows, parents = start, [], []
        while stop < len(prefix_groups) and len(rows) < batch_size:
            first = prefix_groups[stop][0]
            if queries.shared[prefix_groups[stop]] != shared or len(queries.rows[first]) != length:
                break
            others = [row for row in queries.prefix_groups[prefix_groups[stop]] if row != first]
            rows += others
            parents += [stop - start] * len(others)
            stop += 1
        firsts = [group[0] for group in prefix_groups[start:stop]]
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            suffixes = score_suffixes(model, queries, firsts, rows, np.array(parents), shared, is_base)
        for row, values in zip(firsts + rows, suffixes, strict=True):
            # A row may be in many groups, as REF of one and as ALT of another; the shortest prefix reaches furthest.
            if row not in alone and (row not in sums or sums[row][0] > shared):
                sums[row] = shared, values
        on_rows(stop - start + len(rows))
        start = stop
    return sums


def score_suffixes(
    model: Any,
    queries: QueryBatch,
    firsts: list[int],
    others: list[int],
    parents: np.ndarray,
    shared: int,
    is_base: Any,
) -> list[np.ndarray]:
    """Return the sums of rows from the end of their prefix to their own end: of the first ones, then of the others.

    Args:
        model: see `supports_prefix_cache`.
        queries: holds the rows.
        firsts: F rows of one length.
        others: N rows.
        parents: (N,) which of the first ones each shares its prefix with.
        shared: tokens that each has in common with it.
        is_base: (V,) bool, on the model's device.
    """
    device, num_firsts = is_base.device, len(firsts)
    rows = [queries.rows[row][shared:] for row in firsts + others]
    parent = torch.from_numpy(np.concatenate([np.arange(num_firsts), parents]).astype(np.int64)).to(device)
    begin = torch.from_numpy(np.stack([queries.rows[row][:shared] for row in firsts])).to(device)
    output = model(input_ids=begin, use_cache=True)
    logits, past = output.logits[:, -1:], output.past_key_values
    sums: list[Any] = [None] * len(rows)
    states: Any = None

    def run_suffixes(chosen: Sequence[int], num_changed: int | None = None, **options: Any) -> Any:
        ids, mask = pad_right([rows[i] for i in chosen], queries.encoder.pad_id)
        if not ids.size:  # at the end of a contig one row may be a prefix of the other
            for i in chosen:
                sums[i] = np.zeros(1)
            return None
        if not mask.all():
            whole = np.concatenate([np.ones((len(mask), shared), dtype=bool), mask], axis=1)
            options["attention_mask"] = torch.from_numpy(whole.astype(np.int64)).to(device)
        suffix, index = torch.from_numpy(ids).to(device), parent[list(chosen)]
        if hasattr(past, "rows"):
            mine = past.rows(index)
            if num_changed is not None:
                mine = mine.with_reference(states, index, num_changed)
        else:
            mine = past  # a cache of transformers, used once
            mine.batch_select_indices(index)
        output = model(input_ids=suffix, past_key_values=mine, use_cache=False, **options)
        before = torch.cat([begin[index, -1:], suffix], dim=1)
        logs = token_logs(torch.cat([logits[index], output.logits], dim=1), before, is_base)[:, 1:]
        for i, row_sums in zip(chosen, suffix_sums(logs).cpu().numpy(), strict=True):
            sums[i] = row_sums
        return output.hidden_states

    if not hasattr(past, "rows"):
        run_suffixes(range(len(rows)))
        return sums
    states = run_suffixes(range(num_firsts), output_hidden_states=True)
    changed = [_num_changed(rows[int(parents[i])], rows[num_firsts + i]) for i in range(len(others))]
    near = [num_firsts + i for i, num in enumerate(changed) if num <= len(rows[0]) // 2]
    if near:
        run_suffixes(near, max(changed[i - num_firsts] for i in near))
    if len(near) < len(others):
        run_suffixes(sorted({*range(num_firsts, len(rows))} - {*near}))
    return sums


def _num_changed(one: np.ndarray, other: np.ndarray) -> int:
    """Return the number of leading tokens that hold all differences of two rows; all where lengths differ."""
    if len(one) != len(other):
        return max(len(one), len(other))
    return int(np.flatnonzero(one != other).max(initial=-1)) + 1


def pad_right(rows: list[np.ndarray], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids (B, L), pad_right on the right, and (B, L) bool where there is a token."""
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
