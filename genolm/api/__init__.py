"""The Python API: what the commands do, in a notebook or a program. All names are at hand as `genolm.NAME`.

    genome = genolm.Genome("hg38.fa")
    lm = genolm.load("runs/first")
    lm.score(["chr1:1000:A>G"], genome)

    models.py   models to score, embed, generate and predict with
    runs.py     recipes that are run, and compared

Coordinates of Python slices are 0-based half-open; regions as text, `chr1:1001-1200`, are 1-based and closed, as in
samtools. Torch is imported by what computes, not before.
"""

from genolm.api.models import FinetunedModel, Mutations, PretrainedModel, load
from genolm.api.runs import compare, finetune, pretrain, tokenizer, windows
from genolm.genome.reference import Genome
