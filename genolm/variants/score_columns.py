"""Columns of the output: their names, and what they mean."""

LLRS = ("masked_llr", "likelihood", "unmasked_llr")
"""Columns that are log-likelihood ratios, in nats; positive favours ALT."""

CALIBRATED = ("masked_llr", "likelihood")
"""Columns whose magnitude grows with the length of an indel, since they sum over more tokens."""

MEANINGS = {
    "masked_llr": "log p(ALT) - log p(REF) of touched tokens hidden at once, nats, mean of both strands",
    "likelihood": "log p(window with ALT) - log p(window with REF), nats, mean of both strands",
    "unmasked_llr": "log p(ALT) - log p(REF) where REF is shown, nats, mean of both strands",
    "entropy": "entropy of A, C, G, T at the first changed base, nats, mean of both strands",
    "influence": "mean greatest change of log-odds elsewhere in the window, mean of both strands",
}


def field(column: str) -> str:
    """Return the name of a column in the output."""
    return f"GENOLM_{column.upper()}"
