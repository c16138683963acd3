"""A pickle, parsed and not run.

A pickle is a program for a small stack machine, most of whose instructions push data; the dangerous ones name a
function (GLOBAL), call it (REDUCE, NEWOBJ) and hand an object its state (BUILD). Python's machine imports the function
and calls it. The machine here imports nothing and calls nothing: a name stays a string, and a call or a state is kept
as a :class:`Record` of it. Whoever reads the result decides what a record means. Names other than :data:`KNOWN` are
refused all the same, at once: a file that has them is no file of networks.
"""

import io
import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from scorefield.convert.weights import ConversionError

KNOWN = frozenset(
    {
        "builtins.set",
        "collections.OrderedDict",
        "dnnlib.util.EasyDict",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.dtype",
        "torch.Size",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
        "torch.nn.modules.container.ModuleDict",
        "torch.nn.modules.container.ModuleList",
        "torch.storage._load_from_bytes",
        "torch_utils.persistence._reconstruct_persistent_obj",
    }
)
"""The names that a pickle of networks needs."""

_MAPPINGS = ("collections.OrderedDict", "dnnlib.util.EasyDict")


@dataclass(eq=False)
class Record:
    """A call that a pickle asks for and that was not made: the function's name, its arguments, the state to set."""

    name: str
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass(frozen=True)
class _Name:
    """A function or class that a pickle names."""

    name: str


class _Machine:
    """The stack, the marks on it where lists of values begin, and the memory of a pickle while it is parsed."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memory: dict[int, Any] = {}

    def above_mark(self) -> list[Any]:
        """What was pushed since the last mark."""
        at = self.marks.pop()
        items = self.stack[at:]
        del self.stack[at:]
        return items

    def name(self, name: str) -> None:
        """Push a name, if it is known."""
        if name not in KNOWN:
            raise ConversionError(f"it asks for {name}, which no file of networks needs")
        self.stack.append(_Name(name))

    def stack_global(self) -> None:
        """Push the name of which module and rest are on the stack."""
        rest, module = self.stack.pop(), self.stack.pop()
        if not isinstance(module, str) or not isinstance(rest, str):
            raise ConversionError("it asks for a name that is no text")
        self.name(f"{module}.{rest}")

    def call(self) -> None:
        """Push the record of a call; mappings, empty at first, and sets, which hold data only, are made.

        A set is the list that it is made of, not a copy: a file may refer to one list often.
        """
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise ConversionError("it calls what is no function")
        if function.name in _MAPPINGS and not arguments:
            self.stack.append({})
        elif function.name == "builtins.set" and len(arguments) == 1 and isinstance(arguments[0], list):
            self.stack.append(arguments[0])
        else:
            self.stack.append(Record(function.name, arguments))

    def build(self) -> None:
        """Note the state of the record below it."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Record):
            raise ConversionError("it sets the state of what is no object")
        self.stack[-1].state = state

    def set_items(self, items: list[Any]) -> None:
        """Put keys and values in turn into the mapping below them."""
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2 or not all(isinstance(key, str | int) for key in items[::2]):
            raise ConversionError("it puts items into what is no mapping, or under what is no key")
        target.update(zip(items[::2], items[1::2], strict=True))

    def extend(self, items: Iterable[Any]) -> None:
        """Put items into the list below them."""
        target = self.stack[-1]
        if not isinstance(target, list):
            raise ConversionError("it puts items into what is no list")
        target.extend(items)

    def tuple_of(self, count: int) -> None:
        """Push the last few values as one tuple."""
        if len(self.stack) < count:
            raise IndexError("too few values")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def remember(self, key: int) -> None:
        """Keep the last value."""
        self.memory[key] = self.stack[-1]


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"}
_TEXTS = {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
_DATA = _CONSTANTS.keys() | _NUMBERS | _TEXTS
"""Instructions that push their argument."""

_ACTIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda _m, _a: None,
    "FRAME": lambda _m, _a: None,
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.above_mark(),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.above_mark())),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_SET": lambda m, _: m.stack.append([]),
    "APPEND": lambda m, _: m.extend([m.stack.pop()]),
    "APPENDS": lambda m, _: m.extend(m.above_mark()),
    "ADDITEMS": lambda m, _: m.extend(m.above_mark()),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "SETITEM": lambda m, _: m.set_items([m.stack.pop(), m.stack.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.above_mark()),
    "BINPUT": lambda m, key: m.remember(key),
    "LONG_BINPUT": lambda m, key: m.remember(key),
    "MEMOIZE": lambda m, _: m.remember(len(m.memory)),
    "BINGET": lambda m, key: m.stack.append(m.memory[key]),
    "LONG_BINGET": lambda m, key: m.stack.append(m.memory[key]),
    "GLOBAL": lambda m, name: m.name(name.replace(" ", ".")),
    "STACK_GLOBAL": lambda m, _: m.stack_global(),
    "REDUCE": lambda m, _: m.call(),
    "NEWOBJ": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
}
"""All other instructions that a pickle of data and networks needs."""


def parse(content: bytes, where: str) -> Any:
    """The data in a pickle: numbers, text, bytes, lists, tuples, dicts, and records of what it would have called.

    Sets come as lists and every mapping as a dict.

    Raises:
        ConversionError: for a pickle that is damaged, names what is not :data:`KNOWN`, or has other instructions.

    >>> import pickle
    >>> parse(pickle.dumps({"a": [1, (2.5, None)]}), "this")
    {'a': [1, (2.5, None)]}
    >>> import os
    >>> parse(pickle.dumps(os.system), "this")
    Traceback (most recent call last):
    scorefield.convert.weights.ConversionError: this cannot be read safely: it asks for posix.system, which no file of \
networks needs
    """
    machine = _Machine()
    try:
        for instruction, argument, _ in pickletools.genops(io.BytesIO(content)):
            if instruction.name in _DATA:
                machine.stack.append(_CONSTANTS.get(instruction.name, argument))
            elif instruction.name == "STOP":
                (result,) = machine.stack
                return result
            elif instruction.name in _ACTIONS:
                _ACTIONS[instruction.name](machine, argument)
            else:
                raise ConversionError(f"it has the instruction {instruction.name}, which no file of networks needs")
        raise EOFError("it ends too early")
    except ConversionError as error:
        raise ConversionError(f"{where} cannot be read safely: {error}") from None
    except (ValueError, LookupError, TypeError, EOFError, RecursionError) as error:
        raise ConversionError(f"{where} is damaged or no pickle: {' '.join(str(error).split())[:200]}") from None
