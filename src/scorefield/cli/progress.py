"""Progress bars on stderr; nothing where stderr is not a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from scorefield.counting import Evaluations


class EvaluationRate(ProgressColumn):
    """Network evaluations a second, counting one for each sample."""

    def __init__(self, evaluations: Evaluations) -> None:
        super().__init__()
        self._evaluations = evaluations

    def render(self, task: Task) -> Text:
        """The rate since the task began."""
        count, elapsed = self._evaluations.forward, task.elapsed
        return Text(f"{count / elapsed:.0f} NFE/s" if elapsed else "")


@contextmanager
def progress(what: str, total: int, evaluations: Evaluations) -> Iterator[Callable[[], None]]:
    """A bar of `total` steps; call what it gives for each of them that is done."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        EvaluationRate(evaluations),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


class SampleRate(ProgressColumn):
    """Samples a second and the time that is left, by what was made since the task began."""

    def __init__(self, resumed: int) -> None:
        super().__init__()
        self._resumed = resumed

    def render(self, task: Task) -> Text:
        """The pace so far."""
        return Text(pace(task.completed - self._resumed, (task.total or 0) - task.completed, task.elapsed or 0))


def pace(made: float, left: float, seconds: float) -> str:
    """Samples a second, and how long those that are left will take.

    >>> pace(made=30, left=7200, seconds=10), pace(made=0, left=9, seconds=1)
    ('3.0 samples/s, 0:40:00 left', '')
    """
    if made <= 0 or seconds <= 0:
        return ""
    return f"{made / seconds:.1f} samples/s, {timedelta(seconds=round(left * seconds / made))} left"


@contextmanager
def sample_progress(total: int, *, resumed: int = 0, shown: bool = True) -> Iterator[Callable[[float], None]]:
    """A bar of `total` samples, of which `resumed` were there before; tell it how many were made since, in all."""
    console = Console(stderr=True)
    columns = (
        TextColumn("sampling"),
        BarColumn(),
        TextColumn("{task.fields[whole]}/{task.total}"),
        SampleRate(resumed),
    )
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task("", total=total, completed=resumed, whole=resumed)
        yield lambda made: bar.update(task, completed=resumed + made, whole=int(resumed + made))
