"""genolm: from genomes to DNA language models, and from models to answers about DNA.

Importing it lets transformers' Auto classes open the architectures and tokenizers that they lack.
"""

from genolm._auto import register

__version__ = "0.1.0"

register()
