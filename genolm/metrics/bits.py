"""Bits per base: the one number that compares models whatever their tokenizer.

Nats of all scored tokens, over ln 2, over the bases they account for. Guessing costs two bits.
"""

from typing import Any

import numpy as np

from genolm.metrics.bootstrap import ratio


def bits_per_base(nats: np.ndarray, bases: np.ndarray) -> float:
    """Return sum(nats) / ln 2 / sum(bases); NaN where there are no bases.

    Args:
        nats: shape (n,), -ln p of each token.
        bases: shape (n,), bases each token accounts for; fractions are fine.
    """
    total = float(np.sum(bases))
    return float(np.sum(nats) / np.log(2) / total) if total else float("nan")


def bits_table(
    nats: np.ndarray,
    bases: np.ndarray,
    block: np.ndarray,
    classes: dict[str, np.ndarray] | None = None,
    key: str = "bits_per_base",
) -> dict[str, Any]:
    """Return bits per base with its block-bootstrap interval, over all tokens and in each class.

    Args:
        nats: shape (n,), -ln p of each token (or base), each finite.
        bases: shape (n,), bases each token accounts for, 0 or more.
        block: shape (n,), integer id of the stretch of genome each token lies in; blocks are drawn whole.
        classes: class name → (n,) bool mask. Classes may overlap, and need not cover all.
        key: name of the bits in the tables.

    Returns:
        {key: float, "interval": [low, high], "num_bases": float, "num_blocks": int, "classes": {name: the same}}. The
        interval is None where fewer than two blocks hold a base; `classes` exists where classes are given.

    Raises:
        ValueError: shapes differ, or a value is not finite.
    """
    nats, bases, block = np.asarray(nats, dtype=np.float64), np.asarray(bases, dtype=np.float64), np.asarray(block)
    if not np.isfinite(nats).all():
        first = int(np.flatnonzero(~np.isfinite(nats))[0])
        raise ValueError(f"nats[{first}] is {nats[first]}; likelihoods must be finite: leave out what is not scored")

    def row(chosen: Any) -> dict[str, Any]:
        estimate = ratio(nats[chosen] / np.log(2), bases[chosen], block[chosen])
        return {
            key: bits_per_base(nats[chosen], bases[chosen]),
            "interval": None if np.isnan(estimate["low"]) else [estimate["low"], estimate["high"]],
            "num_bases": float(bases[chosen].sum()),
            "num_blocks": estimate["num_blocks"],
        }

    for name, mask in (classes or {}).items():
        if np.shape(mask) != nats.shape or np.asarray(mask).dtype != bool:
            raise ValueError(f"class {name!r} must be a bool mask of shape {nats.shape}; got {np.shape(mask)}")
    table = row(slice(None))
    return table if classes is None else {**table, "classes": {name: row(mask) for name, mask in classes.items()}}
