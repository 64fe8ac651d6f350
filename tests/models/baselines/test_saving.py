"""Saved and opened: the same bits, by the Auto classes, in a process that knows genolm alone."""

import json
import subprocess
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification

from genolm.models.baselines import BASELINES, build_baseline
from genolm.models.safe_loading import check_config, check_weights

BASES = [5, 6, 7, 8]


def trained(name, **more):
    """A model whose every weight and statistic has left its start."""
    torch.manual_seed(0)
    width = 1.0 if name == "kmer-logistic" else 0.1
    model = build_baseline(name, 60, 3, width, base_token_ids=BASES, **more).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(2):
        model(torch.randint(5, 9, (4, 60))).logits.square().sum().backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("name", BASELINES)
def test_bits_come_back(name, tmp_path):
    model = trained(name)
    model.save_pretrained(tmp_path)
    check_weights(tmp_path)
    check_config(tmp_path / "config.json")
    torch.manual_seed(1)
    for again in (type(model).from_pretrained(tmp_path), AutoModelForSequenceClassification.from_pretrained(tmp_path)):
        assert type(again) is BASELINES[name]
        before, after = model.state_dict(), again.state_dict()
        assert list(before) == list(after)
        assert all(torch.equal(before[key], after[key]) for key in before)
        assert not again.training
        ids = torch.randint(5, 9, (4, 60))
        # The same weights at another address: kernels may take another path, which changes the last bit.
        torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=1e-6, atol=1e-7)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["model_type"], config["baseline"], config["architectures"]) == (
        "genolm-baseline",
        name,
        [BASELINES[name].__name__],
    )
    assert config["options"] == model.options


def test_norms_save_their_statistics(tmp_path):
    model = trained("basset")
    saved = model.state_dict()["convolutions.1.running_mean"]
    assert saved.any()
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(again.state_dict()["convolutions.1.running_mean"], saved)


def test_options_and_width_come_back(tmp_path):
    model = trained("gru", per_base=True, k=3, num_layers=2, dropout=0.25)
    model.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert (config.width, config.per_base, config.length, config.num_labels, config.dropout) == (0.1, True, 60, 3, 0.25)
    assert config.options == {"k": 3, "num_layers": 2}
    again = AutoModelForTokenClassification.from_pretrained(tmp_path)
    ids = torch.randint(5, 9, (2, 50))
    torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=1e-6, atol=1e-7)


def test_a_fresh_process_opens_it_with_genolm_alone(tmp_path):
    model = trained("danq")
    model.save_pretrained(tmp_path)
    ids = torch.randint(5, 9, (1, 60), generator=torch.Generator().manual_seed(3))
    code = (
        "import genolm, torch\n"
        "from transformers import AutoConfig, AutoModelForSequenceClassification\n"
        f"assert AutoConfig.from_pretrained({str(tmp_path)!r}).baseline == 'danq'\n"
        f"model = AutoModelForSequenceClassification.from_pretrained({str(tmp_path)!r})\n"
        "ids = torch.randint(5, 9, (1, 60), generator=torch.Generator().manual_seed(3))\n"
        "print(model(ids).logits.tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [pytest.approx(row, abs=1e-6) for row in model(ids).logits.tolist()]


def test_it_registers_where_the_baselines_are_imported_first():
    code = (
        "import genolm.models.baselines\n"
        "from transformers import AutoModelForSequenceClassification as Auto, AutoConfig\n"
        "print(type(Auto.from_config(AutoConfig.for_model('genolm-baseline', baseline='deepcpg'))).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("DeepCpG\n", 0), done.stderr


def test_a_configuration_brings_no_layers_along():
    code = "import genolm, sys\nfrom transformers import AutoConfig\nprint('genolm.models.baselines' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
