"""Networks of any size without memory, to look at their shapes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_LEFT_OUT = (torch.Tensor.normal_, torch.nn.init.normal_, torch.Tensor.exp_)


@contextmanager
def weightless() -> Iterator[None]:
    """Within it, modules are made on the device ``meta``, of shapes only.

    There PyTorch loads its compiler, which takes seconds, for arithmetic that is not in place, and for the functions
    of ``_LEFT_OUT``, which do nothing here. The modules of this library are made in place.

    >>> with weightless():
    ...     layer = torch.nn.Linear(10**6, 10**6)
    >>> layer.weight.shape, layer.weight.device
    (torch.Size([1000000, 1000000]), device(type='meta'))
    """
    with torch.device("meta"), _Shapes():
        yield


class _Shapes(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _LEFT_OUT:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
