"""Batched forward passes: token likelihoods, predictions, embeddings, sampling."""
