"""Learning 4,096 byte pairs from DNA compared with other trainers: time, memory, bases per token.

Each trainer runs in its own process, alternating round after round; printed are the median of the ratios to ours,
and the memory a process adds to what it began with. Bases a token are those of each on the first megabase it learnt
from. Once more on one unbroken stretch, which trainers that cut words take for one word: they are stopped after
--patience.

Without --fasta the genome is simulated. Others than `tokenizers` are measured where they are installed:
`pip install rustbpe sentencepiece`. They use as many cores as they like, ours one.

    python benchmarks/bpe_speed.py --fasta yeast.fa.gz --rounds 5
"""

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VOCABULARY, CHUNK_BP, MAX_TOKEN_BP = 4096, 1000, 16
TRAINERS = ("genolm", "tokenizers", "rustbpe", "sentencepiece")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fasta")
    parser.add_argument("--mb", type=float, default=10)
    parser.add_argument("--unbroken-mb", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patience", type=float, default=60, help="seconds for the unbroken stretch")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one[0], Path(options.one[1]).read_text().split(), float(options.one[2]))))
        return
    genome = read(options.fasta, int(1e6 * max(options.mb, options.unbroken_mb)))
    names = [name for name in TRAINERS if importlib.util.find_spec(name)]
    with tempfile.TemporaryDirectory() as folder:
        chunked, whole = Path(folder) / "chunks.txt", Path(folder) / "whole.txt"
        used = genome[: int(1e6 * options.mb)]
        chunked.write_text("\n".join(used[i : i + CHUNK_BP] for i in range(0, len(used), CHUNK_BP)))
        whole.write_text(genome[: int(1e6 * options.unbroken_mb)])
        print(f"{len(used) / 1e6:g} Mb in stretches of {CHUNK_BP:,} bp, {VOCABULARY:,} entries, {os.cpu_count()} cores")
        rounds = [{name: child(name, chunked) or {} for name in names} for _ in range(options.rounds)]
        print(f"{'trainer':<15}{'seconds':>9}{'times ours':>12}{'MiB':>8}{'bases a token':>15}")
        for name in names:
            seconds = statistics.median(each[name]["seconds"] for each in rounds)
            ratio = statistics.median(each[name]["seconds"] / each["genolm"]["seconds"] for each in rounds)
            row = rounds[0][name]
            print(f"{name:<15}{seconds:>9.2f}{ratio:>12.2f}{row['mib']:>8.0f}{row['bases_per_token']:>15.4f}")
        print(f"\n{options.unbroken_mb:g} Mb in one stretch")
        for name in names:
            result = child(name, whole, options.patience)
            print(
                f"{name:<15}{result['seconds']:>9.2f} s"
                if result
                else f"{name:<15}   not within {options.patience:g} s"
            )


def read(fasta: str | None, num_bases: int) -> str:
    """Return the first A, C, G and T of a genome."""
    from genolm.genome.simulate import simulate

    if fasta is None:
        return simulate(num_bases, num_contigs=1).records[0][1].tobytes().decode().upper()
    from genolm.genome.fasta import read_fasta

    joined = b"".join(record.letters.tobytes() for record in read_fasta(fasta)).upper()
    return joined.translate(None, delete=bytes(set(range(256)) - set(b"ACGT")))[:num_bases].decode()


def child(name: str, file: Path, patience: float | None = None) -> dict | None:
    """Run one trainer in a process of its own; None where it took too long."""
    command = [sys.executable, __file__, "--one", name, str(file), "1e6"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired:
        return None
    return json.loads(done.stdout.splitlines()[-1])


def one(name: str, words: list[str], measured_bp: float) -> dict[str, float]:
    """Train, and return seconds, memory added at most, and bases a token."""
    train = {"genolm": genolm, "tokenizers": tokenizers, "rustbpe": rustbpe, "sentencepiece": sentencepiece}[name]
    began_with = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    began = time.perf_counter()
    count = train(words)
    seconds = time.perf_counter() - began
    added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - began_with
    some, total = [], 0
    for word in words:
        some.append(word)
        total += len(word)
        if total >= measured_bp:
            break
    return {"seconds": seconds, "mib": added / 2**20, "bases_per_token": total / count(some)}


def genolm(words: list[str]):
    from genolm.tokenizers import bpe

    backend = bpe.train(words, [], "ACGT", VOCABULARY, MAX_TOKEN_BP)
    return lambda some: sum(len(result.ids) for result in backend.encode_batch_fast(some))


def tokenizers(words: list[str]):
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("[ACGT]+"), "isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=list("ACGT"), max_token_length=MAX_TOKEN_BP, show_progress=False
    )
    backend.train_from_iterator(words, trainer)
    return lambda some: sum(len(result.ids) for result in backend.encode_batch_fast(some))


def rustbpe(words: list[str]):
    import rustbpe  # pyright: ignore[reportMissingImports]

    # It begins with all 256 bytes, and has no longest token.
    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(iter(words), VOCABULARY - 4 + 256, pattern="[ACGT]+")
    return lambda some: sum(len(tokenizer.encode(word)) for word in some)


def sentencepiece(words: list[str]):
    import io

    import sentencepiece  # pyright: ignore[reportMissingImports]

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(  # pyright: ignore
        sentence_iterator=iter(words),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCABULARY + 3,
        max_sentencepiece_length=MAX_TOKEN_BP,
        max_sentence_length=1 << 30,
        add_dummy_prefix=False,
        character_coverage=1.0,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())  # pyright: ignore
    return lambda some: sum(len(processor.encode(word)) for word in some)


if __name__ == "__main__":
    main()
