"""Pretraining data: sample number to window, strand, mask and batch."""
