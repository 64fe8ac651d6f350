"""`genolm tokenizer`: a spec to a folder that plain AutoTokenizer opens."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer


def tokenizer(
    spec: Annotated[str, typer.Argument(help="Name in tokenizer_configs, such as kmer6, or a YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    fasta: Annotated[list[str] | None, typer.Option(help="Genomes to train BPE on; may be repeated.")] = None,
) -> None:
    """Build a tokenizer. BPE is trained on genomes; all other kinds need none.

    Example: genolm tokenizer bpe4096 --fasta yeast.fa.gz --out tokenizers/yeast-bpe
    """
    from genolm.genome.regions import Regions
    from genolm.genome.store import by_genome, prepare_genomes
    from genolm.tokenizers import bpe
    from genolm.tokenizers.build import build_tokenizer, load_spec

    settings = load_spec(spec)
    sample: list[str] = []
    if settings.kind == "bpe":
        if not fasta:
            raise ValueError(f"{spec} is trained on genomes; add --fasta FILE")
        with tempfile.TemporaryDirectory() as folder:
            store = prepare_genomes(by_genome(fasta), Path(folder) / "genome")
            sample = list(bpe.train_sample(store, list(Regions.whole(store)), settings.sample_bp))
    elif fasta:
        raise ValueError(f"{spec} learns nothing from genomes; leave --fasta out, or take a bpe spec")
    built = build_tokenizer(settings, sample or None)
    built.save_pretrained(out)
    print(f"{out}: {settings.kind}, {len(built):,} entries")
    if sample:
        longest = max((token for token in built.get_vocab() if set(token) <= set("ACGT")), key=len)
        per_token = bpe.bases_per_token(built.backend_tokenizer, sample[:: max(1, len(sample) // 2000)])
        print(
            f"trained on {sum(map(len, sample)):,} bp; {per_token:.2f} bp per token; longest {longest} ({len(longest)})"
        )
