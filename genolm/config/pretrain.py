"""The recipe of `genolm pretrain` as frozen dataclasses, whose fields are the keys of its YAML."""

from dataclasses import dataclass, field
from typing import Any, Literal

from genolm.config.plugins import load_plugins
from genolm.config.yaml import SettingsError, within


@dataclass(frozen=True)
class SplitRecipe:
    """A held-out split: all of what its keys name.

    Attributes:
        contigs: names of whole contigs.
        fraction: fraction of all bases.
        regions: BED or GFF file of intervals.
    """

    contigs: list[str] = field(default_factory=list)
    fraction: float = 0.0
    regions: str | None = None

    def __post_init__(self):
        within("fraction", self.fraction, 0, 1)


@dataclass(frozen=True)
class SamplingRecipe:
    """Sampling of windows.

    Attributes:
        by: bases, contigs or genomes are equally likely.
        temperature: genomes are drawn with probability ∝ bases^(1/temperature).
    """

    by: Literal["base", "contig", "genome"] = "base"
    temperature: float = 1.0

    def __post_init__(self):
        within("temperature", self.temperature, 1, None)


@dataclass(frozen=True)
class DatasetRecipe:
    """A sequence dataset that is streamed: a Parquet, JSONL or CSV file, a folder of such, or a Hub name.

    Its first `sample_bp` bases, and the first `test_bp` of `test_split` or of the file `test_path`, are also stored as
    genomes: BPE and the Markov models are fitted to the former, the model is evaluated on the latter.

    Attributes:
        path: a file, a folder of files, or a name on the Hub.
        name: configuration of a dataset on the Hub.
        split: of the dataset, to train on.
        column: of the sequences.
        test_path: file to evaluate on.
        test_split: split to evaluate on, instead of a file.
        sample_bp: bases for BPE and the Markov models.
        test_bp: bases to evaluate on.
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
    """Genomes, their splits, and how windows are sampled from them.

    Attributes:
        fasta: file or URL; several, each a genome; or genome name → file or files.
        sha256: URL → hash of the file.
        rename_duplicates: number the records of a file that share a name.
        dataset: stream a sequence dataset instead of FASTA files.
        include: BED or GFF file of the regions to use.
        exclude: BED or GFF file of regions to leave out.
        valid: the validation split.
        test: the test split.
        window_bp: window length in bp.
        reverse_complement: probability that a window is read from the other strand.
        soft_masked_weight: loss weight of lower-case bases in training.
        eval_soft_masked_weight: loss weight of lower-case bases in evaluation.
        sampling: how windows are sampled.
    """

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
    """The training objective.

    Attributes:
        kind: `masked` or `causal`.
        mask_rate: fraction of nucleotide tokens to predict.
        mask_token_rate: fraction of those replaced by the mask token.
        random_token_rate: fraction of those replaced by a random token; the rest is kept.
        span_tokens: adjacent tokens masked together; by default k for overlapping k-mers, else 1.
        eos: end each packed contig with EOS (causal).
    """

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
            raise SettingsError("mask_token_rate + random_token_rate is above 1; what remains to 1 is kept")


@dataclass(frozen=True)
class EvaluationRecipe:
    """Bits per base: on a part of the validation regions during training, on the test regions at the end.

    Attributes:
        every_steps: steps between evaluations during training; 0 for none.
        valid_bp: bases evaluated during training.
        max_bp: bases evaluated at the end; all by default.
        regions: BED or GFF file; bits are also reported for each name in it.
        markov_orders: orders of the Markov models to compare with.
        markov_mixture: also compare with a mixture of them.
    """

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
    """The recipe of `genolm pretrain`.

    Attributes:
        run_dir: folder of the run; the model is left in its `checkpoint`.
        data: genomes, splits and windows.
        objective: masked or causal.
        model: `architecture`, any of transformers' model types, and changes to its configuration.
        tokenizer: a spec of tokenizer_configs, a YAML file, or a tokenizer folder.
        seed: of everything random.
        training: fields of transformers.TrainingArguments.
        evaluation: measurements during training and at the end.
        resume: `auto` resumes from the newest valid checkpoint of the run folder; `never` refuses one.
        deterministic: use only bitwise reproducible operations.
        fit_batch: where the micro-batch does not fit into memory, halve it and double the accumulation steps.
        plugins: modules to import first, which register architectures of one's own.
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
    plugins: list[str] = field(default_factory=list)

    def __post_init__(self):
        load_plugins(self.plugins)
