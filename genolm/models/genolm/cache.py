"""Decoding cache: each layer's state after a prefix, which serves any number of suffixes.

    out = model(prefix, use_cache=True)
    model(suffixes, past_key_values=out.past_key_values.repeat(len(suffixes)))

A forward reads the cache and changes nothing in it. Where suffixes differ from a reference suffix in their first tokens
only, the first layers need not run again over the rest:

    first = model(suffix, past_key_values=cache, output_hidden_states=True)
    known = cache.repeat(n).with_reference(first.hidden_states, zeros, num_changed)
    model(others, past_key_values=known, use_cache=False)

Memory per row and layer: `attention` holds keys and values of all tokens, `local_attention` those of the last window,
`hyena` the input of its long filter at all tokens; `fir`, `fir_medium` and `convolution` hold the inputs under their
taps, `ssm` its state and the inputs under its short filter. Cost of a step: linear in the cached tokens for `attention`
and for `hyena`, which lays out all its taps at each; constant for all others.
"""

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class ReferenceRows:
    """Rows that others equal after their first tokens, so that the first layers' states there can be reused.

    Attributes:
        states: hidden states of the reference rows after the same prefix, the embedding's and every layer's, each
            (F, L, D).
        rows: (B,) int64, the reference row of each row.
        num_changed: number of first tokens that hold all differences.
    """

    states: tuple[torch.Tensor, ...]
    rows: torch.Tensor
    num_changed: int


@dataclass(eq=False)  # not frozen: `generate` marks those that a user gives it
class RecurrentCache:
    """The state of a model after the first tokens of rows: the result of a forward with `use_cache=True`.

    Attributes:
        length: number of cached tokens, padding included.
        layers: the mixer's state of each layer; rows are the first dimension of every tensor.
        bases: (B, k - 1) int64, the last bases, for tables of k-mers; None without.
        attended: (B, length) bool, False at padding; None where there is none.
        reference: rows that the next rows nearly equal; None without.
    """

    length: int
    layers: tuple[tuple[torch.Tensor, ...], ...]
    bases: torch.Tensor | None = None
    attended: torch.Tensor | None = None
    reference: ReferenceRows | None = None

    # Read by `generate`: the shapes of `attention` grow, and an earlier token cannot be returned to.
    is_compileable = False
    is_croppable = False

    def rows(self, index: torch.Tensor) -> "RecurrentCache":
        """Return the cache whose row i is row index[i] of this one."""
        return self._each(lambda tensor: tensor.index_select(0, index.to(tensor.device)))

    def repeat(self, num: int) -> "RecurrentCache":
        """Repeat each row `num` times in a row. A single row is expanded without copying."""
        return self._each(
            lambda tensor: (
                tensor.expand(num, *tensor.shape[1:]) if len(tensor) == 1 else tensor.repeat_interleave(num, dim=0)
            )
        )

    def with_reference(
        self, states: tuple[torch.Tensor, ...], rows: torch.Tensor, num_changed: int
    ) -> "RecurrentCache":
        """Return this cache with reference rows for the next forward; arguments as `ReferenceRows`."""
        return replace(self, reference=ReferenceRows(states, rows, num_changed))

    def _each(self, change) -> "RecurrentCache":
        bases, attended = (None if tensor is None else change(tensor) for tensor in (self.bases, self.attended))
        layers = tuple(tuple(change(tensor) for tensor in layer) for layer in self.layers)
        return replace(self, layers=layers, bases=bases, attended=attended, reference=None)

    def attended_with(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor | None:
        """Return (B, length + L) bool, which tokens, cached or of `input_ids` (B, L), are no padding; None for all.

        Args:
            input_ids: the tokens after the cached ones.
            attention_mask: of these, (B, L), or of all, (B, length + L), as `generate` gives it.
        """
        if attention_mask is None and self.attended is None:
            return None
        rows, num = input_ids.shape
        if attention_mask is None:
            new = torch.ones_like(input_ids, dtype=torch.bool)
        elif attention_mask.shape[1] in (num, self.length + num):
            new = attention_mask[:, attention_mask.shape[1] - num :] > 0
        else:
            raise ValueError(
                f"attention_mask has {attention_mask.shape[1]} columns; it may have {num}, of the tokens given, or "
                f"{self.length + num}, with those before them"
            )
        before = self.attended if self.attended is not None else new.new_ones(rows, self.length)
        return torch.cat([before, new], dim=1)

    def get_seq_length(self, layer_idx: int | None = None) -> int:
        """Return `length`; transformers' `generate` skips this number of tokens of a prompt."""
        return self.length

    def get_query_offset(self, layer_idx: int | None = None) -> int:
        """Return `length`; transformers reads it when it makes a mask."""
        return self.length

    def get_mask_sizes(self, query_length: int, layer_idx: int | None = None) -> tuple[int, int]:
        """Return the number of keys and the first one's position; transformers reads it when it makes a mask."""
        return self.length + query_length, 0


def concat_and_keep_tail(before: torch.Tensor, new: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Prepend the cached end of a row to its next piece, and return the end to cache next.

    Args:
        before: (B, N, …).
        new: (B, L, …).

    Returns:
        (B, N + L, …), of new's type; a copy of its last N, (B, N, …).
    """
    row = torch.cat([before.to(new.dtype), new], dim=1)
    return row, row[:, row.shape[1] - before.shape[1] :].clone()


def check_cache(cache: object, num_layers: int, num_rows: int) -> None:
    """Raise ValueError unless `cache` is of a genolm model with `num_layers` layers and `num_rows` rows."""
    if not isinstance(cache, RecurrentCache):
        raise ValueError(f"past_key_values is a {type(cache).__name__}; give what this model returned under that name")
    if len(cache.layers) != num_layers:
        raise ValueError(f"past_key_values is of {len(cache.layers)} layers, and this model has {num_layers}")
    cached_rows = cache.layers[0][0].shape[0]
    if cached_rows != num_rows:
        raise ValueError(
            f"past_key_values has {cached_rows} rows and input_ids {num_rows}; see `past_key_values.repeat` and `.rows`"
        )
