"""A VCF with more than eighty records that something is wrong with, or odd about, and what becomes of each."""

HEADER = [
    '##INFO=<ID=GENOLM_LLR,Number=A,Type=Float,Description="log p(ALT) - log p(REF), nats">',
    '##INFO=<ID=GENOLM_STATUS,Number=A,Type=String,Description="scored, or why not">',
    "##genolm_model=toy",
]
REFERENCE = "ACGTTGCAAGTCCAGGTTACNNNNNNNNNNRACGTCCCCCCGTATATATATATGCGACCATAG" + "GATTACACGT" * 20
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"


def nasty_lines():
    """Lines of a VCF with one sample, and the status that each ALT of them gets; the contig is 1."""
    end = len(REFERENCE)
    # fmt: off
    rows = [
        ("1", "1", "A", "C", "scored"), ("1", "1", "A", "C,G,T", "scored scored scored"),
        ("1", "3", "G", "GA", "scored"), ("1", "4", "T", "TT", "scored"), ("1", "4", "TT", "T", "scored"),
        ("1", "5", "TGC", "T", "scored"), ("1", "5", "tgc", "t", "scored"), ("1", "5", "TGC", "AAT", "scored"),
        ("1", "5", "TG", "ACC", "scored"), ("1", "2", "CGT", "cat", "scored"),
        ("1", "2", "G", "T", "ref_mismatch"), ("1", "2", "g", "t", "ref_mismatch"),
        ("1", "2", "GG", "T,*", "ref_mismatch ref_mismatch"),
        ("1", "8", "A", "*", "star"), ("1", "8", "A", "*,C", "star scored"), ("1", "8", "A", "<*>", "star"),
        ("1", "8", "A", "C,<NON_REF>", "scored star"), ("1", "8", "A", "<DEL>", "symbolic"),
        ("1", "8", "A", "<INS:ME:ALU>,<CN0>", "symbolic symbolic"), ("1", "8", "A", "C,<DUP>", "scored symbolic"),
        ("1", "8", "A", "A]1:90]", "breakend"), ("1", "8", "A", "]13:123456]AGTNNNNNCAT", "breakend"),
        ("1", "8", "A", "[17:198983[A", "breakend"), ("1", "8", "A", ".A", "breakend"),
        ("1", "8", "A", "A.", "breakend"),
        ("1", "8", "A", ".", "missing"), ("1", "8", "A", "", "missing"),
        ("1", "8", "A", "A", "same"), ("1", "8", "A", "a,C", "same scored"),
        ("1", "8", "N", "A", "ambiguous"), ("1", "8", "A", "N", "ambiguous"),
        ("1", "8", "A", "C,R", "scored ambiguous"),
        ("1", "21", "N", "A", "ambiguous"), ("1", "21", "A", "C", "ambiguous"), ("1", "31", "A", "C", "ambiguous"),
        ("1", "31", "C", "T", "ref_mismatch"), ("1", "20", "CN", "C", "ambiguous"),
        ("1", "0", "A", "C", "malformed"), ("1", "0", ".", "C", "malformed"), ("1", "-5", "A", "C", "malformed"),
        ("1", "x", "A", "C", "malformed"), ("1", "", "A", "C", "malformed"), ("1", "1.5", "A", "C", "malformed"),
        ("1", "1e3", "A", "C", "malformed"), ("1", "٣", "A", "C", "malformed"),
        ("1", "99999999999999999999999", "A", "C", "malformed"),
        ("1", "8", "", "C", "malformed"), ("1", "8", ".", "C", "malformed"),
        ("1", "8", "A", "C,,G", "scored malformed scored"),
        ("1", "8", "A", "-", "malformed"), ("1", "8", "-", "A", "malformed"), ("1", "8", "A", "C G", "malformed"),
        ("1", "8", "A", "I", "malformed"), ("1", "8", "A?", "C", "malformed"),
        ("1", f"{end}", "T", "A", "scored"), ("1", f"{end}", "T", "TA", "scored"),
        ("1", f"{end}", "TA", "T", "beyond_contig"),
        ("1", f"{end + 1}", "A", "C", "beyond_contig"), ("1", "4000000000", "A", "C", "beyond_contig"),
        ("chr1", "1", "A", "C", "scored"), ("2", "1", "A", "C", "contig_missing"),
        ("un known", "1", "A", "C", "contig_missing"), ("<1>", "1", "A", "C,G", "contig_missing contig_missing"),
        ("", "1", "A", "C", "contig_missing"), ("HLA-A*01:01", "7", "A", "C", "contig_missing"),
        ("1", "8", "A", "A" + "ACGTTGCATT" * 1000, "too_long"), ("1", "8", "A", "A" + "GCATGCATGC" * 5, "scored"),
        ("1", "1", "A", "C", "scored"), ("1", "1", "A", "C", "scored"),  # unsorted, and twice
        ("1", "42", "GTATATATATATG", "GTATATATATG", "scored"), ("1", "52", "AT", "A", "scored"),
    ]  # fmt: on
    lines = [(f"{c}\t{p}\t.\t{r}\t{a}\t50\tPASS\tDP=3\tGT\t0/1", s) for c, p, r, a, s in rows]
    lines += [
        ("1\t8\t.\tA\tC", "scored"),  # no more columns
        ("1\t8\t.\tA\tC\t.\t.", "scored"),
        ("1\t8\t.\tA\tC\t.\t.\t", "scored"),
        ("1\t8\t.\tA\tC\t.\t.\tDP=1", "scored"),  # no sample
        ("1\t8\t.\tA\tC\t.\t.\tDP=1;\tGT\t0/1\t1/1", "scored"),  # one sample too many
        ("1\t8\t.\tA", "malformed"),
        ("1\t8", "malformed"),
        ("1\t8\t.\tA\tC\t.\t.\t.\t\t", "scored"),
        ("rubbish", "malformed"),
        ('1\t8\t.\tA\tC\t.\tq<1>; q2\t"AC=1,<2>;A B="x, y"; AF=1 ;[P\tGT\t0/1', "scored"),
        ("1 8 . A C . . .", "malformed"),
        ("1\t8\trs1;rs2\tA\tC\t1e-3\tq10;s50\tGENOLM_LLR=7;END=9;GENOLM_STATUS=scored\tGT:DP\t./.:.", "scored"),
        ("1\t8\tµ\tA\tC\t.\t.\tNOTE=\udcff%20x;FLAG\tGT\t0/1", "scored"),
    ]
    return lines


def nasty_vcf(end="\n"):
    head = [
        "##fileformat=VCFv4.2",
        "##source=hand",
        *HEADER[1:2],
        '##INFO=<ID=DP,Number=1,Type=Integer,Description="d">',
    ]
    head += ['##FORMAT=<ID=GT,Number=1,Type=String,Description="g">', "##contig=<ID=1,length=263>"]
    head += [COLUMNS + "\tFORMAT\tsample"]
    text = end.join(head + [line for line, _ in nasty_lines()]) + end
    return text.encode("utf-8", "surrogateescape")
