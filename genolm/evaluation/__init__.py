"""Numbers and figures from predictions; no torch."""
