"""Models of the Python API: pretrained ones, the mutations they score, and fine-tuned ones."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from genolm.genome.reference import Genome

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerFast

    from genolm.reports.mutation_figure import MutationMap

_VARIANT = re.compile(r"(.+):([\d,]+):([A-Za-z*<>\[\]:.-]+)>([A-Za-z*<>\[\]:.,-]+)")


class PretrainedModel:
    """A masked or causal DNA language model; `genolm.load` opens it. It runs on the GPU where there is one.

    Args:
        name: a run of `genolm pretrain`, a model folder, or a name on the Hub.
        tokenizer: a tokenizer that comes with genolm, instead of the model's own where that is not a fast one.
        window_bp: bases around a variant, instead of those of a training window.
        revision: commit of the Hub.
        trust_remote_code: run the model's own code; from the Hub only with a revision.

    Attributes:
        model: the model, a PreTrainedModel in evaluation mode.
        causal: whether it is a causal language model, else a masked one.
        window_bp: bases around a variant.
        metrics: of the run's `metrics.json`; empty for what is no run.
    """

    def __init__(self, name: str | Path, **options: Any):
        from genolm.models.language_model import open_language_model
        from genolm.models.precision import available_device

        self.name = str(name)
        self._language = open_language_model(self.name, **options)
        self.model = self._language.model.to(available_device())
        self.causal, self.window_bp = self._language.causal, self._language.window_bp
        self.metrics = _metrics_of(self.name)

    def __repr__(self) -> str:
        size = sum(parameter.numel() for parameter in self.model.parameters()) / 1e6
        kind = "causal" if self.causal else "masked"
        return f"PretrainedModel({self.name!r}: {kind}, {size:,.1f} M parameters, {self.window_bp:,} bp)"

    @cached_property
    def folder(self) -> Path:
        """The folder of its configuration and weights."""
        from genolm.models.label_folder import model_folder

        return model_folder(self.name, self._language.revision)

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerFast":
        """Its tokenizer."""
        from genolm.tokenizers.build import load_tokenizer

        return load_tokenizer(self.folder)

    def score(
        self,
        variants: "str | Path | Sequence[str] | pd.DataFrame",
        genome: Genome,
        *,
        estimators: Sequence[str] | None = None,
        batch_size: int = 32,
        bf16: bool = False,
        **options: Any,
    ) -> "pd.DataFrame":
        """Score variants zero-shot, as `genolm score` does: a row for every ALT; positive favours ALT.

        Args:
            variants: `chrom:pos:ref>alt` texts, 1-based; a DataFrame with columns chrom, pos, ref, alt; or the path of
                a VCF, BCF or table.
            genome: the reference.
            estimators: `masked_llr`, `likelihood`, …; None for the model's default.
            batch_size: rows of tokens in a forward pass.
            bf16: run the model in bf16, faster on GPUs.
            options: further fields of `genolm.variants.scoring.ScoreOptions`, such as `check_ref` or `background`.

        Returns:
            Columns chrom, pos, ref, alt; a column of each score, NaN where there is none; `GENOLM_STATUS` says why.

        Raises:
            ValueError: a variant that cannot be read, or an estimator that the model does not have.
        """
        import pyarrow.parquet

        from genolm.variants.scoring import ScoreOptions, score_variants

        with self._job(genome, batch_size, bf16) as (job, folder):
            source = str(variants) if isinstance(variants, (str, Path)) else _write_variants(variants, folder)
            chosen = ScoreOptions(estimators=None if estimators is None else list(estimators), **options)
            score_variants(job, source, folder / "scored.parquet", chosen)
            return pyarrow.parquet.read_table(folder / "scored.parquet").to_pandas()

    def mutate(
        self,
        region: str,
        genome: Genome,
        *,
        estimator: str | None = None,
        deletions: bool = False,
        batch_size: int = 32,
        bf16: bool = False,
    ) -> "Mutations":
        """Score every change of every base of a region, as `genolm mutate` does.

        Args:
            region: `chr1:1001-1200`, 1-based and closed.
            genome: the reference.
            estimator: a log-likelihood ratio; None for the model's default.
            deletions: also the deletion of each base.
            batch_size: rows of tokens in a forward pass.
            bf16: run the model in bf16.
        """
        import pandas as pd

        from genolm.reports.mutation_report import drawn_grids, mutation_map, write_mutation_table
        from genolm.variants.alleles import Contigs
        from genolm.variants.likelihood import check_drawn
        from genolm.variants.saturation import locate_regions, pieces_of, score_pieces

        with self._job(genome, batch_size, bf16) as (job, folder):
            shown = locate_regions(job.store, Contigs(job.store), [region], None)
            pieces = pieces_of(shown)
            chosen = job.estimators([estimator] if estimator else None)
            check_drawn(chosen[0], self.causal)
            job.begin({"regions": shown, "estimators": chosen, "deletions": deletions})
            score_pieces(job, pieces, chosen, deletions=deletions)
            write_mutation_table(folder / "mutations.tsv", job, pieces, chosen)
            grids, _ = drawn_grids(job, pieces, chosen[0])
            drawn = mutation_map(job, shown[0], pieces, grids, deletions)
            table = pd.read_csv(folder / "mutations.tsv", sep="\t", na_values=".", keep_default_na=False)
        return Mutations(table, drawn, f"{chosen[0].replace('_', ' ')}, nats: {self.name}")

    def embed(
        self,
        sequences: str | Path | Sequence[str],
        genome: Genome | str | Path | None = None,
        *,
        pool: str = "mean",
        layer: int = -1,
        both_strands: bool = False,
        windows: bool = False,
        batch_size: int = 64,
    ) -> Any:
        """Embed sequences, as `genolm embed` does.

        Args:
            sequences: texts; or the path of a FASTA, of a table with a column `sequence`, or of a BED.
            genome: of the intervals of a BED.
            pool: `mean`, `cls`, `per-base` or `tokens`.
            layer: -1 is the last, 0 the embedding.
            both_strands: the mean over both strands.
            windows: average over pieces of what is longer than the model takes.
            batch_size: sequences in a forward pass.

        Returns:
            (N, D) float32; for `per-base` and `tokens` a list of N arrays (bases or tokens, D).
        """
        from genolm.inference.embed import check_pooling, open_embedder, vectors_of

        check_pooling(pool, both_strands, windows)
        backbone, collator = open_embedder(self.folder, _unlabelled(sequences, genome), pool, windows)
        options = {"batch_size": batch_size, "both_strands": both_strands}
        parts = [one for some in vectors_of(backbone, collator, pool, layer, **options) for one in some]
        return parts if pool in ("per-base", "tokens") else np.concatenate(parts)

    def generate(
        self,
        prompt: str = "",
        *,
        length: int = 0,
        num: int = 1,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        passes: int = 0,
        batch_size: int = 16,
    ) -> list[str]:
        """Draw new bases, as `genolm generate` does: after a prompt (causal), or for its N (masked).

        Args:
            prompt: bases to continue; for a masked model with N to fill.
            length: bases to draw after the prompt, by a causal model.
            num: sequences.
            temperature: below 1 for likelier bases, 0 for the likeliest.
            top_k: draw from the k likeliest tokens; 0 for all.
            top_p: draw from the likeliest tokens that hold this probability.
            seed: the same seed gives the same sequences.
            passes: passes in which a masked model fills N; 0 for one token each.
            batch_size: sequences drawn together; it does not change them.

        Returns:
            `num` texts: the bases after the prompt of a causal model, the filled prompt of a masked one.
        """
        from genolm.inference.generate import SequenceGenerator, check_options, read_prompts
        from genolm.inference.sample import Sampling
        from genolm.models.safe_loading import without_bars

        check_options("causal" if self.causal else "masked", length, None, bool(prompt))
        sampling = Sampling(temperature, top_k, top_p, seed)
        generator = SequenceGenerator(self.model, self.tokenizer, self._language.encoder, sampling, batch_size)
        prompts = read_prompts(prompt or None, None)
        if not self.causal:
            return generator.filled(prompts, num, passes)
        with without_bars():
            return generator.after_prompts(prompts, num, length)[0]

    def bits_per_base(
        self, genome: Genome, regions: str | Path | None = None, *, batch_size: int = 32, bf16: bool = False
    ) -> dict[str, Any]:
        """Measure bits per base of a genome, as `genolm evaluate` does.

        Args:
            genome: what to measure on. What the model was trained on is no fair test: hold it out.
            regions: BED or GFF file; None for all of the genome.
            batch_size: windows in a forward pass.
            bf16: run the model in bf16.

        Returns:
            `bits_per_base` with its 95 % interval for a causal model; for a masked one `masked_bits_per_base`, of 15 %
            hidden bases given both sides, which is no code length and not to be compared with the former.
        """
        from genolm.data.collate import evaluation_masking
        from genolm.genome.regions import available_regions
        from genolm.inference.perplexity import measure_bits

        store, encoder = genome.store, self._language.encoder
        chosen = available_regions(store, None if regions is None else str(regions), None)
        masking = None if self.causal else evaluation_masking(encoder, 0.15, None)
        metadata = self.folder / "genolm.json"
        trained = json.loads(metadata.read_text(encoding="utf-8")) if metadata.is_file() else {}
        specials = len(encoder.prefix_ids) + len(encoder.suffix_ids)
        tokens = trained.get("window_tokens") or self._language.max_tokens or self.window_bp + specials
        return measure_bits(
            self.model,
            encoder,
            store,
            chosen,
            window_bp=self.window_bp,
            window_tokens=tokens,
            masking=masking,
            batch_size=batch_size,
            autocast=bf16,
        )

    @contextmanager
    def _job(self, genome: Genome, batch_size: int, bf16: bool) -> Iterator[tuple[Any, Path]]:
        """Open a scoring job of this model on a genome, in a temporary folder."""
        from genolm.variants.job import scoring_job

        with TemporaryDirectory(prefix="genolm-") as folder:
            opened: dict[str, Any] = {"language": self._language, "store": genome.reference}
            with scoring_job(Path(folder) / "job", str(genome.path), self.name, batch_size, bf16, **opened) as job:
                yield job, Path(folder)


class Mutations:
    """Scores of every change of a region.

    Attributes:
        table: a row for each change: chrom, pos, ref, alt (`-` for a deletion) and the scores.
        title: name of the score and the model.
    """

    def __init__(self, table: "pd.DataFrame", drawn: "MutationMap", title: str):
        self.table, self.title, self._map = table, title, drawn

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw heat map and sequence logo: return a matplotlib Figure, and save it as PNG where a path is given."""
        from genolm.reports.mutation_figure import bits_of, draw_mutations, limit_of
        from genolm.reports.svg import save_png

        figure = draw_mutations(self._map, limit_of([self._map]), bits_of([self._map]), self.title)
        if path is not None:
            save_png(figure, path)
        return figure

    def _repr_png_(self) -> bytes:
        """Draw it in a notebook."""
        with TemporaryDirectory() as folder:
            self.plot(Path(folder) / "mutations.png")
            return (Path(folder) / "mutations.png").read_bytes()


class FinetunedModel:
    """A fine-tuned model or a baseline; `genolm.load` opens it.

    Attributes:
        model: the model.
        task: kind of task, and its classes or targets.
        metrics: of the run's `metrics.json`.
    """

    def __init__(self, name: str | Path):
        from genolm.models.label_folder import open_labelled
        from genolm.models.precision import available_device

        self.name = str(name)
        folder = Path(name) / "model" if (Path(name) / "model").is_dir() else Path(name)
        self.model, self._collator, self._metadata = open_labelled(folder)
        self.model.to(available_device())
        self.task, self.metrics = self._collator.labelled.task, _metrics_of(self.name)

    def __repr__(self) -> str:
        names = ", ".join(self.task.names[:6])
        return f"FinetunedModel({self.name!r}: {self._metadata['method']}, {self.task.kind}: {names})"

    def predict(
        self,
        sequences: str | Path | Sequence[str],
        genome: Genome | str | Path | None = None,
        *,
        batch_size: int = 64,
    ) -> Any:
        """Predict labels, as `genolm predict` does.

        Args:
            sequences: texts; or the path of a FASTA, of a table with a column `sequence`, or of a BED.
            genome: of the intervals of a BED.
            batch_size: sequences in a forward pass.

        Returns:
            binary: (N,) probability of the second class of `task.names`. multiclass, multilabel: (N, classes)
            probabilities. regression: (N, targets). per-base, tracks: a list of N arrays.
        """
        values = self.predict_rows(_unlabelled(sequences, genome), batch_size=batch_size)
        return values if self.task.kind in ("per-base", "tracks") else np.array(values)

    def predict_rows(self, rows: Any, batch_size: int = 64) -> list[np.ndarray]:
        """Predict rows of `genolm.labels.dataset.unlabelled_rows`; as `predict`, an array a row."""
        from genolm.inference.predict import predict_unlabelled

        return predict_unlabelled(self.model, self._collator, self._metadata, rows, batch_size)


def load(name: str | Path, **options: Any) -> PretrainedModel | FinetunedModel:
    """Open a run of `genolm pretrain` or `genolm finetune`, a model folder, or a model of the Hub.

    Args:
        name: the run or folder, or a name on the Hub, as `owner/name`.
        options: further arguments of `PretrainedModel`.

    Raises:
        ValueError: no such model, or one that cannot be opened.
    """
    path = Path(name)
    finetuned = (path / "model" / "genolm.json", path / "genolm.json")
    if any(file.is_file() and '"task"' in file.read_text(encoding="utf-8") for file in finetuned):
        return FinetunedModel(name)
    return PretrainedModel(name, **options)


def _metrics_of(name: str) -> dict[str, Any]:
    path = Path(name) / "metrics.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _unlabelled(sequences: str | Path | Sequence[str], genome: Genome | str | Path | None) -> Any:
    """Return rows without labels, of texts or of a file."""
    from genolm.genome.alphabet import clean_sequences
    from genolm.labels.dataset import read_unlabelled, unlabelled_rows

    if isinstance(sequences, (str, Path)):
        fasta = genome.path if isinstance(genome, Genome) else genome
        ids, texts, source, _ = read_unlabelled(str(sequences), None if fasta is None else str(fasta), [])
    else:
        ids = np.array([f"sequence-{number}" for number in range(1, len(sequences) + 1)])
        texts, source = clean_sequences(list(sequences), lambda row: f"sequence {row + 1}")[0], ids
    return unlabelled_rows(ids, texts, source)


def _write_variants(variants: Any, folder: Path) -> str:
    """Write variants as a table that `genolm score` reads, and return its path."""
    import pandas as pd

    if isinstance(variants, pd.DataFrame):
        columns = {str(name).lower().lstrip("#"): name for name in variants.columns}
        missing = {"chrom", "pos", "ref", "alt"} - columns.keys()
        if missing:
            raise ValueError(f"variants: no column {', '.join(sorted(missing))}; needed are chrom, pos, ref, alt")
        table = pd.DataFrame({name: variants[columns[name]] for name in ("chrom", "pos", "ref", "alt")})
    else:
        matches = [_VARIANT.fullmatch(text) for text in variants]
        for text, match in zip(variants, matches, strict=True):
            if match is None:
                raise ValueError(f"variant {text!r}; it must be chrom:pos:ref>alt, 1-based, such as chr1:1000:A>G")
        rows = [(m[1], int(m[2].replace(",", "")), m[3], m[4]) for m in matches if m is not None]
        table = pd.DataFrame(rows, columns=["chrom", "pos", "ref", "alt"])
    path = folder / "variants.tsv"
    table.to_csv(path, sep="\t", index=False)
    return str(path)
