"""The blocks of a recipe → what they name: genomes and splits, tokenizer, corpus, model."""

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from accelerate.utils import set_seed

from genolm.config.files import write_text
from genolm.config.recipes import DataRecipe, PretrainRecipe
from genolm.config.yaml import SettingsError
from genolm.data.collate import CausalCollator, MaskedCollator, Masking
from genolm.data.corpus import Corpus, length_tokens
from genolm.data.stream import Sequences, StreamCorpus, write_first
from genolm.genome.regions import Regions
from genolm.genome.sources import prepare_genomes
from genolm.genome.splits import SplitRule, available_regions, split_genomes
from genolm.genome.store import Store
from genolm.models.build import build_model
from genolm.tokenizers.bpe import train_sample
from genolm.tokenizers.build import build_tokenizer, load_spec, load_tokenizer
from genolm.tokenizers.encode import make_encoder
from genolm.training.arguments import set_length, training_arguments
from genolm.training.launch import whole_model

if TYPE_CHECKING:
    from genolm.plan.gpus import GPU
    from genolm.plan.report import Run


def open_genomes(recipe: PretrainRecipe, quiet: bool = False):
    """Prepare the genomes if need be; return the store and the regions of each split."""
    data = recipe.data
    if data.dataset and data.fasta:
        raise SettingsError("data.fasta and data.dataset are both set; a run learns from one of them")
    if not data.dataset and not data.fasta:
        raise SettingsError("data.fasta is not set; add data.fasta=FILE to the command")
    files = sampled_genomes(recipe) if data.dataset else data.fasta
    assert files is not None
    store = prepare_genomes(files, Path(recipe.run_dir) / "genome", data.sha256, quiet, data.rename_duplicates)
    return store, split_regions(data, store)


def split_regions(data: DataRecipe, store: Store) -> dict[str, Regions]:
    """Return the regions of `train`, `valid` and `test`."""
    if data.dataset:
        return {
            "train": Regions.whole(store, "train"),
            "valid": Regions.from_rows([]),
            "test": Regions.whole(store, "test"),
        }
    valid, test = (SplitRule.read(rule.contigs, rule.fraction, rule.regions) for rule in (data.valid, data.test))
    return split_genomes(store, valid, test, available_regions(store, data.include, data.exclude))


def sampled_genomes(recipe: PretrainRecipe) -> dict[str, list[str]]:
    """Keep the first sequences of a streamed dataset, and of its test split, as two genomes: `train` and `test`."""
    data, run_dir = recipe.data.dataset, Path(recipe.run_dir)
    assert data is not None
    wanted = {"train": (Sequences(data.path, data.split, data.column, data.name), data.sample_bp)}
    if data.test_path or data.test_split:
        held_out = Sequences(data.test_path or data.path, data.test_split or "train", data.column, data.name)
        wanted["test"] = (held_out, data.test_bp)
    files = {}
    for name, (sequences, max_bp) in wanted.items():
        files[name] = [str(run_dir / "sequences" / f"{name}.fa")]
        write_first(sequences, max_bp, Path(files[name][0]))
    return files


def open_tokenizer(recipe: PretrainRecipe, store, regions):
    """Build the tokenizer the recipe names (BPE on the training split only), or open the folder it names."""
    folder = Path(recipe.run_dir) / "tokenizer"
    if (Path(recipe.tokenizer) / "tokenizer.json").is_file():
        return load_tokenizer(Path(recipe.tokenizer))
    spec = load_spec(recipe.tokenizer)
    stamp = json.loads(json.dumps(dataclasses.asdict(spec)))
    if spec.kind == "bpe":
        # Learnt on the training split alone, so another split is another tokenizer.
        stamp |= {"genome": store.fingerprint, "train": [list(row) for row in regions["train"]]}
    stamp_file = folder / "built_from.json"
    if stamp_file.is_file() and stamp_file.read_text() == json.dumps(stamp):
        return load_tokenizer(folder)
    sequences = train_sample(store, list(regions["train"]), spec.sample_bp) if spec.kind == "bpe" else None
    tokenizer = build_tokenizer(spec, sequences)
    tokenizer.save_pretrained(folder)
    write_text(stamp_file, json.dumps(stamp))
    return tokenizer


def fingerprints(recipe: PretrainRecipe, store: Store, regions: dict[str, Regions], tokenizer) -> dict[str, str]:
    """Return sha256 of what a model learns from: the genome's letters, the regions of each split, the tokenizer.

    Of a streamed dataset the first letters are in the genome; of files the length counts too.
    """
    vocabulary = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    rows = {name: [list(map(int, row)) for row in regions[name]] for name in sorted(regions)}
    found = {"genome": store.fingerprint, "splits": _sha256(rows), "tokenizer": _sha256(vocabulary)}
    if recipe.data.dataset:
        path = Path(recipe.data.dataset.path)
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        found["dataset"] = _sha256([file.stat().st_size for file in files if file.is_file()])
    return found


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def make_corpus(recipe: PretrainRecipe, store, train, tokenizer):
    """Return the corpus, of the training regions or of a streamed dataset, and its collator."""
    data, causal, encoder = recipe.data, recipe.objective.kind == "causal", make_encoder(tokenizer)
    options: dict[str, Any] = dict(
        seed=recipe.seed,
        reverse_complement=data.reverse_complement,
        soft_masked_weight=data.soft_masked_weight,
        pack=causal,
        eos=recipe.objective.eos,
    )
    if data.dataset:
        sequences = Sequences(data.dataset.path, data.dataset.split, data.dataset.column, data.dataset.name)
        corpus = StreamCorpus(sequences, encoder, data.window_bp, **options)
    else:
        sampling = {"by": data.sampling.by, "temperature": data.sampling.temperature}
        corpus = Corpus(store, train, encoder, data.window_bp, **options, **sampling)
    if causal:
        return corpus, CausalCollator(corpus)
    objective = recipe.objective
    rates = (objective.mask_rate, objective.mask_token_rate, objective.random_token_rate, objective.span_tokens)
    return corpus, MaskedCollator(corpus, Masking(encoder, *rates))


def make_model(recipe: PretrainRecipe, tokenizer, corpus):
    """Return the model, initialised from the recipe's seed: the same under every profile."""
    set_seed(recipe.seed)
    with whole_model():
        return build_model(recipe.model, tokenizer, recipe.objective.kind, corpus.length_tokens)


def tokenizer_to_be(recipe: PretrainRecipe):
    """Return the tokenizer before there is a genome; one that is yet to be learnt has the size it will have."""
    if (Path(recipe.tokenizer) / "tokenizer.json").is_file():
        return load_tokenizer(Path(recipe.tokenizer))
    spec = load_spec(recipe.tokenizer)
    tokenizer = build_tokenizer(spec, ["ACGT" * 16] if spec.kind == "bpe" else None)
    if spec.kind == "bpe":
        tokenizer.add_tokens([f"<{i}>" for i in range(spec.vocab_size - len(tokenizer))])
    return tokenizer


def tokens_to_be(recipe: PretrainRecipe, tokenizer) -> tuple[int, bool]:
    """Return the tokens of a window before there is a genome, and whether that is an estimate.

    BPE learnt on yeast and on E. coli puts 3.9, 4.3 and 5.0 bases into a token at 512, 1,024 and 4,096 entries.
    """
    encoder, window_bp = make_encoder(tokenizer), recipe.data.window_bp
    if encoder.kind == "bpe":
        return max(8, round(window_bp / (0.85 * math.log(len(tokenizer), 4)))), True
    random = np.frombuffer(b"ACGT", dtype=np.uint8)[np.random.default_rng(0).integers(4, size=(64, window_bp))]
    tokens = length_tokens(encoder, window_bp, lambda: (random, np.full(64, window_bp)))
    return tokens, encoder.kind == "other"


def windows_to_be(data: DataRecipe) -> float | None:
    """Return about how many windows an epoch will have, from the sizes of files; None where they are not here.

    Gzip leaves a byte for about 3.4 letters. Parts that are held out by name or by a file are not taken off.
    """
    fasta = [data.fasta] if isinstance(data.fasta, str) else data.fasta or []
    listed: list[str | list[str]] = list(fasta.values() if isinstance(fasta, dict) else fasta)
    files = [Path(file) for some in listed for file in ([some] if isinstance(some, str) else some)]
    if not files or not all(file.is_file() for file in files):
        return None
    letters = sum(file.stat().st_size * (3.4 if file.suffix in (".gz", ".bgz") else 1.0) for file in files)
    return max(1.0, letters * max(0.0, 1 - data.valid.fraction - data.test.fraction) / data.window_bp)


def run_to_be(recipe: PretrainRecipe, num_gpus: int, gpu: "GPU", profile: str | None) -> "Run":
    """Return what a recipe is going to do on some GPUs; nothing but the recipe and the tokenizer need be there."""
    from genolm.plan.report import Run

    training = recipe.training
    # What this machine lacks says nothing of those GPUs.
    machine: dict[str, Any] = {"use_cpu": True, "bf16": False, "fp16": False}
    machine |= {key: False for key in ("tf32", "bf16_full_eval", "fp16_full_eval") if key in training}
    arguments = training_arguments(training | machine, Path(recipe.run_dir), recipe.seed)
    windows = None if recipe.data.dataset else windows_to_be(recipe.data)
    batch_size, accumulation = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps
    if arguments.max_steps <= 0 and (windows or recipe.data.dataset):
        set_length(arguments, None if windows is None else round(windows), batch_size * accumulation * num_gpus)
    tokenizer = tokenizer_to_be(recipe)
    tokens, about = tokens_to_be(recipe, tokenizer)
    fp16 = bool(training.get("fp16"))
    # Newer versions of transformers call it activation_checkpointing; the old name then says the same.
    options: Any = arguments.gradient_checkpointing_kwargs or {}
    return Run(
        make_model=lambda: build_model(recipe.model, tokenizer, recipe.objective.kind, tokens),
        objective=recipe.objective.kind,
        window_bp=recipe.data.window_bp,
        length_tokens=tokens,
        about=about,
        batch_size=batch_size,
        accumulation=accumulation,
        num_gpus=num_gpus,
        gpu=gpu,
        profile=profile,
        steps=arguments.max_steps if arguments.max_steps > 0 else None,
        windows_per_epoch=windows,
        precision="bf16" if training.get("bf16", gpu.bf16 and not fp16) else "fp16" if fp16 else "float32",
        checkpointing=dict(options) if arguments.gradient_checkpointing else None,
        padded=recipe.objective.kind == "masked" and about,
    )
