"""Rows of tokens through a language model, each once, and what was asked of them."""

from collections.abc import Sequence
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
    """

    def __init__(self, encoder: Encoder, causal: bool):
        self.encoder, self.causal = encoder, causal
        self.base_ids = encoder.encode_batch(letters("ACGT")[None], special_tokens=False).ids[0]
        self.rows: list[np.ndarray] = []
        self.terms: list[tuple[int, int, int]] = []
        self.pools: list[tuple[int, int, int]] = []
        self.odds: dict[int, None] = {}
        self._numbers: dict[bytes, int] = {}

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
def run(model: Any, asked: Asked, batch_size: int, autocast: bool) -> Answers:
    """Compute every row once, in batches of like length, and answer."""
    device = next(model.parameters()).device
    order = np.argsort([len(row) for row in asked.rows], kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    terms, pools = (np.array(asked_of, dtype=np.int64).reshape(-1, 3) for asked_of in (asked.terms, asked.pools))
    by_term, by_pool = (np.argsort(rank[table[:, 0]], kind="stable") for table in (terms, pools))
    ends = [
        np.searchsorted(rank[table[by, 0]], np.arange(0, len(order) + batch_size, batch_size))
        for table, by in ((terms, by_term), (pools, by_pool))
    ]
    is_base = torch.from_numpy(asked.encoder.num_bases > 0).to(device)
    values, vectors, odds = np.zeros(len(terms)), [], {}
    for number, first in enumerate(range(0, len(order), batch_size)):
        rows = order[first : first + batch_size]
        ids, mask = padded([asked.rows[row] for row in rows], asked.encoder.pad_id)
        tensors = {"input_ids": torch.from_numpy(ids).to(device)}
        if not mask.all():
            tensors["attention_mask"] = torch.from_numpy(mask.astype(np.int64)).to(device)
        mine, pooled = by_term[ends[0][number] : ends[0][number + 1]], by_pool[ends[1][number] : ends[1][number + 1]]
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            output = model(**tensors, output_hidden_states=len(pooled) > 0)
        logits = output.logits
        if len(mine):
            at = torch.from_numpy(np.stack([rank[terms[mine, 0]] - first, terms[mine, 1], terms[mine, 2]])).to(device)
            if asked.causal:
                values[mine] = suffix_sums(logits.float(), tensors["input_ids"], is_base)[at[0], at[1]].cpu().numpy()
            else:
                logs = logits[at[0], at[1]].float().log_softmax(-1)
                values[mine] = logs.gather(1, at[2][:, None])[:, 0].double().cpu().numpy()
        if len(pooled):
            hidden = output.hidden_states[-1].float()
            found = [hidden[rank[row] - first, start:end].mean(0) for row, start, end in pools[pooled].tolist()]
            vectors.append(torch.stack(found).cpu().numpy())
        for row in rows.tolist():
            if row in asked.odds:
                four = logits[rank[row] - first][:, torch.from_numpy(asked.base_ids).to(device)].float().log_softmax(-1)
                odds[row] = (four - torch.log1p(-four.exp().clamp(max=1 - 1e-7))).cpu().numpy()
    gathered = np.concatenate(vectors)[np.argsort(by_pool, kind="stable")] if vectors else np.zeros((0, 1))
    return Answers(values, gathered, odds)


def padded(rows: list[np.ndarray], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids (B, L), padded on the right, and (B, L) bool where there is a token."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = np.concatenate(rows)
    return ids, mask


def suffix_sums(logits: torch.Tensor, ids: torch.Tensor, is_base: torch.Tensor) -> torch.Tensor:
    """Return (B, L + 1) float64: log p of the bases' tokens from each place to the end of the row, given all before."""
    logs = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0].double()
    logs = torch.nn.functional.pad(logs * is_base[ids[:, 1:]], (1, 1))
    return logs.flip(1).cumsum(1).flip(1)
