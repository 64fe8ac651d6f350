"""The loop of batches: every row once, in evaluation mode, as often on each rank."""

import numpy as np
import pytest
import torch

from genolm.inference.batches import batches_by_length, batches_of_equal_length, run_batches

LENGTHS = [5, 3, 9, 3, 5, 5, 1]


def test_rows_of_similar_length_share_a_batch_the_shortest_first():
    assert [rows.tolist() for rows in batches_by_length(LENGTHS, 3)] == [[6, 1, 3], [0, 4, 5], [2]]
    assert batches_by_length([], 3) == []


def test_batches_of_equal_length_hold_every_row_once():
    batches = batches_of_equal_length(LENGTHS, 2)
    assert sorted(np.concatenate(batches).tolist()) == list(range(7)) and max(map(len, batches)) == 2
    assert all(len({LENGTHS[row] for row in rows}) == 1 for rows in batches)


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4])
def test_all_ranks_run_equally_often_and_all_batches_together(num_ranks):
    model, batches = torch.nn.Linear(1, 1), [[0], [1, 2], [3], [4], [5]]
    runs = [
        [number for number, _ in run_batches(model, batches, lambda *_: None, rank=rank, num_ranks=num_ranks)]
        for rank in range(num_ranks)
    ]
    assert len({len(run) for run in runs}) == 1
    assert {number for run in runs for number in run} == set(range(5))


def test_the_mode_of_the_model_is_restored_even_after_an_error():
    model = torch.nn.Dropout(0.5)
    model.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(batch, device):
        assert not model.training and not torch.is_grad_enabled() and device.type == "cpu"
        if batch == [2]:
            raise ValueError("a bad batch")
        return model(torch.ones(4)).sum().item()

    results = run_batches(model, [[1], [2]], forward)
    assert next(results) == (0, 4.0)
    with pytest.raises(ValueError, match="a bad batch"):
        next(results)
    assert model.training
