"""Install the wheel of a folder in a fresh environment outside the checkout, and use it as a new user would."""

import random
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

API = """
import genolm
genome = genolm.Genome("genome.fa")
lm = genolm.load("runs/first")
base = genome["chr1", 999:1000]
print(lm.score([f"chr1:1000:{base}>{'ACGT'['ACGT'.index(base) - 1]}"], genome))
print(lm.generate("ACGT", length=20), lm.embed(["ACGTACGT"]).shape, genolm.tokenizer("kmer6"))
assert "site-packages" in genolm.__file__, genolm.__file__
"""


def main(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    assert list(dist.glob("*.tar.gz")), "no sdist"
    constraints = Path(__file__).parents[1] / "constraints.txt"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        venv.create(place / "venv", with_pip=True)

        def run(program: str, *words: object) -> None:
            print("$", program, *words, flush=True)
            subprocess.run([place / "venv/bin" / program, *map(str, words)], cwd=place, check=True)

        for what in ("torch", wheel.resolve()):  # an unpinned torch is several GB of CUDA
            run("pip", "install", "--quiet", "--constraint", constraints, what)
        bases = "".join(random.Random(0).choices("ACGT", k=20_000))
        (place / "genome.fa").write_text(f">chr1\n{bases}\n")
        run("genolm", "recipes")
        short = ["training.max_steps=2", "model.num_hidden_layers=1", "evaluation.markov_orders=[2]"]
        run("genolm", "pretrain", "quickstart/causal", "data.fasta=genome.fa", "run_dir=runs/first", *short)
        run("python", "-c", API)
        print("the wheel works outside the checkout")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
