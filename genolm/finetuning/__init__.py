"""Labelled rows to a fine-tuned model: build, train, validate, probe."""
