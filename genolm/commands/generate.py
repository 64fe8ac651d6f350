"""`genolm generate`: new bases from a language model, after a prompt (causal) or in place of N (masked)."""

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

LINE = 80
"""Letters of a line of the FASTA that is written."""


class Asked(NamedTuple):
    """A sequence to go on with or to fill: its name, its letters, and the first and one past the last that count."""

    name: str
    letters: str
    start: int
    end: int


def generate(
    model: Annotated[str, typer.Argument(help="Run of `genolm pretrain`, its checkpoint, or a name on the Hub.")],
    out: Annotated[Path, typer.Option(help="FASTA file to write.")],
    prompt: Annotated[str | None, typer.Option(help="Bases to go on from; for a masked model with N to fill.")] = None,
    prompts: Annotated[str | None, typer.Option(help="FASTA of such.")] = None,
    infill: Annotated[str | None, typer.Option(help="BED of stretches to draw anew, by a masked model.")] = None,
    fasta: Annotated[str | None, typer.Option(help="FASTA of --infill.")] = None,
    length: Annotated[int, typer.Option(help="Bases to draw after each prompt, by a causal model.", min=0)] = 0,
    num: Annotated[int, typer.Option(help="Sequences for each prompt.", min=1)] = 1,
    temperature: Annotated[float, typer.Option(help="Below 1 for likelier bases; 0 for the likeliest.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Draw from so many of the likeliest tokens; 0 for all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest tokens that hold this probability.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same sequences.")] = 0,
    passes: Annotated[int, typer.Option(help="Passes in which N are filled; 0 for one token each.", min=0)] = 0,
    keep_prompt: Annotated[bool, typer.Option(help="Write what was given around the new bases too.")] = False,
    batch_size: Annotated[int, typer.Option(help="Sequences drawn together; it does not change them.", min=1)] = 16,
) -> None:
    """Draw new bases from a pretrained model.

    A causal model goes on from a prompt. A masked model fills the N of a prompt, or the stretches of a BED: every token
    with an N is hidden, and in each pass the one it is most certain of is drawn and shown to the next.

    Example: genolm generate runs/first --prompt ACGTTGCA --length 1000 --num 10 --temperature 0.8 --out new.fa
    """
    import torch

    from genolm.inference.sample import Sampling, Spelling
    from genolm.models.build import load_model
    from genolm.models.label_folder import model_folder
    from genolm.tokenizers.build import load_tokenizer
    from genolm.tokenizers.encode import make_encoder

    sampling = Sampling(temperature, top_k, top_p, seed)
    if out.suffix not in (".fa", ".fasta", ".fna"):
        raise ValueError(f"--out {out}: its name must end in .fa, .fasta or .fna")
    if sum(given is not None for given in (prompt, prompts, infill)) > 1:
        raise ValueError("give one of --prompt, --prompts and --infill")
    if (infill is None) != (fasta is None):
        raise ValueError("--infill and --fasta go together: the stretches, and the FASTA they lie in")
    folder = model_folder(model)
    kind = objective_of(folder)
    check_kind(kind, length, infill, prompt is None and prompts is None)
    opened: Any = load_model(folder, kind).eval()
    opened.to(torch.accelerator.current_accelerator() or "cpu")
    tokenizer = load_tokenizer(folder)
    encoder = make_encoder(tokenizer)
    # Of a vocabulary padded for speed, the logits beyond it are of no token.
    spelling = Spelling.of(tokenizer, encoder, opened.config.vocab_size)
    if infill is not None:
        asked = spans(infill, str(fasta), room_bp(opened, encoder))
    elif prompts is not None:
        from genolm.genome.extract import read_records

        names, letters, _ = read_records(prompts)
        asked = [Asked(name, row, 0, len(row)) for name, row in zip(names, letters, strict=True)]
    else:
        asked = [Asked("generated", cleaned(prompt or ""), 0, len(prompt or ""))]
    if kind == "causal":
        written = after_prompts(opened, encoder, spelling, asked, num, length, sampling, batch_size)
    else:
        written = filled(opened, encoder, spelling, asked, num, sampling, passes, batch_size)
    settings = f"seed={seed} temperature={temperature:g} top_k={top_k} top_p={top_p:g} model={model}"
    records = []
    for number, new in enumerate(written):
        one = asked[number // num]
        name = one.name if num == 1 else f"{one.name}_{number % num + 1}"
        if kind == "causal":
            told, text = f"new_bp={len(new)} prompt_bp={len(one.letters)}", one.letters + new if keep_prompt else new
        else:
            whole = keep_prompt or infill is None
            told, text = f"filled_bp={one.letters.count('N')}", new if whole else new[one.start : one.end]
        records.append(f">{name} {told} number={number} {settings}\n{wrapped(text)}")
    aside = out.with_name(f"{out.name}.partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    aside.write_text("".join(records))
    aside.replace(out)
    typer.echo(f"{len(records):,} sequences: {out}")


def objective_of(folder: Path) -> str:
    """Return what a model learnt, "causal" or "masked": by `genolm.json`, or by the name of its class.

    Raises:
        ValueError: neither says so.
    """
    import json

    about = folder / "genolm.json"
    if about.is_file():
        objective = json.loads(about.read_text()).get("objective")
        if objective in ("causal", "masked"):
            return objective
    names = json.loads((folder / "config.json").read_text()).get("architectures") or ["no class"]
    for end, objective in (("MaskedLM", "masked"), ("CausalLM", "causal"), ("LMHeadModel", "causal")):
        if names[0].endswith(end):
            return objective
    raise ValueError(f"{folder}: config.json says {names[0]}; give a masked or causal language model")


def check_kind(kind: str, length: int, infill: str | None, no_prompt: bool) -> None:
    """Refuse what a model of this kind cannot do."""
    if kind == "causal":
        if infill is not None:
            raise ValueError("--infill is for masked models; this one is causal, and goes on from a prompt by --length")
        if not length:
            raise ValueError("--length is missing: how many bases to draw after each prompt")
    else:
        if length:
            raise ValueError("--length is for causal models; this one is masked, and fills the N of a prompt")
        if no_prompt and infill is None:
            raise ValueError("this model is masked, and fills N; give --prompt or --prompts with N, or --infill a BED")


def cleaned(prompt: str) -> str:
    """Return a prompt in upper-case A, C, G, T and N."""
    from genolm.genome.alphabet import clean_sequences

    return clean_sequences([prompt], lambda _: "--prompt")[0][0] if prompt else ""


def widest(model, encoder) -> int | None:
    """Return the tokens of a row that the model takes, those of the sequence alone; None for any."""
    from genolm.models.language_model import longest

    tokens = longest(model.config)
    return None if tokens is None else tokens - len(encoder.prefix_ids) - len(encoder.suffix_ids)


def room_bp(model, encoder) -> int | None:
    """Return the letters that the model takes wherever their k-mers begin; None for any."""
    tokens = widest(model, encoder)
    return None if tokens is None else max(1, (tokens - encoder.k + 1) * encoder.k)


def has_position_table(model) -> bool:
    """Say whether a model looks positions up in a table, and so has none beyond it."""
    from torch import nn

    names = [name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, nn.Embedding)]
    return any("position" in name or name == "wpe" for name in names)


def spans(bed: str, fasta: str, most_bp: int | None) -> list[Asked]:
    """Return the stretches of a BED, as N, with the letters around them, as many as the model takes.

    N around them are filled too, and not written unless what lies around is. Where the model takes any length, there
    are as many letters on either side as the stretch has, and 512 at least.
    """
    from genolm.genome.alphabet import clean_sequences, to_text
    from genolm.genome.fasta import read_contigs
    from genolm.genome.interval import read_bed

    intervals = read_bed(bed)
    wanted = {interval.contig for interval in intervals}
    whole = {name: to_text(sequence) for name, sequence, _ in read_contigs(fasta) if name in wanted}
    found = []
    for interval in intervals:
        contig = whole.get(interval.contig)
        where = f"{interval.contig}:{interval.start}-{interval.end}"
        if contig is None:
            raise ValueError(f"{bed}: {fasta} has no contig {interval.contig!r}")
        if interval.end > len(contig):
            raise ValueError(f"{bed}: {where} ends beyond {interval.contig}, which has {len(contig):,} bp in {fasta}")
        room = 2 * max(512, len(interval)) + len(interval) if most_bp is None else most_bp
        if len(interval) > room // 2:
            raise ValueError(f"{bed}: {where} has {len(interval):,} bp; the model takes {room:,}, and half is context")
        start = max(0, min(interval.start - (room - len(interval)) // 2, len(contig) - room))
        letters = contig[start : start + room]
        first, last = interval.start - start, interval.end - start
        shown, _ = clean_sequences([letters], lambda _, where=where: where)
        found.append(Asked(where, shown[0][:first] + "N" * len(interval) + shown[0][last:], first, last))
    return found


def batches(lengths: list[int], size: int):
    """Yield numbers of rows of one length, at most so many at a time."""
    groups: dict[int, list[int]] = {}
    for number, length in enumerate(lengths):
        groups.setdefault(length, []).append(number)
    for group in groups.values():
        for i in range(0, len(group), size):
            yield group[i : i + size]


def bar_of(total: int):
    """Return a bar of sequences."""
    import sys

    from tqdm.auto import tqdm

    return tqdm(total=total, desc="generating", unit="seq", mininterval=0.5 if sys.stderr.isatty() else 30)


def after_prompts(model, encoder, spelling, asked: list[Asked], num: int, length: int, sampling, batch_size: int):
    """Return the bases drawn after each prompt, `num` times each."""
    import numpy as np

    from genolm.inference.sample import encode_prompt, generate_after
    from genolm.models.safe_loading import without_bars

    for one in asked:
        if "N" in one.letters:
            raise ValueError(f"prompt {one.name} has N; a causal model goes on after the last base, and fills none")
    seed = sampling.seed
    given = [encode_prompt(encoder, asked[i // num].letters, seed, i) for i in range(num * len(asked))]
    least, takes = max(map(len, given)) + length // int(spelling.adds.max()), widest(model, encoder)
    table = takes is not None and has_position_table(model)
    if takes is not None and least > takes:
        told = f"{least:,} tokens of prompt and new bases; the model learnt on rows of {takes:,}"
        if table:
            raise ValueError(f"{told}, and has no positions beyond: lower --length, or shorten the prompt")
        typer.echo(f"note: {told}, and what it says beyond them may be worse", err=True)
    written = [""] * len(given)
    with bar_of(len(given)) as bar, without_bars():
        for rows in batches([len(row) for row in given], batch_size):
            # A first token that was drawn for want of a prompt is new, and written.
            drawn = not asked[rows[0] // num].letters and not encoder.prefix_ids
            options: dict[str, Any] = {"drawn_first": drawn, "most_tokens": takes if table else None}
            few = [given[i] for i in rows]
            texts = generate_after(model, encoder, spelling, few, np.array(rows), length, sampling, **options)
            for i, text in zip(rows, texts, strict=True):
                written[i] = text
            bar.update(len(rows))
    return written


def filled(model, encoder, spelling, asked: list[Asked], num: int, sampling, passes: int, batch_size: int):
    """Return each sequence with its N drawn, `num` times."""
    import numpy as np

    from genolm.inference.sample import fill

    takes = widest(model, encoder)
    for one in asked:
        if "N" not in one.letters:
            raise ValueError(f"prompt {one.name} has no N; a masked model fills N, and has nothing to do")
        tokens = len(one.letters) // encoder.k + len(one.letters) % encoder.k
        if takes is not None and tokens > takes:
            raise ValueError(f"prompt {one.name} has {tokens:,} tokens; the model takes {takes:,}: shorten it")
    written = [""] * (num * len(asked))
    with bar_of(len(written)) as bar:
        for rows in batches([len(asked[i // num].letters) for i in range(len(written))], batch_size):
            sequences = [asked[i // num].letters for i in rows]
            texts = fill(model, encoder, spelling, sequences, np.array(rows), sampling, passes)
            for i, text in zip(rows, texts, strict=True):
                written[i] = text
            bar.update(len(rows))
    return written


def wrapped(text: str) -> str:
    """Return letters in lines."""
    return "".join(f"{text[i : i + LINE]}\n" for i in range(0, len(text), LINE)) or "\n"
