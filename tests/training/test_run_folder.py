"""What goes on around a trainer."""

from types import SimpleNamespace

import pytest

from genolm.training import run_folder as run
from genolm.training.signals import Ended


@pytest.mark.parametrize("ends", [None, Ended("lost a rank")])
def test_freed_memory_is_kept_while_training_and_given_back(monkeypatch, ends):
    events = []
    for name in ("keep", "give_back"):
        monkeypatch.setattr(run.malloc, name, lambda name=name: events.append(name))

    def resume(checkpoint, manifest):
        events.append("train")
        if ends:
            raise ends

    trainer = SimpleNamespace(resume=resume, saving=True, stopped=False, is_world_process_zero=lambda: False)
    if ends:
        with pytest.raises(Ended):
            run.train(trainer, None, {}, False)
    else:
        assert run.train(trainer, None, {}, False) > 0
    assert events == ["keep", "train", "give_back"]
