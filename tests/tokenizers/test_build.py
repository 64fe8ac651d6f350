import json
import os
import subprocess
import sys

import numpy as np
import pytest
from transformers import AutoTokenizer

from genolm.config.yaml import SettingsError
from genolm.tokenizers.build import TokenizerSpec, build_tokenizer, load_spec, load_tokenizer, spec_names
from genolm.tokenizers.kmer import kmers

SEQUENCE = "ACGTACCCTGATTGACANNACGRGTTacgtgacA"


def built(name):
    spec = load_spec(name)
    return build_tokenizer(spec, [SEQUENCE.upper().replace("N", "A") * 40] if spec.kind == "bpe" else None)


def ids(name, text, **options):
    return built(name)(text, **options)["input_ids"]


@pytest.mark.parametrize(("k", "size"), [(3, 69), (4, 261), (5, 1029), (6, 4101)])
def test_dnabert_ids(k, size):
    tokenizer = built(f"dnabert-{k}")
    vocabulary = tokenizer.get_vocab()
    assert len(tokenizer) == size
    assert [vocabulary["A" * k], vocabulary["A" * (k - 1) + "T"], vocabulary["G" * k]] == [5, 6, size - 1]
    assert [vocabulary[t] for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")] == [0, 1, 2, 3, 4]


def test_dnabert_encodes_as_published():
    golden = [2, 738, 2937, 3543, 1872, 3378, 3]
    assert ids("dnabert-6", "ACGTGTACGT") == golden
    assert ids("dnabert-6", "ACGTGT CGTGTA GTGTAC TGTACG GTACGT") == golden
    assert ids("dnabert-6", "ACGTGTN") == [2, 738, 1, 3]
    assert ids("dnabert-6", "acgtgt") == [2, 1, 3]
    assert ids("dnabert-6", "ACGT") == [2, 3]


def test_nucleotide_transformer_ids():
    v2, v1 = built("nucleotide-transformer-v2"), built("nucleotide-transformer-v1")
    assert (len(v2), len(v1)) == (4107, 4105)
    assert v2.convert_tokens_to_ids(["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>"]) == [0, 1, 2, 3, 4, 5]
    some = ["AAAAAA", "GGGGGG", "A", "T", "C", "G", "N"]
    assert v2.convert_tokens_to_ids(some) == [6, 4101, 4102, 4103, 4104, 4105, 4106]
    assert v1.convert_tokens_to_ids(some) == [4, 4099, 4100, 4101, 4102, 4103, 4104]


@pytest.mark.parametrize("name", ["nucleotide-transformer-v1", "nucleotide-transformer-v2"])
def test_nucleotide_transformer_cuts_as_published(name):
    tokenizer = built(name)
    text = "ACGTGTACNTGCACGGANCGACTAGTCTGA"
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])
    assert tokens == ["<cls>", "ACGTGT", "A", "C", "N", "TGCACG", "G", "A", "N", "CGACTA", "GTCTGA"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("acgtgtacgtgt")["input_ids"]) == ["<cls>", "<unk>"]


def test_hyenadna_and_caduceus_ids():
    assert ids("hyenadna", "ACGTN") == [7, 8, 9, 10, 11, 1]
    assert ids("hyenadna", "acR") == [6, 6, 6, 1]
    assert ids("caduceus", "ACGTNacgtn") == [7, 8, 9, 10, 11] * 2 + [1]
    for name in ("hyenadna", "caduceus"):
        tokenizer = built(name)
        special = ["[CLS]", "[SEP]", "[BOS]", "[MASK]", "[PAD]", "[RESERVED]", "[UNK]"]
        assert tokenizer.convert_tokens_to_ids(special) == list(range(7))
        assert (tokenizer.padding_side, tokenizer.eos_token_id) == ("left", 1)
        assert tokenizer(["A", "ACG"], padding=True)["input_ids"] == [[4, 4, 7, 1], [7, 8, 9, 1]]


def test_gpn_plantcad_and_evo_ids():
    assert ids("gpn", "ACGTacgtN") == [3, 4, 5, 6, 3, 4, 5, 6, 2]
    assert built("gpn").convert_tokens_to_ids(["[PAD]", "[MASK]", "[UNK]"]) == [0, 1, 2]
    assert ids("plantcad", "ACGTN", add_special_tokens=False) == [7, 8, 9, 10, 11]
    assert ids("plantcad", "acgtn", add_special_tokens=False) == [7, 8, 9, 10, 11]
    assert built("plantcad").convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[BOS]"]) == [
        *range(5),
        6,
    ]
    assert ids("evo", "ACGTNacgtn-") == [65, 67, 71, 84, 78, 97, 99, 103, 116, 110, 45]
    evo = built("evo")
    assert (evo.eos_token_id, evo.pad_token_id, len(evo)) == (0, 1, 512)
    assert evo.decode([65, 97, 84]) == "AaT"


def test_published_byte_pairs_have_the_published_sizes_and_first_ids():
    letters = "".join(np.random.default_rng(0).choice(list("ACGT"), 60_000))
    chunks = [letters[i : i + 500] for i in range(0, len(letters), 500)]
    for name, size in (("dnabert-2", 4096), ("grover", 609)):
        assert len(build_tokenizer(load_spec(name), chunks)) == size
    # tokenizer.json of zhihan1996/DNABERT-2-117M and of GENA-LM's t2t_1000h_multi_32k.
    first = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    for name in ("dnabert-2", "gena-lm"):
        assert built(name).convert_tokens_to_ids(first) == [0, 1, 2, 3, 4]
        assert [ids(name, "ACGTTA")[i] for i in (0, -1)] == [1, 2]
    assert built("dnabert-2").convert_tokens_to_ids(list("ACGT")) == [5, 6, 7, 8]
    assert ids("dnabert-2", "NN") == [1, 0, 0, 2]
    assert load_spec("gena-lm").vocab_size == 32_000


def test_own_kinds_on_case_ambiguity_and_remainder():
    assert ids("char", "ACGTNacgtnRr") == [7, 8, 9, 10, 11] * 2 + [1, 1]
    tokenizer = built("kmer3")
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("ACGTacnRACG")["input_ids"])
    assert tokens == ["ACG", "TAC", "N", "[UNK]", "ACG"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("ACGTA[MASK]CC")["input_ids"]) == [
        *("ACG", "T", "A", "[MASK]", "C", "C")
    ]
    tokenizer = built("kmer3-overlapping")
    assert tokenizer.convert_ids_to_tokens(tokenizer("ACgTN")["input_ids"]) == [
        *("[CLS]", "ACG", "CGT", "[UNK]", "[SEP]")
    ]


@pytest.mark.parametrize("name", ["char", "kmer4", "bpe512", "evo", "caduceus"])
def test_decoding_gives_the_letters_back(name):
    tokenizer = built(name)
    assert tokenizer.decode(tokenizer("ACGTACCCTGATTGACANNACG")["input_ids"], skip_special_tokens=True) == (
        "ACGTACCCTGATTGACANNACG"
    )


@pytest.mark.parametrize("name", spec_names())
def test_a_folder_opens_without_our_code(name, tmp_path):
    tokenizer = built(name)
    tokenizer.save_pretrained(tmp_path)
    spec = load_spec(name)
    text = SEQUENCE
    if spec.kind == "kmer-overlapping":
        text = " ".join(SEQUENCE[i : i + spec.k] for i in range(len(SEQUENCE) - spec.k + 1))
    expected = tokenizer(text)["input_ids"]
    assert load_tokenizer(tmp_path)(text)["input_ids"] == expected
    # The plain class, which is what AutoTokenizer falls back to; the test below does it in a process of its own.
    from transformers import PreTrainedTokenizerFast

    assert PreTrainedTokenizerFast.from_pretrained(tmp_path)(text)["input_ids"] == expected


@pytest.mark.parametrize("with_genolm", [True, False])
def test_overlapping_kmers_with_and_without_genolm(with_genolm, tmp_path):
    built("dnabert-6").save_pretrained(tmp_path)
    text = "ACGTGTACGT" if with_genolm else "ACGTGT CGTGTA GTGTAC TGTACG GTACGT"
    code = f"""
import sys
{"import genolm" if with_genolm else "sys.modules['genolm'] = None"}
from transformers import AutoTokenizer
print(AutoTokenizer.from_pretrained({str(tmp_path)!r})({text!r})["input_ids"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [2, 738, 2937, 3543, 1872, 3378, 3]


def test_overlapping_kmers_take_batches_and_pairs(tmp_path):
    built("kmer3-overlapping").save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    together = tokenizer(["ACGTA", "CCC"], padding=True)["input_ids"]
    assert together[0] == tokenizer("ACGTA")["input_ids"]
    assert together[1][:3] == tokenizer("CCC")["input_ids"]
    pair = tokenizer("ACGT", "GGTT")["input_ids"]
    assert pair == tokenizer("ACGT")["input_ids"] + tokenizer("GGTT")["input_ids"][1:]


def test_kmers_count_with_the_last_letter_fastest():
    assert kmers("ATCG", 2)[:5] == ["AA", "AT", "AC", "AG", "TA"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("kmer66", "kmer6"), ("zzz", "there are: .*char"), ("missing.yaml", "no such file")],
)
def test_an_unknown_spec_is_one_error(name, message):
    with pytest.raises(SettingsError, match=message):
        load_spec(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: kmer\nk: 9\n", r"2: k is 9; allowed: 1 to 8"),
        ("kind: kmers\n", r"1: kind is 'kmers'; allowed: char, kmer"),
        ("kind: kmer\nK: 3\n", r"unknown key 'K'; did you mean 'k'|unknown key 'K'"),
        ("kind: char\nbases: ACG\n", "bases is 'ACG'"),
        ("kind: char\nprefix: ['<cls>']\n", "not among the special_tokens"),
        ("kind: bpe\nvocab_size: 10\n", "leaves no room"),
    ],
)
def test_a_wrong_spec_is_one_error(text, message, tmp_path):
    (tmp_path / "spec.yaml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_spec(tmp_path / "spec.yaml")


def test_bpe_needs_genomes():
    with pytest.raises(SettingsError, match="trained on genomes"):
        build_tokenizer(TokenizerSpec(kind="bpe"))
