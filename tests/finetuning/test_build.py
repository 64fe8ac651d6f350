"""Blocks of a fine-tuning recipe → rows, model, collator; and back from a folder."""

import json
import shutil

import numpy as np
import pytest
from labelled_runs import BERT, GENOLM, finetune, pretrain, write_recipe, write_table

from genolm.config.finetune import FinetuneRecipe
from genolm.config.yaml import load_settings
from genolm.finetuning.build import build_collator, build_label_model, num_outputs, read_split_rows
from genolm.labels.collate import check_lengths
from genolm.labels.dataset import Task
from genolm.models.label_folder import base_of, model_folder, open_labelled, weights_sha256
from genolm.models.language_model import max_row_tokens
from genolm.models.safe_loading import ModelError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    pretrain(folder, "bert", BERT)
    pretrain(folder, "esm", BERT | {"architecture": "esm"}, "kmer3")
    pretrain(folder, "genolm", GENOLM)
    return folder


def load(folder, tmp_path, *overrides, kind="binary", model="bert", **changes):
    path = write_recipe(tmp_path, "run", folder / model, write_table(tmp_path, kind), kind, **changes)
    return load_settings(FinetuneRecipe, path, list(overrides))


def test_fractions_lie_within_each_other_and_splits_stay(folder, tmp_path):
    parts = {
        f: read_split_rows(load(folder, tmp_path, f"labels.data_fraction={f}", method="lora")) for f in (0.25, 0.5, 1.0)
    }
    ids = {f: set(part.train.ids.tolist()) for f, part in parts.items()}
    assert ids[0.25] < ids[0.5] < ids[1.0] and len(ids[0.5]) == 16
    assert all(part.test.ids.tolist() == parts[1.0].test.ids.tolist() for part in parts.values())


def test_leaked_rows_are_told_stopped_at_or_dropped(folder, tmp_path):
    rows = [f"{'ACGTTGCA' * 4}{x}" for x in ("A", "C", "G", "T", "AA", "CC")]
    table = tmp_path / "leaky.csv"
    lines = [f"{x},{i % 2},{'test' if i > 3 else 'train'}" for i, x in enumerate(rows)]
    table.write_text("\n".join(["sequence,label,split", *lines, f"{rows[0]},0,test"]) + "\n")
    options = [f"labels.table={table}", "labels.split.valid=0"]
    told = read_split_rows(load(folder, tmp_path, *options, method="lora"))
    assert len(told.train) == 4 and told.leakage
    with pytest.raises(ValueError, match="labels.leakage is error"):
        read_split_rows(load(folder, tmp_path, *options, "labels.leakage=error", method="lora"))
    dropped = read_split_rows(load(folder, tmp_path, *options, "labels.leakage=drop", method="lora"))
    assert set(dropped.train.ids) < set(told.train.ids) and rows[0] not in dropped.train.sequences
    assert len(dropped.test) == len(told.test) == 3
    table.write_text("\n".join(["sequence,label,split", *lines, f"{rows[0]},0,test", f"{rows[2]},0,test"]) + "\n")
    with pytest.raises(ValueError, match="after leakage, are of one class"):
        read_split_rows(load(folder, tmp_path, *options, "labels.leakage=drop", method="lora"))


def test_outputs():
    names = ("a", "b", "c")
    assert [num_outputs(Task(kind, names)) for kind in ("multiclass", "multilabel", "regression", "tracks")] == [3] * 4
    assert num_outputs(Task("binary", names[:2])) == 1 and num_outputs(Task("per-base", names[:2])) == 2


def test_the_longest_row_fits_the_model(folder, tmp_path):
    """A row of as many letters as are allowed goes through; one more is named by its line."""
    for model in ("bert", "esm"):
        recipe = load(folder, tmp_path, method="lora", model=model)
        parts = read_split_rows(recipe)
        made, _, encoder, _ = build_label_model(recipe, parts)
        assert encoder.max_tokens == max_row_tokens(made.backbone.config)
        ends = len(encoder.encoder.prefix_ids) + len(encoder.encoder.suffix_ids)
        most = (encoder.max_tokens - ends) * encoder.encoder.k
        assert most >= 60
        part = parts.test.select([0])
        for extra, fits in ((0, True), (1, False)):
            row = type(part)(**(vars(part) | {"sequences": ["A" * (most + extra)]}))
            if fits:
                check_lengths(encoder, row)
                batch = build_collator(recipe, parts, encoder).rows(row.sequences)
                import torch

                made(**{k: torch.from_numpy(v) for k, v in batch.items()})
            else:
                with pytest.raises(ValueError, match=r"binary-0.csv:\d+: a sequence of"):
                    check_lengths(encoder, row)


def test_the_same_seed_makes_the_same_head(folder, tmp_path):
    made = []
    for seed in (0, 0, 1):
        recipe = load(folder, tmp_path, f"seed={seed}", method="lora")
        made.append(build_label_model(recipe, read_split_rows(recipe))[0].head.weight.detach().numpy())
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).any()


def test_targets_are_scaled_by_the_train_rows_alone(folder, tmp_path):
    recipe = load(folder, tmp_path, kind="regression", method="lora")
    parts = read_split_rows(recipe)
    collator = build_collator(recipe, parts, build_label_model(recipe, parts)[2])
    np.testing.assert_allclose(collator.centre, np.nanmean(parts.train.labels, axis=0))
    np.testing.assert_allclose(collator.scale, np.nanstd(parts.train.labels, axis=0))
    parts.train.labels[:, 1] = np.nan
    with pytest.raises(ValueError, match="t1: missing in every train row"):
        build_collator(recipe, parts, None)


@pytest.mark.parametrize(
    ("overrides", "kind", "message"),
    [
        (
            ["imbalance=sampling"],
            "multilabel",
            "a row of a multilabel task has no one class",
        ),
        (["imbalance=focal"], "tracks", "imbalance is focal, and the task is tracks"),
        (["long_inputs=windows"], "per-base", "predictions at every base need rows that fit"),
    ],
)
def test_what_does_not_go_together(folder, tmp_path, overrides, kind, message):
    recipe = load(folder, tmp_path, *overrides, kind=kind, method="lora")
    parts = read_split_rows(recipe)
    with pytest.raises(ValueError, match=message):
        build_collator(recipe, parts, build_label_model(recipe, parts)[2])


def test_where_a_model_is(folder):
    assert model_folder(str(folder / "bert")) == model_folder(str(folder / "bert" / "checkpoint"))
    for name in (str(folder), "./nowhere", "nowhere", "nowhere/", "a/b/c", str(folder / "x" / "y")):
        with pytest.raises(ModelError, match="no config.json there"):
            model_folder(name)
    with pytest.raises(ModelError, match="the Hub gives none"):
        model_folder("nobody/nothing")


def test_a_base_is_found_where_it_was_or_beside(folder, tmp_path):
    shutil.copytree(folder / "bert" / "checkpoint", tmp_path / "there" / "base")
    sha = weights_sha256(folder / "bert" / "checkpoint")
    adapter = tmp_path / "there" / "run" / "model"
    adapter.mkdir(parents=True)
    base = {"model": "none", "folder": str(folder / "gone"), "beside": "../../base", "sha256": sha}
    assert base_of(adapter, base).resolve() == (tmp_path / "there" / "base").resolve()
    with pytest.raises(ModelError, match="put it back, or move both together"):
        base_of(adapter, base | {"beside": "../../other"})
    with pytest.raises(ModelError, match="are not those it was trained on"):
        base_of(adapter, base | {"sha256": "0"})
    with pytest.raises(ModelError, match="are not those it was trained on"):
        base_of(adapter, base | {"beside": "", "model": str(folder / "genolm")})


def test_a_folder_that_is_not_ours_is_refused(folder, tmp_path):
    finetune(write_recipe(tmp_path, "run", folder / "bert", write_table(tmp_path), method="full"))
    model = tmp_path / "run" / "model"
    about = json.loads((model / "genolm.json").read_text())
    with pytest.raises(ValueError, match="holds no genolm.json"):
        open_labelled(tmp_path)
    for wrong in ("{", "[]", json.dumps(about | {"task": None}), json.dumps(about | {"base": {}})):
        (model / "genolm.json").write_text(wrong)
        with pytest.raises(ValueError, match="not what `genolm finetune` writes"):
            open_labelled(model)
    (model / "genolm.json").write_text(json.dumps(about))
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(ValueError, match="holds no model.safetensors"):
        open_labelled(model)
