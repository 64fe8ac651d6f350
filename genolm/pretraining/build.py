"""Build what a recipe names: genomes, splits, tokenizer, corpus, model, options of its evaluation; print its bits."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import set_seed
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel, PreTrainedTokenizerFast, TrainingArguments

from genolm.config.files import write_text
from genolm.config.pretrain import DataRecipe, PretrainRecipe
from genolm.config.yaml import SettingsError
from genolm.data.collate import CausalCollator, MaskedCollator, Masking, evaluation_masking
from genolm.data.corpus import Corpus
from genolm.genome.regions import Regions, SplitRule, available_regions, split_genomes
from genolm.genome.store import Store, prepare_genomes
from genolm.models.build import build_model
from genolm.tokenizers.build import build_tokenizer, load_spec, load_tokenizer
from genolm.tokenizers.encode import Encoder, make_encoder
from genolm.training.arguments import uses_bf16
from genolm.training.parallelism import whole_model

if TYPE_CHECKING:
    from genolm.data.stream import StreamCorpus


@dataclass(frozen=True)
class PretrainingData:
    """What a run learns from: genomes, regions of `train`, `valid` and `test`, tokenizer, corpus and its collator."""

    store: Store
    regions: dict[str, Regions]
    tokenizer: PreTrainedTokenizerFast
    corpus: "Corpus | StreamCorpus"
    collator: CausalCollator | MaskedCollator

    @property
    def window_tokens(self) -> int:
        """Tokens of a row."""
        return self.corpus.length_tokens


def open_genomes(recipe: PretrainRecipe, quiet: bool = False) -> tuple[Store, dict[str, Regions]]:
    """Prepare the genomes unless that is done, and return the store and the regions of each split."""
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
    """Write the first sequences of a streamed dataset, and of its test split, as two genomes: `train` and `test`."""
    from genolm.data.stream import Sequences, write_first

    data, run_dir = recipe.data.dataset, Path(recipe.run_dir)
    assert data is not None
    samples = {"train": (Sequences(data.path, data.split, data.column, data.name), data.sample_bp)}
    if data.test_path or data.test_split:
        test = Sequences(data.test_path or data.path, data.test_split or "train", data.column, data.name)
        samples["test"] = (test, data.test_bp)
    files = {}
    for name, (sequences, max_bp) in samples.items():
        files[name] = [str(run_dir / "sequences" / f"{name}.fa")]
        write_first(sequences, max_bp, Path(files[name][0]))
    return files


def open_tokenizer(recipe: PretrainRecipe, store: Store, regions: dict[str, Regions]) -> PreTrainedTokenizerFast:
    """Build the tokenizer that the recipe names (BPE on the training split only), or open the folder that it names."""
    folder = Path(recipe.run_dir) / "tokenizer"
    if (Path(recipe.tokenizer) / "tokenizer.json").is_file():
        return load_tokenizer(Path(recipe.tokenizer))
    spec = load_spec(recipe.tokenizer)
    stamp = json.loads(json.dumps(dataclasses.asdict(spec)))
    if spec.kind == "bpe":
        # Trained on the training split alone, so another split is another tokenizer.
        stamp |= {"genome": store.fingerprint, "train": [list(row) for row in regions["train"]]}
    stamp_file = folder / "built_from.json"
    if stamp_file.is_file() and stamp_file.read_text() == json.dumps(stamp):
        return load_tokenizer(folder)
    sequences = None
    if spec.kind == "bpe":
        from genolm.tokenizers.bpe import train_sample

        sequences = train_sample(store, list(regions["train"]), spec.sample_bp)
    tokenizer = build_tokenizer(spec, sequences)
    tokenizer.save_pretrained(folder)
    write_text(stamp_file, json.dumps(stamp))
    return tokenizer


def data_fingerprints(recipe: PretrainRecipe, data: PretrainingData) -> dict[str, str]:
    """Return sha256 of what a model learns from: the genome's sequence, the regions of each split, the tokenizer.

    Of a streamed dataset the first sequences are in the genome; of its files the length counts too.
    """
    vocabulary = json.loads(data.tokenizer.backend_tokenizer.to_str())["model"]
    rows = {name: [list(map(int, row)) for row in data.regions[name]] for name in sorted(data.regions)}
    hashes = {"genome": data.store.fingerprint, "splits": _sha256(rows), "tokenizer": _sha256(vocabulary)}
    if recipe.data.dataset:
        path = Path(recipe.data.dataset.path)
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        hashes["dataset"] = _sha256([file.stat().st_size for file in files if file.is_file()])
    return hashes


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def make_corpus(
    recipe: PretrainRecipe, store: Store, train: Regions, tokenizer: PreTrainedTokenizerFast
) -> "tuple[Corpus | StreamCorpus, CausalCollator | MaskedCollator]":
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
        from genolm.data.stream import Sequences, StreamCorpus

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


def initial_model(recipe: PretrainRecipe, data: PretrainingData) -> PreTrainedModel:
    """Return the model with weights drawn from the recipe's seed: the same under every profile."""
    set_seed(recipe.seed)
    with whole_model():
        return build_model(recipe.model, data.tokenizer, recipe.objective.kind, data.window_tokens)


def evaluation_options(
    recipe: PretrainRecipe, encoder: Encoder, window_tokens: int, batch_size: int | None = None
) -> dict[str, Any]:
    """Return the options of `measure_bits` that every measurement of a run shares.

    Args:
        recipe: of the run.
        encoder: of its tokenizer.
        window_tokens: tokens of a row in training.
        batch_size: micro-batch of the training; None: that of the recipe.
    """
    objective = recipe.objective
    masking = (
        evaluation_masking(encoder, objective.mask_rate, objective.span_tokens) if objective.kind == "masked" else None
    )
    if batch_size is None:
        default = TrainingArguments.per_device_train_batch_size
        batch_size = int(recipe.training.get("per_device_train_batch_size", default))
    return dict(
        window_bp=recipe.data.window_bp,
        window_tokens=window_tokens,
        masking=masking,
        seed=recipe.seed,
        soft_masked_weight=recipe.data.eval_soft_masked_weight,
        autocast=uses_bf16(recipe.training),
        both_strands=recipe.model.get("reverse_complement") == "average",
        batch_size=min(32, batch_size),  # what fits in training fits here
    )


def final_options(recipe: PretrainRecipe) -> dict[str, Any]:
    """Return the options of `measure_splits` that the final evaluation adds."""
    final = recipe.evaluation
    return dict(
        annotation=final.regions,
        max_bp=final.max_bp,
        markov_orders=final.markov_orders,
        markov_mixture=final.markov_mixture,
    )


def print_bits(metrics: dict[str, Any]) -> None:
    """Print bits per base with its interval, by class, and of the Markov models, of which the best is marked."""
    console = Console(highlight=False)
    for split in (name for name in ("test", "valid") if name in metrics):
        bits = metrics[split]
        key = "bits_per_base" if "bits_per_base" in bits else "masked_bits_per_base"
        table = Table(split, key.replace("_", " "), "95 % interval", "bases")
        for name, row in {"all": bits, **bits.get("classes", {})}.items():
            interval = "–" if row["interval"] is None else "{:.4f} … {:.4f}".format(*row["interval"])
            table.add_row(name, f"{row[key]:.4f}", interval, f"{row['num_bases']:,.0f}")
        console.print(table)
    if "markov" in metrics:
        best = min(metrics["markov"], key=metrics["markov"].__getitem__)
        table = Table("Markov order", "bits per base")
        for order, bits in metrics["markov"].items():
            table.add_row(f"{order} (best)" if order == best else order, f"{bits:.4f}")
        if "markov_mixture" in metrics:
            table.add_row("mixture", f"{metrics['markov_mixture']:.4f}")
        console.print(table)
