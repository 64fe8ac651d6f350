"""Folders from strangers: nothing in them runs, nothing outside is read into them or written, and nobody is asked."""

import json
import os
import pickle
import pty
import shutil
import subprocess
import sys
from functools import partial

import injections
import pytest
import runs
import torch
import yaml
from transformers import AutoTokenizer

import genolm
from genolm.training.checkpoint import (
    MANIFEST,
    CheckpointError,
    checkpoint_files,
    digests,
    newest_valid,
    seal,
    steps,
    verify,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and named pipes of POSIX systems")


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return exec, (f"open({self.marker!r}, 'w').close()",)


class Place:
    """A folder with a run in it, and beside the run what must stay as it is."""

    def __init__(self, folder, finished):
        self.folder, self.run, self.marker = folder, folder / "run", folder / "ran"
        shutil.copytree(finished, self.run)
        self.outside = folder / "outside"
        (self.outside / "folder").mkdir(parents=True)
        (self.outside / "file").write_text("mine")
        (self.outside / "folder" / "file").write_text("mine too")
        self.before = self.look()

    def look(self):
        """All that is outside the run: names, contents, times."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            inside = path.is_relative_to(self.run) or path.name.startswith("run.") and path.suffix == ".out"
            if not inside and path != self.folder / "recipe.yaml":
                found[path] = (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        return found

    def step(self, number):
        return self.run / "checkpoints" / f"step-{number}"

    def hold(self, since=None):
        """Nothing ran, nothing outside is new, changed or gone."""
        assert not self.marker.exists()
        assert self.look() == (self.before if since is None else since)

    def evil_code(self):
        return f"open({str(self.marker)!r}, 'w').close()\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A recipe whose run of 40 steps is saved at 20 and 40, and that run."""
    folder = tmp_path_factory.mktemp("safety")
    runs.write_genome(folder)
    recipe = runs.write_recipe(folder, save_steps=20)
    assert runs.run(recipe) == [0], runs.output(folder / "run")
    return recipe, folder / "run"


@pytest.fixture
def place(trained, tmp_path):
    return Place(tmp_path, trained[1])


def pretrain(trained, place, *changes, **options):
    """Run the recipe again in a stranger's run folder; return its exit code and what it said."""
    for path in place.folder.glob("run.*.out"):
        path.unlink()
    codes = runs.run(trained[0], f"run_dir={place.run}", *changes, **options)
    told = runs.output(place.run)
    assert "Traceback" not in told, told
    assert len(set(codes)) == 1, told
    return codes[0], told


def resealed(folder, change=None, **about):
    """Make the manifest of a checkpoint valid again, as anyone can; `change` is done to it before it is signed."""
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["manifest_sha256"]
    manifest |= about
    files = digests(folder, checkpoint_files(folder))
    if change is not None:
        files = change(files)
    aside = folder.with_name(f"{folder.name}.partial")
    shutil.copytree(folder, aside)
    seal(aside, folder, files, {key: value for key, value in manifest.items() if key != "files"})


def unfinished(place, *numbers):
    """Make a run unfinished, and of its checkpoints leave those of these steps."""
    shutil.rmtree(place.run / "checkpoint")
    for number in (20, 40):
        if number not in numbers:
            shutil.rmtree(place.step(number), ignore_errors=True)


def dump(value, path, kind):
    """Write what the four ways of torch and pickle make of a value."""
    if kind == "pickle":
        path.write_bytes(pickle.dumps(value))
    else:
        torch.save(value, path, _use_new_zipfile_serialization=kind != "tar", pickle_protocol=4 if kind == "new" else 2)


KINDS = ["zip", "new", "tar", "pickle"]
LOADED = [
    "optimizer.pt",
    "scheduler.pt",
    "scaler.pt",
    "optimizer.bin",
    "training_args.bin",
    "rng_state.pth",
    "rng_state_0.pth",
    "pytorch_model.bin",
    "pytorch_model_fsdp.bin",
    "adapter_model.bin",
    "custom_checkpoint_0.pkl",
    "global_step40/mp_rank_00_model_states.pt",
    "global_step40/zero_pp_rank_0_mp_rank_00_optim_states.pt",
    "deep/er/expert.PT",
]


def test_the_payload_would_run(tmp_path):
    for kind in KINDS:
        dump({"state": Hostile(tmp_path / kind)}, tmp_path / "x.pt", kind)
        if kind == "pickle":
            pickle.loads((tmp_path / "x.pt").read_bytes())
        else:
            torch.load(tmp_path / "x.pt", weights_only=False)
        assert (tmp_path / kind).exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_sealed_pickle_is_named_and_not_opened(place, kind):
    kept = place.folder.parent / f"{place.folder.name}-kept"
    shutil.copytree(place.step(40), kept)
    for name in LOADED:
        path = place.step(40) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        dump({"state": Hostile(place.marker)}, path, kind)
        resealed(place.step(40))
        with pytest.raises(CheckpointError) as error:
            verify(place.step(40))
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
        if kind == "zip":
            assert "it names builtins.exec" in str(error.value)
        shutil.rmtree(place.step(40))
        shutil.copytree(kept, place.step(40))
        assert verify(place.step(40))["step"] == 40
    place.hold()


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state.pth"])
def test_a_run_does_not_go_on_from_a_pickle(trained, place, name):
    unfinished(place, 20, 40)
    dump({"state": Hostile(place.marker)}, place.step(40) / name, "zip")
    resealed(place.step(40))
    code, told = pretrain(trained, place)
    assert code == 0 and f"skipping invalid checkpoint: {place.step(40) / name}: opening it could run code" in told
    assert runs.weights(place.run) == runs.weights(trained[1])
    unfinished(place, 20, 40)
    for number in (20, 40):
        dump({"state": Hostile(place.marker)}, place.step(number) / name, "pickle")
        resealed(place.step(number))
    code, told = pretrain(trained, place)
    assert code == 2 and "is valid; to start from nothing, remove" in told
    place.hold()


def test_a_pickle_in_place_of_safetensors(trained, place):
    unfinished(place, 40)
    (place.step(40) / "model.safetensors").unlink()
    dump({"state": Hostile(place.marker)}, place.step(40) / "pytorch_model.bin", "zip")
    (place.step(40) / "trainer_state.json").write_bytes(pickle.dumps(Hostile(place.marker)))
    resealed(place.step(40))
    assert pretrain(trained, place)[0] == 2
    place.hold()


def test_checkpoints_of_torch_distributed_are_not_opened(place):
    for name in ("optimizer_0/.metadata", "pytorch_model_fsdp_0/__0_0.distcp"):
        path = place.step(40) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pickle.dumps(Hostile(place.marker)))
        resealed(place.step(40))
        with pytest.raises(CheckpointError, match="set fsdp_state_dict_type: FULL_STATE_DICT"):
            verify(place.step(40))
        path.unlink()
    place.hold()


def test_fsdp_in_pieces_is_refused_before_anything_is_trained(trained, place):
    shutil.rmtree(place.run)
    options = {"ranks": 2, "profile": "cpu-fsdp2", "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"}
    code, told = pretrain(trained, place, "training.per_device_train_batch_size=2", **options)
    assert code == 2 and "fsdp_state_dict_type is SHARDED_STATE_DICT; set it to FULL_STATE_DICT" in told


@pytest.fixture(scope="module")
def zero(trained, tmp_path_factory):
    """A run of two ranks of DeepSpeed that was stopped after its save at step 20."""
    pytest.importorskip("deepspeed")
    recipe, folder = trained[0], tmp_path_factory.mktemp("zero")
    options = {"ranks": 2, "profile": "cpu-zero2", "timeout": 300}
    stop = partial(injections.signal_at, 15, 19, 0, "forward")
    changes = ["training.per_device_train_batch_size=2", f"run_dir={folder / 'run'}"]
    assert runs.run(recipe, *changes, before=stop, **options) == [75, 75], runs.output(folder / "run")
    return changes[:1], options, folder / "run"


@pytest.mark.parametrize("where", ["optim_states", "model_states", "latest", "nothing"])
def test_deepspeed_is_given_no_pickle(trained, zero, tmp_path, where):
    changes, options, run = zero
    place = Place(tmp_path, run)
    (number,) = steps(place.run / "checkpoints")
    step = place.step(number)
    if where == "latest":
        # A whole checkpoint of DeepSpeed beside the run, of which nothing is in the manifest.
        shutil.copytree(step / f"global_step{number}", place.outside / "evil")
        for path in (place.outside / "evil").iterdir():
            dump({"module": Hostile(place.marker)}, path, "zip")
        (step / "latest").write_text(os.path.relpath(place.outside / "evil", step))
    elif where != "nothing":
        (path,) = sorted((step / f"global_step{number}").glob(f"*{where}.pt"))[:1]
        held = torch.load(path, weights_only=False)
        dump(held | {"more": Hostile(place.marker)}, path, "zip")
    resealed(step)
    before = place.look()
    code, told = pretrain(trained, place, *changes, **options)
    if where == "nothing":
        assert code == 0 and "resumed" in told, told
    elif where == "latest":
        assert code == 2 and "is no folder of this checkpoint" in told
    else:
        assert code == 2 and f"{path}: opening it could run code: it names builtins.exec" in told
    place.hold(before)


def test_what_deepspeed_writes_under_fp16_is_accepted(place):
    scaler = pytest.importorskip("deepspeed.runtime.fp16.loss_scaler")
    known = {"init_scale": 1024, "scale_window": 8, "min_scale": 1, "delayed_shift": 1, "consecutive_hysteresis": False}
    (place.step(40) / "global_step40").mkdir()
    written = {"loss_scaler": scaler.CreateLossScaler(torch.float16, 0, True, known), "weights": torch.ones(2)}
    torch.save(written, place.step(40) / "global_step40" / "zero_optim_states.pt")
    resealed(place.step(40))
    assert verify(place.step(40))


LEADING_OUT = [
    "../outside/file",
    "a/../../../../outside/file",
    "/etc/hosts",
    "..\\outside",
    "a\0b",
    "",
    ".",
    "..",
    "\n\x1b[2J",
]


@pytest.mark.parametrize("name", LEADING_OUT, ids=ascii)
def test_names_in_a_manifest_lead_nowhere(place, name):
    about = digests(place.outside, ["file"])["file"]
    resealed(place.step(40), lambda files: {name: about, **files})
    with pytest.raises(CheckpointError) as error:
        verify(place.step(40))
    assert "missing" in str(error.value) or "is no file" in str(error.value)
    assert str(error.value).isprintable()
    found, manifest, _ = newest_valid(place.run / "checkpoints")
    assert found == place.step(20) and manifest["step"] == 20
    place.hold()


def test_a_run_does_not_follow_the_names_of_a_manifest(trained, place):
    unfinished(place, 20, 40)
    about = digests(place.outside, ["file"])["file"]
    resealed(place.step(40), lambda files: files | {"../../../outside/file": about})
    code, told = pretrain(trained, place)
    assert code == 0 and "skipping invalid checkpoint" in told and "outside/file: missing" in told
    place.hold()


WRONG = {
    "a list of files": lambda files: list(files),
    "text for files": lambda files: "model.safetensors",
    "nothing for files": lambda files: None,
    "no sizes": lambda files: dict.fromkeys(files, {}),
    "numbers for files": lambda files: dict.fromkeys(files, 7),
    "sizes of text": lambda files: {name: about | {"bytes": "7"} for name, about in files.items()},
    "no files": lambda files: {},
    "100,000 files": lambda files: files | {f"{i}": {"bytes": 1, "sha256": ""} for i in range(100_000)},
    "a million files": lambda files: files | {f"{i}": {"bytes": 1, "sha256": ""} for i in range(1_000_000)},
}


@pytest.mark.parametrize(
    "wrong", [pytest.param(wrong, marks=[pytest.mark.slow] * (wrong == "a million files")) for wrong in WRONG]
)
def test_manifests_that_nobody_would_write(place, wrong):
    resealed(place.step(40), WRONG[wrong])
    with pytest.raises(CheckpointError) as error:
        verify(place.step(40))
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    place.hold()


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "null", '"x"', "{}", "[" * 100_000, "\0", '{"manifest_sha256": ""}', "NaN"]
)
def test_manifests_that_are_none(place, text):
    (place.step(40) / MANIFEST).write_text(text)
    with pytest.raises(CheckpointError, match=MANIFEST):
        verify(place.step(40))
    (place.step(40) / MANIFEST).write_bytes(b"\xff\xfe" + text.encode())
    with pytest.raises(CheckpointError, match=MANIFEST):
        verify(place.step(40))


def test_a_signed_manifest_without_what_resuming_reads(trained, place):
    unfinished(place, 40)
    whole = json.loads((place.step(40) / MANIFEST).read_text())
    for key in whole.keys() - {"manifest_sha256", "files", "recipe", "recipe_hash"}:
        resealed(place.step(40), **{key: ["wrong", {}]} if key != "loss_sums" else {key: 7})
        with pytest.raises(CheckpointError, match=f"{key}' in it is not what genolm writes"):
            verify(place.step(40))
        resealed(place.step(40), **{key: whole[key]})
    assert verify(place.step(40))
    resealed(place.step(40), versions=None)
    code, told = pretrain(trained, place)
    assert code == 2 and "'versions' in it is not what genolm writes" in told


def put_link(path, target):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize("what", ["file", "folder", "pipe", "socket", MANIFEST, "dangling"])
def test_links_and_special_files_in_a_checkpoint(trained, place, what):
    unfinished(place, 20, 40)
    path = place.step(40) / what
    if what == "pipe":
        os.mkfifo(path)
    elif what == "socket":
        import socket

        here = os.getcwd()
        os.chdir(path.parent)  # the path of a socket must be short
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
        os.chdir(here)
    else:
        kept = place.folder.parent / f"{place.folder.name}-{what}"
        shutil.copy(place.step(40) / MANIFEST, kept)
        put_link(path, {"file": place.outside / "file", "folder": place.outside / "folder"}.get(what, kept))
        if what == "dangling":
            kept.unlink()
    code, told = pretrain(trained, place)
    assert code == 0 and f"skipping invalid checkpoint: {path}: a link or a special file" in told
    assert runs.weights(place.run) == runs.weights(trained[1])
    place.hold()


def test_a_checkpoint_that_is_itself_a_link(trained, place):
    """It is skipped, then replaced by the run's own, and what it points to stays."""
    shutil.move(place.step(40), place.outside / "step")
    unfinished(place, 20)
    place.step(40).symlink_to(place.outside / "step")
    for gone in ("step-20.partial", "step-40.universal", "step-60.partial", "step-60.removed", "step-40.removed"):
        (place.run / "checkpoints" / gone).symlink_to(place.outside / "folder")
    (place.run / "checkpoint.partial").symlink_to(place.outside / "folder")
    before = place.look()
    code, told = pretrain(trained, place)
    assert code == 0 and f"skipping invalid checkpoint: {place.step(40)}: a link" in told
    left = {path.name: path.is_symlink() for path in (place.run / "checkpoints").iterdir()}
    assert left == {"step-20": False, "step-40": False}
    place.hold(before)


def test_only_links_are_no_reason_to_start_afresh(trained, place):
    shutil.move(place.step(40), place.outside / "step")
    unfinished(place)
    place.step(40).symlink_to(place.outside / "step")
    before = place.look()
    code, told = pretrain(trained, place)
    assert code == 2 and "is valid; to start from nothing, remove" in told
    place.hold(before)


def test_the_folder_of_all_checkpoints_may_be_a_link(trained, place):
    """A user's own disk for what is large."""
    unfinished(place, 20)
    shutil.move(place.run / "checkpoints", place.folder.parent / f"{place.folder.name}-disk")
    (place.run / "checkpoints").symlink_to(place.folder.parent / f"{place.folder.name}-disk")
    code, told = pretrain(trained, place)
    assert code == 0 and "resumed    step 20" in told
    assert (place.run / "checkpoints").is_symlink() and place.step(40).is_dir()
    place.hold()


REFUSED = [
    "log.jsonl",
    "loss.png",
    "tokenizer",
    "tokenizer/tokenizer.json",
    "tokenizer/built_from.json",
    "not-finite/x",
]
REPLACED = ["metrics.json", "recipe.yaml", "recipe.yaml.partial", "provenance.json.partial", "checkpoint"]


@pytest.mark.parametrize("name", [*REFUSED, *REPLACED, "checkpoint.partial", "genome/sources.json"])
def test_links_where_a_run_writes(trained, place, name):
    unfinished(place, 20)
    target = place.outside / ("folder" if name in ("tokenizer", "checkpoint", "checkpoint.partial") else "file")
    put_link(place.run / name, target)
    code, told = pretrain(trained, place)
    if name in REFUSED or name.startswith("genome"):
        assert code == 2 and f"{place.run / name}: a link or a special file, and the run would write there" in told
    else:
        assert code == 0, told
        assert runs.weights(place.run) == runs.weights(trained[1])
    place.hold()


# Folders of tokenizers and models


def hostile_code(place, folder, *keys):
    """Put Python files into a folder, and ways to have them run."""
    for name in ("tokenization_evil", "modeling_evil", "configuration_evil", "custom_generate/generate", "__init__"):
        path = folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(place.evil_code() + "class Evil: pass\n")
    for key in keys:
        path = folder / key
        config = json.loads(path.read_text())
        config["auto_map"] = {
            "AutoConfig": "configuration_evil.Evil",
            "AutoTokenizer": ["tokenization_evil.Evil", "tokenization_evil.Evil"],
            "AutoModelForMaskedLM": "modeling_evil.Evil",
            "AutoModelForCausalLM": "modeling_evil.Evil",
        }
        path.write_text(json.dumps(config))


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


TOKENIZERS = {
    "auto_map": {},
    "unknown class": {"tokenizer_class": "EvilTokenizer"},
    "ours": {"tokenizer_class": "OverlappingKmerTokenizer"},
    "slow class": {"tokenizer_class": "ByT5Tokenizer"},
    "no class": {"tokenizer_class": None},
    "templates": {
        "chat_template": [{"name": "../../../../../ran", "template": "x"}, {"name": "default", "template": "y"}]
    },
    "a template": {"chat_template": "{{ cycler.__init__.__globals__.os.system('touch ran') }}"},
    "other files": {"fast_tokenizer_files": ["tokenizer.1.0.json/../../outside/file"], "vocab_file": "../outside/file"},
    "wrong": {"genolm": ["kmer"]},
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_tokenizer_folder_of_a_stranger(trained, place, kind):
    """It is opened without what it brings along, or refused in one line; what is saved carries none of that on."""
    folder = place.folder / "tokenizer"
    shutil.copytree(trained[1] / "tokenizer", folder)
    hostile_code(place, folder, "tokenizer_config.json")
    edit(folder / "tokenizer_config.json", **TOKENIZERS[kind])
    (folder / "chat_template.jinja").write_text("{{ 7 }}")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "more.jinja").write_text("{{ 7 }}")
    # A model's folder, whose configuration is asked for the tokenizer's class.
    (folder / "config.json").write_text(
        json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "configuration_evil.Evil"}})
    )
    before = place.look()
    shutil.rmtree(place.run)
    code, told = pretrain(trained, place, f"tokenizer={folder}", "training.max_steps=2")
    if code == 0:
        for saved in (place.run / "checkpoint", place.run / "checkpoints" / "step-2"):
            assert "auto_map" not in (saved / "tokenizer_config.json").read_text()
            assert not list(saved.rglob("*.jinja")) and not list(saved.rglob("*.py"))
            assert "chat_template" not in (saved / "tokenizer_config.json").read_text()
    else:
        assert code == 2 and "cannot open this tokenizer" in told or "is no fast tokenizer" in told, told
        assert len(told.strip().splitlines()[-1]) < 500 and "trust_remote_code" not in told
    assert code == 2 or kind not in ("wrong", "slow class")
    assert code == 0 or kind not in ("auto_map", "templates", "a template")
    place.hold(before)


@pytest.mark.parametrize("tokenizer", ["../../outside/folder", "../../outside/file", "/etc/passwd", "..", "a\\b"])
def test_a_tokenizer_name_that_leads_elsewhere(trained, place, tokenizer):
    shutil.rmtree(place.run)
    code, told = pretrain(trained, place, f"tokenizer={tokenizer}")
    assert code == 2 and "is no tokenizer: neither a spec" in told
    place.hold()


def test_auto_tokenizer_with_genolm_imported(trained, place, monkeypatch):
    """Our class is found by its name and asks for nothing, whatever the folder says of code."""
    assert genolm
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    folder = place.folder / "tokenizer"
    spec = ["tokenizer", "kmer3-overlapping", "--out", str(folder)]
    assert runs.verb(spec, place.folder.parent / "spec.out") == 0
    hostile_code(place, folder, "tokenizer_config.json")
    before = place.look()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    assert type(tokenizer).__name__ == "OverlappingKmerTokenizer"
    place.hold(before)


KERNELS = {
    "kernel": ("_attn_implementation", "evil/evil"),
    "kernel said otherwise": ("attn_implementation", {"": "evil/evil@main"}),
    "kernel of a part": ("text_config", {"deep": [{"_experts_implementation": "evil/evil"}]}),
    "kernel by alias": ("attn_implementation", "flash_attention_2"),
}
"""Ways to name a kernel of the Hub, which transformers would fetch and run."""


def hostile_model(place, how):
    """Spoil the model of a run; return what is said of it, None where it is read all the same."""
    model = place.run / "checkpoint"
    config = model / "config.json"
    if how in ("auto_map", "unknown"):
        hostile_code(place, model, "config.json", "tokenizer_config.json")
        if how == "unknown":
            edit(config, model_type="evil")
            return "cannot open this model"
    elif how == "pickle":
        (model / "model.safetensors").unlink()
        dump({"x": Hostile(place.marker)}, model / "pytorch_model.bin", "zip")
        return "holds no model.safetensors"
    elif how == "pickle beside":
        dump({"x": Hostile(place.marker)}, model / "pytorch_model.bin", "zip")
    elif how == "pickle by another name":
        dump({"x": Hostile(place.marker)}, model / "model.safetensors", "zip")
        return "model.safetensors: not safetensors"
    elif how == "adapter":
        (model / "adapter_config.json").write_text(
            json.dumps(
                {
                    "peft_type": "LORA",
                    "base_model_name_or_path": "evil/evil",
                    "auto_mapping": {"parent_library": "evil"},
                }
            )
        )
        dump({"x": Hostile(place.marker)}, model / "adapter_model.bin", "zip")
        return "holds an adapter"
    elif how == "index":
        shutil.copy(model / "model.safetensors", place.outside / "model.safetensors")
        names = {"a": "../../outside/model.safetensors", "b": "/etc/passwd"}
        (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
        return "which model.safetensors.index.json names"
    elif how == "weights":
        edit(config, transformers_weights="../../outside/file.safetensors")
        return "cannot open this model"
    elif how.startswith("kernel"):
        key, named = KERNELS[how]
        edit(config, **{key: named})
        return "for which transformers may fetch code"
    elif how == "quantized":
        edit(config, quantization_config={"quant_method": "mxfp4"})
        return "for which transformers may fetch code"
    return None


HOW = ["auto_map", "unknown", "pickle", "pickle beside", "pickle by another name", "adapter", "index", "weights"]


@pytest.mark.parametrize("how", [*HOW, *KERNELS, "quantized"])
def test_evaluating_the_run_of_a_stranger(place, how):
    told = hostile_model(place, how)
    put_link(place.run / "metrics.json", place.outside / "file")
    out, before = place.folder.parent / f"{place.folder.name}.out", place.look()
    code = runs.verb(["evaluate", str(place.run)], out)
    said = out.read_text()
    assert "Traceback" not in said and "trust_remote_code" not in said
    if told is None:
        assert code == 0, said
        assert not (place.run / "metrics.json").is_symlink()
    else:
        assert code == 2 and told in said, said
    place.hold(before)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["auto_map", "unknown"])
def test_nobody_is_asked_on_a_terminal(place, how):
    hostile_model(place, how)
    keyboard, terminal = pty.openpty()
    os.write(keyboard, b"y\n" * 5)
    command = [sys.executable, "-m", "genolm", "evaluate", str(place.run)]
    env = os.environ | {"PYTHONPATH": str(runs.ROOT), "OMP_NUM_THREADS": "1"}
    before = place.look()
    done = subprocess.run(
        command, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE, text=True, env=env, timeout=100
    )
    os.close(terminal)
    os.close(keyboard)
    assert done.returncode == (0 if how == "auto_map" else 2), done.stderr
    assert "[y/N]" not in done.stderr
    place.hold(before)


# Publishing


def publish(place, *more):
    out = place.folder.parent / f"{place.folder.name}.out"
    out.unlink(missing_ok=True)
    code = runs.verb(["publish", str(place.run), "some/one", "--license", "mit", "--dry-run", *more], out)
    assert "Traceback" not in out.read_text()
    return code, out.read_text()


PRIVATE = [
    "vocab.txt",
    "merges.txt",
    "genolm.json",
    "config.json",
    "tokenizer.json",
    "generation_config.json",
    "model-2.safetensors",
]


@pytest.mark.parametrize("name", PRIVATE)
def test_links_to_private_files_are_not_published(place, name):
    path = place.run / "checkpoint" / name
    kept = place.folder.parent / f"{place.folder.name}-{name}"
    shutil.copy(path if path.exists() else place.run / "checkpoint" / "model.safetensors", kept)
    put_link(path, kept)
    code, told = publish(place)
    assert code == 2 and f"{path} is a link or a special file and is not published" in told
    assert not (place.run / "publish").exists() and not (place.run / "publish.partial").exists()
    place.hold()


def test_a_linked_curve_is_not_published(place):
    put_link(place.run / "loss.png", place.outside / "file")
    code, told = publish(place)
    assert code == 2 and "loss.png is a link" in told
    place.hold()


def test_what_is_published_is_listed(place):
    """Pickles, code and what else lies in the folder stay behind."""
    model = place.run / "checkpoint"
    for name in (
        "pytorch_model.bin",
        "optimizer.pt",
        "training_args.bin",
        "model.safetensors.bin",
        "adapter_model.bin",
    ):
        dump({"x": Hostile(place.marker)}, model / name, "zip")
    hostile_code(place, model)
    (model / "private.txt").symlink_to(place.outside / "file")
    (model / "chat_template.jinja").write_text("{{ 7 }}")
    code, told = publish(place)
    assert code == 0, told
    expected = {
        "README.md",
        "config.json",
        "genolm.json",
        "loss.png",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert {path.name for path in (place.run / "publish").iterdir()} == expected
    assert {line.split()[-1] for line in told.splitlines()[:-1]} == expected
    place.hold()


@pytest.mark.parametrize("how", ["auto_map", "pickle", "pickle by another name", "index", "kernel"])
def test_models_that_are_not_published(place, how):
    told = {"auto_map": "has auto_map"}.get(how) or hostile_model(place, how)
    if how == "auto_map":
        hostile_code(place, place.run / "checkpoint", "tokenizer_config.json")
    before = place.look()
    code, said = publish(place)
    assert code == 2 and told in said, said
    place.hold(before)


def test_publish_writes_no_folder_through_a_link(place):
    (place.outside / "empty").mkdir()
    before = place.look()
    for name in ("publish", "publish.partial"):
        put_link(place.run / name, place.outside / "empty")
        assert publish(place)[0] == 2
        (place.run / name).unlink()
    place.hold(before)


# YAML


TAGS = [
    "!!python/object/apply:os.system ['touch {}']",
    "!!python/name:os.system",
    "!!python/module:antigravity",
    "!!python/object/new:os.system ['touch {}']",
]


@pytest.mark.parametrize("tag", TAGS)
def test_yaml_builds_no_objects(trained, place, tag):
    tag = tag.format(place.marker)
    spec = place.folder / "spec.yaml"
    spec.write_text(f"kind: {tag}\n")
    out, before = place.folder.parent / f"{place.folder.name}.out", place.look()
    for arguments in (
        ["tokenizer", str(spec), "--out", str(place.outside / "new")],
        ["pretrain", str(spec)],
        ["pretrain", str(trained[0]), f"run_dir={place.run}", f"seed={tag}"],
        ["pretrain", str(trained[0]), f"run_dir={place.run}", f"tokenizer={spec}", "resume=auto"],
    ):
        out.unlink(missing_ok=True)
        assert runs.verb(arguments, out) == 2, out.read_text()
        assert "Traceback" not in out.read_text() and out.read_text().count("error: ") == 1
    recipe = place.run / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(yaml.safe_load(recipe.read_text())) + f"\nmore: {tag}\n")
    assert runs.verb(["evaluate", str(place.run)], out) == 2
    place.hold(before)
