"""Array encoders against the tokenizers they equal, on one core: python benchmarks/encode_speed.py [--seconds 2].

Both encode the same 64 rows of 4,096 bases of a simulated genome, alternating; the best of several rounds is printed.
"""

import argparse
import os
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np

from genolm.genome.simulate import simulate
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.tokenizers.encode import make_encoder

SPECS = ("char", "kmer3", "kmer6", "kmer6-overlapping", "nucleotide-transformer-v2", "dnabert-6", "hyenadna")


def best(function, seconds: float) -> float:
    times, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 3:
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="time given to each measurement")
    seconds = parser.parse_args().seconds
    letters = simulate(64 * 4096, num_contigs=1).records[0][1].reshape(64, 4096) & 0xDF
    holes = letters.copy()
    holes[:, 1000:1010] = ord("N")
    print(f"{'spec':<28}{'rows':<12}{'tokenizer Mb/s':>15}{'array Mb/s':>12}{'ratio':>8}")
    for name in SPECS:
        tokenizer = build_tokenizer(load_spec(name))
        encoder = make_encoder(tokenizer)
        for what, rows in (("clean", letters), ("with N", holes)):
            texts = [row.tobytes().decode() for row in rows]
            assert encoder.encode_batch(rows).ids.tolist() == tokenizer(texts)["input_ids"]
            slow = best(lambda texts=texts, tokenizer=tokenizer: tokenizer(texts), seconds)
            fast = best(lambda rows=rows, encoder=encoder: encoder.encode_batch(rows), seconds)
            mb = np.size(rows) / 1e6
            print(f"{name:<28}{what:<12}{mb / slow:>15.2f}{mb / fast:>12.1f}{slow / fast:>8.0f}")


if __name__ == "__main__":
    main()
