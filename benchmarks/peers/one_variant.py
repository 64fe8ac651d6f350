"""Score the single bases of a VCF with a masked model by a plain script, for start_time.py: chrom, pos and log-odds.

What one writes by hand: pysam for FASTA and VCF, Auto classes for model and tokenizer; the site hidden, log p(ALT)
minus log p(REF), both strands. Nothing is checked, not even REF.
"""

import argparse

import pysam
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

OTHER = str.maketrans("ACGT", "TGCA")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("vcf", "fasta", "model"):
        parser.add_argument(name)
    parser.add_argument("--window", type=int, default=512)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForMaskedLM.from_pretrained(options.model).eval()
    fasta, half = pysam.FastaFile(options.fasta), options.window // 2
    with pysam.VariantFile(options.vcf) as records, torch.inference_mode():
        for record in records:
            start = record.pos - 1 - half
            window = fasta.fetch(record.chrom, start, start + options.window).upper()
            ref, alt = record.ref, record.alts[0]
            rows = [window, window.translate(OTHER)[::-1]]
            sites = [half, options.window - 1 - half]
            ids = tokenizer(rows, return_tensors="pt")["input_ids"]
            ids[[0, 1], sites] = tokenizer.mask_token_id
            logs = model(input_ids=ids).logits[[0, 1], sites].log_softmax(-1)
            pairs = tokenizer.convert_tokens_to_ids([alt, ref, alt.translate(OTHER), ref.translate(OTHER)])
            score = (logs[0, pairs[0]] - logs[0, pairs[1]] + logs[1, pairs[2]] - logs[1, pairs[3]]) / 2
            print(record.chrom, record.pos, float(score), sep="\t")


if __name__ == "__main__":
    main()
