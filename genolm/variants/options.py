"""The command-line options that `score`, `mutate` and `scan` share."""

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
