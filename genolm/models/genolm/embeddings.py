"""Token embeddings, and tables of k-mer embeddings added to them."""

import torch
import torch.nn.functional as F
from torch import nn

from .cache import concat_and_keep_tail
from .configuration import GenoLMConfig

UNKNOWN = 4
"""The fifth base: masked, N, a special token, padding, or outside the row."""


class KmerEmbedding(nn.Module):
    """Adds, for each order k, the table row of the k bases that end at a position (causal) or lie around it.

    A causal table has 4^k rows and one more for every k-mer with an unknown base; a bidirectional table has 5^k rows,
    since the bases around a masked one are informative there.
    """

    def __init__(self, config: GenoLMConfig):
        super().__init__()
        self.orders, self.causal, self.dropout = tuple(config.kmer_embeddings), config.causal, config.kmer_dropout
        width = config.kmer_embedding_size or config.hidden_size
        rows = [4**k + 1 if self.causal else 5**k for k in self.orders]
        self.tables = nn.ModuleList(nn.Embedding(num, width) for num in rows)
        self.out_proj = nn.Linear(width, config.hidden_size, bias=False) if config.kmer_embedding_size else None
        self.base_token_ids = config.base_token_ids or []

    def bases(self, input_ids: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
        """Return 0 … 3 for A, C, G, T and 4 for everything else; `keep` (B, L, 1) is 0 at padding."""
        bases = torch.full_like(input_ids, UNKNOWN)
        for base, token in enumerate(self.base_token_ids):
            bases = torch.where(input_ids == token, base, bases)
        return bases if keep is None else torch.where(keep.squeeze(-1) > 0, bases, UNKNOWN)

    def rows(self, bases: torch.Tensor, k: int) -> torch.Tensor:
        """Return the table row at each position.

        Args:
            bases: (B, L) int64: 0 … 3 for A, C, G, T, and 4.
            k: order.

        Returns:
            (B, L) int64.
        """
        after = 0 if self.causal else k // 2
        length, radix = bases.shape[1], 4 if self.causal else 5
        bases = F.pad(bases, (k - 1 - after, after), value=UNKNOWN)
        row, unknown = torch.zeros_like(bases[:, :length]), torch.zeros_like(bases[:, :length], dtype=torch.bool)
        for i in range(k):
            base = bases[:, i : i + length]
            row = row * radix + base
            unknown = unknown | (base == UNKNOWN)
        return torch.where(unknown, 4**k, row) if self.causal else row

    def forward(
        self, input_ids: torch.Tensor, keep: torch.Tensor | None = None, before: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return (B, L, D) for token ids (B, L) after the bases `before` (B, N); `keep` (B, L, 1) is 0 at padding."""
        bases, first = self.bases(input_ids, keep), 0
        if before is not None:
            bases, first = torch.cat([before, bases], dim=1), before.shape[1]
        total = None
        for k, table in zip(self.orders, self.tables, strict=True):
            row = table(self.rows(bases, k)[:, first:])
            if self.training and self.dropout:
                row = row * (torch.rand(row.shape[:2], device=row.device) >= self.dropout).unsqueeze(-1).to(row.dtype)
                row = row / (1 - self.dropout)
            total = row if total is None else total + row
        assert total is not None
        return total if self.out_proj is None else self.out_proj(total)


class Embedding(nn.Module):
    """Token ids → (B, L, D)."""

    def __init__(self, config: GenoLMConfig):
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.kmers = KmerEmbedding(config) if config.kmer_embeddings else None
        self.dropout = nn.Dropout(config.dropout)

    def initial_bases(self, num_rows: int) -> torch.Tensor | None:
        """Return the bases before the first token of rows, for tables of k-mers: all UNKNOWN."""
        if self.kmers is None:
            return None
        size = (num_rows, max(self.kmers.orders) - 1)
        return torch.full(size, UNKNOWN, dtype=torch.int64, device=self.tokens.weight.device)

    def forward(
        self, input_ids: torch.Tensor, keep: torch.Tensor | None = None, before: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Embed (B, L) after the bases `before`, as `initial_bases`; `keep` (B, L, 1) is 0 at padding."""
        hidden = self.tokens(input_ids)
        if self.kmers is not None:
            hidden = hidden + self.kmers(input_ids, keep, before)
        return self.dropout(hidden)

    def next_bases(
        self, before: torch.Tensor | None, input_ids: torch.Tensor, keep: torch.Tensor | None
    ) -> torch.Tensor | None:
        """Return the last bases after `input_ids` (B, L), for the next tokens; arguments as `forward`."""
        if self.kmers is None or before is None:
            return None
        return concat_and_keep_tail(before, self.kmers.bases(input_ids, keep))[1]
