"""The genolm family, what transformers lacks for DNA, in plain PyTorch. This folder imports nothing else of genolm.

A recipe's `model: {architecture: genolm, mixers: […], …}`, or the Auto classes once genolm is imported. Its files are
also what `genolm publish --export-code` ships with a model, for processes without genolm.
"""
