"""The Python API gives what the commands give."""

import subprocess
import sys

import labelled_runs
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

import genolm


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def fasta(folder):
    text = labelled_runs.letters(np.random.default_rng(5), 3000)
    (folder / "ref.fa").write_text(f">chr1\n{text}\n>chr2\n{text[:500].lower()}\n")
    return folder / "ref.fa"


@pytest.fixture(scope="module")
def models(folder, fasta):
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4}
    changes = {
        "training": {"max_steps": 2, "per_device_train_batch_size": 2, "bf16": False},
        "evaluation": {"every_steps": 0, "markov_orders": [0]},
        "data": {"window_bp": 64},
        "model": small,
    }
    return {
        kind: genolm.pretrain(f"quickstart/{kind}", fasta=fasta, run_dir=folder / kind, **changes)
        for kind in ("causal", "masked")
    }


@pytest.fixture(scope="module")
def genome(fasta):
    return genolm.Genome(fasta)


def cli(*words):
    done = subprocess.run([sys.executable, "-m", "genolm", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_a_genome_is_read_by_slices_and_by_regions(genome, fasta):
    text = fasta.read_text().splitlines()[1]
    assert genome["chr1", 999:1200] == genome["chr1:1000-1200"] == text[999:1200]
    assert genome["chr2"] == text[:500].lower()
    assert genome["chr1", :10] == text[:10]
    assert genome.lengths == {"chr1": 3000, "chr2": 500}
    with pytest.raises(KeyError, match="did you mean 'chr1'"):
        genome["chr11"]
    with pytest.raises(IndexError, match="lies outside chr2, which has 500 bases"):
        genome["chr2", 400:501]
    with pytest.raises(ValueError, match="give a slice"):
        genome["chr1", 5]
    with pytest.raises(ValueError, match="no step"):
        genome["chr1", ::2]


def test_pretrain_returns_the_model_and_its_metrics(models, folder):
    assert models["causal"].causal and not models["masked"].causal
    assert "bits_per_base" in str(models["causal"].metrics)
    again = genolm.load(folder / "causal")
    assert type(again) is genolm.PretrainedModel
    assert "0.0 M parameters, 64 bp" in repr(again)


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_scores_are_those_of_the_command(models, genome, fasta, folder, kind):
    ref = [genome["chr1", p - 1 : p] for p in (500, 700)]
    alts = ["ACGT"["ACGT".index(base) - 1] for base in ref]
    texts = [f"chr1:500:{ref[0]}>{alts[0]}", f"chr1:700:{ref[1]}>{ref[1]}AC"]
    scored = models[kind].score(texts, genome, background=0)
    table = pd.DataFrame({"CHROM": "chr1", "POS": [500, 700], "REF": ref, "ALT": [alts[0], f"{ref[1]}AC"]})
    pd.testing.assert_frame_equal(models[kind].score(table, genome, background=0), scored)
    (folder / "v.tsv").write_text(
        "chrom\tpos\tref\talt\n" + "".join(f"chr1\t{p}\t{r}\t{a}\n" for p, r, a in table.iloc[:, 1:].values)
    )
    out = folder / f"{kind}.parquet"
    cli("score", folder / "v.tsv", "--model", folder / kind, "--fasta", fasta, "--out", out, "--background", "0")
    pd.testing.assert_frame_equal(scored, pyarrow.parquet.read_table(out).to_pandas())
    with pytest.raises(ValueError, match="must be chrom:pos:ref>alt"):
        models[kind].score(["chr1-500-A-G"], genome)


def test_mutations_of_a_region_are_a_table_and_a_picture(models, genome, folder):
    found = models["masked"].mutate("chr1:101-110", genome)
    assert list(found.table["pos"]) == [p for p in range(101, 111) for _ in range(3)]
    assert "".join(found.table["ref"][::3]) == genome["chr1:101-110"]
    with pytest.raises(ValueError, match="entropy: the first one is drawn"):
        models["masked"].mutate("chr1:101-110", genome, estimator="entropy")
    figure = found.plot(folder / "mutations.png")
    assert found._repr_png_() == (folder / "mutations.png").read_bytes()
    assert figure.axes and (folder / "mutations.png").read_bytes()[:4] == b"\x89PNG"


def test_embeddings_are_those_of_the_command(models, folder):
    sequences = ["ACGTACGTAC", "TTTTGGGGCCCCAAAA"]
    vectors = models["masked"].embed(sequences)
    assert vectors.shape == (2, 16) and vectors.dtype == np.float32
    (folder / "s.fa").write_text("".join(f">{i}\n{text}\n" for i, text in enumerate(sequences)))
    cli("embed", folder / "masked", folder / "s.fa", "--out", folder / "e.npy")
    assert np.array_equal(np.load(folder / "e.npy"), vectors)
    each = models["masked"].embed(sequences, pool="per-base")
    assert [one.shape for one in each] == [(10, 16), (16, 16)]


def test_generated_sequences_are_those_of_the_command(models, folder):
    drawn = models["causal"].generate("ACGT", length=30, num=2, seed=3)
    assert [len(text) for text in drawn] == [30, 30]
    cli(
        *("generate", folder / "causal", "--prompt", "ACGT", "--length", 30, "--num", 2, "--seed", 3),
        *("--out", folder / "g.fa"),
    )
    assert (folder / "g.fa").read_text().splitlines()[1::2] == drawn
    assert set(models["masked"].generate("ACNNGT")[0]) <= set("ACGT")


def test_bits_per_base_are_measured_on_regions(models, genome, folder):
    (folder / "r.bed").write_text("chr1\t2000\t2400\n")
    found = models["causal"].bits_per_base(genome, folder / "r.bed")
    assert found["bits_per_base"] > 1.9 and found["num_bases"] == 399  # the first has nothing before it
    from genolm.config.pretrain import PretrainRecipe
    from genolm.config.yaml import load_settings
    from genolm.pretraining.build import split_regions

    for kind, key in (("causal", "bits_per_base"), ("masked", "masked_bits_per_base")):
        recipe = load_settings(PretrainRecipe, folder / kind / "recipe.yaml")
        parts = [
            genome.store.contigs[number].name + f"\t{start}\t{end}\n"
            for number, start, end in split_regions(recipe.data, genome.store)["test"]
        ]
        (folder / "test.bed").write_text("".join(parts))
        measured = models[kind].bits_per_base(genome, folder / "test.bed", batch_size=2)
        assert measured[key] == pytest.approx(models[kind].metrics["test"][key], rel=1e-6)
    assert "masked_bits_per_base" in models["masked"].bits_per_base(genome, folder / "r.bed")


def test_finetune_predict_and_compare(models, folder):
    rows, label = labelled_runs.planted(120)
    table = folder / "labels.csv"
    pd.DataFrame({"sequence": rows, "label": np.where(label == 1, "yes", "no")}).to_csv(table, index=False)
    training = {"max_steps": 2, "per_device_train_batch_size": 4, "bf16": False}
    tuned = genolm.finetune(
        "quickstart/lora", model=models["masked"], table=table, run_dir=folder / "lora", training=training
    )
    baseline = genolm.finetune("quickstart/baseline", table=table, run_dir=folder / "cnn", training=training)
    assert tuned.task.names == ("no", "yes")
    values = genolm.load(folder / "lora").predict(rows[:5])
    assert values.shape == (5,) and ((values > 0) & (values < 1)).all()
    pd.DataFrame({"sequence": rows[:5]}).to_csv(folder / "new.csv", index=False)
    cli("predict", folder / "lora", folder / "new.csv", "--out", folder / "p.csv")
    np.testing.assert_allclose(pd.read_csv(folder / "p.csv")["probability_yes"], values, rtol=1e-6)
    compared = genolm.compare([tuned, baseline], out=folder / "page", num_replicates=100)
    assert len(compared) == 2 and (folder / "page" / "index.html").is_file()
    assert compared["difference_value"].notna().sum() == 1
    assert (compared["low"] <= compared["value"]).all() and (compared["value"] <= compared["high"]).all()


def test_a_corpus_gives_windows_for_a_loop_of_ones_own(fasta, folder):
    import torch

    windows = genolm.windows("quickstart/causal", fasta=fasta, run_dir=folder / "own", data={"window_bp": 32})
    loader = torch.utils.data.DataLoader(windows, batch_size=4, shuffle=True)
    batch = next(iter(loader))
    assert batch["input_ids"].shape[0] == 4 and batch["input_ids"].shape == batch["loss_weight"].shape
    assert len(windows) * 32 >= 3500 * 0.85
    assert torch.equal(windows[5]["input_ids"], windows[5]["input_ids"])


def test_a_tokenizer_by_name():
    assert genolm.tokenizer("kmer6")("ACGTAC")["input_ids"]
    with pytest.raises(ValueError, match="did you mean 'kmer6'"):
        genolm.tokenizer("kmer66")


def test_importing_genolm_imports_nothing_large():
    code = "import sys, genolm; print([m for m in ('torch', 'transformers', 'pandas', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    assert "Genome" in dir(genolm)
    with pytest.raises(AttributeError, match="no attribute 'Genom'"):
        _ = genolm.Genom


def test_an_unknown_key_of_a_recipe_is_named(fasta, folder):
    with pytest.raises(ValueError, match="did you mean 'training'"):
        genolm.pretrain("quickstart/causal", fasta=fasta, run_dir=folder / "x", trainin={"max_steps": 1})


def test_names_of_genomes_may_have_dots_and_blocks_are_merged(fasta, folder):
    from genolm.api.runs import _settings
    from genolm.config.pretrain import PretrainRecipe

    changes = {"model": {"num_hidden_layers": 1}, "data": {"window_bp": 32}}
    given = {"data__fasta": {"E. coli v1.2": [fasta]}, "run_dir": folder / "dots"}
    recipe = _settings(PretrainRecipe, "quickstart/causal", changes, **given)
    assert recipe.data.fasta == {"E. coli v1.2": [str(fasta)]} and recipe.run_dir == str(folder / "dots")
    assert recipe.data.window_bp == 32 and recipe.data.test.fraction == 0.1
    assert recipe.model["num_hidden_layers"] == 1 and recipe.model["hidden_size"] == 256
