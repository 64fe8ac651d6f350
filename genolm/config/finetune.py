"""The recipe of `genolm finetune` as frozen dataclasses, whose fields are the keys of its YAML."""

from dataclasses import dataclass, field
from typing import Any, Literal

from genolm.config.plugins import load_plugins
from genolm.config.recipe import to_dict
from genolm.config.yaml import SettingsError, within


@dataclass(frozen=True)
class RowSplitRecipe:
    """How labelled rows are split into train, valid and test; see `genolm.labels.split.split_rows`.

    Attributes:
        by: `column`, as the table says; `contig`, whole contigs; `fold`, one of equal parts is test; or `random`.
        valid: fraction of the rows that are drawn for valid; 0 draws none.
        test: likewise for test; without effect for `fold`.
        valid_contigs: contigs whose rows are valid; empty to choose some by the fraction.
        test_contigs: contigs whose rows are test; likewise.
        folds: number of folds, 2 or more.
        fold: which of them is test, from 0.
        stratified: draw the same fraction of every class.
        seed: of every draw; not that of the training.
    """

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
        task: inferred from the labels, and printed, where not set.
        classes: classes in the order of their index, or names of labels and targets.
        split: which rows are train, valid and test.
        leakage: rows shared by splits are warned of, are an error, or are dropped from train and valid.
        data_fraction: fraction of the train rows to learn from; smaller subsets lie within larger ones.
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
    """Evaluation on the valid rows during training, and early stopping.

    Attributes:
        evaluations: spread evenly over training; the model of the best is kept.
        patience: evaluations without a better one after which training stops; 0 for never.
        metric: selects the best model; the primary metric of the task where not set.
    """

    evaluations: int = 20
    patience: int = 10
    metric: str | None = None

    def __post_init__(self):
        within("evaluations", self.evaluations, 1, None)
        within("patience", self.patience, 0, None)


@dataclass(frozen=True)
class FinetuneRecipe:
    """The recipe of `genolm finetune`.

    Attributes:
        run_dir: folder of the run; the model is left in its `model`.
        model: a pretrained model: a run of `genolm pretrain`, its checkpoint, or a name on the Hub; or a block
            `{baseline: danq, width: 0.5, …}`.
        labels: the table, its task and splits.
        method: lora, full, probe or scratch; a baseline has none.
        name: of the run in comparisons; by default the method or the baseline. Seeds of one name are replicates.
        task_name: of the task in comparisons of several.
        seed: of everything random except the split.
        lora: fields of peft.LoraConfig; by default on all linear layers of the backbone.
        pooling: mean over tokens, the first token, or learned attention.
        dropout: before the head; of a baseline, instead of the published rates.
        imbalance: no correction, class weights, class-balanced sampling, or focal loss.
        focal_gamma: of focal loss.
        reverse_complement: probability that a training row is read from the other strand.
        both_strands: predict the mean of both strands.
        long_inputs: sequences longer than the model are an error, or read in windows whose vectors are averaged.
        stopping: evaluation on valid rows during training.
        training: fields of transformers.TrainingArguments.
        predict_test: at the end, predict and measure the test rows too; off in a hyperparameter search.
        merge: of an adapter, also write the merged model, to `merged`.
        resume: `auto` resumes from the newest valid checkpoint of the run folder; `never` refuses one.
        deterministic: use only bitwise reproducible operations.
        fit_batch: where the micro-batch does not fit into memory, halve it and double the accumulation steps.
        plugins: modules to import first, which register architectures or baselines of one's own.
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
    plugins: list[str] = field(default_factory=list)

    def __post_init__(self):
        load_plugins(self.plugins)
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


def keys_without_effect(recipe: FinetuneRecipe) -> list[str]:
    """Return the keys that a recipe sets but its method does not use, as defaults of a suite may do."""
    idle = set() if recipe.method == "lora" else {"lora", "merge"}
    idle |= {"pooling", "long_inputs"} if recipe.method is None else set()
    idle |= {"dropout", "reverse_complement", "fit_batch"} if recipe.method == "probe" else set()
    idle |= set() if recipe.imbalance == "focal" else {"focal_gamma"}
    plain = FinetuneRecipe(recipe.run_dir, recipe.model, recipe.labels, recipe.method)
    keys = [name for name in to_dict(recipe) if name in idle and getattr(recipe, name) != getattr(plain, name)]
    if recipe.method == "probe":
        keys += [f"training.{name}" for name in recipe.training if name not in ("bf16", "use_cpu")]
        stopping = StoppingRecipe(metric=recipe.stopping.metric)
        keys += [f"stopping.{x}" for x in vars(stopping) if getattr(stopping, x) != getattr(recipe.stopping, x)]
    return keys
