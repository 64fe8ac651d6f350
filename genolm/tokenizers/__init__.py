"""Letters to token ids."""
