"""Bits per base, Markov models, classification and regression metrics, bootstrap; no torch."""
