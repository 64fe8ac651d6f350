"""What later tokens need of the tokens before them, so that a row can be gone on with instead of run again.

    out = model(prefix, use_cache=True)
    model(suffixes, past_key_values=out.past_key_values.repeat(len(suffixes)))

A forward reads it and changes nothing in it: one may serve many suffixes. Where these differ from one that has been run
in their first tokens only, the first layers need not be run again over the rest:

    first = model(suffix, past_key_values=past, output_hidden_states=True)
    model(others, past_key_values=past.repeat(n).followed_by(first.hidden_states, zeros, num_changed), use_cache=False)

Memory a row and layer: `attention` holds keys and values of all tokens, `local_attention` those of the last window,
`hyena` the input of its long filter at all tokens; `fir`, `fir_medium` and `convolution` hold the inputs under their
taps, `ssm` its state and the inputs under its short filter. Cost of a step: linear in the tokens before for `attention`
and for `hyena`, which lays out all its taps at each; the same at any length for all others.
"""

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class Alike:
    """Rows that differ from others in their first tokens only: what the first layers make of the rest is known.

    Attributes:
        states: of those others, after the same past, the embedding and the output of every layer, each (F, L, D).
        rows: (B,) int64, which of them each row is like.
        num_changed: so many first tokens hold all differences.
    """

    states: tuple[torch.Tensor, ...]
    rows: torch.Tensor
    num_changed: int


@dataclass(eq=False)  # not frozen: `generate` marks those that a user gives it
class Past:
    """What a model keeps of the first tokens of rows: the result of a forward with `use_cache=True`.

    Attributes:
        length: tokens before, padding included.
        layers: for each layer what its mixer keeps; rows are the first dimension of every tensor.
        letters: (B, k - 1) int64, the last letters, for tables of k-mers; None without.
        seen: (B, length) bool, False at padding; None where there is none.
        alike: rows that what follows is nearly the same as; None where none is known.
    """

    length: int
    layers: tuple[tuple[torch.Tensor, ...], ...]
    letters: torch.Tensor | None = None
    seen: torch.Tensor | None = None
    alike: Alike | None = None

    # Asked by `generate`: the shapes of `attention` grow, and an earlier place cannot be gone back to.
    is_compileable = False
    is_croppable = False

    def rows(self, index: torch.Tensor) -> "Past":
        """Return that of other rows: row i is what row index[i] was."""
        return self._each(lambda tensor: tensor.index_select(0, index.to(tensor.device)))

    def repeat(self, num: int) -> "Past":
        """Return that of `num` rows for each row, one after another. Of a single row it takes no memory."""
        return self._each(
            lambda tensor: (
                tensor.expand(num, *tensor.shape[1:]) if len(tensor) == 1 else tensor.repeat_interleave(num, dim=0)
            )
        )

    def followed_by(self, states: tuple[torch.Tensor, ...], rows: torch.Tensor, num_changed: int) -> "Past":
        """Return this with rows that are known to follow it; those that will differ from them as `Alike` says."""
        return replace(self, alike=Alike(states, rows, num_changed))

    def _each(self, change) -> "Past":
        letters, seen = (None if tensor is None else change(tensor) for tensor in (self.letters, self.seen))
        layers = tuple(tuple(change(tensor) for tensor in layer) for layer in self.layers)
        return replace(self, layers=layers, letters=letters, seen=seen, alike=None)

    def seen_with(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor | None:
        """Return (B, length + L) bool, which tokens before and of `input_ids` (B, L) are no padding; None for all.

        Args:
            input_ids: the tokens that follow.
            attention_mask: of these, (B, L), or of all, (B, length + L), as `generate` gives it.
        """
        if attention_mask is None and self.seen is None:
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
        before = self.seen if self.seen is not None else new.new_ones(rows, self.length)
        return torch.cat([before, new], dim=1)

    def get_seq_length(self, layer_idx: int | None = None) -> int:
        """Return `length`, for transformers: it asks for what to leave out of a prompt."""
        return self.length

    def get_query_offset(self, layer_idx: int | None = None) -> int:
        """Return `length`, for transformers: it asks when it makes a mask."""
        return self.length

    def get_mask_sizes(self, query_length: int, layer_idx: int | None = None) -> tuple[int, int]:
        """Return the number of keys, and where the first stands, for transformers: it asks when it makes a mask."""
        return self.length + query_length, 0


def carry(before: torch.Tensor, new: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a piece of a row with what lies before it, and what then lies before the next piece.

    Args:
        before: (B, N, …).
        new: (B, L, …).

    Returns:
        (B, N + L, …), of new's type; its last N, (B, N, …), which hold on to nothing else.
    """
    row = torch.cat([before.to(new.dtype), new], dim=1)
    return row, row[:, row.shape[1] - before.shape[1] :].clone()
