import copy

import pytest
import torch

from scorefield.training.schedule import ema_decay, learning_rate, update_ema


def rate(step: int, **changes: float) -> float:
    return learning_rate(step, **{"steps": 1000, "lr": 2e-4, "warmup": 100, "decay": 0.0, **changes})  # type: ignore[arg-type]


def test_warm_up_is_the_published_one() -> None:
    assert [rate(step) for step in (0, 50, 100, 999)] == [0.0, 1e-4, 2e-4, 2e-4]
    assert rate(0, warmup=0) == 2e-4


def test_the_decay_ends_at_zero_and_looks_at_the_end_only() -> None:
    assert rate(750, decay=0.5) == pytest.approx(1e-4)
    assert rate(1000, decay=0.5) == 0
    for step in range(0, 500, 50):
        assert rate(step, decay=0.5) == rate(step, decay=0.5, steps=5000)


def test_the_average_is_its_closed_form() -> None:
    network = torch.nn.BatchNorm1d(2)
    average = copy.deepcopy(network)
    values = torch.arange(1.0, 8.0)
    decays = [ema_decay(step, 0.6) for step in range(1, 8)]
    assert decays == [2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17]
    assert ema_decay(100, 0.6) == 0.6
    for value, decay in zip(values, decays, strict=True):
        network.weight.data.fill_(float(value))
        network.running_mean.fill_(float(value))
        update_ema(average, network, decay)
    shares = torch.tensor(decays)
    later = torch.tensor([float(shares[i + 1 :].prod()) for i in range(7)])
    expected = shares.prod() * 1.0 + ((1 - shares) * later * values).sum()
    torch.testing.assert_close(average.weight, expected.expand(2))
    assert bool((average.running_mean == 7).all())


def test_an_impossible_decay_is_refused() -> None:
    with pytest.raises(ValueError, match="0 to 1"):
        update_ema(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1), 1.5)
