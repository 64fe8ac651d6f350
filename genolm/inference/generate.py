"""Generate sequences from prompts: bases after them (causal model), or in place of their N (masked model)."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from genolm.genome.alphabet import clean_sequences, to_text
from genolm.genome.fasta import read_records
from genolm.genome.interval import read_bed
from genolm.genome.reference import open_reference
from genolm.inference.batches import batches_of_equal_length, run_batches
from genolm.inference.sample import Sampling, Spelling, encode_prompt, fill, generate_after
from genolm.models.language_model import max_row_tokens
from genolm.tokenizers.encode import Encoder

LINE = 80
"""Bases per line of the FASTA."""
CONTEXT_BP = 512
"""Least context on either side of an interval to fill, where the model takes rows of any length."""


class Prompt(NamedTuple):
    """A sequence to continue or to fill.

    Attributes:
        name: of the FASTA record.
        sequence: A, C, G, T and N.
        start: first base to write of a filled sequence.
        end: one past the last.
    """

    name: str
    sequence: str
    start: int
    end: int


def read_prompts(prompt: str | None, prompts: str | None) -> list[Prompt]:
    """Return the prompts of a FASTA, or a single one, by default empty."""
    if prompts is not None:
        names, sequences, _ = read_records(prompts)
    else:
        names = ["generated"]
        sequences = clean_sequences([prompt], lambda _: "--prompt")[0] if prompt else [""]
    return [Prompt(name, text, 0, len(text)) for name, text in zip(names, sequences, strict=True)]


def read_infill(bed: str, fasta: str, max_bp: int | None) -> list[Prompt]:
    """Return the intervals of a BED as N, with as much context as the model takes.

    N in the context are filled too. Where the model takes any length, there is as much context on either side as the
    interval is long, and CONTEXT_BP at least.

    Args:
        bed: intervals to fill.
        fasta: their sequence: a FASTA or a prepared genome.
        max_bp: the longest sequence that the model takes; None for any.
    """
    prompts = []
    with TemporaryDirectory() as folder:
        reference = open_reference(fasta, Path(folder) / "genome")
        contigs = {contig.name: number for number, contig in enumerate(reference.contigs)}
        for interval in read_bed(bed):
            where, size = f"{interval.contig}:{interval.start}-{interval.end}", len(interval)
            if interval.contig not in contigs:
                raise ValueError(f"{bed}: {fasta} has no contig {interval.contig!r}")
            contig = contigs[interval.contig]
            length = int(reference.lengths[contig])
            if interval.end > length:
                raise ValueError(f"{bed}: {where} ends beyond {interval.contig}, which has {length:,} bp in {fasta}")
            room = 2 * max(CONTEXT_BP, size) + size if max_bp is None else max_bp
            if size > room // 2:
                raise ValueError(f"{bed}: {where} has {size:,} bp; the model takes {room:,}, and half is context")
            begin = max(0, min(interval.start - (room - size) // 2, length - room))
            bases = to_text(reference.fetch(contig, begin, min(begin + room, length)))
            (sequence,), _ = clean_sequences([bases], lambda _, where=where: where)
            start, end = interval.start - begin, interval.end - begin
            prompts.append(Prompt(where, sequence[:start] + "N" * size + sequence[end:], start, end))
    return prompts


def check_options(objective: str, length: int, infill: str | None, has_prompt: bool) -> None:
    """Raise ValueError for options that a model of this objective does not have."""
    if objective == "causal":
        if infill is not None:
            raise ValueError("--infill is for masked models; this one is causal, and continues a prompt by --length")
        if not length:
            raise ValueError("--length is missing: the number of bases to draw after each prompt")
    elif length:
        raise ValueError("--length is for causal models; this one is masked, and fills the N of a prompt")
    elif not has_prompt and infill is None:
        raise ValueError("this model is masked, and fills N; give --prompt or --prompts with N, or --infill a BED")


class SequenceGenerator:
    """Generates sequences from prompts.

    Args:
        model: a causal or masked language model; its mode is left as it is.
        tokenizer: of the model.
        encoder: sequence → ids.
        sampling: how tokens are drawn.
        batch_size: sequences in a forward pass; it does not change them.
    """

    def __init__(self, model: Any, tokenizer: Any, encoder: Encoder, sampling: Sampling, batch_size: int = 16):
        self.model, self.encoder, self.sampling, self.batch_size = model, encoder, sampling, batch_size
        # A vocabulary padded for speed has logits of no token.
        self.spelling = Spelling.of(tokenizer, encoder, model.config.vocab_size)
        limit = max_row_tokens(model.config)
        self.max_tokens = None if limit is None else limit - len(encoder.prefix_ids) - len(encoder.suffix_ids)

    @property
    def max_bp(self) -> int | None:
        """Bases that the model takes wherever their k-mers begin; None for any."""
        k = self.encoder.k
        return None if self.max_tokens is None else max(1, (self.max_tokens - k + 1) * k)

    def after_prompts(self, prompts: list[Prompt], num: int, length_bp: int) -> tuple[list[str], str | None]:
        """Draw bases after each prompt with a causal model.

        Returns:
            `num` texts of each prompt in turn, and a note where rows are longer than in training.

        Raises:
            ValueError: a prompt has N, or the model has too few positions.
        """
        for prompt in prompts:
            if "N" in prompt.sequence:
                raise ValueError(
                    f"prompt {prompt.name} has N; a causal model continues after the last base, and fills none"
                )
        num_rows, seed, spelling = num * len(prompts), self.sampling.seed, self.spelling
        given = [encode_prompt(self.encoder, prompts[i // num].sequence, seed, i) for i in range(num_rows)]
        least, note = max(map(len, given)) + length_bp // int(spelling.adds.max()), None
        has_table = self.max_tokens is not None and has_position_table(self.model)
        if self.max_tokens is not None and least > self.max_tokens:
            size = f"{least:,} tokens of prompt and new bases; the model was trained on rows of {self.max_tokens:,}"
            if has_table:
                raise ValueError(f"{size}, and has no positions beyond: lower --length, or shorten the prompt")
            note = f"note: {size}, and its predictions beyond them may be worse"

        def forward(rows: np.ndarray, _) -> list[str]:
            # A first token that was drawn for lack of a prompt is new, and written.
            drawn = not prompts[rows[0] // num].sequence and not self.encoder.prefix_ids
            options: dict[str, Any] = {"drawn_first": drawn, "most_tokens": self.max_tokens if has_table else None}
            tokens = [given[i] for i in rows]
            return generate_after(self.model, self.encoder, spelling, tokens, rows, length_bp, self.sampling, **options)

        return self._run([len(row) for row in given], forward), note

    def filled(self, prompts: list[Prompt], num: int, passes: int = 0) -> list[str]:
        """Draw the N of each prompt with a masked model, and return `num` whole sequences of each prompt in turn.

        Raises:
            ValueError: a prompt has no N, or is too long for the model.
        """
        k, limit = self.encoder.k, self.max_tokens
        for prompt in prompts:
            if "N" not in prompt.sequence:
                raise ValueError(f"prompt {prompt.name} has no N; a masked model fills N, and has nothing to do")
            tokens = len(prompt.sequence) // k + len(prompt.sequence) % k
            if limit is not None and tokens > limit:
                raise ValueError(f"prompt {prompt.name} has {tokens:,} tokens; the model takes {limit:,}: shorten it")

        def forward(rows: np.ndarray, _) -> list[str]:
            sequences = [prompts[i // num].sequence for i in rows]
            return fill(self.model, self.encoder, self.spelling, sequences, rows, self.sampling, passes)

        return self._run([len(prompts[i // num].sequence) for i in range(num * len(prompts))], forward)

    def _run(self, lengths: list[int], forward) -> list[str]:
        """Run rows in batches of equal length, and return their texts in order."""
        batches, texts = batches_of_equal_length(lengths, self.batch_size), [""] * len(lengths)
        for number, batch in run_batches(self.model, batches, forward, progress="generating"):
            for row, text in zip(batches[number].tolist(), batch, strict=True):
                texts[row] = text
        return texts


def has_position_table(model: nn.Module) -> bool:
    """Return whether a model looks positions up in a table, and so has none beyond it."""
    names = [name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, nn.Embedding)]
    return any("position" in name or name == "wpe" for name in names)


def fasta_text(prompts: list[Prompt], texts: list[str], causal: bool, whole: bool, settings: str) -> str:
    """Return a FASTA of generated sequences, several for each prompt in turn.

    Args:
        prompts: what was continued or filled.
        texts: as `SequenceGenerator` returns them.
        causal: new bases after the prompt; else whole sequences with N filled.
        whole: write the prompt, or the context of an interval, too.
        settings: how they were drawn, for the header.
    """
    num, records = len(texts) // max(1, len(prompts)), []
    for number, text in enumerate(texts):
        prompt = prompts[number // num]
        name = prompt.name if num == 1 else f"{prompt.name}_{number % num + 1}"
        if causal:
            sizes = f"new_bp={len(text)} prompt_bp={len(prompt.sequence)}"
            text = prompt.sequence + text if whole else text
        else:
            sizes = f"filled_bp={prompt.sequence.count('N')}"
            text = text if whole else text[prompt.start : prompt.end]
        lines = "".join(f"{text[i : i + LINE]}\n" for i in range(0, len(text), LINE)) or "\n"
        records.append(f">{name} {sizes} number={number} {settings}\n{lines}")
    return "".join(records)
