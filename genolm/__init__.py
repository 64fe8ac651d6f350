"""genolm: from genomes to DNA language models, and from models to answers about DNA."""

__version__ = "0.1.0"
