"""Networks of any size without the memory of their weights, to look at their shapes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextmanager
def weightless() -> Iterator[None]:
    """Within it, modules are made with weights that are shapes only, on the device ``meta``.

    PyTorch loads its compiler, which takes seconds, to draw or to multiply numbers on that device. So only
    ``torch.empty`` makes such weights here, and ``normal_`` leaves them; buffers are there and have their numbers.
    The state of the random number generator stays.

    >>> with weightless():
    ...     layer = torch.nn.Linear(10**6, 10**6)
    >>> layer.weight.shape, layer.weight.device
    (torch.Size([1000000, 1000000]), device(type='meta'))
    """
    with torch.random.fork_rng(devices=[]), _Shapes():
        yield


class _Shapes(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty:
            kwargs = {**kwargs, "device": "meta"}
        if func in (torch.Tensor.normal_, torch.nn.init.normal_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
