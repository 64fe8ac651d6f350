"""Publishing, against a local stand-in for the Hub's HTTP interface."""

import base64
import hashlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from genolm.commands.publish import publish
from genolm.config.pretrain import PretrainRecipe
from genolm.config.yaml import load_settings
from genolm.models.genolm.configuration import MIXERS
from genolm.pretraining import run_pretraining
from genolm.reports.card import EXAMPLE
from genolm.reports.hub import find_final_checkpoint, without_paths

REPO = "someone/tiny-dna"
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def pretrained(kind, folder, objective, model):
    """The run folder of a tiny model."""
    (folder / "g.fa").write_text(">one\n" + "".join(np.random.default_rng(0).choice(list("ACGT"), 9000)) + "\n")
    recipe = {
        "run_dir": str(folder / "run"),
        "data": {"fasta": str(folder / "g.fa"), "window_bp": 64, "test": {"fraction": 0.2}},
        "tokenizer": kind,
        "objective": {"kind": objective},
        "model": model,
        "training": {"max_steps": 1, "per_device_train_batch_size": 2, "hub_token": "hf_secret"},
        "evaluation": {"markov_orders": [1, 2], "max_bp": 500},
    }
    (folder / "r.yaml").write_text(yaml.safe_dump(recipe))
    run_pretraining(load_settings(PretrainRecipe, folder / "r.yaml"))
    return folder / "run"


@pytest.fixture(scope="module")
def causal_run(tmp_path_factory):
    return pretrained("char", tmp_path_factory.mktemp("publish"), "causal", {"architecture": "llama", **SMALL})


@pytest.fixture(scope="module")
def masked_run(tmp_path_factory):
    return pretrained(
        "kmer3-overlapping", tmp_path_factory.mktemp("publish"), "masked", {"architecture": "bert", **SMALL}
    )


@pytest.fixture(params=["causal", "masked"])
def run_dir(request):
    return request.getfixturevalue(f"{request.param}_run")


@pytest.fixture
def copied(causal_run, tmp_path):
    """A run folder that a test may spoil."""
    return shutil.copytree(causal_run, tmp_path / "copied")


class Hub(BaseHTTPRequestHandler):
    """Speaks as much of the Hub's interface as an upload needs, and keeps what it is sent."""

    protocol_version = "HTTP/1.1"
    received: dict = {}

    def _body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, value, code=200, headers=None):
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        body, kept, base = self._body(), self.received, f"http://{self.headers['Host']}"
        if self.headers.get("Authorization") != "Bearer hf_good":
            self._answer({"error": "Invalid credentials"}, 401)
        elif self.path == "/api/repos/create" and json.loads(body)["organization"] == "stranger":
            self._answer({"error": "Forbidden"}, 403)
        elif self.path == "/api/repos/create" and json.loads(body)["organization"] == "broken":
            self._answer({"error": "name is taken"}, 400)
        elif self.path == "/api/repos/create":
            kept["repo"] = json.loads(body)
            self._answer({"url": f"{base}/{REPO}", "name": REPO, "id": REPO})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif self.path.endswith("/preupload/main"):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith((".safetensors", ".png")) else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {
                    "oid": one["oid"],
                    "size": one["size"],
                    "actions": {"upload": {"href": f"{base}/lfs/{one['oid']}"}},
                }
                for one in json.loads(body)["objects"]
            ]
            self._answer({"transfer": "basic", "objects": objects})
        elif self.path.endswith("/commit/main"):
            kept["commit"] = [json.loads(line) for line in body.splitlines()]
            self._answer({"commitUrl": f"{base}/{REPO}/commit/1", "commitOid": "1" * 40, "hookOutput": ""})
        else:
            kept.setdefault("unknown", []).append(("POST", self.path))
            self._answer({"error": "unknown"}, 404)

    def do_PUT(self):
        self.received.setdefault("lfs", {})[self.path.rsplit("/", 1)[-1]] = self._body()
        self._answer({})

    def do_GET(self):
        name = self.path.removeprefix("/api/models/")
        if name in ("someone/public", "someone/private"):
            self._answer({"id": name, "private": name == "someone/private"})
        elif name in (REPO, "stranger/x", "broken/x"):
            self._answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        else:
            self.received.setdefault("unknown", []).append(("GET", self.path))
            self._answer({"error": "unknown"}, 404)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub():
    Hub.received = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def genolm(*arguments, **env):
    return subprocess.run(
        [sys.executable, "-m", "genolm", *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_good"} | env,
    )


def sent():
    """Every file that the stand-in was sent: name → bytes."""
    files = {}
    for line in Hub.received["commit"]:
        if line["key"] == "file":
            files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        elif line["key"] == "lfsFile":
            oid = line["value"]["oid"]
            assert hashlib.sha256(Hub.received["lfs"][oid]).hexdigest() == oid
            files[line["value"]["path"]] = Hub.received["lfs"][oid]
    return files


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_sent_is_what_the_dry_run_writes(run_dir, hub, tmp_path):
    done = genolm("publish", run_dir, REPO, "--license", "mit", "--dry-run", "--out", tmp_path / "dry", HF_ENDPOINT=hub)
    assert done.returncode == 0, done.stderr
    assert "nothing was sent" in done.stdout and not Hub.received
    done = genolm("publish", run_dir, REPO, "--license", "mit", HF_ENDPOINT=hub)
    assert done.returncode == 0, done.stderr + str(Hub.received.get("unknown"))
    assert f"{hub}/{REPO} (private)" in done.stdout
    assert Hub.received["repo"]["visibility"] == "private"
    assert sent() == contents(tmp_path / "dry")
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "genolm.json", "loss.png"} <= set(sent())
    assert sent()["model.safetensors"] == (run_dir / "checkpoint" / "model.safetensors").read_bytes()
    assert yaml.safe_load(sent()["README.md"].decode().split("---")[1])["license"] == "mit"
    # Nothing that is sent tells where on this machine it came from, nor how to log in.
    for name, data in sent().items():
        assert str(run_dir.parent).encode() not in data and b"hf_secret" not in data, name


def test_public_has_to_be_asked_for(causal_run, hub, tmp_path):
    done = genolm("publish", causal_run, REPO, "--license", "mit", "--public", "--out", tmp_path / "o", HF_ENDPOINT=hub)
    assert done.returncode == 0, done.stderr
    assert Hub.received["repo"]["visibility"] == "public" and "(public)" in done.stdout


def test_a_repository_that_exists_is_written_to_again(causal_run, hub, tmp_path):
    arguments = ("publish", causal_run / "checkpoint", "someone/private", "--license", "mit", "--out", tmp_path / "o")
    done = genolm(*arguments, HF_ENDPOINT=hub)
    assert done.returncode == 0, done.stderr
    assert sent() == contents(tmp_path / "o")


@pytest.mark.slow
def test_the_card_tells_the_run_and_its_usage_works(run_dir, tmp_path, capsys):
    publish(str(run_dir), REPO, license="cc-by-4.0", dry_run=True, out=tmp_path / "dry")
    assert re.search(r"^ +[\d,]+  model.safetensors$", capsys.readouterr().out, re.MULTILINE)
    card = (tmp_path / "dry" / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    about = json.loads((run_dir / "checkpoint" / "genolm.json").read_text())
    assert front["license"] == "cc-by-4.0"
    assert front["pipeline_tag"] == ("text-generation" if about["objective"] == "causal" else "fill-mask")
    assert about["data"]["inputs"][0]["sha256"] in card
    assert "test: 20 % of the bases" in card
    # Masked bits are no likelihood: no Markov model beside them.
    assert ("Markov" in card.split("## Limits")[0]) == (about["objective"] == "causal")
    snippet = re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1).replace(REPO, str(tmp_path / "dry"))
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['genolm'] = None\n" + snippet],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    tokens = 35 if about["objective"] == "causal" else 35 - 2 + 2
    assert done.stdout.startswith(f"torch.Size([1, {tokens}, ")


@pytest.fixture(scope="module", params=["causal", "masked"])
def own_run(request, tmp_path_factory):
    """The run folder of a tiny model of genolm's own family, with every mixer."""
    folder = tmp_path_factory.mktemp("publish")
    model = {"architecture": "genolm", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 7}
    model |= {"mixers": list(MIXERS), "num_attention_heads": 2, "ssm_head_dim": 8, "kmer_embeddings": [2, 3]}
    return pretrained("char", folder, request.param, model | {"filter_groups": 4})


@pytest.mark.slow
@pytest.mark.parametrize("export", [False, True])
def test_our_own_models_open_with_genolm_or_with_the_code_beside_them(own_run, tmp_path, export):
    publish(str(own_run), REPO, license="mit", dry_run=True, out=tmp_path / "dry", export_code=export)
    card = (tmp_path / "dry" / "README.md").read_text()
    snippet = re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1).replace(REPO, str(tmp_path / "dry"))
    assert ("trust_remote_code" in snippet) == export != ("import genolm" in snippet)
    without = "import sys; sys.modules['genolm'] = None\n" if export else ""
    save = f"\ntorch.save(logits, {str(tmp_path / 'logits.pt')!r})"
    done = subprocess.run(
        [sys.executable, "-c", without + snippet + save],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")},
    )
    assert done.returncode == 0, done.stderr
    config = json.loads((own_run / "checkpoint" / "config.json").read_text())
    auto = AutoModelForCausalLM if config["causal"] else AutoModelForMaskedLM
    model = auto.from_pretrained(own_run / "checkpoint").eval()
    tokenizer = AutoTokenizer.from_pretrained(own_run / "checkpoint")
    with torch.no_grad():
        expected = model(**tokenizer(EXAMPLE, return_tensors="pt")).logits
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), expected, rtol=0, atol=1e-6)


def test_code_is_exported_for_our_own_models_only(causal_run, tmp_path):
    with pytest.raises(ValueError, match="needs no code"):
        publish(str(causal_run), REPO, license="mit", dry_run=True, out=tmp_path / "dry", export_code=True)
    assert not (tmp_path / "dry").exists()


def test_mistakes_are_one_line(causal_run, hub, tmp_path):
    (tmp_path / "empty").mkdir()
    mit, there = ("--license", "mit", "--out", tmp_path / "out"), {"HF_ENDPOINT": hub}
    cases = [
        ((tmp_path / "absent", REPO), {}, "is not a folder"),
        ((tmp_path / "empty", REPO), {}, "holds no checkpoint"),
        ((causal_run, "no-user"), {}, "USER/NAME"),
        ((causal_run, "a/b/c"), {}, "not a name for a repository"),
        ((causal_run, REPO), {}, "add --license, such as apache-2.0, mit"),
        (
            (causal_run, REPO, "--license", "an MIT one"),
            {},
            "licence 'an MIT one' is not an identifier",
        ),
        ((causal_run, REPO, *mit), there | {"HF_TOKEN": "hf_bad"}, "hf auth login"),
        ((causal_run, "stranger/x", *mit), there, "may write to stranger"),
        ((causal_run, "broken/x", *mit), there, "the Hub refused broken/x: 400: "),
        ((causal_run, "someone/public", *mit), there, "exists and is public"),
        ((causal_run, "someone/private", *mit, "--public"), there, "exists and is private"),
        ((causal_run, REPO, *mit), there | {"HF_HUB_OFFLINE": "1"}, "nothing was sent"),
        ((causal_run, REPO, *mit), {"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be reached"),
    ]
    for arguments, env, message in cases:
        done = genolm("publish", *arguments, **env)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr and "Traceback" not in done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "commit" not in Hub.received


def test_the_licence_is_asked_for_on_a_terminal(causal_run, tmp_path):
    keyboard, terminal = pty.openpty()
    os.write(keyboard, b"cc0-1.0\n")
    command = [sys.executable, "-m", "genolm", "publish", causal_run, REPO, "--dry-run", "--out", tmp_path / "dry"]
    done = subprocess.run(list(map(str, command)), stdin=terminal, capture_output=True, text=True)
    os.close(terminal)
    os.close(keyboard)
    assert done.returncode == 0, done.stderr
    assert "Licence of the weights" in done.stdout
    assert "license: cc0-1.0" in (tmp_path / "dry" / "README.md").read_text()


def test_only_its_own_folder_is_replaced(copied, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "README.md").write_text("mine")
    for out, message in [
        (tmp_path / "thesis", "other files"),
        (tmp_path / "thesis" / "README.md", "is a file"),
        (copied, "holds the checkpoint"),
        (copied / "checkpoint", "holds the checkpoint"),
        (tmp_path, "holds the checkpoint"),
    ]:
        with pytest.raises(ValueError, match=message):
            publish(str(copied), REPO, license="mit", dry_run=True, out=out)
    assert (tmp_path / "thesis" / "README.md").read_text() == "mine"
    publish(str(copied), REPO, license="mit", dry_run=True)
    publish(str(copied), REPO, license="cc0-1.0", dry_run=True)
    assert "license: cc0-1.0" in (copied / "publish" / "README.md").read_text()
    assert not (copied / "publish.partial").exists()


def test_shards_are_sent_together_or_not_at_all(copied, tmp_path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(copied / "checkpoint")
    (copied / "checkpoint" / "model.safetensors").unlink()
    model.save_pretrained(copied / "checkpoint", max_shard_size="4KB")
    shards = sorted(path.name for path in (copied / "checkpoint").glob("model-*.safetensors"))
    assert len(shards) > 1
    publish(str(copied), REPO, license="mit", dry_run=True)
    assert {*shards, "model.safetensors.index.json"} <= set(contents(copied / "publish"))
    again = AutoModelForCausalLM.from_pretrained(copied / "publish").state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())
    (copied / "checkpoint" / shards[-1]).unlink()
    with pytest.raises(ValueError, match=f"lacks {shards[-1]}"):
        publish(str(copied), REPO, license="mit", dry_run=True)


def test_nothing_is_sent_but_what_is_listed(copied):
    checkpoint = copied / "checkpoint"
    torch.save({}, checkpoint / "training_args.bin")
    for name in ("notes.txt", "secrets.json", "pytorch_model.pt"):
        (checkpoint / name).write_text("{}")
    publish(str(copied), REPO, license="mit", dry_run=True)
    assert not set(contents(copied / "publish")) & {
        "training_args.bin",
        "notes.txt",
        "secrets.json",
        "pytorch_model.pt",
    }
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(ValueError, match="no model.safetensors"):
        publish(str(copied), REPO, license="mit", dry_run=True)


def test_a_checkpoint_copied_in_part_is_refused(copied):
    (copied / "checkpoint" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="lacks tokenizer.json"):
        find_final_checkpoint(copied)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (
            {"fasta": ["/home/me/g.fa", "data/g.fa", "https://host/x.fa"]},
            {"fasta": ["g.fa", "g.fa", "https://host/x.fa"]},
        ),
        ({"fasta": {"human": "~/private/hg38.fa"}}, {"fasta": {"human": "hg38.fa"}}),
        ({"sha256": {"../lab/g.fa": "ab"}}, {"sha256": {"g.fa": "ab"}}),
        ({"run_dir": "runs/secret/first", "tokenizer": "runs/toks"}, {"run_dir": "first", "tokenizer": "toks"}),
        ({"test": {"regions": "beds/x.bed"}}, {"test": {"regions": "x.bed"}}),
        ({"dataset": {"path": "user/name"}}, {"dataset": {"path": "user/name"}}),
        ({"dataset": {"path": "lab/reads.parquet"}}, {"dataset": {"path": "reads.parquet"}}),
        ({"training": {"deepspeed": "conf/zero2.json"}}, {"training": {"deepspeed": "zero2.json"}}),
        ({"training": {"hub_token": "hf_abc", "max_steps": 3}}, {"training": {"max_steps": 3}}),
        ({"fasta": "https://me:pw@host/x?id=NC_1&api_key=s"}, {"fasta": "https://host/x?id=NC_1"}),
        ({"fasta": "https://host/x?X-Amz-Signature=s"}, {"fasta": "https://host/x"}),
        ({"fasta": "file:///home/me/g.fa"}, {"fasta": "g.fa"}),
    ],
)
def test_paths_and_secrets_are_cut_and_names_are_not(given, kept):
    assert without_paths(given) == kept
