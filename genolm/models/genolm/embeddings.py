"""Token embeddings, and tables of k-mers added to them: what a few layers would work out, looked up instead."""

import torch
import torch.nn.functional as F
from torch import nn

from .cache import carry
from .configuration import GenoLMConfig

UNKNOWN = 4
"""The fifth letter: a masked base, N, an end, padding, or outside the row."""


class KmerEmbedding(nn.Module):
    """Adds, for each order k, the table row of the k letters that end at a position, or that lie around it.

    A causal table has 4^k rows and one more for every k-mer with an unknown letter; a bidirectional table has 5^k rows,
    for there the letters beside a masked one still tell.
    """

    def __init__(self, config: GenoLMConfig):
        super().__init__()
        self.orders, self.causal, self.dropout = tuple(config.kmer_embeddings), config.causal, config.kmer_dropout
        width = config.kmer_embedding_size or config.hidden_size
        rows = [4**k + 1 if self.causal else 5**k for k in self.orders]
        self.tables = nn.ModuleList(nn.Embedding(num, width) for num in rows)
        self.out_proj = nn.Linear(width, config.hidden_size, bias=False) if config.kmer_embedding_size else None
        self.base_token_ids = config.base_token_ids or []

    def letters(self, input_ids: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
        """Return 0 … 3 for A, C, G, T and 4 for everything else; `keep` (B, L, 1) is 0 at padding."""
        letters = torch.full_like(input_ids, UNKNOWN)
        for letter, token in enumerate(self.base_token_ids):
            letters = torch.where(input_ids == token, letter, letters)
        return letters if keep is None else torch.where(keep.squeeze(-1) > 0, letters, UNKNOWN)

    def rows(self, letters: torch.Tensor, k: int) -> torch.Tensor:
        """Return the table row at each position.

        Args:
            letters: (B, L) int64: 0 … 3 for A, C, G, T, and 4.
            k: order.

        Returns:
            (B, L) int64.
        """
        after = 0 if self.causal else k // 2
        length, radix = letters.shape[1], 4 if self.causal else 5
        letters = F.pad(letters, (k - 1 - after, after), value=UNKNOWN)
        row, unknown = torch.zeros_like(letters[:, :length]), torch.zeros_like(letters[:, :length], dtype=torch.bool)
        for i in range(k):
            letter = letters[:, i : i + length]
            row = row * radix + letter
            unknown = unknown | (letter == UNKNOWN)
        return torch.where(unknown, 4**k, row) if self.causal else row

    def forward(
        self, input_ids: torch.Tensor, keep: torch.Tensor | None = None, before: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return (B, L, D) for token ids (B, L) after the letters `before` (B, N); `keep` (B, L, 1) is 0 at padding."""
        letters, first = self.letters(input_ids, keep), 0
        if before is not None:
            letters, first = torch.cat([before, letters], dim=1), before.shape[1]
        total = None
        for k, table in zip(self.orders, self.tables, strict=True):
            row = table(self.rows(letters, k)[:, first:])
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

    def first_letters(self, num_rows: int) -> torch.Tensor | None:
        """Return the letters before rows, which tables of k-mers look at: none is known."""
        if self.kmers is None:
            return None
        size = (num_rows, max(self.kmers.orders) - 1)
        return torch.full(size, UNKNOWN, dtype=torch.int64, device=self.tokens.weight.device)

    def forward(
        self, input_ids: torch.Tensor, keep: torch.Tensor | None = None, before: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Embed (B, L) after the letters `before`, as `first_letters`; `keep` (B, L, 1) is 0 at padding."""
        hidden = self.tokens(input_ids)
        if self.kmers is not None:
            hidden = hidden + self.kmers(input_ids, keep, before)
        return self.dropout(hidden)

    def letters_after(
        self, before: torch.Tensor | None, input_ids: torch.Tensor, keep: torch.Tensor | None
    ) -> torch.Tensor | None:
        """Return the letters before what follows `input_ids` (B, L); arguments as `forward`."""
        if self.kmers is None or before is None:
            return None
        return carry(before, self.kmers.letters(input_ids, keep))[1]
