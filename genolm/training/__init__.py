"""The training loop: transformers' Trainer and what it lacks."""
