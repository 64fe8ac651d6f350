"""Numbers of parameters, against what was published or follows by hand from published layers."""

import pytest
import torch

from genolm.models.baselines import BASELINES, build_baseline


def parameters(name, length, num_outputs, **options) -> int:
    with torch.device("meta"):
        return build_baseline(name, length, num_outputs, base_token_ids=[0, 1, 2, 3], **options).num_parameters()


def test_deepsea():
    # Supplementary note of doi:10.1038/nmeth.3547: 320, 480, 960 kernels of 8, pooling 4, 925 units, 919 outputs.
    # 1,000 → 993 → 248 → 241 → 60 → 53 positions.
    convolutions = (4 * 8 * 320 + 320) + (320 * 8 * 480 + 480) + (480 * 8 * 960 + 960)
    assert parameters("deepsea", 1000, 919) == convolutions + (53 * 960 * 925 + 925) + (925 * 919 + 919) == 52_843_119


def test_danq():
    # 46,926,479: table of github.com/ljw-struggle/Bioinfor-DeepATT, doi:10.1093/bib/bbaa159, and by hand from
    # DanQ_train.py, whose flattened layer has 75 * 640 inputs. torch's LSTM has a second bias of 4 * 320 a direction.
    lstm = 2 * 4 * (320 * 320 + 320 * 320 + 320)
    published = (4 * 26 * 320 + 320) + lstm + (75 * 640 * 925 + 925) + (925 * 919 + 919)
    assert published == 46_926_479
    assert parameters("danq", 1000, 919) == published + 2 * 4 * 320


def test_basset():
    # Its pretrained model in Kipoi: 600 → 582 → 194 → 184 → 46 → 40 → 10 positions, 10 * 200 = 2,000 inputs.
    convolutions = (4 * 19 * 300 + 300) + (300 * 11 * 200 + 200) + (200 * 7 * 200 + 200) + 2 * (300 + 200 + 200)
    dense = (2000 * 1000 + 1000) + (1000 * 1000 + 1000) + 2 * (1000 + 1000) + (1000 * 164 + 164)
    assert parameters("basset", 600, 164) == convolutions + dense == 4_135_064


def test_basenji():
    # manuscripts/cross2020/params_human.json: filters 339 * 1.1776^i rounded; no biases beside norms.
    tower = [288, 339, 399, 470, 554, 652, 768]
    total = 4 * 15 * 288 + 2 * 288
    total += sum(5 * before * after + 2 * after for before, after in zip(tower[:-1], tower[1:], strict=True))
    total += 11 * ((3 * 768 * 384 + 2 * 384) + (384 * 768 + 2 * 768))
    total += (768 * 1536 + 2 * 1536) + (1536 * 5313 + 5313)
    assert parameters("basenji", 131_072, 5313) == total == 30_088_228


def test_deepcpg():
    # "4,100,000" in its documentation for 1,001 bp: 991 → 247 → 245 → 122 positions.
    by_hand = (4 * 11 * 128 + 128) + (128 * 3 * 256 + 256) + (122 * 256 * 128 + 128) + (128 + 1)
    assert parameters("deepcpg", 1001, 1) == by_hand
    assert round(by_hand, -5) == 4_100_000


def test_resnet():
    # "1745281 parameters" in deepcpg/models/dna.py, which is with a first kernel of 9; its 11 has 2 * 4 * 128 more,
    # "1,700,000" in the documentation.
    assert parameters("resnet", 1001, 1, kernel=9) == 1_745_281
    assert parameters("resnet", 1001, 1) == 1_745_281 + 2 * 4 * 128


def test_deepbind():
    # 16 motif detectors of 24 bases, 32 units, doi:10.1038/nbt.3300.
    assert parameters("deepbind", 101, 1) == (4 * 24 * 16 + 16) + (16 * 32 + 32) + (32 + 1) == 2_129


def test_mlp():
    # 256, 64, 16 units: main_mlp_new.py of github.com/yifeng-li/DECRES. 4 + 16 + … + 4,096 words up to 6 letters.
    layers = (256 * 64 + 64) + (64 * 16 + 16) + (16 * 3 + 3)
    assert parameters("mlp", 200, 3) == (5460 * 256 + 256) + layers
    assert parameters("mlp", 200, 3, features="one-hot") == (800 * 256 + 256) + layers


def test_kmer_logistic():
    assert parameters("kmer-logistic", 200, 2) == 2 * (5460 + 1)
    assert parameters("kmer-logistic", 200, 2, k_min=6) == 2 * (4096 + 1)


def test_those_of_chosen_size():
    """By hand, so that a change of size does not pass unseen; torch's recurrent layers have two biases."""
    lstm = 2 * 4 * 64 * (4 + 64 + 2)
    assert parameters("deepsite", 200, 1) == lstm + (128 * 15 * 128 + 128) + (128 * 64 + 64) + (64 + 1)
    assert parameters("gru", 200, 1) == (4 * 5 * 64 + 64) + 2 * 3 * 64 * (64 + 64 + 2) + (128 + 1)
    branches = (4 * 7 * 64 + 64) + (64 * 7 * 64 + 64) + 2 * 4 * 32 * (4 + 32 + 2)
    assert parameters("deep6mapred", 41, 1) == branches + 2 * (128 * 64 + 64) + 64 + (64 + 1)


@pytest.mark.parametrize("name", sorted(set(BASELINES) - {"deepsea", "danq", "basset", "deepcpg"}))
def test_the_length_changes_no_weight_of_the_others(name):
    assert parameters(name, 41, 1) == parameters(name, 2000, 1)
