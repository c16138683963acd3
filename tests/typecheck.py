"""The checker of types and shapes: integers are floats, as PEP 484 has it.

A check costs more than most of what is checked. What is true of the first calls of a function in a test is taken for
true of the later ones: after `CALLS` it rests until `wake`.
"""

import functools
import inspect
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

CALLS = 10
_typed = beartype(conf=BeartypeConf(is_pep484_tower=True))
_calls: Counter[tuple[str, str]] = Counter()
_resting: list[Any] = []


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of that signature which raises where what it is called with does not fit."""
    typed, name = _typed(function), (function.__module__, function.__qualname__)

    @functools.wraps(typed)
    def counted(*args: Any, **kwargs: Any) -> Any:
        _calls[name] += 1
        if _calls[name] == 2 * CALLS:  # with its result, a call is checked twice
            _rest(*name)
        return typed(*args, **kwargs)

    return counted


def wake() -> None:
    """Every function is checked again."""
    for function in _resting:
        del function.__no_type_check__
    _resting.clear()
    _calls.clear()


def _rest(module: str, qualified: str) -> None:
    if "<locals>" in qualified:
        return
    found: Any = sys.modules[module]
    for part in qualified.split("."):
        found = inspect.getattr_static(found, part)
    function = inspect.unwrap(getattr(found, "fget", None) or getattr(found, "__func__", found))
    function.__no_type_check__ = True
    _resting.append(function)
