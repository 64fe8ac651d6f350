"""From FASTA to masked batches on one core, compared with other loaders: batch_speed.py [--fasta FILE].

Windows of 512 bp on strands that are drawn, as tensors of ids and labels, 15 % masked. All are given the same windows
on the same strands, and their ids before masking are compared first; then they alternate, round after round, and the
median of the ratios is printed.

    genolm         numpy look-ups on the memory-mapped genome, masks of random numbers by position
    char, kmer6    `tokenizers` on all strings of a batch, cut from the genome in memory; transformers' masking collator
    pyfaidx        strings fetched from the FASTA one by one, then as `char`
    hyenadna       as its data set is described: fetched one by one, complemented base by base in Python, bases looked
                   up in a dict, lists to tensors; the same collator

The last two need `pip install pyfaidx`.
"""

import argparse
import gzip
import importlib.util
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import torch
from transformers import DataCollatorForLanguageModeling
from transformers.utils import logging

from genolm.data.collate import MaskedCollator, Masking
from genolm.data.corpus import Corpus
from genolm.genome.regions import Regions
from genolm.genome.simulate import simulate, write_fasta
from genolm.genome.store import prepare_store
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.tokenizers.encode import make_encoder

WINDOW_BP, BATCH = 512, 128
OTHER = {"A": "T", "C": "G", "G": "C", "T": "A", "N": "N"}
SPECS = {
    "genolm": "char",
    "genolm kmer6": "kmer6",
    "char": "char",
    "kmer6": "kmer6",
    "pyfaidx": "char",
    "hyenadna": "char",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fasta", help="genome to read; simulated where not given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=32, help="of a round, of 128 windows")
    options = parser.parse_args()
    logging.set_verbosity_error()  # the collator advises fast tokenizers to be called otherwise
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        fasta = Path(folder) / "genome.fa"
        if options.fasta is None:
            write_fasta(str(fasta), simulate(2_000_000).records)
        else:
            packed = Path(options.fasta).read_bytes()
            fasta.write_bytes(gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed)
        store = prepare_store({"genome": [fasta]}, Path(folder) / "store")
        names = [name for name in SPECS if name not in ("pyfaidx", "hyenadna") or importlib.util.find_spec("pyfaidx")]
        ways = {name: way(name, store, fasta) for name in names}
        samples = [range(i * BATCH, (i + 1) * BATCH) for i in range(options.batches)]
        for name in names:
            check(name, ways, samples[0])
        seconds = {name: [] for name in names}
        for _ in range(options.rounds):
            for name, collate in ways.items():
                began = time.perf_counter()
                for batch in samples:
                    collate(batch)
                seconds[name].append(time.perf_counter() - began)
    megabases = options.batches * BATCH * WINDOW_BP / 1e6
    print(f"{'way':<15}{'Mb/s':>8}{'times slower than genolm':>26}")
    for name in names:
        ours = "genolm kmer6" if "kmer6" in name else "genolm"
        ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds[ours], strict=True))
        print(f"{name:<15}{megabases / statistics.median(seconds[name]):>8.2f}{ratio:>26.1f}")


def way(name: str, store, fasta: Path):
    """Return what makes a batch of sample numbers: input_ids and labels, each (B, L)."""
    tokenizer = build_tokenizer(load_spec(SPECS[name]))
    encoder = make_encoder(tokenizer)
    corpus = Corpus(store, Regions.whole(store), encoder, WINDOW_BP)
    if name.startswith("genolm"):
        return MaskedCollator(corpus, Masking(encoder))
    mask = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    contigs = [contig.name for contig in store.contigs]
    if name in ("pyfaidx", "hyenadna"):
        import pyfaidx  # pyright: ignore[reportMissingImports]

        indexed = pyfaidx.Fasta(str(fasta), sequence_always_upper=True)

        def fetch(contig: int, start: int, end: int) -> str:
            return str(indexed[contigs[contig]][start:end])
    else:
        genome = [store.fetch(i, 0, one.length).tobytes().decode().upper() for i, one in enumerate(store.contigs)]

        def fetch(contig: int, start: int, end: int) -> str:
            return genome[contig][start:end]

    ids = {letter: tokenizer.convert_tokens_to_ids(letter) for letter in OTHER}
    turned = str.maketrans(OTHER)

    def batch(samples):
        unit, start, length, flip = corpus.windows(np.asarray(samples))
        rows = zip(unit.tolist(), start.tolist(), length.tolist(), flip.tolist(), strict=True)
        if name == "hyenadna":
            examples = []
            for contig, first, size, other in rows:
                letters = fetch(contig, first, first + size)
                if other:
                    letters = "".join([OTHER[letter] for letter in letters[::-1]])
                examples.append({"input_ids": torch.LongTensor([ids[letter] for letter in letters])})
            return mask(examples)
        strings = []
        for contig, first, size, other in rows:
            letters = fetch(contig, first, first + size)
            strings.append(letters.translate(turned)[::-1] if other else letters)
        return mask([{"input_ids": row} for row in tokenizer(strings, return_attention_mask=False)["input_ids"]])

    return batch


def check(name: str, ways: dict, samples: range) -> None:
    """Compare ids before masking with ours."""
    mine = ways["genolm kmer6" if "kmer6" in name else "genolm"](samples)
    theirs = ways[name](samples)
    before = [torch.where(each["labels"] >= 0, each["labels"], each["input_ids"]) for each in (mine, theirs)]
    if not torch.equal(*before):
        raise SystemExit(f"{name}: other ids than ours")


if __name__ == "__main__":
    main()
