"""`genolm score` of a model that brings its own code: run if the user says so, of the Hub at a stated commit only."""

import csv
import json
import shutil
import sys

import pytest
from scoring import CONTIGS, record, save, score, write_vcf

from genolm.cli import main

CONFIGURATION = """
from pathlib import Path

from transformers import PretrainedConfig
with open({marker!r}, "a") as file:
    file.write("configuration ")


class OddConfig(PretrainedConfig):
    model_type = "odd-dna"
"""

MODELING = '''
import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

from .configuration_odd import OddConfig

with open({marker!r}, "a") as file:
    file.write("modeling ")


class OddForMaskedLM(PreTrainedModel):
    """The two neighbours of a token tell what it is."""

    config_class = OddConfig

    def __init__(self, config):
        super().__init__(config)
        self.embedding = torch.nn.Embedding(config.vocab_size, 8)
        self.head = torch.nn.Linear(16, config.vocab_size)
        self.post_init()

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, input_ids, attention_mask=None, output_hidden_states=False, **unused):
        hidden = self.embedding(input_ids)
        both = torch.cat([hidden.roll(1, 1), hidden.roll(-1, 1)], -1)
        return MaskedLMOutput(logits=self.head(both), hidden_states=(both,) if output_hidden_states else None)
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A genome, a VCF, and a model of a kind that only its own Python files know; `ran` tells that they were run."""
    import torch
    import transformers.dynamic_module_utils as dynamic
    from safetensors.torch import save_file

    monkeypatch.setattr(dynamic, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        monkeypatch.delitem(sys.modules, name)  # of another test's folder
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    (tmp_path / "g.fa").write_text("".join(f">{name}\n{bases}\n" for name, bases in CONTIGS.items()))
    write_vcf(tmp_path / "x.vcf", [record("chr1", 100), record("chr1", 200, size=2), record("chr1", 300)])
    odd = save(tmp_path / "odd", "masked", {"architecture": "genolm", "mixers": ["attention"]})
    marker = str(tmp_path / "ran")
    (odd / "configuration_odd.py").write_text(CONFIGURATION.format(marker=marker))
    (odd / "modeling_odd.py").write_text(MODELING.format(marker=marker))
    config = {"model_type": "odd-dna", "architectures": ["OddForMaskedLM"], "vocab_size": 16, "hidden_size": 8}
    config["auto_map"] = {
        "AutoConfig": "configuration_odd.OddConfig",
        "AutoModelForMaskedLM": "modeling_odd.OddForMaskedLM",
    }
    (odd / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    weights = {"embedding.weight": (16, 8), "head.weight": (16, 16), "head.bias": (16,)}
    save_file({k: torch.randn(s) for k, s in weights.items()}, odd / "model.safetensors", {"format": "pt"})
    return tmp_path


def test_code_of_a_model_is_run_only_where_the_user_says_so(folder, capfd):
    out = folder / "o.tsv"
    code, told = score(folder, folder / "x.vcf", "--out", out, model="odd", capfd=capfd)
    error = told.splitlines()[-1]
    assert code == 2 and error.startswith("error: ") and str(folder / "odd") in error and "Traceback" not in told
    assert "it needs code of its own, which is not run; --trust-remote-code runs it, once you have read it" in error
    assert not (folder / "ran").exists() and not list(folder.glob("o.tsv*"))
    options = ["--trust-remote-code", "--window", 32, "--background", 0]
    code, told = score(folder, folder / "x.vcf", "--out", out, *options, model="odd", capfd=capfd)
    assert code == 0, told
    assert set((folder / "ran").read_text().split()) == {"configuration", "modeling"}
    with out.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["GENOLM_STATUS"] for row in rows] == ["scored"] * 3
    assert len({float(row["GENOLM_MASKED_LLR"]) for row in rows}) == 3


@pytest.mark.parametrize("verb", ["score", "scan", "mutate"])
@pytest.mark.parametrize("revision", [None, "main", "v1.0", "abc1234"])
def test_code_of_the_hub_is_run_at_a_stated_commit_only(folder, capfd, verb, revision):
    (folder / "r.bed").write_text("chr1\t5\t9\n")
    words = {
        "score": [folder / "x.vcf", "--out", folder / "o.tsv"],
        "scan": [folder / "r.bed", "--out", folder / "o.bw"],
        "mutate": ["--region", "chr1:5-9", "--out", folder / "o"],
    }[verb]
    options = ["--model", "some/model", "--fasta", folder / "g.fa", "--trust-remote-code"]
    options += [] if revision is None else ["--revision", revision]
    with pytest.raises(SystemExit) as stop:
        main([verb, *map(str, [*words, *options])])
    told = capfd.readouterr().err
    assert stop.value.code == 2 and "with --trust-remote-code give --revision, the 40 digits of a commit" in told
    assert "Traceback" not in told and not list(folder.glob("o*.parts"))


def test_a_commit_of_the_hub_is_what_is_asked_for(folder, monkeypatch):
    import huggingface_hub

    asked = []
    commit = "0123456789abcdef0123456789abcdef01234567"

    def fetched(name, revision=None, allow_patterns=()):
        asked.append((name, revision, "*.py" in allow_patterns))
        return str(shutil.copytree(folder / "odd", folder / "snapshots" / commit))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    options = ["--window", 32, "--background", 0, "--trust-remote-code", "--revision", commit]
    words = [folder / "x.vcf", "--fasta", folder / "g.fa", "--out", folder / "o.vcf", "--model", "some/model"]
    with pytest.raises(SystemExit) as stop:
        main(["score", *map(str, [*words, *options])])
    assert stop.value.code == 0
    assert asked == [("some/model", commit, True)]
    written = (folder / "o.vcf").read_text()
    assert written.count("GENOLM_STATUS=scored") == 3
    assert f"model some/model, revision {commit}, weights " in written
    assert json.loads((folder / "o.vcf.summary.json").read_text())["model"]["revision"] == commit


BAD = {
    "import no_such_module_of_anyone\n": "no_such_module_of_anyone",
    "class OddForMaskedLM:\n    config_class = None\n": "transformers cannot open this model",
}


@pytest.mark.parametrize("content", BAD, ids=["import", "class"])
def test_code_that_does_not_work_is_one_line(folder, capfd, content):
    (folder / "odd" / "modeling_odd.py").write_text(content)
    words = [folder / "x.vcf", "--out", folder / "o.tsv", "--trust-remote-code"]
    code, told = score(folder, *words, model="odd", capfd=capfd)
    assert code == 2 and BAD[content] in told.splitlines()[-1] and "Traceback" not in told
