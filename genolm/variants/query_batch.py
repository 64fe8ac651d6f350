"""Rows of tokens through a language model, each once, and what was asked of them.

Rows of a causal model that begin alike, REF and the ALTs of a site, share the pass over what they begin with, where the
model can go on with a row: genolm's own and transformers' with a cache of keys and values. Where ALT goes on as REF
does, genolm's first layers are run only as far as they carry the change.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from genolm.genome.alphabet import to_array
from genolm.tokenizers.encode import Encoder

SITES = 16
"""Sites next to each other in windows of the same start share the pass over what lies before the first of them."""


class Asked:
    """Rows of tokens, each once, and what is asked of them.

    Attributes:
        rows: the rows.
        terms: row, position and token of a log-probability. Of a causal model the answer is the sum of those of the
            tokens that spell bases, from the position to the end of the row, whatever the token.
        pools: row, first and one past the last token of a mean of last hidden states.
        odds: rows whose log-odds of the four bases are wanted at all places.
        families: a row, and where others begin to differ from it in units of SITES → those rows, itself first.
        shared: family → the tokens that all of them share.
    """

    def __init__(self, encoder: Encoder, causal: bool):
        self.encoder, self.causal = encoder, causal
        self.base_ids = encoder.encode_batch(to_array("ACGT")[None], special_tokens=False).ids[0]
        self.rows: list[np.ndarray] = []
        self.terms: list[tuple[int, int, int]] = []
        self.pools: list[tuple[int, int, int]] = []
        self.odds: dict[int, None] = {}
        self.families: dict[tuple[int, int], dict[int, None]] = {}
        self.shared: dict[tuple[int, int], int] = {}
        self._numbers: dict[bytes, int] = {}

    def join(self, first: int, other: int, differ: int) -> None:
        """Say that two rows are the same before a token."""
        family = first, differ // SITES
        self.families.setdefault(family, {first: None})[other] = None
        self.shared[family] = min(differ, self.shared.get(family, differ))

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
    place = np.zeros(len(asked.rows), dtype=np.int64)
    place[terms[:, 0]] = terms[:, 1]
    lengths = np.array([len(asked.rows[row]) for row in rows], dtype=np.int64)
    order = rows[np.lexsort((place[rows], lengths))]
    crops = not asked.causal and is_genolm(model)
    rank = np.zeros(len(asked.rows), dtype=np.int64)
    rank[order] = np.arange(len(order))
    of_term, of_pool = (_by_batch(rank[table[:, 0]], len(order), batch_size) for table in (terms[left], pools))
    for number, first in enumerate(range(0, len(order), batch_size)):
        batch = order[first : first + batch_size]
        ids, mask = padded([asked.rows[row] for row in batch], asked.encoder.pad_id)
        inputs: dict[str, Any] = {"input_ids": torch.from_numpy(ids).to(device)}
        if not mask.all():
            inputs["attention_mask"] = torch.from_numpy(mask.astype(np.int64)).to(device)
        mine, pooled = left[of_term[number]], of_pool[number]
        start = 0
        if crops and len(mine) and not len(pooled) and not asked.odds.keys() & set(batch.tolist()):
            start = int(terms[mine, 1].min())
            inputs["logits_to_keep"] = slice(start, int(terms[mine, 1].max()) + 1)
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            output = model(**inputs, output_hidden_states=len(pooled) > 0)
        if len(mine):
            here = np.stack([rank[terms[mine, 0]] - first, terms[mine, 1] - start, terms[mine, 2]])
            at = torch.from_numpy(here).to(device)
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
    return is_genolm(model) or (config is not None and not stateful and hasattr(config, "use_cache"))


def is_genolm(model: Any) -> bool:
    """Say whether a model is of the family that can leave layers out where nothing of them is asked or changed."""
    return getattr(getattr(model, "config", None), "model_type", None) == "genolm"


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
    families = [family for family in asked.families if asked.shared[family]]
    families.sort(key=lambda family: (asked.shared[family], len(asked.rows[family[0]])))
    alone = {row for family, rows in asked.families.items() if not asked.shared[family] for row in rows}
    start = 0
    while start < len(families):
        shared, length = asked.shared[families[start]], len(asked.rows[families[start][0]])
        stop, rows, parents = start, [], []
        while stop < len(families) and len(rows) < batch_size:
            first = families[stop][0]
            if asked.shared[families[stop]] != shared or len(asked.rows[first]) != length:
                break
            others = [row for row in asked.families[families[stop]] if row != first]
            rows += others
            parents += [stop - start] * len(others)
            stop += 1
        firsts = [family[0] for family in families[start:stop]]
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            found = after(model, asked, firsts, rows, np.array(parents), shared, is_base)
        for row, values in zip(firsts + rows, found, strict=True):
            # A row may be of many families, as REF of one and as ALT of another. What is shared least reaches furthest.
            if row not in alone and (row not in sums or sums[row][0] > shared):
                sums[row] = shared, values
        on_rows(stop - start + len(rows))
        start = stop
    return sums


def after(
    model: Any, asked: Asked, firsts: list[int], others: list[int], parents: np.ndarray, shared: int, is_base: Any
) -> list[np.ndarray]:
    """Return the sums of rows from the end of what they share to their own: of the first ones, then of the others.

    Args:
        model: see `goes_on`.
        asked: holds the rows.
        firsts: F rows of one length.
        others: N rows.
        parents: (N,) which of the first ones each begins like.
        shared: tokens that each has in common with it.
        is_base: (V,) bool, on the model's device.
    """
    device, num_firsts = is_base.device, len(firsts)
    rows = [asked.rows[row][shared:] for row in firsts + others]
    parent = torch.from_numpy(np.concatenate([np.arange(num_firsts), parents]).astype(np.int64)).to(device)
    begin = torch.from_numpy(np.stack([asked.rows[row][:shared] for row in firsts])).to(device)
    output = model(input_ids=begin, use_cache=True)
    logits, past = output.logits[:, -1:], output.past_key_values
    sums: list[Any] = [None] * len(rows)
    states: Any = None

    def run_suffixes(chosen: Sequence[int], num_changed: int | None = None, **options: Any) -> Any:
        ids, mask = padded([rows[i] for i in chosen], asked.encoder.pad_id)
        if not ids.size:  # at the end of a contig one may be all that the other begins with
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
            mine = past  # of transformers, and gone on with once
            mine.batch_select_indices(index)
        output = model(input_ids=suffix, past_key_values=mine, use_cache=False, **options)
        before = torch.cat([begin[index, -1:], suffix], dim=1)
        logs = token_logs(torch.cat([logits[index], output.logits], dim=1), before, is_base)[:, 1:]
        for i, found in zip(chosen, suffix_sums(logs).cpu().numpy(), strict=True):
            sums[i] = found
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
    """Return how many first tokens hold all differences of two rows; all of them where one row is longer."""
    if len(one) != len(other):
        return max(len(one), len(other))
    return int(np.flatnonzero(one != other).max(initial=-1)) + 1


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
