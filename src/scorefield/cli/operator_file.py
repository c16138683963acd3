"""Linear operators from files: a matrix, or Python that defines one."""

import runpy
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.cli.session import take
from scorefield.data import DataError, open_data
from scorefield.guidance import Linear, Matrix, Operator


def read_operator(name: str, shape: tuple[int, ...]) -> Operator:
    """The operator of a file, of data of a shape, once it has been found to be linear. Raises DataError."""
    path = Path(name)
    if path.suffix not in (".npy", ".npz", ".py"):
        raise DataError(f"{name}: no operator; expected a matrix (.npy, .npz) or Python (.py) that defines `operator`")
    if not path.is_file():
        raise DataError(f"{name}: no such file; check the name")
    operator = _defined(path, shape) if path.suffix == ".py" else _matrix(name, shape)
    try:
        _check(operator, shape)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    except Exception as error:  # whatever the user's function does
        raise DataError(
            f"{name}: `operator` fails on data of shape {(2, *shape)} ({_told(error)}): it takes a batch"
        ) from None
    return operator


def measurements(name: str, operator: Operator, shape: tuple[int, ...], first: int | None) -> Float[Tensor, "n *y"]:
    """Measurements from an array file, of the shape that an operator makes. Raises DataError."""
    source = open_data(name)
    expected = operator.apply(torch.zeros(1, *shape)).shape[1:]
    if source.shape != tuple(expected):
        raise DataError(
            f"{name}: measurements of shape {source.shape} given, expected {tuple(expected)} as the operator makes; "
            "with --degrade data are measured first"
        )
    y = take(source, first)
    return y if y.is_floating_point() else y / 255


def _matrix(name: str, shape: tuple[int, ...]) -> Operator:
    source = open_data(name)
    matrix, dim = source.tensor(), torch.Size(shape).numel()
    if matrix.ndim != 2 or matrix.shape[1] != dim or not matrix.is_floating_point():
        raise DataError(
            f"{name}: an array of {str(matrix.dtype).removeprefix('torch.')} of shape {tuple(matrix.shape)} given, "
            f"expected a matrix of floats with a column for each of the {dim} numbers of data {shape}"
        )
    return Matrix(matrix, shape)


def _defined(path: Path, shape: tuple[int, ...]) -> Operator:
    try:
        operator = runpy.run_path(str(path)).get("operator")
    except (Exception, SystemExit) as error:  # whatever the user's file does
        raise DataError(f"{path}: does not run ({_told(error)}): mend it") from None
    if isinstance(operator, Operator):
        return operator
    if not callable(operator):
        raise DataError(f"{path}: defines no `operator`; expected a function of a batch of data {shape}")
    return Linear(operator, shape)


def _check(operator: Operator, shape: tuple[int, ...]) -> None:
    """Raise DataError unless an operator is linear in data, and real."""
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    both, sums = operator.apply(x), operator.apply(x.sum(0, keepdim=True))
    if both.is_complex():
        raise DataError("`operator` makes complex numbers; expected real ones, as torch.view_as_real makes of them")
    if len(both) != 2:
        raise DataError(f"`operator` makes {tuple(both.shape)} of two data, expected their batch to be the first axis")
    if not both.is_floating_point():
        kind = str(both.dtype).removeprefix("torch.")
        raise DataError(f"`operator` makes {kind} of floats, expected floats")
    if not torch.allclose(both.sum(0), sums[0], rtol=1e-3, atol=1e-4 * float(both.abs().max())):
        raise DataError("`operator` is not linear: of a sum it makes another thing than the sum of what it makes")
    y = torch.randn(both.shape, generator=torch.Generator().manual_seed(1))
    try:
        back = operator.adjoint(y)
    except Exception as error:
        raise DataError(
            f"the adjoint of `operator` fails ({_told(error)}): it takes functions of torch that autograd follows"
        ) from None
    if back.shape != x.shape:
        raise DataError(f"the adjoint of `operator` makes {tuple(back.shape)}, expected {tuple(x.shape)}")
    if not torch.allclose((both * y).sum(), (x * back).sum(), rtol=1e-3, atol=1e-4 * float(both.norm() * y.norm())):
        raise DataError("the adjoint of `operator` is not that of what it makes: <A x, y> and <x, A' y> differ")


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
