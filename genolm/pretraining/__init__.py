"""Genomes to a pretrained model: build, run, evaluate."""
