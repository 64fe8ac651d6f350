"""The options of a model that `score`, `mutate` and `scan` share."""

from dataclasses import dataclass
from typing import Annotated

import typer

Fasta = Annotated[str, typer.Option(help="FASTA of the reference, or a folder of `genolm prepare`.")]
Model = Annotated[str, typer.Option(help="Run of `genolm pretrain`, a model folder, or a name on the Hub.")]
Window = Annotated[int | None, typer.Option(help="Window length in bp; by default as in training.")]
BatchSize = Annotated[int, typer.Option(help="Rows of tokens in a forward pass.", min=1)]
Bf16 = Annotated[bool, typer.Option("--bf16", help="Faster on GPUs; values differ in the third digit.")]
Tokenizer = Annotated[str | None, typer.Option(help="Tokenizer instead of the model's own.")]
Revision = Annotated[str | None, typer.Option(help="Commit of a model on the Hub.")]
RemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="Run the model's code.")]


@dataclass(frozen=True)
class ModelOptions:
    """Which model scores which reference, and how.

    Attributes:
        fasta: FASTA of the reference, or a prepared genome.
        model: see `genolm.models.language_model.open_language_model`.
        window_bp: window length; None for that of training.
        batch_size: rows of tokens in a forward pass.
        bf16: run the model in bf16.
        tokenizer: a tokenizer instead of the model's own.
        revision: commit of a model on the Hub.
        trust_remote_code: run the model's code.
    """

    fasta: str
    model: str
    window_bp: int | None = None
    batch_size: int = 32
    bf16: bool = False
    tokenizer: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
