"""The processes that a launcher, `torchrun` or `accelerate launch`, has started for one command.

They share a folder and hardly a word: whether all of them can begin, what is to be done, and a sum at the end.
An error that keeps them from beginning is told by one of them, and all end with the same exit status.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import typer

from scorefield.cli.errors import USAGE, explain

Result = TypeVar("Result")
PATIENCE = timedelta(days=7)
"""How long a process that is done waits for the slowest."""


class ProcessError(ValueError):
    """Processes that cannot work together."""


@dataclass(frozen=True)
class Processes:
    """This process, number `rank` of `world`, and number `local` of those on its machine.

    >>> Processes().together(lambda: 1), Processes().total(2)
    (1, 2)
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks."""
        return self.rank == 0

    def together(self, action: Callable[[], Result]) -> Result:
        """What `action` gives in this process, once it has gone well in all. Raises typer.Exit otherwise."""
        if self.world == 1:
            return action()
        result, line = _attempt(action)
        lines = self._gathered(line)
        troubled = next((rank for rank, line in enumerate(lines) if line is not None), None)
        if troubled is None:
            return result  # type: ignore[return-value]
        if troubled == self.rank:
            typer.echo(f"error: {line}", err=True)
        self._gathered(None)
        raise typer.Exit(USAGE)

    def from_first(self, action: Callable[[], Result]) -> Result:
        """What `action` gives in the first process, which alone does it, for all. Raises as `together`."""
        made = self.together(lambda: action() if self.first else None)
        return made if self.world == 1 else self._gathered(made)[0]  # type: ignore[return-value]

    def total(self, count: int, waiting: Callable[[], None] = lambda: None) -> int:
        """The sum over all processes, when each of them has come so far; `waiting` is called until then."""
        if self.world == 1:
            return count
        sums = torch.tensor(count, dtype=torch.int64)
        with _connected():
            work = torch.distributed.all_reduce(sums, async_op=True)
            while not work.is_completed():
                waiting()
                time.sleep(0.1)
            work.wait()
        return int(sums)

    def device(self, name: str) -> str:
        """The device of a name: `auto` and `cuda` are a GPU for each process. Raises ProcessError where they lack."""
        if self.world == 1 or name not in ("auto", "cuda") or not torch.cuda.is_available():
            return name
        if self.local >= (count := torch.cuda.device_count()):
            raise ProcessError(
                f"process {self.local + 1} on a machine with {count} GPUs: start as many processes as there are GPUs, "
                "or say which they share: --device cuda:0"
            )
        return f"cuda:{self.local}"

    def _gathered(self, word: object) -> list[Any]:
        words: list[Any] = [None] * self.world
        with _connected():
            torch.distributed.all_gather_object(words, word)
        return words


@contextmanager
def launched() -> Iterator[Processes]:
    """The processes of this command; connected where there are several."""
    world = os.environ.get("WORLD_SIZE", "1")
    if world == "1":
        yield Processes()
        return
    from accelerate import PartialState  # type: ignore[import-untyped]

    with group_ended():
        try:
            state = PartialState(cpu=True, backend="gloo", timeout=PATIENCE)
        except (ValueError, RuntimeError) as error:
            raise ProcessError(
                f"WORLD_SIZE is {world}, but these processes do not find one another "
                f"({str(error).splitlines()[0]}): start them with torchrun or accelerate launch, or unset WORLD_SIZE"
            ) from None
        yield Processes(state.process_index, state.num_processes, state.local_process_index)


def speaks() -> bool:
    """Whether this process, of those that a launcher has started, is the one that tells the result."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


@contextmanager
def group_ended() -> Iterator[None]:
    """End the group of processes that is begun within: its threads abort a process whose interpreter they outlive."""
    if torch.distributed.is_available():
        from torch.distributed import nn  # noqa: F401  a group that is there then is kept by defaults of its functions

    try:
        yield
    except KeyboardInterrupt:  # others may be at work for days, for whom an orderly end would wait
        raise
    except BaseException:
        _end_group()
        raise
    _end_group()


def _end_group() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _attempt(action: Callable[[], Result]) -> tuple[Result | None, str | None]:
    """The result of an action, or the line that tells what went wrong."""
    try:
        return action(), None
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        return None, line


@contextmanager
def _connected() -> Iterator[None]:
    """Say so where another process is gone."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessError("another of the processes has ended before its work was done: see what it says") from error
