"""Labelled variants: what is read, joined, left out with a reason, and refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genolm.genome.alleles import canonical
from genolm.metrics.variant_table import read_variants

HEAD = "chrom\tpos\tref\talt\tlabel\tgenolm_llr\n"
ROWS = ["chr1\t5\tA\tG\t1\t-2.5", "chr1\t6\tC\tT\t0\t0.5", "chr2\t5\tA\tAT\t1\t-1", "2\t9\tGG\tG\t0\t1"]


def table(folder, rows=ROWS, head=HEAD, name="v.tsv"):
    path = folder / name
    path.write_text(head + "".join(f"{row}\n" for row in rows))
    return path


def test_what_is_read(tmp_path):
    found = read_variants(table(tmp_path), "label")
    assert (found.kind, found.num_read, found.left_out, found.groups) == ("binary", 4, {}, None)
    assert list(found.chrom) == ["chr1", "chr1", "chr2", "2"]
    assert list(found.start) == [4, 5, 4, 8]  # 0-based
    assert list(found.alt) == ["G", "T", "AT", "G"]
    assert list(found.labels) == [1, 0, 1, 0]
    assert list(found.scores) == ["genolm_llr"] and list(found.scores["genolm_llr"]) == [-2.5, 0.5, -1, 1]


def test_what_score_writes_is_read(tmp_path):
    told = '##INFO=<ID=GENOLM_MASKED_LLR,Description="it\'s one">\n##fileformat=TSV\n\n'
    for name in ("v.tsv", "v.txt"):
        commented = table(tmp_path, head=told + HEAD, name=name)
        assert list(read_variants(commented, "label").scores["genolm_llr"]) == [-2.5, 0.5, -1, 1]
    with pytest.raises(ValueError, match=r"v\.tsv:8: genolm_llr is 'much'"):  # its line in the file
        read_variants(table(tmp_path, [*ROWS[:3], "2\t9\tGG\tG\t0\tmuch"], told + HEAD), "label")
    with pytest.raises(ValueError, match=r"v\.tsv:6: this row has 2 values"):
        read_variants(table(tmp_path, [ROWS[0], "2\t9"], told + HEAD), "label")
    with pytest.raises(ValueError, match="only comments"):
        read_variants(table(tmp_path, [], told), "label")


def test_other_names_of_columns_and_lower_case_letters(tmp_path):
    path = table(tmp_path, ["1,5,a,g,0.3", "1,6,c,t,7"], "chromosome,Position,reference,ALT,effect\n", "v.csv")
    found = read_variants(path, "effect")
    assert found.kind == "regression" and list(found.ref) == ["A", "C"] and found.scores == {}


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("chr1", "1"),
        ("NC_000001.11", "1"),
        ("NC_000023.10", "X"),
        ("chrM", "MT"),
        ("NC_012920.1", "MT"),
        ("rCRS", "MT"),
        ("chr", "chr"),
    ]
    + [("chrUn_1", "Un_1"), ("NC_000025.1", "NC_000025.1"), ("scaffold7", "scaffold7"), ("Chr5", "5"), ("chrmt", "mt")],
)
def test_canonical_names(name, same):
    assert canonical(name) == same


def test_every_row_that_is_left_out_is_counted_by_its_reason(tmp_path):
    rows = [
        *[f"{row}\tscored\t" for row in ROWS],
        "1\t7\tA\tC\t1\t.\tscored\t",
        "1\t8\tA\tC\t\t2\tscored\t",
        "1\t8\tA\t<DEL>\t1\t.\tsymbolic\t",
        "1\t8\tA\t<DEL>\t1\t.\tsymbolic\t",
        "1\t.\tA\tC\t1\t.\tmalformed\t",
        "1\t0\tA\tC\t1\t3\tscored\t",
        "1\t10\tN\tC\t1\t3\tscored\t",
        "1\t11\tC\tC\t1\t3\tscored\t",
    ]
    path = table(tmp_path, rows, HEAD.strip() + "\tGENOLM_STATUS\tGENOLM_CUT\n")
    found = read_variants(path, "label")
    assert list(found.scores) == ["genolm_llr"]
    assert found.left_out == {
        "no genolm_llr": 1,
        "no label": 1,
        "status symbolic": 2,
        "status malformed": 1,
        "pos before the first base": 1,
        "REF or ALT has letters other than A, C, G, T": 1,
        "ALT is REF": 1,
    }
    assert len(found) + sum(found.left_out.values()) == found.num_read == 12


def test_words_are_labels(tmp_path):
    words = ["LOF", "FUNC", "INT", "NA"]
    rows = [row.rsplit("\t", 2)[0] + f"\t{word}\t1" for row, word in zip(ROWS, words, strict=True)]
    path = table(tmp_path, rows)
    assert list(read_variants(path, "label", positive=["LOF"]).labels) == [1, 0, 0]
    assert list(read_variants(path, "label", positive=["LOF", "INT"]).labels) == [1, 0, 1]
    two = read_variants(path, "label", positive=["LOF"], negative=["FUNC"])
    assert list(two.labels) == [1, 0]
    assert two.left_out == {"no label": 1, "label neither positive nor negative": 1}
    with pytest.raises(ValueError, match=r"'label' holds words: LOF \(1\), FUNC \(1\), INT \(1\); .*--positive WORD"):
        read_variants(path, "label")
    with pytest.raises(ValueError, match="--positive 'lof' does not occur in column 'label'; there are LOF"):
        read_variants(path, "label", positive=["lof"])
    with pytest.raises(ValueError, match="'LOF' cannot be both"):
        read_variants(path, "label", positive=["LOF"], negative=["LOF"])
    with pytest.raises(ValueError, match="--negative needs --positive"):
        read_variants(path, "label", negative=["LOF"])


@pytest.mark.parametrize(("yes", "no"), [("true", "False"), ("1", "0"), ("1.0", "0.0")])
def test_two_classes_in_any_spelling(tmp_path, yes, no):
    rows = ["1\t5\tA\tG\t" + yes + "\t1", "1\t6\tA\tG\t" + no + "\t1"]
    found = read_variants(table(tmp_path, rows), "label")
    assert found.kind == "binary" and list(found.labels) == [1, 0]


def test_two_files_are_joined_whatever_their_order(tmp_path):
    labelled = table(tmp_path, [row.rsplit("\t", 1)[0] for row in ROWS], HEAD.replace("\tgenolm_llr", ""))
    columns = {
        "chrom": ["2", "2", "1", "1", "1"],
        "pos": [9.0, 5.0, 6.0, 5.0, 77.0],
        "ref": ["GG", "A", "C", "A", "T"],
        "alt": ["G", "AT", "T", "G", "C"],
        "genolm_llr": [1.0, -1.0, 0.5, -2.5, 9.0],
        "genolm_status": ["scored"] * 5,
    }
    pq.write_table(pa.table(columns), tmp_path / "scored.parquet")
    one = read_variants(table(tmp_path, name="whole.tsv"), "label")
    two = read_variants(labelled, "label", other=tmp_path / "scored.parquet")
    assert list(two.scores["genolm_llr"]) == list(one.scores["genolm_llr"])
    assert list(two.labels) == list(one.labels) and two.left_out == {}
    assert two.notes == (f"{tmp_path / 'scored.parquet'}: 1 variants have no label and are not used",)


def test_a_join_refuses_what_it_would_lose(tmp_path):
    labelled = table(tmp_path, [row.rsplit("\t", 1)[0] for row in ROWS], HEAD.replace("\tgenolm_llr", ""))
    less = table(tmp_path, ROWS[:2], name="less.tsv")
    with pytest.raises(ValueError, match=r"v.tsv:4: 2:5 A>AT is not in .*less.tsv, nor are 2 of 4 variants in all"):
        read_variants(labelled, "label", other=less)
    twice = table(tmp_path, [*ROWS, ROWS[0]], name="twice.tsv")
    with pytest.raises(ValueError, match=r"twice.tsv: 1 row repeats a variant \(1:5 A>G in rows 2 and 6\)"):
        read_variants(labelled, "label", other=twice)
    # A second copy of a variant that nobody asks for does no harm.
    other = table(tmp_path, [*ROWS, "3\t1\tA\tC\t1\t1", "3\t1\tA\tC\t1\t1"], name="other.tsv")
    assert len(read_variants(labelled, "label", other=other)) == 4


def test_a_scored_row_goes_before_one_that_could_not_be(tmp_path):
    labelled = table(tmp_path, [row.rsplit("\t", 1)[0] for row in ROWS], HEAD.replace("\tgenolm_llr", ""))
    rows = [f"{row}\tscored" for row in ROWS]
    rows = [rows[0], "1\t5\tA\tG\t1\t.\tref_mismatch", "1\t6\tC\tT\t1\t.\tref_mismatch", *rows[1:]]
    head = HEAD.replace("label", "other").strip() + "\tGENOLM_STATUS\n"
    found = read_variants(labelled, "label", other=table(tmp_path, rows, head, "scored.tsv"))
    assert found.left_out == {} and list(found.scores["genolm_llr"][:2]) == [-2.5, 0.5]


def test_groups_are_numbered_among_the_rows_in_use(tmp_path):
    rows = ["1\t1\tA\tG\t1\t1\tz", "1\t2\tA\tG\t0\t.\tb", "1\t3\tA\tG\t0\t1\tc", "1\t4\tA\tG\t0\t1\tz"]
    rows.append("1\t5\tA\tG\t0\t1\t.")
    found = read_variants(table(tmp_path, rows, HEAD.strip() + "\tgene\n"), "label", group="gene")
    assert list(found.groups) == [1, 0, 1] and found.left_out == {"no genolm_llr": 1, "no gene": 1}


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (ROWS, {"label": "class"}, r"v.tsv: no column 'class'; there are chrom, pos, ref, alt, label, genolm_llr"),
        (ROWS, {"scores": ["cadd"]}, "no column 'cadd'"),
        (ROWS, {"scores": ["genolm_llr", "genolm_llr"]}, "--scores names 'genolm_llr' twice"),
        (ROWS, {"group": "gene"}, "no column 'gene'"),
        ([*ROWS, ROWS[1]], {}, r"1 row repeats a variant \(1:6 C>T in rows 3 and 6\)"),
        ([*ROWS, "chr1\t5\tA\tG\t1\t0", "1\t5\tA\tG\t0\t1"], {}, "2 rows repeat a variant"),
        (["1\tx\tA\tG\t1\t1"], {}, "v.tsv:2: pos is 'x'; give a whole number"),
        (["1\t99999999999999999999\tA\tG\t1\t1"], {}, "v.tsv:2: pos is '9999"),
        (["1\t5.5\tA\tG\t1\t1"], {}, "v.tsv:2: pos is '5.5'"),
        (["1\t5\tA\tG,T\t1\t1"], {}, "v.tsv:2: alt is 'G,T'; give each ALT a row of its own"),
        ([*ROWS, "1\t50\tA\tG\t1\thigh"], {}, "v.tsv:6: genolm_llr is 'high'; give a number"),
        ([*ROWS, "1\t50\tA\tG\t1\tinf"], {}, "v.tsv:6: genolm_llr is 'inf'"),
        ([*ROWS, "1\t50\tA\tG\toops\t1"], {}, "v.tsv:6: label is 'oops', and most others are numbers"),
        (ROWS[::2], {}, "all 2 rows have label 1; both positive and negative rows are needed"),
        (["1\t5\tA\tG\t\t1"], {}, "none of 1 rows can be used; 1 left out: no label"),
        (["1\t5\tA\tG\t2.5\t1", "1\t6\tA\tG\t2.5\t1"], {}, "all 2 rows have label 2.5; they must differ"),
    ],
)
def test_a_mistake_is_named(tmp_path, rows, options, message):
    with pytest.raises(ValueError, match=message):
        read_variants(table(tmp_path, rows), **({"label": "label"} | options))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (HEAD.replace("ref", "r"), "no column names 'ref'"),
        (HEAD.replace("label", "chromosome"), "columns 'chrom' and 'chromosome' both name 'chrom'"),
    ],
)
def test_a_header_without_the_variant(tmp_path, head, message):
    with pytest.raises(ValueError, match=message):
        read_variants(table(tmp_path, head=head), "genolm_llr")


def test_keep_counts_on(tmp_path):
    found = read_variants(table(tmp_path), "label").keep(np.array(["", "far", "far", ""], dtype=object))
    assert len(found) == 2 and found.left_out == {"far": 2} and list(found.labels) == [1, 0]
    assert found.keep(np.array(["far", "near"], dtype=object)).left_out == {"far": 3, "near": 1}


def test_which_columns_are_scores_where_none_is_named(tmp_path):
    names = ["GENOLM_MASKED_LLR", "GENOLM_EMBEDDING_WINDOW_L2", "GENOLM_MASKED_LLR_STRANDS", "GENOLM_MASKED_LLR_Z"]
    names += ["GENOLM_CUT", "genolm_model", "cadd"]
    ends = ["0.5\tNA", "0.5\t2", "0.5\t2", "0.5\t2"]
    rows = [f"{row}\t{end}\t1\tNA\tNA\tsmall\t7" for row, end in zip(ROWS, ends, strict=True)]
    path = table(tmp_path, rows, HEAD.strip() + "\t" + "\t".join(names) + "\n")
    found = read_variants(path, "label")
    assert list(found.scores) == ["genolm_llr", "GENOLM_MASKED_LLR", "GENOLM_EMBEDDING_WINDOW_L2"]
    assert found.left_out == {"no GENOLM_EMBEDDING_WINDOW_L2": 1}
    assert found.notes == ("column 'genolm_model' holds 'small' and is not read as a score; --scores names columns",)
    assert list(read_variants(path, "label", scores=["cadd"]).scores["cadd"]) == [7] * 4
