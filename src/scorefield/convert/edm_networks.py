"""Networks in the pickles of the code that was published with Karras et al. (2022): their settings and weights.

That code pickles a network object as a call of ``torch_utils.persistence._reconstruct_persistent_obj``. Its argument
holds the source code of the object's module, which unpickling would execute, the name of the class, and the state of
the object: its attributes, among them PyTorch's ``_parameters``, ``_buffers`` and ``_modules``, and the arguments that
it was made with. From the parsed pickle (:mod:`scorefield.convert.pickled`) we take the name and the state, and leave
the source code where it is.
"""

import io
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefield.convert.pickled import Record
from scorefield.convert.reference_file import load_tensors
from scorefield.convert.weights import ConversionError

_PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
_CONTAINERS = ("torch.nn.modules.container.ModuleDict", "torch.nn.modules.container.ModuleList")


@dataclass(frozen=True)
class PickledModule:
    """A network object of a pickle: the name of its class, and its attributes."""

    kind: str
    state: Mapping[str, Any]

    @property
    def settings(self) -> Mapping[str, Any]:
        """The keyword arguments that it was made with."""
        settings = self.state.get("_init_kwargs")
        return {key: _plain(value) for key, value in settings.items()} if isinstance(settings, Mapping) else {}

    def attribute(self, name: str) -> Any:
        """A number or text that it has as an attribute; None where it has none."""
        return _plain(self.state.get(name))

    def child(self, name: str) -> "PickledModule":
        """A module that it has as an attribute."""
        return read_module(_part(self.state, "_modules").get(name), name)

    def tensors(self) -> dict[str, Tensor]:
        """Its weights and buffers, and those of the modules in it, by their dotted names; views of their storages."""
        return dict(_tensors(self, "", set(), {}))


def _tensors(
    module: PickledModule, prefix: str, seen: set[int], storages: dict[bytes, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """Each module and each storage is read once, however often the pickle refers to it."""
    parts = {kind: _part(module.state, kind) for kind in ("_parameters", "_buffers", "_modules")}
    for kind, part in parts.items():
        if part and id(part) in seen:
            raise ConversionError(f"{prefix}{kind} is already part of the network")
        seen.add(id(part))
    for name, value in (parts["_parameters"] | parts["_buffers"]).items():
        if value is not None:
            where = _dotted(prefix, name)
            yield where, read_tensor(value, where, storages)
    for name, value in parts["_modules"].items():
        if value is not None:
            where = _dotted(prefix, name)
            yield from _tensors(read_module(value, where), f"{where}.", seen, storages)


def _dotted(prefix: str, name: Any) -> str:
    """The name of a part; one as long as a file can make it many times is refused."""
    if not isinstance(name, str) or len(prefix) + len(name) > 200:
        raise ConversionError(f"{prefix:.50} has a part whose name is no name, or is nested too deep")
    return prefix + name


def read_module(value: Any, where: str) -> PickledModule:
    """A value of a parsed pickle as a module. Raises ConversionError where it is none."""
    if isinstance(value, Record) and value.name == _PERSISTENT and len(value.arguments) == 1:
        meta = value.arguments[0]
        if isinstance(meta, dict) and isinstance(meta.get("state"), dict) and meta.get("type") == "class":
            return PickledModule(str(meta.get("class_name")), meta["state"])
    if isinstance(value, Record) and value.name in _CONTAINERS and isinstance(value.state, dict):
        return PickledModule(value.name.rpartition(".")[2], value.state)
    raise ConversionError(f"{where} is no network module")


def read_tensor(value: Any, where: str, storages: dict[bytes, Tensor]) -> Tensor:
    """A value of a parsed pickle as a view of its storage, one of those read before or one more of them.

    Raises ConversionError where it is no tensor.
    """
    match value:
        case Record("torch._utils._rebuild_parameter", (inner, *_)):
            return read_tensor(inner, where, storages)
        case Record(
            "torch._utils._rebuild_tensor_v2",
            (Record("torch.storage._load_from_bytes", (bytes() as content,)), int(offset), size, stride, *_),
        ):
            shape = _integers(size, where)
            if content not in storages:
                storages[content] = _storage(content, where)
            numbers = storages[content]
            if np.prod(shape, dtype=float) <= len(numbers):
                try:
                    return numbers.as_strided(shape, _integers(stride, where), offset)
                except (RuntimeError, TypeError, ValueError):
                    raise ConversionError(f"{where} reaches beyond its storage") from None
            raise ConversionError(f"{where} of shape {shape} is larger than its storage of {len(numbers)} numbers")
    raise ConversionError(f"{where} is no tensor")


def _storage(content: bytes, where: str) -> Tensor:
    """The numbers of a storage that was pickled as a file of `torch.save` in its own right."""
    storage = load_tensors(io.BytesIO(content), where)
    if not isinstance(storage, torch.storage.TypedStorage):
        raise ConversionError(f"{where} holds {type(storage).__name__} in the place of numbers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.empty(0, dtype=storage.dtype).set_(storage.untyped())  # type: ignore[no-untyped-call]


def _integers(value: Any, where: str) -> tuple[int, ...]:
    """A shape or a stride."""
    items = value.arguments[0] if isinstance(value, Record) and value.name == "torch.Size" else value
    if not isinstance(items, tuple) or len(items) > 8 or not all(isinstance(item, int) and item >= 0 for item in items):
        raise ConversionError(f"{where} has a shape that is none")
    return items


def _part(state: Mapping[str, Any], name: str) -> dict[Any, Any]:
    """One of PyTorch's mappings in the state of a module."""
    part = state.get(name, {})
    if not isinstance(part, dict):
        raise ConversionError(f"{name} of a module is no mapping")
    return part


def _plain(value: Any) -> Any:
    """A number, a text, a NumPy scalar or a short list of these; None for anything else."""
    if isinstance(value, list | tuple) and len(value) <= 100:
        return [_scalar(item) for item in value]
    return _scalar(value)


def _scalar(value: Any) -> bool | float | str | None:
    match value:
        case bool() | int() | float() | str():
            return value
        case Record(
            "numpy.core.multiarray.scalar" | "numpy._core.multiarray.scalar",
            (Record("numpy.dtype", (("f8" | "f4" | "i8" | "i4") as dtype, *_)), bytes() as content),
        ) if len(content) == int(dtype[1]):
            number: float = np.frombuffer(content, f"<{dtype}")[0].item()
            return number
    return None
