"""Progress bars on stderr; nothing where stderr is not a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
