"""genolm <verb>: finds the verb's file and imports nothing else."""

import os
import sys
from importlib import import_module

VERBS = {
    "prepare": "FASTA to a prepared genome on disk",
    "tokenizer": "build a tokenizer, and train BPE on your genomes",
    "pretrain": "FASTA to a pretrained masked or causal language model",
    "evaluate": "bits per base on held-out regions, compared with Markov models",
    "evaluate-variants": "AUROC, AUPRC or correlation of scores of labelled variants, compared with baselines",
    "finetune": "labelled DNA to a fine-tuned model, a probe or a CNN baseline",
    "predict": "what a fine-tuned model says of new sequences",
    "compare": "fine-tuned models and baselines side by side: a table and a page",
    "benchmark": "tasks × methods × seeds from one YAML, to one page; goes on where it stopped",
    "sweep": "the best of many recipes by their valid rows: width, kernel, learning rate",
    "score": "variants of a VCF → what a language model says of every ALT, zero-shot",
    "embed": "vectors of sequences, or of their bases and tokens",
    "generate": "new bases: after a prompt, or in place of N",
    "mutate": "every change of every base of a region: table, heat map and sequence logo, page",
    "scan": "one value per base of regions, entropy or the greatest LLR: bigWig, bedGraph",
    "publish": "a run to the Hugging Face Hub, private by default",
    "demo": "a genome of known entropy, a model, and how close it came",
    "env": "versions and machine, for a bug report",
}


def usage() -> str:
    """Return the text of `genolm --help`."""
    rows = "\n".join(f"  {verb:<18} {text}" for verb, text in VERBS.items())
    return (
        "Usage: genolm VERB …\n\nTrain, evaluate and publish DNA language models.\n\n"
        f"{rows}\n\n`genolm VERB --help` says more. A first model:\n\n"
        "  genolm pretrain recipes/quickstart/causal.yaml data.fasta=genome.fa run_dir=runs/first\n"
    )


def main(arguments: list[str] | None = None) -> None:
    """Run one verb. A user's mistake is one line on stderr and exit code 2; GENOLM_DEBUG=1 shows the traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return
    if arguments[0] in ("-V", "--version"):
        from genolm import __version__

        print(f"genolm {__version__}")
        return
    verb = arguments[0]
    if verb not in VERBS:
        import difflib

        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"verbs: {', '.join(VERBS)}"
        sys.exit(_fail(f"{verb!r} is no verb; {hint}"))
    if verb == "evaluate" and any(word.split("=")[0] == "--variants" for word in arguments):
        sys.exit(
            _fail("--variants is a command of its own: genolm evaluate-variants TABLE --label COLUMN --out FOLDER")
        )
    import typer

    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    name = verb.replace("-", "_")
    app.command()(getattr(import_module(f"genolm.commands.{name}"), name))
    try:
        app(arguments[1:], prog_name=f"genolm {verb}")
    except (ValueError, OSError) as error:
        if os.environ.get("GENOLM_DEBUG"):
            raise
        sys.exit(_fail(str(error)))


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2
