"""The command `genolm VERB`: imports the file of that verb and nothing else."""

import os
import sys
from importlib import import_module
from typing import Any

VERBS = {
    "recipes": "the recipes that come with genolm: list, show, copy",
    "prepare": "FASTA to a prepared genome on disk",
    "tokenizer": "build a tokenizer; train BPE on your genomes",
    "pretrain": "FASTA to a pretrained masked or causal language model",
    "evaluate": "bits per base on held-out regions, compared with Markov models",
    "evaluate-variants": "AUROC, AUPRC or correlation of scores of labelled variants, compared with baselines",
    "finetune": "labelled sequences to a fine-tuned model (LoRA, full, probe) or a CNN/RNN baseline",
    "predict": "predictions of a fine-tuned model for new sequences",
    "compare": "compare fine-tuned models and baselines: a table and an HTML page",
    "benchmark": "tasks × methods × seeds from one YAML to one HTML page; resumes where it stopped",
    "sweep": "hyperparameter search on the validation rows: width, kernel, learning rate",
    "score": "zero-shot variant effect scores (LLR) of every ALT of a VCF",
    "embed": "embeddings of sequences, of their bases or tokens",
    "generate": "sample sequences from a prompt, or fill in N",
    "mutate": "in-silico mutagenesis of a region: table, heat map, sequence logo, HTML page",
    "scan": "one value per base of regions, entropy or the highest LLR: bigWig, bedGraph",
    "publish": "upload a run to the Hugging Face Hub, private by default",
    "demo": "end-to-end demo on simulated DNA of known entropy",
    "env": "versions and hardware, for a bug report",
}


def usage() -> str:
    """Return the text of `genolm --help`."""
    rows = "\n".join(f"  {verb:<18} {text}" for verb, text in VERBS.items())
    return (
        "Usage: genolm COMMAND …\n\nTrain, evaluate and publish DNA language models.\n\n"
        f"{rows}\n\n`genolm COMMAND --help` shows its options, `genolm --version` the version; "
        "`genolm --install-completion` completes\nwords in your shell. A first model:\n\n"
        "  genolm pretrain quickstart/causal data.fasta=genome.fa run_dir=runs/first\n"
    )


def main(arguments: list[str] | None = None) -> None:
    """Run one verb. A user's mistake is one line on stderr and exit code 2; GENOLM_DEBUG=1 shows the traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "_GENOLM_COMPLETE" in os.environ or arguments[:1] in (["--install-completion"], ["--show-completion"]):
        return _app(list(VERBS), no_args_is_help=True)(arguments, prog_name="genolm")
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return
    if arguments[0] in ("-V", "--version"):
        from genolm import __version__

        print(f"genolm {__version__}")
        return
    verb = arguments[0]
    if verb not in VERBS:
        from genolm.config.console import did_you_mean

        hint = did_you_mean(verb, VERBS, f"commands: {', '.join(VERBS)}")
        sys.exit(_fail(f"unknown command {verb!r}; {hint}"))
    if verb == "evaluate" and any(word.split("=")[0] == "--variants" for word in arguments):
        sys.exit(
            _fail("--variants is a command of its own: genolm evaluate-variants TABLE --label COLUMN --out FOLDER")
        )
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        _app([verb])(arguments[1:], prog_name=f"genolm {verb}")
    except (ValueError, OSError) as error:
        if os.environ.get("GENOLM_DEBUG"):
            raise
        sys.exit(_fail(str(error)))


def _app(verbs: list[str], **options: Any):
    """Return the Typer application of some commands; one alone is run without its name."""
    import typer

    app = typer.Typer(add_completion=bool(options), pretty_exceptions_enable=False, **options)
    for verb in verbs:
        name = verb.replace("-", "_")
        command = getattr(import_module(f"genolm.commands.{name}"), name)
        app.command(verb, context_settings={"help_option_names": ["-h", "--help"]})(command)
    return app


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2
