"""Letters and coordinates: numpy and htslib, no torch, no transformers."""
