"""Operators: adjoints, decompositions that equal their matrices, what is known where, what is refused."""

import math

import pytest
import torch
from oracles import name

from scorefield.guidance import Average, Blur, Fourier, Grey, Linear, Mask, Matrix, Measurement, Physics, Spectral

SHAPE = (3, 8, 6)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Deblurring:
    """What a physics of deepinv looks like."""

    def A(self, x):
        return 2 * x.roll(1, -1)

    def A_adjoint(self, y):
        return 2 * y.roll(-1, -1)


SPECTRAL = [
    Mask(normal(*SHAPE) > 0),
    Mask(normal(2, *SHAPE) > 0),
    Grey(),
    Average(2),
    Blur.gaussian(0.6),
    Blur(normal(3, 4)),
    Fourier(normal(8, 6) > 0),
    Matrix(normal(7, 144), SHAPE),
    Matrix(normal(150, 144), SHAPE),
    Matrix(normal(9, 4) @ normal(4, 144), SHAPE),
]
OTHERS = [
    Linear(lambda x: x.cumsum(-1).diff(dim=-2), SHAPE),
    Average(2) @ Blur.gaussian(0.6),
    Physics(Deblurring()),
]


def random_like(y, seed):
    real = normal(*y.shape, seed=seed)
    return torch.complex(real, normal(*y.shape, seed=seed + 1)) if y.is_complex() else real


def inner(a, b):
    return float((a.conj() * b).real.sum())


@pytest.mark.parametrize("operator", [*SPECTRAL, *OTHERS], ids=name)
def test_the_adjoint(operator):
    x = normal(2, *SHAPE, seed=5)
    y = operator.apply(x)
    other = random_like(y, 6)
    assert inner(y, other) == pytest.approx(inner(x, operator.adjoint(other)), rel=1e-10, abs=1e-10)
    assert operator.adjoint(other).shape == x.shape
    torch.testing.assert_close(operator.apply(2 * x - 3 * x.flip(0)), 2 * y - 3 * operator.apply(x.flip(0)))


@pytest.mark.parametrize("operator", SPECTRAL, ids=name)
def test_the_decomposition_is_that_of_the_operator(operator):
    """V' is orthonormal, U' undoes U where something is measured, and the adjoint of a measurement has d twice."""
    x = normal(2, *SHAPE, seed=5)
    c = operator.spectrum(x)
    torch.testing.assert_close(operator.data(c), x)
    assert float(c.norm()) == pytest.approx(float(x.norm()))
    d, seen = operator.values(c), operator.seen(c)
    measured = torch.where(seen, d * c, 0)
    torch.testing.assert_close(operator.measurement(measured), operator.apply(x))
    found = operator.coefficients(operator.apply(x))
    torch.testing.assert_close(torch.where(seen, found, 0), measured)
    torch.testing.assert_close(operator.adjoint(operator.apply(x)), operator.data(d**2 * c))


@pytest.mark.parametrize("operator", SPECTRAL, ids=name)
def test_projection_keeps_what_was_measured_and_nothing_else(operator):
    truth, x = normal(2, *SHAPE, seed=5), normal(2, *SHAPE, seed=7)
    found = operator.project(x, operator.apply(truth))
    torch.testing.assert_close(operator.apply(found), operator.apply(truth), rtol=1e-7, atol=1e-9)
    moved = operator.spectrum(found - x)
    assert not bool(torch.where(operator.seen(moved), 0, moved).abs().max() > 1e-9)


def test_each_is_what_its_name_says():
    x = normal(2, *SHAPE, seed=5)
    torch.testing.assert_close(Grey().apply(x), x.mean(1, keepdim=True))
    torch.testing.assert_close(Average(2).apply(x), torch.nn.functional.avg_pool2d(x, 2))
    kernel = normal(3, 4)
    shifts = [(i, j) for i in range(3) for j in range(4)]
    expected = sum(kernel[i, j] * x.roll((i - 1, j - 2), (-2, -1)) for i, j in shifts)
    torch.testing.assert_close(Blur(kernel).apply(x), expected)
    wide = normal(9, 9)  # goes around more than once
    shifts = [(i, j) for i in range(9) for j in range(9)]
    expected = sum(wide[i, j] * x.roll((i - 4, j - 4), (-2, -1)) for i, j in shifts)
    torch.testing.assert_close(Blur(wide).apply(x), expected)
    known = torch.zeros(8, 6, dtype=torch.bool)
    known[0, 0] = known[1, 2] = True
    y = Fourier(known).apply(x)
    whole = torch.fft.fft2(x, norm="ortho")
    for k in ((0, 0), (1, 2)):  # and not the opposite frequency, (7, 4), which says the same
        torch.testing.assert_close(y[..., k[0], k[1]], whole[..., k[0], k[1]])
    assert int((y.abs() > 1e-12).sum()) == 2 * 2 * 3


def test_masks_of_their_own_go_with_their_samples():
    own, y = Mask(normal(4, 5) > 0), normal(4, 5, seed=1)
    chosen = Measurement(own, y).select(torch.tensor([2, 0]))
    assert torch.equal(chosen.operator.known, own.known[[2, 0]])
    assert torch.equal(chosen.y, y[[2, 0]])
    shared = Mask(normal(5) > 0)
    assert Measurement(shared, y).select(torch.tensor([2])).operator is shared


def test_a_mask_for_all_is_no_mask_of_each():
    """Also where its first axis is as long as the batch; a mask of each goes through compositions."""
    channel = Mask(torch.tensor([True, False, False])[:, None, None].expand(3, 4, 4))
    y = channel.apply(normal(3, 3, 4, 4))
    rows = torch.tensor([1])
    assert Measurement(channel, y).select(rows).operator is channel
    own = Mask(normal(3, 3, 4, 4, seed=1) > 0)
    both = Grey(3) @ own
    torch.testing.assert_close(both.select(rows, both.apply(y)).apply(y[rows]), both.apply(y)[rows])


def test_one_of_two_opposite_frequencies_is_worth_both():
    """Real data with a known coefficient have the other too."""
    known = torch.zeros(8, 6, dtype=torch.bool)
    known[0, 0] = known[1, 2] = True
    x, fourier = normal(2, *SHAPE), Fourier(known)
    found = torch.fft.fft2(fourier.project(torch.zeros_like(x), fourier.apply(x)), norm="ortho")
    whole = torch.fft.fft2(x, norm="ortho")
    for k in ((0, 0), (1, 2), (7, 4)):
        torch.testing.assert_close(found[..., k[0], k[1]], whole[..., k[0], k[1]])


def test_noise_free_coordinates_of_little_weight_do_not_count():
    """A blur's highest frequencies, which double precision does not hold, are not inverted."""
    blur = Blur.gaussian(2.0)
    x = normal(1, 1, 32, 32)
    found = blur.project(torch.zeros_like(x), blur.apply(x))
    assert 0 < float(found.norm()) < float(x.norm())
    torch.testing.assert_close(blur.apply(found), blur.apply(x), rtol=0, atol=1e-4)


def test_what_is_refused():
    x = normal(1, *SHAPE)
    for make, message in (
        (lambda: Grey(1), "Grey of 1 channels, expected 2 or more"),
        (lambda: Average(1), "expected 2 or more"),
        (lambda: Average(5).apply(x), "blocks of 5 by 5 with images of 8 by 6: give a divisor of both"),
        (lambda: Blur.gaussian(0.0), "blur of 0.0 pixels"),
        (lambda: Blur(torch.zeros(3, 3)), "finite and not all zero"),
        (lambda: Blur(normal(3, 3)).apply(normal(2, 4)), r"data of shape \(4,\), expected images"),
        (lambda: Average(2).apply(normal(2, 4)), r"data of shape \(4,\), expected images"),
        (lambda: Grey(3).apply(normal(2, 4)), r"data of shape \(4,\), expected 3 channels first"),
        (lambda: Matrix(torch.full((2, 4), math.nan), (4,)), "entries that are not finite"),
        (lambda: Matrix(normal(2, 5), (4,)), "expected one column for each"),
        (lambda: Measurement(Grey(), x, -1.0), "noise of -1.0, expected 0 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(TypeError, match="str needs singular values, which Composed does not know: give a Matrix"):
        Measurement(Average(2) @ Blur.gaussian(0.6), x).spectral("")
    assert all(isinstance(operator, Spectral) for operator in SPECTRAL)
    assert math.isinf(float(Measurement(Mask(torch.tensor([False])), x[:, 0, 0, :1]).errors(x[:, 0, 0, :1])))
