"""Recipes: what each verb needs to know, as frozen dataclasses with the recipe's YAML keys for names."""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from genolm.config.yaml import SettingsError, within


@dataclass(frozen=True)
class SplitRecipe:
    """What is held out: named contigs, a fraction of all bases, and the intervals of a BED or GFF file."""

    contigs: list[str] = field(default_factory=list)
    fraction: float = 0.0
    regions: str | None = None

    def __post_init__(self):
        within("fraction", self.fraction, 0, 1)


@dataclass(frozen=True)
class SamplingRecipe:
    """What is equally likely, and how strongly genomes of unequal size are evened out."""

    by: Literal["base", "contig", "genome"] = "base"
    temperature: float = 1.0

    def __post_init__(self):
        within("temperature", self.temperature, 1, None)


@dataclass(frozen=True)
class DatasetRecipe:
    """A sequence dataset that is streamed: a Parquet, JSONL or CSV file, a folder of such, or a Hub name.

    Its first `sample_bp` bases, and the first `test_bp` of `test_split` or of the file `test_path`, are also kept as
    genomes: the former teach BPE and the Markov models, the latter are what the model is evaluated on.
    """

    path: str
    name: str | None = None
    split: str = "train"
    column: str = "sequence"
    test_path: str | None = None
    test_split: str | None = None
    sample_bp: int = 20_000_000
    test_bp: int = 1_000_000


@dataclass(frozen=True)
class DataRecipe:
    """Genomes, what is held out of them, and how windows are drawn."""

    fasta: str | list[str] | dict[str, str | list[str]] | None = None
    sha256: dict[str, str] | None = None
    rename_duplicates: bool = False
    dataset: DatasetRecipe | None = None
    include: str | None = None
    exclude: str | None = None
    valid: SplitRecipe = field(default_factory=SplitRecipe)
    test: SplitRecipe = field(default_factory=SplitRecipe)
    window_bp: int = 512
    reverse_complement: float = 0.5
    soft_masked_weight: float = 1.0
    eval_soft_masked_weight: float = 1.0
    sampling: SamplingRecipe = field(default_factory=SamplingRecipe)

    def __post_init__(self):
        within("window_bp", self.window_bp, 8, None)
        for name in ("reverse_complement", "soft_masked_weight", "eval_soft_masked_weight"):
            within(name, getattr(self, name), 0, 1)


@dataclass(frozen=True)
class ObjectiveRecipe:
    """What the model learns to predict."""

    kind: Literal["masked", "causal"]
    mask_rate: float = 0.15
    mask_token_rate: float = 0.8
    random_token_rate: float = 0.1
    span_tokens: int | None = None
    eos: bool = True

    def __post_init__(self):
        if self.span_tokens is not None:
            within("span_tokens", self.span_tokens, 1, None)
        for name in ("mask_rate", "mask_token_rate", "random_token_rate"):
            within(name, getattr(self, name), 0, 1)
        if self.mask_token_rate + self.random_token_rate > 1 + 1e-9:
            raise SettingsError("mask_token_rate + random_token_rate is above 1; what is left of 1 is kept as it is")


@dataclass(frozen=True)
class EvaluationRecipe:
    """What is measured: on a part of the validation regions along the way, on the test regions at the end."""

    every_steps: int = 250
    valid_bp: int = 100_000
    max_bp: int | None = None
    regions: str | None = None
    markov_orders: list[int] = field(default_factory=lambda: list(range(13)))
    markov_mixture: bool = False

    def __post_init__(self):
        for name in ("every_steps", "valid_bp"):
            within(name, getattr(self, name), 0, None)
        if self.max_bp is not None:
            within("max_bp", self.max_bp, 1, None)
        for order in self.markov_orders:
            within("markov_orders", order, 0, 16)


@dataclass(frozen=True)
class PretrainRecipe:
    """Everything `genolm pretrain` needs.

    Attributes:
        run_dir: folder of the run; the model is left in its `checkpoint`.
        data: genomes, splits and windows.
        objective: masked or causal.
        model: `architecture`, any of transformers' model types, and changes to its configuration.
        tokenizer: a spec of tokenizer_configs, a YAML file, or a tokenizer folder.
        seed: of everything random.
        training: fields of transformers.TrainingArguments.
        evaluation: what is measured at the end.
        resume: `auto` goes on from the newest valid checkpoint of the run folder; `never` refuses to.
        deterministic: only operations that give the same bits twice on one machine.
        fit_batch: where the micro-batch does not fit, halve it and accumulate twice as often.
    """

    run_dir: str
    data: DataRecipe
    objective: ObjectiveRecipe
    model: dict[str, Any]
    tokenizer: str = "char"
    seed: int = 0
    training: dict[str, Any] = field(default_factory=dict)
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)
    resume: Literal["auto", "never"] = "auto"
    deterministic: bool = False
    fit_batch: bool = False


@dataclass(frozen=True)
class RowSplitRecipe:
    """Which labelled rows are train, valid and test; as `genolm.labels.split.split_rows` has it."""

    by: Literal["column", "contig", "fold", "random"] = "column"
    valid: float = 0.1
    test: float = 0.1
    valid_contigs: list[str] = field(default_factory=list)
    test_contigs: list[str] = field(default_factory=list)
    folds: int = 5
    fold: int = 0
    stratified: bool = True
    seed: int = 0


@dataclass(frozen=True)
class LabelsRecipe:
    """A labelled table, its task and splits.

    Attributes:
        table: a file; split → file or files; class → file; or a dataset of the Hub, `owner/name`.
        fasta: FASTA of a table of intervals.
        columns: our name of a column (sequence, label, split, id, chrom, start, end, strand) → the table's.
        task: inferred, and told, where not set.
        classes: classes in the order of their index, or names of labels and targets.
        split: which rows are train, valid and test.
        leakage: what to do about rows that splits share: tell, stop, or drop them from train and valid.
        data_fraction: share of the train rows to learn from; a smaller share lies within a larger.
    """

    table: Any
    fasta: str | list[str] | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    task: Literal["binary", "multiclass", "multilabel", "regression", "per-base", "tracks"] | None = None
    classes: list[str] | None = None
    split: RowSplitRecipe = field(default_factory=RowSplitRecipe)
    leakage: Literal["warn", "error", "drop"] = "warn"
    data_fraction: float = 1.0

    def __post_init__(self):
        within("data_fraction", self.data_fraction, 1e-6, 1)


@dataclass(frozen=True)
class StoppingRecipe:
    """How often the valid rows are predicted in training, and when no more is learnt.

    Attributes:
        evaluations: spread evenly over training; the model of the best is kept.
        patience: evaluations without a better one after which training stops; 0 for never.
        metric: to be best in; the primary one of the task where not set.
    """

    evaluations: int = 20
    patience: int = 10
    metric: str | None = None

    def __post_init__(self):
        within("evaluations", self.evaluations, 1, None)
        within("patience", self.patience, 0, None)


@dataclass(frozen=True)
class FinetuneRecipe:
    """Everything `genolm finetune` needs.

    Attributes:
        run_dir: folder of the run; the model is left in its `model`.
        model: a pretrained model: a run of `genolm pretrain`, its checkpoint, or a name on the Hub; or a block
            `{baseline: danq, width: 0.5, …}`.
        labels: the table, its task and splits.
        method: lora, full, probe or scratch; a baseline has none.
        name: of the run in comparisons; by default the method or the baseline. Seeds of one name are replicates.
        task_name: of the task in comparisons of several.
        seed: of everything random but the split.
        lora: fields of peft.LoraConfig; by default on all linear maps of the backbone.
        pooling: mean over tokens, the first token, or a learnt weighting.
        dropout: before the head; of a baseline, instead of the published rates.
        imbalance: nothing, weights of classes, classes equally likely, or focal loss.
        focal_gamma: of focal loss.
        reverse_complement: probability that a training row is read from the other strand.
        both_strands: predict the mean over strands.
        long_inputs: sequences longer than the model are an error, or read in windows whose vectors are averaged.
        stopping: evaluation on valid rows along the way.
        training: fields of transformers.TrainingArguments.
        predict_test: at the end, predict and measure the test rows too; a search over recipes leaves them alone.
        merge: of an adapter, also write the merged model, to `merged`.
        resume: `auto` goes on from the newest valid checkpoint of the run folder; `never` refuses to.
        deterministic: only operations that give the same bits twice on one machine.
        fit_batch: where the micro-batch does not fit, halve it and accumulate twice as often.
    """

    run_dir: str
    model: Any
    labels: LabelsRecipe
    method: Literal["lora", "full", "probe", "scratch"] | None = None
    name: str | None = None
    task_name: str = ""
    seed: int = 0
    lora: dict[str, Any] = field(default_factory=dict)
    pooling: Literal["mean", "cls", "attention"] = "mean"
    dropout: float | None = None
    imbalance: Literal["none", "weights", "sampling", "focal"] = "none"
    focal_gamma: float = 2.0
    reverse_complement: float = 0.0
    both_strands: bool = False
    long_inputs: Literal["error", "windows"] = "error"
    stopping: StoppingRecipe = field(default_factory=StoppingRecipe)
    training: dict[str, Any] = field(default_factory=dict)
    predict_test: bool = True
    merge: bool = False
    resume: Literal["auto", "never"] = "auto"
    deterministic: bool = False
    fit_batch: bool = False

    def __post_init__(self):
        within("reverse_complement", self.reverse_complement, 0, 1)
        within("focal_gamma", self.focal_gamma, 0, None)
        if self.dropout is not None:
            within("dropout", self.dropout, 0, 0.95)
        if isinstance(self.model, dict) == (self.method is not None):
            what = "a baseline" if isinstance(self.model, dict) else "a pretrained model"
            raise SettingsError(
                f"method is {self.method}, and the model is {what}; set method to lora, full, probe or scratch for a "
                "pretrained model, and leave it out for a baseline"
            )
        if isinstance(self.model, dict) and "baseline" not in self.model:
            raise SettingsError("model is a block without baseline; write model: {baseline: danq}, or name a folder")


def without_effect(recipe: FinetuneRecipe) -> list[str]:
    """Return the keys that a recipe sets and that change nothing with its method; a suite's defaults may be such."""
    idle = set() if recipe.method == "lora" else {"lora", "merge"}
    idle |= {"pooling", "long_inputs"} if recipe.method is None else set()
    idle |= {"dropout", "reverse_complement", "fit_batch"} if recipe.method == "probe" else set()
    idle |= set() if recipe.imbalance == "focal" else {"focal_gamma"}
    plain = FinetuneRecipe(recipe.run_dir, recipe.model, recipe.labels, recipe.method)
    found = [name for name in to_dict(recipe) if name in idle and getattr(recipe, name) != getattr(plain, name)]
    if recipe.method == "probe":
        found += [f"training.{name}" for name in recipe.training if name not in ("bf16", "use_cpu")]
        stopping = StoppingRecipe(metric=recipe.stopping.metric)
        found += [f"stopping.{x}" for x in vars(stopping) if getattr(stopping, x) != getattr(recipe.stopping, x)]
    return found


def to_dict(recipe: Any) -> dict[str, Any]:
    """Return a recipe as plain data, defaults included."""
    return dataclasses.asdict(recipe)


WITHOUT_EFFECT = re.compile(
    r"run_dir|resume|fit_batch|training\.(save_\w+|dataloader_\w+|report_to|run_name|project|disable_tqdm|output_dir"
    r"|logging_dir|log_\w+|hub_\w+|push_to_hub|trackio_\w+|local_rank|ddp_\w+|fsdp\w*|deepspeed|use_cpu|data_seed|debug)"
)
"""Keys that change nothing of what is learnt, measured or logged."""


def flat(recipe: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return dotted key → value of a recipe's plain data, without keys that have no effect."""
    found: dict[str, Any] = {}
    for name, value in recipe.items():
        key = prefix + name
        if isinstance(value, dict) and value:
            found |= flat(value, f"{key}.")
        elif not WITHOUT_EFFECT.fullmatch(key):
            found[key] = value
    return found


def recipe_hash(recipe: Any) -> str:
    """Return the sha256 of a recipe's values; where it is run, and how it is saved, are left out."""
    return hashlib.sha256(json.dumps(flat(to_dict(recipe)), sort_keys=True, default=str).encode()).hexdigest()
