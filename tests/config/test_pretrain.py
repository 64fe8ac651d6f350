"""The recipe of `genolm pretrain`: what is read, what is refused, and what makes two recipes the same."""

import pytest
import yaml

from genolm.config.pretrain import (
    DataRecipe,
    EvaluationRecipe,
    ObjectiveRecipe,
    PretrainRecipe,
    SamplingRecipe,
    SplitRecipe,
)
from genolm.config.recipe import recipe_hash, to_dict
from genolm.config.yaml import SettingsError, load_settings

SMALLEST = """\
run_dir: runs/x
data: {fasta: g.fa}
objective: {kind: masked}
model: {architecture: bert}
"""


@pytest.fixture
def read(tmp_path):
    """Read SMALLEST with lines added or replaced, and overrides."""

    def read(*overrides, add="", old="", new=""):
        text = SMALLEST.replace(old, new) + add if old else SMALLEST + add
        (tmp_path / "r.yaml").write_text(text)
        return load_settings(PretrainRecipe, tmp_path / "r.yaml", overrides)

    return read


def test_the_smallest_recipe_and_what_it_leaves_out(read):
    assert read() == PretrainRecipe(
        run_dir="runs/x",
        data=DataRecipe(
            fasta="g.fa",
            valid=SplitRecipe([], 0.0, None),
            test=SplitRecipe([], 0.0, None),
            window_bp=512,
            reverse_complement=0.5,
            sampling=SamplingRecipe("base", 1.0),
        ),
        objective=ObjectiveRecipe("masked", 0.15, 0.8, 0.1, None, True),
        model={"architecture": "bert"},
        tokenizer="char",
        seed=0,
        training={},
        evaluation=EvaluationRecipe(250, 100_000, None, None, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
    )


def test_defaults_are_not_shared(read):
    one, other = read(), read()
    one.training["max_steps"] = 1
    one.evaluation.markov_orders.clear()
    one.data.valid.contigs.append("chr1")
    assert other == read() and not other.training and not other.data.valid.contigs


@pytest.mark.parametrize(
    ("fasta", "expected"),
    [
        ("g.fa", "g.fa"),
        ("[a.fa, b.fa]", ["a.fa", "b.fa"]),
        ("{one: a.fa, two: [b.fa, c.fa]}", {"one": "a.fa", "two": ["b.fa", "c.fa"]}),
        ("https://host/g.fa?x=1&y=2", "https://host/g.fa?x=1&y=2"),
        ("", None),
    ],
)
def test_genomes_are_a_file_a_list_or_names(read, fasta, expected):
    assert read(f"data.fasta={fasta}").data.fasta == expected
    assert read(old="{fasta: g.fa}", new=f"\n  fasta: {fasta}").data.fasta == expected


@pytest.mark.parametrize("written", ["3e-4", "3E-4", "0.0003", "+3.0e-4", "30e-5", "'3e-4'"])
def test_a_number_is_a_number_however_it_is_written(read, written):
    assert read(f"data.valid.fraction={written}").data.valid.fraction == 3e-4
    assert read(add=f"evaluation: {{every_steps: 1e2}}\ntraining: {{learning_rate: {written}}}\n").evaluation == (
        EvaluationRecipe(every_steps=100)
    )
    if "'" not in written:  # free blocks have no type to go by, so that quotes keep text there
        assert read(f"training.learning_rate={written}").training == {"learning_rate": 3e-4}


def test_a_number_is_a_number_inside_a_free_block_too(read):
    found = read(add="training: {lr_scheduler_kwargs: {min_lr: 1e-4, name: e5}, rates: [3e-4, x]}\n").training
    assert found == {"lr_scheduler_kwargs": {"min_lr": 1e-4, "name": "e5"}, "rates": [3e-4, "x"]}
    assert read("training.lr_scheduler_kwargs.min_lr=1e-4").training == {"lr_scheduler_kwargs": {"min_lr": 1e-4}}


def test_what_only_looks_like_a_number_stays_text(read):
    assert read("training.a=e5", "training.b=1e", "training.c=chr1e5").training == {"a": "e5", "b": "1e", "c": "chr1e5"}


def test_overrides_win_over_the_file_and_the_last_over_the_first(read):
    found = read("seed=1", "data.test.fraction=0.25", "seed=2", "training.optim.name=x", add="seed: 9\ntraining:\n")
    assert (found.seed, found.data.test, found.training) == (2, SplitRecipe([], 0.25), {"optim": {"name": "x"}})
    assert found.data.fasta == "g.fa"  # its neighbours stay
    assert read("data={fasta: h.fa}", "data.window_bp=64").data == DataRecipe(fasta="h.fa", window_bp=64)
    assert read("run_dir=runs/a=b").run_dir == "runs/a=b"
    assert read("run_dir=[half").run_dir == "[half"  # no YAML, so text


@pytest.mark.parametrize(
    ("overrides", "add", "message"),
    [
        ([], "sed: 1\n", r"r.yaml:5: unknown key 'sed'; did you mean 'seed'?"),
        ([], "\n# note\nevaluation:\n  every_step: 1\n", "r.yaml:8: unknown key 'evaluation.every_step'; did you mean"),
        (["data.windwo_bp=1"], "", "override 'data.windwo_bp=1': unknown key 'data.windwo_bp'; did you mean"),
        (["data.valid.fractoin=1"], "", "unknown key 'data.valid.fractoin'; did you mean 'data.valid.fraction'?"),
        (["data.valid={fractoin: 1}"], "", "override 'data.valid={fractoin: 1}': unknown key 'data.valid.fractoin'"),
        (["zzz=1"], "", "override 'zzz=1': unknown key 'zzz'; allowed: run_dir, data, objective, model, tokenizer"),
        ([], "seed: one\n", "r.yaml:5: seed is 'one'; it must be a whole number"),
        ([], "seed: 0.5\n", "r.yaml:5: seed is 0.5; it must be a whole number"),
        ([], "seed: true\n", "r.yaml:5: seed is True; it must be a whole number"),
        ([], "seed: .inf\n", "r.yaml:5: seed is inf; it must be a whole number"),
        ([], "seed:\n", "r.yaml:5: seed is None; it must be a whole number"),
        ([], "tokenizer: [char]\n", "r.yaml:5: tokenizer is ['char']; it must be text"),
        ([], "evaluation: 5\n", "r.yaml:5: evaluation is 5; it must be a block of keys"),
        ([], "evaluation: {markov_orders: 3}\n", "r.yaml:5: evaluation.markov_orders is 3; it must be a list"),
        ([], "evaluation: {markov_orders: [1, x]}\n", "r.yaml:5: evaluation.markov_orders is 'x'; it must be a whole"),
        ([], "evaluation: {markov_orders: [1, 17]}\n", "r.yaml:5: evaluation.markov_orders is 17; allowed: 0 to 16"),
        (["data.fasta=true"], "", "data.fasta is True; it must be text or a list or a block of keys or empty"),
        (["data.rename_duplicates=1"], "", "data.rename_duplicates is 1; it must be true or false"),
        (["data.sha256=abc"], "", "data.sha256 is 'abc'; it must be a block of keys or empty"),
        (["data.sampling.by=letter"], "", "data.sampling.by is 'letter'; allowed: base, contig, genome"),
        (["data.sampling.temperature=0.5"], "", "data.sampling.temperature is 0.5; allowed: at least 1"),
        (["data.window_bp=7"], "", "override 'data.window_bp=7': data.window_bp is 7; allowed: at least 8"),
        (["data.test.fraction=1.01"], "", "data.test.fraction is 1.01; allowed: 0 to 1"),
        (["data.reverse_complement=-0.1"], "", "data.reverse_complement is -0.1; allowed: 0 to 1"),
        (["data.eval_soft_masked_weight=2"], "", "data.eval_soft_masked_weight is 2.0; allowed: 0 to 1"),
        (["objective.kind=mlm"], "", "override 'objective.kind=mlm': objective.kind is 'mlm'; allowed: masked, causal"),
        (["objective.random_token_rate=0.3"], "", "mask_token_rate + random_token_rate is above 1"),
        (["data.dataset={split: train}"], "", "key 'data.dataset.path' is missing"),
        (["data.dataset={pth: x}"], "", "unknown key 'data.dataset.pth'; did you mean 'data.dataset.path'?"),
        ([], "seed: 1\nseed: 2\n", "r.yaml: line 6: key 'seed' is already on line 5"),
        ([], "training: {a: 1, b: {c: 1, c: 2}}\n", "r.yaml: line 5: key 'training.b.c' is already on line 5"),
        ([], "training: {a: 1\n", "r.yaml: not YAML: "),
        ([], "\tseed: 1\n", "r.yaml: not YAML: "),
        ([], "---\nseed: 1\n", "r.yaml: not YAML: "),
        (["seed"], "", "override 'seed': write key=value, as in training.max_steps=100"),
        (["=1"], "", "override '=1': write key=value"),
        (["seed.x=1"], "seed: 4\n", "override 'seed.x=1': seed is 4, which has no keys below it"),
        (["data.fasta.x=1"], "", "override 'data.fasta.x=1': fasta is 'g.fa', which has no keys below it"),
    ],
)
def test_a_mistake_is_one_line_that_says_where(read, tmp_path, overrides, add, message):
    with pytest.raises(SettingsError) as caught:
        read(*overrides, add=add)
    said = str(caught.value)
    assert message in said and "\n" not in said
    assert said.startswith(("override", f"{tmp_path / 'r.yaml'}:"))


@pytest.mark.parametrize("key", ["run_dir", "data", "objective", "model"])
def test_a_missing_key_is_named(tmp_path, key):
    (tmp_path / "r.yaml").write_text("".join(x + "\n" for x in SMALLEST.splitlines() if not x.startswith(key)))
    with pytest.raises(SettingsError, match=rf"r\.yaml: key '{key}' is missing"):
        load_settings(PretrainRecipe, tmp_path / "r.yaml")


@pytest.mark.parametrize(("text", "kind"), [("", "NoneType"), ("just words\n", "str"), ("[1]\n", "list")])
def test_a_file_of_something_else_is_refused(tmp_path, text, kind):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(SettingsError, match=rf"r\.yaml: it must be a set of `key: value` lines, got {kind}"):
        load_settings(PretrainRecipe, tmp_path / "r.yaml")


@pytest.mark.parametrize("path", ["none.yaml", "."])
def test_a_missing_file_is_said_with_its_path(tmp_path, path):
    with pytest.raises(SettingsError) as caught:
        load_settings(PretrainRecipe, tmp_path / path)
    assert str(caught.value).startswith(f"{tmp_path / path}: no such file")


CHANGES = [
    "data.fasta=h.fa",
    "data.window_bp=513",
    "data.valid.fraction=0.1",
    "data.valid.contigs=[c1]",
    "data.sampling.temperature=2",
    "objective.kind=causal",
    "objective.span_tokens=3",
    "model.architecture=esm",
    "model.hidden_size=64",
    "tokenizer=kmer6",
    "seed=1",
    "training.max_steps=10",
    "evaluation.max_bp=1000",
    "evaluation.markov_orders=[12, 11]",
]


def test_the_hash_is_of_everything_but_where_it_runs(read):
    plain = recipe_hash(read())
    assert recipe_hash(read("run_dir=elsewhere/y")) == plain
    assert len(plain) == 64 and int(plain, 16)
    hashes = [recipe_hash(read(change)) for change in CHANGES]
    assert len({plain, *hashes}) == len(CHANGES) + 1
    assert recipe_hash(read("evaluation.markov_orders=[11, 12]")) != hashes[-1]  # a list's order counts


def test_the_hash_is_of_values_not_of_how_they_are_written(read):
    plain = recipe_hash(read("training.learning_rate=3e-4", "training.max_steps=10"))
    assert plain == recipe_hash(read(add="training:\n  max_steps: 10  # few\n  learning_rate: 0.0003\n"))
    assert plain == recipe_hash(
        read("seed=0", "data.window_bp=5.12e2", add="training: {max_steps: 10, learning_rate: 0.3e-3}")
    )
    assert recipe_hash(read()) == recipe_hash(read(old="kind: masked", new="mask_rate: 0.15, kind: masked"))


def test_a_recipe_written_out_reads_back_as_itself(read, tmp_path):
    recipe = read(*CHANGES)
    (tmp_path / "out.yaml").write_text(yaml.safe_dump(to_dict(recipe), sort_keys=False))
    assert load_settings(PretrainRecipe, tmp_path / "out.yaml") == recipe


# What follows is wrong today. Each says what a user would see.


def test_large_seeds_are_kept(read):
    assert read(f"seed={2**53 + 1}").seed == 2**53 + 1


def test_nan_is_in_no_range(read):
    with pytest.raises(SettingsError, match="data.valid.fraction is nan"):
        read("data.valid.fraction=.nan")


@pytest.mark.parametrize("name", ["07", "1e3", "1:30", "1_0"])
def test_names_that_look_like_numbers_stay_as_written(read, name):
    assert read(f"data.valid.contigs=[{name}]").data.valid.contigs == [name]


@pytest.mark.parametrize("name", ["2026-01-31", "2026-13-45"])
def test_a_run_may_be_called_by_its_date(read, name):
    assert read(f"run_dir={name}").run_dir == name
    assert read(old="runs/x", new=name).run_dir == name


def test_a_date_in_a_free_block_has_a_hash(read):
    assert recipe_hash(read("training.run_name=2026-01-31"))


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"run_dir: \xe9\n")
    with pytest.raises(SettingsError, match=r"r\.yaml"):
        load_settings(PretrainRecipe, tmp_path / "r.yaml")


def test_a_replaced_block_is_not_blamed_on_the_file(read):
    with pytest.raises(SettingsError, match="^override 'data="):
        read("data={fasta: [1, {}]}")


def test_a_repeated_key_in_an_override_is_refused(read):
    with pytest.raises(SettingsError, match="already"):
        read("data={fasta: a.fa, fasta: b.fa}")


def test_a_block_inside_itself_is_refused(read):
    with pytest.raises(SettingsError):
        read(add="training: &again {inner: *again}\n")


@pytest.mark.parametrize(
    "override",
    ["objective.span_tokens=0", "evaluation.every_steps=-1", "evaluation.valid_bp=-1", "evaluation.max_bp=0"],
)
def test_counts_have_bounds(read, override):
    with pytest.raises(SettingsError, match="allowed: at least"):
        read(override)
