"""`genolm generate`: new bases from a language model, after a prompt (causal) or in place of N (masked)."""

from pathlib import Path
from typing import Annotated

import typer


def generate(
    model: Annotated[str, typer.Argument(help="Run of `genolm pretrain`, its checkpoint, or a name on the Hub.")],
    out: Annotated[Path, typer.Option(help="FASTA file to write.")],
    prompt: Annotated[str | None, typer.Option(help="Bases to continue; for a masked model, with N to fill.")] = None,
    prompts: Annotated[str | None, typer.Option(help="FASTA of prompts.")] = None,
    infill: Annotated[str | None, typer.Option(help="BED of intervals to redraw, by a masked model.")] = None,
    fasta: Annotated[str | None, typer.Option(help="FASTA of --infill.")] = None,
    length: Annotated[int, typer.Option(help="Bases to draw after each prompt, by a causal model.", min=0)] = 0,
    num: Annotated[int, typer.Option(help="Sequences for each prompt.", min=1)] = 1,
    temperature: Annotated[float, typer.Option(help="Below 1 for likelier bases; 0 for the likeliest.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Draw from the k likeliest tokens; 0 for all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest tokens that hold this probability.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same sequences.")] = 0,
    passes: Annotated[int, typer.Option(help="Passes in which N are filled; 0 for one token each.", min=0)] = 0,
    keep_prompt: Annotated[bool, typer.Option(help="Write the prompt or the context too.")] = False,
    batch_size: Annotated[int, typer.Option(help="Sequences drawn together; it does not change them.", min=1)] = 16,
) -> None:
    """Draw new bases from a pretrained model.

    A causal model continues a prompt. A masked model fills the N of a prompt, or the intervals of a BED: every token
    with an N is masked, and each pass draws the one that the model is most certain of.

    Example: genolm generate runs/first --prompt ACGTTGCA --length 1000 --num 10 --temperature 0.8 --out new.fa
    """
    from genolm.config.files import write_text
    from genolm.inference.generate import SequenceGenerator, check_options, fasta_text, read_infill, read_prompts
    from genolm.inference.sample import Sampling
    from genolm.models.build import load_model
    from genolm.models.label_folder import model_folder
    from genolm.models.language_model import objective_of
    from genolm.models.precision import available_device
    from genolm.models.safe_loading import without_bars
    from genolm.tokenizers.build import load_tokenizer
    from genolm.tokenizers.encode import make_encoder

    sampling = Sampling(temperature, top_k, top_p, seed)
    if out.suffix not in (".fa", ".fasta", ".fna"):
        raise ValueError(f"--out {out}: its name must end in .fa, .fasta or .fna")
    if sum(given is not None for given in (prompt, prompts, infill)) > 1:
        raise ValueError("give one of --prompt, --prompts and --infill")
    if (infill is None) != (fasta is None):
        raise ValueError("--infill and --fasta go together: the intervals, and the FASTA they lie in")
    folder = model_folder(model)
    objective = objective_of(folder)
    check_options(objective, length, infill, prompt is not None or prompts is not None)
    loaded = load_model(folder, objective)
    loaded.to(available_device())  # type: ignore[arg-type]
    tokenizer = load_tokenizer(folder)
    generator = SequenceGenerator(loaded, tokenizer, make_encoder(tokenizer), sampling, batch_size)
    inputs = read_infill(infill, str(fasta), generator.max_bp) if infill else read_prompts(prompt, prompts)
    if objective == "causal":
        with without_bars():
            texts, note = generator.after_prompts(inputs, num, length)
        if note:
            typer.echo(note, err=True)
    else:
        texts = generator.filled(inputs, num, passes)
    whole = keep_prompt or (objective == "masked" and infill is None)
    settings = f"seed={seed} temperature={temperature:g} top_k={top_k} top_p={top_p:g} model={model}"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, fasta_text(inputs, texts, objective == "causal", whole, settings))
    typer.echo(f"{len(texts):,} sequences: {out}")
