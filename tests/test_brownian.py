"""Brownian motion addressed by time: its law, and that it is a function."""

import math

import pytest
import torch

from scorefield.brownian import END, BrownianPath, rounded
from scorefield.noise import Noise


def values(noise, row, times, shape=(512,)):
    path = BrownianPath(noise, row, shape)
    place, found = path.start(), []
    for time in times:
        place = path.walk(place, time)
        found.append(place.value)
    return torch.stack(found)


def test_increments_are_independent_with_the_variance_of_their_time():
    times = [END // 8, END // 2, 5 * END // 8, 5 * END // 8 + END // 1024, END]
    w = torch.cat([values(Noise(0, range(60)), row, times) for row in range(60)], 1).double()
    increments = torch.diff(w, dim=0, prepend=torch.zeros_like(w[:1]))
    spans = torch.diff(torch.tensor([0, *times]).double()) / END
    z = increments / spans.sqrt()[:, None]
    covariance = z @ z.T / z.shape[1]
    torch.testing.assert_close(covariance, torch.eye(5).double(), rtol=0, atol=5 * math.sqrt(2 / z.shape[1]))


def test_a_path_is_a_function_of_time():
    """Whatever was tried before, in whatever batch, at whatever other times."""
    direct = values(Noise(3, [7]), 0, [END // 3])[-1]
    visited = values(Noise(3, [5, 7]), 1, [1000, END // 5, END // 3 - 1, END // 3])[-1]
    torch.testing.assert_close(direct, visited, rtol=0, atol=1e-5)
    assert not torch.equal(direct, values(Noise(3, [8]), 0, [END // 3])[-1])
    assert not torch.equal(direct, values(Noise(4, [7]), 0, [END // 3])[-1])


def test_walks_go_forwards():
    path = BrownianPath(Noise(0, [0]), 0, (1,))
    place = path.walk(path.start(), 10)
    for time in (10, 9, END + 1):
        with pytest.raises(ValueError, match=f"time {time} from 10, expected a later one"):
            path.walk(place, time)


@pytest.mark.parametrize("step", [0.3, 1e-3, 1e-9, 2.0, 0.0])
@pytest.mark.parametrize("time", [0, 12345, END - 1])
def test_rounded_steps_go_on_and_end(time, step):
    end = rounded(time, step)
    assert time < end <= END
    assert end - time <= max(1, step * END)


def test_a_step_costs_few_draws(monkeypatch):
    draws = []
    monkeypatch.setattr(Noise, "at", lambda self, row, address, shape: draws.append(address) or torch.zeros(shape))
    path = BrownianPath(Noise(0, [0]), 0, (1,))
    place, steps = path.start(), 0
    while place.time < END:
        place, steps = path.walk(place, rounded(place.time, 0.0137)), steps + 1
    assert len(draws) < 4 * steps
    assert len(set(draws)) == len(draws)
