"""Weights by name into a network, all of them or none.

A reader of a checkpoint has a mapping from the network's own names to tensors. A weight that the network has and the
mapping lacks, one that is left over and one of another shape are three ways in which a checkpoint does not belong to a
recipe, and all are told at once; so are tensors that are no plain arrays of floating-point numbers.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


class ConversionError(ValueError):
    """A checkpoint or configuration that is not of the expected form; one line that says what to do."""


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Copy `weights`, by the names of `network.state_dict()`, into the network, in the network's own precision.

    Raises ConversionError as `check_weights` does; the network is then as it was.
    """
    check_weights(network, weights, where)
    network.load_state_dict(weights)


def check_weights(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights that are not those of a network, which need not have memory.

    Raises:
        ConversionError: weights that are missing, left over, of another shape or of another kind, that share memory
            or are not finite, by name; `where` is what the message calls their origin.

    >>> try:
    ...     check_weights(nn.Linear(2, 2), {"weight": nn.Linear(3, 2).weight}, "this file")
    ... except ConversionError as error:
    ...     str(error).partition("; ")[2]
    'missing: bias; of another shape: weight (2, 3) instead of (2, 2)'
    """
    expected = network.state_dict()
    problems = {
        "missing": expected.keys() - weights.keys(),
        "left over": weights.keys() - expected.keys(),
        "of another shape": {
            f"{name} {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in weights and weights[name].shape != tensor.shape
        },
        "of another kind": {
            f"{name} ({tensor.dtype}, {tensor.layout}, {tensor.device})"
            for name, tensor in weights.items()
            if not is_plain(tensor)
        },
    }
    found = "; ".join(f"{what}: {listed(names)}" for what, names in problems.items() if names)
    if found:
        raise ConversionError(f"{where} does not fit the network of its recipe; {found}")
    storages = {(held := tensor.untyped_storage()).data_ptr(): held.nbytes() for tensor in weights.values()}
    if sum(tensor.nbytes for tensor in weights.values()) > sum(storages.values()):
        raise ConversionError(f"{where} has weights that share memory with each other; save each with its own")
    broken = [name for name, tensor in weights.items() if not tensor.float().isfinite().all()]
    if broken:
        raise ConversionError(f"{where} has NaN or infinity in {listed(broken)}; take an earlier save of the training")


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is an array of floating-point numbers in memory."""
    return tensor.is_floating_point() and tensor.layout == torch.strided and not tensor.is_meta


def listed(names: Iterable[str], most: int = 5) -> str:
    """The first few of some names, in order.

    >>> listed(["c", "a", "b"], most=2)
    'a, b and 1 more'
    """
    ordered = sorted(names)
    rest = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + rest
