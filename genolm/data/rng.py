"""Counter-based random numbers: f(seed, stream, sample, position), and of nothing else.

No state is kept, so no worker, rank or restart can change a number. Each (seed, stream, sample) keys one SplitMix64
sequence, read at any position. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA
2014, §5, with the constants of Stafford's variant 13. Cost: about 3 ns for each 64-bit number.
"""

import functools
import math

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _mix(x: np.ndarray) -> np.ndarray:
    """Mix 64-bit words in place; a bijection."""
    shifted = x >> np.uint64(30)
    x ^= shifted
    x *= _MIX_1
    x ^= np.right_shift(x, np.uint64(27), out=shifted)
    x *= _MIX_2
    x ^= np.right_shift(x, np.uint64(31), out=shifted)
    return x


@functools.lru_cache(maxsize=64)
def _base(seed: int, stream: int) -> np.ndarray:
    base = np.array([seed % 2**64], dtype=np.uint64)
    return _mix(_mix(base + _GAMMA) + np.array([stream], dtype=np.uint64) * _GAMMA)


def _keys(seed: int, stream: int, samples: np.ndarray) -> np.ndarray:
    return _mix(_base(seed, stream) + samples.astype(np.uint64) * _GAMMA)


def words(seed: int, stream: int, samples: np.ndarray, num: int) -> np.ndarray:
    """Return random 64-bit words.

    Args:
        seed: any integer.
        stream: what the numbers are for; two uses never share one.
        samples: (B,) sample numbers, ≥ 0.
        num: words for each sample.

    Returns:
        (B, num) uint64, uniform.
    """
    positions = np.arange(1, num + 1, dtype=np.uint64) * _GAMMA
    return _mix(_keys(seed, stream, samples)[:, None] + positions)


def words32(seed: int, stream: int, samples: np.ndarray, num: int) -> np.ndarray:
    """Return (B, num) uniform uint32: half the cost of `words`."""
    pairs = words(seed, stream, samples, (num + 1) // 2)
    return pairs.astype("<u8", copy=False).view("<u4")[:, :num]


def uniform(seed: int, stream: int, samples: np.ndarray) -> np.ndarray:
    """Return (B,) float64 in [0, 1), 53 bits each."""
    return (words(seed, stream, samples, 1)[:, 0] >> np.uint64(11)) * 2.0**-53


def integers(seed: int, stream: int, samples: np.ndarray, high: np.ndarray | int) -> np.ndarray:
    """Return (B,) int64 in [0, high). The bias is below high / 2**53."""
    return np.floor(uniform(seed, stream, samples) * high).astype(np.int64)


def permute(seed: int, stream: int, index: np.ndarray, size: int, epoch: np.ndarray) -> np.ndarray:
    """Shuffle without a table: a bijection of [0, size) for each (seed, stream, epoch).

    A four-round Feistel network on pairs from Z_a × Z_b, where a · b is `size` or at most √size more, walked until it
    lands inside. Source: Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002.

    Args:
        seed: any integer.
        stream: what the shuffle is for.
        index: (B,) int64 in [0, size).
        size: number of elements.
        epoch: (B,) int64; each epoch has its own order.

    Returns:
        (B,) int64.
    """
    high = math.isqrt(max(size - 1, 0)) + 1
    sides = np.array([high, -(-size // high)], dtype=np.uint64)
    keys = words(seed, stream, epoch, 4)
    x = index.astype(np.uint64)
    outside = np.ones(len(x), dtype=bool)
    while outside.any():
        pair = list(np.divmod(x[outside], sides[1]))
        key = keys[outside]
        for r in range(4):
            here, side = r % 2, sides[r % 2]
            pair[here] = (pair[here] + _mix((pair[1 - here] + key[:, r]) * _GAMMA) % side) % side
        x[outside] = pair[0] * sides[1] + pair[1]
        outside = x >= np.uint64(size)
    return x.astype(np.int64)


def words_at(seed: int, stream: int, samples: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return (N,) uint64: the word of each sample at one position; `words(...)[sample, position]`."""
    return _mix(_keys(seed, stream, samples) + (positions.astype(np.uint64) + np.uint64(1)) * _GAMMA)
