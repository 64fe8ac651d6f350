"""Model card: its statements follow from genolm.json."""

import copy
from typing import Any

import pytest
import yaml

from genolm.reports.card import model_card
from genolm.reports.hub import check_license

METADATA = {
    "objective": "causal",
    "window_bp": 2048,
    "tokenizer": "char",
    "num_parameters": 1_234_567,
    "metrics": {
        "test": {
            "bits_per_base": 1.9,
            "interval": [1.88, 1.93],
            "num_bases": 5000.0,
            "classes": {"repeat": {"bits_per_base": 1.5, "interval": None, "num_bases": 800.0}},
        },
        "markov": {"1": 1.98, "9": 1.95, "12": 2.01},
    },
    "recipe": {
        "data": {
            "valid": {"contigs": [], "fraction": 0.125, "regions": None},
            "test": {"contigs": ["chr8", "chrX"], "fraction": 0.0, "regions": "held_out.bed"},
            "reverse_complement": 0.5,
        },
        "objective": {"kind": "causal", "mask_rate": 0.15},
        "model": {"architecture": "llama"},
        "seed": 7,
    },
    "recipe_hash": "ab" * 32,
    "data": {"inputs": [{"genome": "human", "name": "a|b.fa", "sha256": "cd" * 32, "num_bases": 3_000_000}]},
    "genolm_version": "9.8.7",
}
CHAR = {"kind": "char", "k": 1}


def card(metadata=METADATA, tokenizer=CHAR, **options):
    return model_card(metadata, tokenizer=tokenizer, repo_id="me/model", license="mit", **options)


def changed(**data):
    metadata = copy.deepcopy(METADATA)
    metadata["recipe"]["data"] |= data
    return metadata


def masked():
    metadata: dict[str, Any] = copy.deepcopy(METADATA) | {"objective": "masked"}
    metadata["metrics"]["test"] = {"masked_bits_per_base": 1.7, "interval": [1.6, 1.8], "num_bases": 500.0}
    return metadata


def rows(text):
    """The cells of each line of a table, by their first."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}


def test_the_front_matter_is_what_the_hub_reads():
    front = yaml.safe_load(card().split("---")[1])
    assert front == {
        "license": "mit",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["biology", "genomics", "dna", "genolm", "causal-lm"],
    }
    assert yaml.safe_load(card(masked()).split("---")[1])["pipeline_tag"] == "fill-mask"


def test_the_tables_hold_the_facts_of_the_run():
    table = rows(card())
    assert table["architecture"] == ["`llama`"]
    assert table["parameters"] == ["1,234,567"]
    assert table["window"] == ["2,048 bp"]
    assert table["human"] == [r"a\|b.fa", "3,000,000", f"`{'cd' * 32}`"]
    assert table["this model"] == ["1.9000", "1.8800 … 1.9300", "5,000"]
    assert table["repeat"] == ["1.5000", "–", "800"]
    assert table["Markov model of order 9"][0] == "1.9500"
    text = card()
    assert "valid: 12.5 % of the bases; test: contigs chr8, chrX and the intervals of held_out.bed" in text
    assert "the best has order 9, and this model takes 0.0500 bits less than it" in text
    assert "genolm 9.8.7, seed 7" in text and "ab" * 32 in text
    assert yaml.safe_load(text.split("```yaml\n")[1].split("```")[0]) == METADATA["recipe"]


def test_a_model_that_loses_to_counting_says_so():
    metadata = copy.deepcopy(METADATA)
    metadata["metrics"]["test"]["bits_per_base"] = 2.0
    assert "this model takes 0.0500 bits more than it" in card(metadata)


def test_masked_bits_are_not_compared_with_likelihoods():
    text = card(masked())
    assert "| on the test regions | masked bits per base |" in text
    assert "Markov" not in text.split("## Recipe")[0]
    assert "no code length" in text and "15 % of all" in text


def test_the_card_states_how_strands_were_shown():
    assert "reverse complement with probability 0.5" in card()
    assert "never as their reverse complement" in card(changed(reverse_complement=0.0))


def test_the_card_states_filters_of_the_data():
    text = card(
        changed(include="genes.bed", exclude="blacklist.bed", soft_masked_weight=0.1, eval_soft_masked_weight=0.0)
    )
    assert "Only the intervals of genes.bed" in text and "intervals of blacklist.bed were left out" in text
    assert "weighs 0.1 in the training loss" in text and "bases are not counted" in text
    text = card(changed(dataset={"path": "user/genomes", "test_path": None, "test_split": "held"}))
    assert "Streamed from the dataset `user/genomes`" in text and "Held out: test: held." in text


def test_without_metrics_nothing_is_claimed():
    assert "No measures were taken" in card({**METADATA, "metrics": {}})
    only_valid = {**METADATA, "metrics": {"valid": METADATA["metrics"]["test"]}}
    assert "| on the valid regions |" in card(only_valid) and "watched during training" in card(only_valid)


def test_overlapping_kmers_are_spelled_in_the_snippet():
    code = card(tokenizer={"kind": "kmer-overlapping", "k": 3}).split("```python\n")[1].split("```")[0]
    spelling = next(line for line in code.splitlines() if "join" in line)
    found = {"dna": "ACGTA"}
    exec(spelling, found)
    assert found["dna"] == "ACG CGT GTA"
    assert "join" not in card().split("## Data")[0]


def test_the_curve_is_shown_where_there_is_one():
    assert "![bits per base during training](loss.png)" in card(curve=True)
    assert "![masked bits per base during training](loss.png)" in card(masked(), curve=True)
    assert "loss.png" not in card()


@pytest.mark.parametrize("given", ["apache-2.0", "MIT", " cc-by-4.0 ", "agpl-3.0", "openrail++"])
def test_a_licence_is_an_identifier(given):
    assert check_license(given) == given.strip().lower()


@pytest.mark.parametrize("given", ["", " ", "my own", "mit\nlibrary_name: x", "../x"])
def test_anything_else_is_no_licence(given):
    with pytest.raises(ValueError, match="is not an identifier such as apache-2.0, mit"):
        check_license(given)
