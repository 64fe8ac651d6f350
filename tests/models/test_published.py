"""The recipes of published systems: what each says of itself holds, and its size is the published one."""

import math
import re
from pathlib import Path

import pytest
import torch
from transformers import get_scheduler

from genolm.config.pretrain import PretrainRecipe
from genolm.config.yaml import load_settings
from genolm.models.build import build_model
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.training.arguments import training_arguments

ROOT = Path(__file__).parents[2]
PATHS = sorted((ROOT / "recipes" / "published").glob("*.yaml"))
LINES = ("Published", "Source", "Unverified", "Deviates", "Needs")


def load(path: Path) -> PretrainRecipe:
    return load_settings(PretrainRecipe, path, ["data.fasta=genome.fa"])


def header(path: Path) -> dict[str, str]:
    """The comment above a recipe: its title, and what follows `Source:` and the like."""
    parts, name = {"title": ""}, "title"
    for line in path.read_text().splitlines():
        if not line.startswith("# "):
            break
        first, colon, rest = line[2:].partition(": ")
        if colon and first in LINES:
            name, line = first, f"# {rest}"
        parts[name] = f"{parts.get(name, '')} {line[2:]}".strip()
    return parts


def stated_size(path: Path) -> float:
    """Parameters in millions, as the title says."""
    return float(re.search(r"([\d.]+) M parameters", header(path)["title"])[1])


def published_size(path: Path) -> tuple[str, float]:
    """Parameters in millions, as published, and how near ours must be, as a share."""
    found = re.match(r"([\d.]+) M .*within ([\d.]+) %", header(path)["Published"])
    assert found, f"{path.name}: Published: N M (where from), within P %"
    return found[1], float(found[2]) / 100


@pytest.fixture(scope="module", params=PATHS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


def test_there_are_recipes():
    assert len(PATHS) >= 20


def test_every_header_says_where_from_and_what_is_else(path):
    parts = header(path)
    assert set(parts) == {"title", *LINES}
    assert all(len(part) > 10 for part in parts.values())
    assert load(path).run_dir == f"runs/{path.stem}"


def test_the_size_is_the_stated_and_the_published_one(path):
    recipe = load(path)
    tokenizer = build_tokenizer(load_spec(recipe.tokenizer), ["ACGT" * 100])
    window = tokenizer("A" * recipe.data.window_bp)["input_ids"] if recipe.data.window_bp < 20_000 else []
    tokens = min(len(window), recipe.model.get("max_position_embeddings", len(window)))
    with torch.device("meta"):
        model = build_model(recipe.model, tokenizer, recipe.objective.kind, tokens)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    decimals = len(f"{stated_size(path)}".partition(".")[2])
    assert round(millions, decimals) == stated_size(path)
    published, share = published_size(path)
    assert abs(millions - float(published)) <= share * float(published)


def rates(path: Path, *steps: int) -> list[float]:
    """The learning rate at some steps, as the recipe's scheduler gives it."""
    recipe = load(path)
    arguments = training_arguments({**recipe.training, "use_cpu": True, "bf16": False}, Path("unused"), recipe.seed)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=arguments.learning_rate)
    scheduler = get_scheduler(
        arguments.lr_scheduler_type,
        optimizer,
        num_warmup_steps=arguments.get_warmup_steps(arguments.max_steps),
        num_training_steps=arguments.max_steps,
        scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,
    )
    return [arguments.learning_rate * scheduler.lr_lambdas[0](step) for step in steps]


def test_the_rate_warms_up_to_what_the_recipe_says_and_never_above(path):
    training = load(path).training
    warmup, last = training["warmup_steps"], training["max_steps"]
    assert 0 < warmup < last
    half, top, *later = rates(path, warmup // 2, warmup, *range(warmup, last + 1, max(1, last // 50)))
    assert half == pytest.approx(training["learning_rate"] * (warmup // 2) / warmup)
    assert top == pytest.approx(training["learning_rate"])
    assert all(b <= a + 1e-12 for a, b in zip(later, later[1:], strict=False))


@pytest.mark.parametrize(
    ("name", "step", "rate"),
    [
        ("dnabert-6", 65_000, 2e-4),  # halfway from 10,000 to 120,000
        ("nucleotide-transformer-v1-500m", 64_000, 5e-5),  # 1e-4 · sqrt(16 / 64)
        ("hyenadna-tiny-1k", 13_290, 6e-5),
        ("caduceus-ps-131k", 50_000, 1e-4),
        ("caduceus-ps-131k", 27_500, (8e-3 + 1e-4) / 2),
        ("gpn", 120_000, 1e-3),
        ("gpn", 135_000, 5e-4),
        ("gpn", 150_000, 0.0),
        ("plantcad-l20", 120_000, 2e-4),
        ("opengenome-llama-7b", 182_314, 6e-7),
        ("evo2-1b", 50_000, 4.15e-5),
    ],
)
def test_rates_worked_out_by_hand(name, step, rate):
    assert rates(ROOT / "recipes" / "published" / f"{name}.yaml", step) == [pytest.approx(rate, rel=1e-3, abs=1e-12)]


def test_the_global_batch_is_what_the_header_says(path):
    training, needs = load(path).training, header(path)["Needs"]
    micro, accumulated = training["per_device_train_batch_size"], training.get("gradient_accumulation_steps", 1)
    found = re.search(r"([\d,]+) windows(?:, 1 M tokens,)? a step(?: \(([\d ·]+)\))?", needs)
    assert found or "one GPU" in needs
    factors = [int(n) for n in found[2].split(" · ")] if found and found[2] else [micro]
    if found:
        assert math.prod(factors) == int(found[1].replace(",", ""))
    assert factors[0] == micro
    assert accumulated in (1, *factors[1:2])
    if alone := re.search(r"gradient_accumulation_steps=(\d+)", needs):
        ranks = {"evo2-1b": 8}.get(path.stem, 1)
        assert int(alone[1]) * micro * ranks == math.prod(factors)


def test_the_documented_table_is_that_of_the_recipes():
    page = (ROOT / "docs" / "how-to" / "published.md").read_text()
    rows = re.findall(
        r"^\| `([\w-]+)` \| `([\w-]+)` \| `([\w-]+)` \| ([\d,]+) \| ([\d.]+) \| ([\d.]+) \| (.+) \|$", page, re.M
    )
    told = {row[0]: row[1:] for row in rows}
    assert list(told) == [path.stem for path in PATHS]
    for path in PATHS:
        recipe = load(path)
        architecture, tokenizer, window, ours, published, deviates = told[path.stem]
        assert (architecture, tokenizer) == (recipe.model["architecture"], recipe.tokenizer), path.stem
        assert int(window.replace(",", "")) == recipe.data.window_bp, path.stem
        assert (float(ours), published) == (stated_size(path), published_size(path)[0]), path.stem
        assert deviates
