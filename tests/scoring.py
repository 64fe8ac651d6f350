"""Two contigs, small models whose scores are not all alike, and `genolm score` on them in this process."""

import numpy as np
import torch

from genolm.cli import main
from genolm.models.build import build_model
from genolm.tokenizers.build import build_tokenizer, load_spec

BASES = "ACGT"
SIZE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def sequence(size, seed=0):
    return "".join(np.random.default_rng(seed).choice(list(BASES), size))


CONTIGS = {"chr1": sequence(3000, 1), "chr2": sequence(400, 2)}


def save(folder, objective, block, tokenizer="char", window_tokens=66):
    made = build_tokenizer(load_spec(tokenizer))
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1} if block["architecture"] == "mamba2" else SIZE
    model = build_model(size | block, made, objective, window_tokens)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    model.save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def other_base(base, by=1):
    return BASES[(BASES.index(base) + by) % 4]


def record(chrom, pos, ref=None, alt=None, size=1, name="."):
    bases = CONTIGS.get(chrom if chrom.startswith("chr") else f"chr{chrom}", "A" * 5000)
    ref = ref or bases[pos - 1 : pos - 1 + size]
    alt = alt or other_base(ref[0])
    return f"{chrom}\t{pos}\t{name}\t{ref}\t{alt}\t.\tPASS\tAC=1"


def write_vcf(path, lines):
    path.write_text("\n".join(["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO", *lines]) + "\n")
    return path


def score(folder, *arguments, model="masked", fasta=None, capfd=None):
    """Run the command in this process; return the exit code and what was said."""
    options = ["--fasta", fasta or folder / "g.fa", "--model", folder / model]
    code = 0
    try:
        main(["score", *map(str, arguments), *map(str, options)])
    except SystemExit as error:
        code = error.code
    told = capfd.readouterr() if capfd else None
    return code, told and told.out + told.err
