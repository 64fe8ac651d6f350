"""What a plan says, held against counts by hand and against steps that are really run."""

import re
import time

import pytest
import torch
import yaml
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from genolm.cli import main
from genolm.config.yaml import SettingsError
from genolm.models.build import build_model
from genolm.models.loss import weighted_token_loss
from genolm.plan import trace as tracing
from genolm.plan.gpus import gpus_to_plan, parse_gpus
from genolm.plan.memory_model import gathered_parameters, model_states
from genolm.plan.report import smaller_batch, time_in_words
from genolm.plan.trace import Tally, step_cost, trace
from genolm.tokenizers.build import build_tokenizer, load_spec

LAYERS, WIDTH, INNER, HEADS, VOCABULARY = 2, 64, 96, 4, 16
SHAPE = {
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
}
WITHOUT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
MODELS = {
    "llama": ("causal", {"architecture": "llama", **SHAPE}),
    "bert": ("masked", {"architecture": "bert", **SHAPE, **WITHOUT_DROPOUT}),
    "genolm": ("causal", {"architecture": "genolm", "hidden_size": WIDTH, "num_hidden_layers": 4}),
    "roformer": ("masked", {"architecture": "roformer", **SHAPE, **WITHOUT_DROPOUT}),
}


def maker(name, length_tokens=256, **changes):
    objective, model = MODELS[name]
    tokenizer = build_tokenizer(load_spec("char"))
    return lambda: build_model({**model, **changes}, tokenizer, objective, length_tokens)


def traced(name, batch_size=2, length_tokens=256, **options):
    return trace(maker(name, length_tokens), batch_size, length_tokens, causal=MODELS[name][0] == "causal", **options)


def real_step(name, batch_size, length_tokens, autocast, checkpointing, accumulated=True):
    """One micro-batch on the CPU, as Trainer makes it; gradients of an earlier one are there already, or not."""
    model = maker(name, length_tokens)().train()
    model.config.use_cache = False
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if accumulated else None
    if checkpointing:
        getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)({"use_reentrant": False})

    def step():
        ids = torch.zeros(batch_size, length_tokens, dtype=torch.int64)
        labels, weight = torch.zeros_like(ids), torch.ones(batch_size, length_tokens)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = model(input_ids=ids).logits
        nats, total = weighted_token_loss(logits.float(), labels, weight, MODELS[name][0] == "causal")
        del logits
        (nats / total).backward()

    return step


# By hand, for a token: 6 FLOPs for every weight of a matrix product (2 forward, 4 backward), and for attention
# 12 · layers · width · length: two products of 2 · length · width forward, and twice that backward.
ATTENTION = 12 * LAYERS * WIDTH
MATRICES = {
    "llama": LAYERS * (4 * WIDTH**2 + 3 * WIDTH * INNER) + WIDTH * VOCABULARY,
    "bert": LAYERS * (4 * WIDTH**2 + 2 * WIDTH * INNER) + WIDTH**2 + WIDTH * VOCABULARY,
}


@pytest.mark.parametrize("length_tokens", [64, 1024])
@pytest.mark.parametrize("name", ["llama", "bert"])
def test_flops_are_those_counted_by_hand(name, length_tokens):
    step = traced(name, 3, length_tokens)
    tokens = 3 * length_tokens
    assert step.flops == tokens * (6 * MATRICES[name] + ATTENTION * length_tokens)
    assert step.attention_flops == tokens * ATTENTION * length_tokens
    assert step.causal_flops == (step.attention_flops / 2 if name == "llama" else 0)


def test_checkpointing_runs_the_layers_forward_again():
    once, again = traced("llama"), traced("llama", checkpointing={})
    layers = 2 * 256 * (2 * (MATRICES["llama"] - WIDTH * VOCABULARY) + ATTENTION / 3 * 256)
    assert 0.9 * layers < again.flops - once.flops <= layers  # the last product of a layer need not be


def test_flops_are_those_that_torch_counts_in_a_real_step():
    step = real_step("roformer", 2, 128, False, False)  # its attention is plain matrix products
    with FlopCounterMode(display=False) as counter:
        step()
    assert traced("roformer", 2, 128).flops == counter.get_total_flops()


@pytest.mark.parametrize("groups", [1, 4])
def test_convolutions_are_counted_by_hand(groups):
    layer = torch.nn.Conv1d(8, 12, 5, padding=2, groups=groups)
    tally = Tally([])
    with tally:
        layer(torch.ones(3, 8, 50, requires_grad=True)).sum().backward()
    assert tally.flops == 3 * (2 * 3 * 50 * 12 * 5 * 8 // groups)  # forward, to the input, to the weight


@pytest.mark.parametrize("accumulated", [True, False])
@pytest.mark.parametrize(
    ("name", "autocast", "checkpointing"),
    [
        ("llama", False, False),
        ("llama", True, False),
        ("llama", True, True),
        ("bert", True, False),
        ("genolm", True, False),
        ("genolm", False, True),
    ],
)
def test_memory_is_that_of_a_real_step(name, autocast, checkpointing, accumulated):
    size = (4, 256) if accumulated else (1, 64)  # where gradients are no small part
    step = real_step(name, *size, autocast, checkpointing, accumulated)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    options = {"autocast": autocast, "checkpointing": {} if checkpointing else None, "accumulated": accumulated}
    planned = traced(name, *size, as_on_gpu=False, **options).num_bytes
    if not accumulated:  # which the plan counts with the weights
        planned += 4 * sum(parameter.numel() for parameter in maker(name, size[1])().parameters())
    # Beside what is seen, the real one holds what some kernels take within themselves.
    assert planned == pytest.approx(most, rel=0.1)


def test_a_gpu_keeps_no_square_of_attention_under_dropout():
    sizes = {}
    for as_on_gpu in (True, False):
        options = dict(causal=False, as_on_gpu=as_on_gpu)
        make = maker("bert", 2048, attention_probs_dropout_prob=0.1, hidden_dropout_prob=0.1)
        sizes[as_on_gpu] = [trace(make, 1, n, **options).num_bytes for n in (1024, 2048)]
    assert sizes[True][1] < 2.05 * sizes[True][0]
    assert sizes[False][1] > 3.5 * sizes[False][0]


def test_checkpointing_and_smaller_batches_take_less():
    whole = traced("llama", 8).num_bytes
    assert traced("llama", 8, checkpointing={}).num_bytes < 0.6 * whole
    assert traced("llama", 4).num_bytes == pytest.approx(whole / 2, rel=0.05)
    assert traced("llama", 8, weights=torch.bfloat16).num_bytes < traced("llama", 8, autocast=True).num_bytes < whole


def test_short_windows_tell_of_long_ones():
    make = maker("llama", 16_384)
    long, told = (step_cost(make, 2, 16_384, start, causal=True) for start in (None, 2048))
    assert (long.traced_tokens, told.traced_tokens) == (16_384, 2048)
    assert told.flops == long.flops
    assert told.num_bytes == pytest.approx(long.num_bytes, rel=0.01)
    assert told.num_ops == long.num_ops


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_loops_over_tokens_is_traced_at_few(monkeypatch):
    tokenizer = build_tokenizer(load_spec("char"))
    model = {"architecture": "mamba", "hidden_size": 32, "num_hidden_layers": 1}

    def make():
        return build_model(model, tokenizer, "causal", 64)

    whole = step_cost(make, 1, 64, causal=True)
    monkeypatch.setattr(tracing, "MOST_CALLS", 500)
    told = step_cost(make, 1, 64, causal=True)
    assert (whole.traced_tokens, told.traced_tokens) == (64, 16)
    for name in ("flops", "num_ops", "num_bytes"):
        assert getattr(told, name) == pytest.approx(getattr(whole, name), rel=0.05), name


def test_states_are_those_counted_by_hand():
    # 1e9 parameters on 8 GPUs. bf16: 16 bytes; 2 + 2 + 12/8; 2 + (2 + 12)/8; (2 + 2 + 12)/8; (2 + 2)/8; 16/8.
    found = {name: states / 1e9 for name, (states, _) in model_states(10**9, 8, True, 0).items()}
    assert found == {"ddp": 16, "zero1": 5.5, "zero2": 3.75, "zero3": 2, "zero3-offload": 0.5, "fsdp2": 2}
    found = {name: states / 1e9 for name, (states, _) in model_states(10**9, 8, False, 0).items()}
    assert found == {"ddp": 16, "zero1": 9.5, "zero2": 6, "zero3": 2.5, "zero3-offload": 1, "fsdp2": 2}
    buffers = {name: size / 1e9 for name, (_, size) in model_states(10**9, 8, True, 10**8).items()}
    assert buffers == {"ddp": 4, "zero1": 1, "zero2": 1, "zero3": 3, "zero3-offload": 3, "fsdp2": 0.4}
    assert model_states(10**9, 1, True, 0)["ddp"] == (16e9, 0)


def test_fsdp_gathers_two_layers_and_what_is_in_none():
    model = maker("llama")()
    layer = sum(p.numel() for p in model.model.layers[0].parameters())
    rest = sum(p.numel() for p in model.parameters()) - LAYERS * layer
    assert gathered_parameters(model) == rest + 2 * layer


@pytest.mark.parametrize(
    ("text", "count", "name"),
    [
        ("8xH100", 8, "H100"),
        ("h100", None, "H100"),
        ("8", 8, None),
        ("", None, None),
        ("2 × a100-40", 2, "A100-40"),
        ("4 RTX 4090", 4, "RTX4090"),
        ("16*L4", 16, "L4"),
    ],
)
def test_gpus_are_read(text, count, name):
    found, gpu = parse_gpus(text)
    assert (found, gpu and gpu.name) == (count, name)


@pytest.mark.parametrize("text", ["8xH1000", "0xH100", "H100x8", "eight", "-1"])
def test_unknown_gpus_are_one_error(text):
    with pytest.raises(SettingsError, match=re.escape(f"--gpus {text}: ") + r".*as 8xH100.*H100.*A100-40"):
        parse_gpus(text)


def test_which_gpus_are_meant(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = {text: gpus_to_plan(text) for text in ("", "4", "A100", "2xL4")}
    found = {text: (num, gpu.name) for text, (num, gpu) in asked.items()}
    assert found == {"": (8, "H100"), "4": (4, "H100"), "A100": (1, "A100"), "2xL4": (2, "L4")}
    assert gpus_to_plan("L4", 16)[0] == 16
    with pytest.raises(SettingsError, match="starts 8"):
        gpus_to_plan("2xL4", 8)


@pytest.mark.parametrize(
    ("name", "gib", "kind"),
    [
        ("NVIDIA H100 80GB HBM3", 79.2, "H100"),
        ("NVIDIA H100 PCIe", 79.2, "H100-PCIe"),
        ("NVIDIA A100-SXM4-40GB", 39.4, "A100-40"),
        ("NVIDIA A100-SXM4-80GB", 79.2, "A100"),
        ("NVIDIA GeForce RTX 4090", 23.5, "RTX4090"),
        ("Tesla V100-SXM2-32GB", 31.7, "V100"),
        ("NVIDIA L40S", 44.4, "L40S"),
        ("Tesla T4", 14.6, None),
    ],
)
def test_the_gpu_of_this_machine_is_known(monkeypatch, name, gib, kind):
    from types import SimpleNamespace

    from genolm.plan.gpus import GPUS

    about = SimpleNamespace(name=name, total_memory=int(gib * 2**30))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: about)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulated: True)
    num, gpu = gpus_to_plan("")
    assert (num, gpu.name, round(gpu.gib, 1)) == (4, name, gib)
    assert gpu.peak == (None if kind is None else next(one.peak for one in GPUS if one.name == kind))


def test_the_same_global_batch_in_smaller_parts():
    assert smaller_batch(64, 2, 40) == (32, 4)
    assert smaller_batch(9, 1, 8) == (3, 3)
    assert smaller_batch(7, 1, 6) == (1, 7)


def test_times_in_words():
    assert [time_in_words(s) for s in (5, 100, 7200, 864_000)] == ["5 s", "1.7 minutes", "2.0 hours", "10 days"]


# The command


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {
        "run_dir": "run",
        "data": {"window_bp": 256},
        "objective": {"kind": "causal"},
        "model": {"architecture": "llama", **SHAPE},
        "training": {"max_steps": 100, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 3},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    return "recipe.yaml"


def planned(capsys, recipe, *words):
    with pytest.raises(SystemExit) as ended:
        main(["pretrain", recipe, "--plan", *words])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_a_plan_tells_all_and_leaves_nothing(recipe, tmp_path, capsys):
    out = planned(capsys, recipe, "--gpus", "8xH100")
    assert "llama, " in out and "parameters" in out and "; bf16" in out
    assert "256 bp = 256 tokens" in out
    assert "4 windows × 3 × 8 GPUs = 96 windows, 24,576 tokens a step" in out
    assert "100 steps: 9,600 windows, 2.46 M tokens" in out
    per_token = 6 * MATRICES["llama"] + ATTENTION * 256
    assert f"FLOPs      {per_token / 1e3:.3g} k a token, forward and backward (attention" in out
    for profile_name in ("ddp", "zero1", "zero2", "zero3", "zero3-offload", "fsdp2"):
        assert re.search(rf"│ {profile_name} +│.*MiB.*│ fits", out)
    assert re.search(r"time       .* on 8 × H100", out)
    assert re.match(r"fits       yes with --launch ddp: .* of 79 GiB, at most .* windows a GPU", out.splitlines()[-1])
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_a_run_that_does_not_fit_is_told_what_does(recipe, capsys):
    large = ["training.per_device_train_batch_size=4096", "data.window_bp=4096", "--gpus", "2xL4"]
    last = planned(capsys, recipe, *large).splitlines()[-1]
    assert last.startswith("fits       no with --launch ddp: ")
    size, times = map(int, re.search(r"batch_size=(\d+) training.gradient_accumulation_steps=(\d+)", last).groups())
    assert size * times == 4096 * 3
    keys = [f"training.per_device_train_batch_size={size}", f"training.gradient_accumulation_steps={times}"]
    out = planned(capsys, recipe, "data.window_bp=4096", *keys, "--gpus", "2xL4")
    assert out.splitlines()[-1].startswith("fits       yes with --launch ddp: ")
    assert f"{4096 * 3 * 2:,} windows" in out


def test_the_profile_that_was_asked_for_is_judged(recipe, capsys):
    out = planned(capsys, recipe, "--launch", "zero2 --num_processes 4", "--gpus", "L4")
    assert "× 4 GPUs" in out and "yes with --launch zero2: " in out.splitlines()[-1]


def test_one_gpu_has_no_profiles(recipe, capsys):
    out = planned(capsys, recipe, "--gpus", "A10")
    assert "│ one GPU" in out and "zero2" not in out and "fits       yes: " in out


def test_epochs_become_steps_as_in_the_run(recipe, tmp_path, capsys):
    (tmp_path / "g.fa").write_text(f">one\n{'ACGT' * 25_600}\n")  # 400 windows and some
    epochs = ["training.max_steps=-1", "training.num_train_epochs=3", "data.fasta=g.fa", "data.test={fraction: 0.5}"]
    out = planned(capsys, recipe, *epochs, "--gpus", "2xH100")
    assert "25 steps: 600 windows, 154 k tokens, about 3 epochs" in out  # 3 · 200 / (4 · 3 · 2)
    out = planned(capsys, recipe, "training.max_steps=-1", "--gpus", "2xH100")
    assert "unknown before there is a genome" in out and "for each G tokens" in out


def test_byte_pairs_are_not_learnt_but_estimated(recipe, tmp_path, capsys):
    out = planned(capsys, recipe, "tokenizer=bpe4096", "data.window_bp=5120")
    assert "5,120 bp = about 1,004 tokens" in out
    inner = MATRICES["llama"] - WIDTH * VOCABULARY + (2 * LAYERS + 1) * WIDTH
    assert f"llama, {inner + 2 * 4096 * WIDTH:,} parameters" in out
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_what_the_gpu_lacks_is_told(recipe, capsys):
    assert "; float32" in planned(capsys, recipe, "--gpus", "V100")
    assert "; fp16" in planned(capsys, recipe, "--gpus", "V100", "training.fp16=true")
    assert "has no bf16" in planned(capsys, recipe, "--gpus", "V100", "training.bf16=true")


def test_what_cannot_be_traced_is_a_note(recipe, capsys, monkeypatch):
    monkeypatch.setattr(tracing, "MOST_CALLS", 10)
    out = planned(capsys, recipe)
    assert "note       llama cannot be traced" in out and "unknown" in out.splitlines()[-1]
    assert re.search(r"│ zero3 +│ \d+ MiB", out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--plan", "--gpus", "8xH1000"], "--gpus 8xH1000: give a number and a kind"),
        (["--gpus", "8xH100"], "it is for --plan"),
        (["--plan", "data.windo_bp=3"], "did you mean 'data.window_bp'"),
        (["--plan", "model.hidden_sise=3"], "did you mean 'hidden_size'"),
        (["--plan", "training.learning_rat=1"], "did you mean 'learning_rate'"),
        (["--plan", "--launch", "zero9"], "no such profile"),
        (["--plan", "--launch", "ddp", "--gpus", "3xL4"], "starts 8"),
    ],
    ids=["gpus", "without-plan", "data", "model", "training", "profile", "number"],
)
def test_a_mistake_is_one_line(recipe, capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        main(["pretrain", recipe, *words])
    told = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and len(told) == 1 and told[0].startswith("error: ") and message in told[0]


@pytest.mark.parametrize("architecture", ["llama", "genolm"])
def test_a_window_of_131072_tokens_is_planned_in_seconds(recipe, capsys, architecture):
    began = time.process_time()  # of this process alone, whatever else the machine does
    model = f"model={{architecture: {architecture}, hidden_size: 256, num_hidden_layers: 8}}"
    out = planned(capsys, recipe, "data.window_bp=131072", model, "--gpus", "8xH200")
    assert time.process_time() - began < 20
    assert "131,072 tokens" in out and "from windows of" not in out


RECIPES = ["quickstart/causal", "quickstart/masked"]


@pytest.mark.parametrize("name", RECIPES)
def test_the_quickstart_recipes_plan(project_dir, capsys, name):
    out = planned(capsys, str(project_dir / "recipes" / f"{name}.yaml"), "--gpus", "H100")
    assert "note" not in out and "fits       yes" in out


@pytest.mark.slow
def test_the_published_recipes_plan(project_dir, capsys):
    recipes = sorted((project_dir / "recipes" / "published").glob("*.yaml"))
    assert len(recipes) >= 20
    for path in recipes:
        out = planned(capsys, str(path), "--gpus", "8xH100")
        assert "note" not in out and "FLOPs  " in out and "fits   " in out, f"{path.name}\n{out}"
