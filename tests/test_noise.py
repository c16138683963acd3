"""Noise that belongs to its sample."""

import pytest
import torch

from scorefield.noise import Noise


def draws(noise, shape=(3, 5), count=4):
    return torch.stack([noise.normal(shape) for _ in range(count)], 1)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (3, 100, 100)])
def test_a_sample_does_not_feel_its_batch_mates(shape):
    together = draws(Noise(1, range(10), stream="s"), shape)
    apart = torch.cat([draws(Noise(1, batch, stream="s"), shape) for batch in (range(3), range(3, 4), range(4, 10))])
    assert torch.equal(together, apart)


def test_draws_differ_between_samples_seeds_streams_and_times():
    rows = torch.cat(
        [
            draws(Noise(0, range(2))),
            draws(Noise(1, range(2))),
            draws(Noise(0, range(2), stream="probes")),
        ]
    ).reshape(-1, 15)
    assert len({tuple(row.tolist()) for row in rows}) == 24


def test_no_two_samples_of_a_seed_share_a_stream():
    """The generator keeps 32 bits: hashed keys would collide among these (birthday), a bijection cannot."""
    noise = Noise(7, range(50_000))
    assert len({g.initial_seed() for g in noise._generators}) == 50_000


def test_laws():
    noise = Noise(0, range(200))
    z, u, e = noise.normal((500,)), noise.uniform((500,)), noise.rademacher((500,))
    assert abs(float(z.mean())) < 4 / 1e5**0.5
    assert abs(float(z.var()) - 1) < 4 * (2 / 1e5) ** 0.5
    assert abs(float(u.mean()) - 0.5) < 4 * (1 / 12 / 1e5) ** 0.5
    assert float(u.min()) >= 0
    assert float(u.max()) < 1
    assert set(e.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(e.mean())) < 4 / 1e5**0.5
    correlation = (z[:-1] * z[1:]).mean()
    assert abs(float(correlation)) < 4 / 1e5**0.5


def test_dtype_only_rounds():
    assert torch.equal(Noise(0, [3]).normal((4,), torch.float64).float(), Noise(0, [3]).normal((4,)))


def test_a_seed_is_its_value():
    assert torch.equal(Noise(True, [0]).normal((4,)), Noise(1, [0]).normal((4,)))
