"""What a training tells while it runs: a progress bar, `metrics.jsonl` and, where asked for, TensorBoard."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from scorefield.data import atomic_write
from scorefield.recipes.schema import Optimization


class Report:
    """Collects the losses of an interval and tells their mean; made by `reporting`."""

    def __init__(
        self, settings: Optimization, start: int, progress: Progress | None, metrics: Path | None, board: Any
    ) -> None:
        self._progress, self._metrics, self._board = progress, metrics, board
        self._batch_size = settings.batch_size
        self._task = None if progress is None else progress.add_task("", total=settings.steps, completed=start, note="")
        self._losses: list[float] = []
        self._clock = time.perf_counter()

    def step(self, step: int, loss: float) -> None:
        """Note that `step` steps are done, the last with this loss."""
        self._losses.append(loss)
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=step)

    def tell(self, step: int, **values: float) -> None:
        """Tell the interval's mean loss, its images a second and further `values`, then begin a new interval."""
        now = time.perf_counter()
        count = len(self._losses)
        loss, rate = sum(self._losses) / count, count * self._batch_size / max(now - self._clock, 1e-9)
        self._losses, self._clock = [], now
        row = {"step": step, "loss": loss, "images_per_second": rate, **values}
        if self._metrics is not None:
            with self._metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if self._board is not None:
            for name, value in row.items():
                if name != "step":
                    self._board.add_scalar(name, value, step)
        if self._progress is not None and self._task is not None:
            note = f"loss {loss:.4f} · {rate:.0f} images/s"
            self._progress.update(self._task, note=note)
            if not self._progress.console.is_terminal:
                self._progress.console.print(f"step {step}: {note}")

    def picture(self, step: int, picture: Any) -> None:
        """Tell a grid of samples (height, width, channel)."""
        if self._board is not None:
            self._board.add_image("samples", picture, step, dataformats="HWC")


@contextmanager
def reporting(settings: Optimization, start: int, folder: Path | None, console: Console | None) -> Iterator[Report]:
    """A report for a training from step `start`; without a console it is silent, without a folder it writes nothing.

    Raises ModuleNotFoundError where TensorBoard is asked for and not installed.
    """
    board = None if folder is None or not settings.tensorboard else _summary_writer(folder / "tensorboard", start)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    progress = None if console is None else Progress(*columns, console=console)
    metrics = None if folder is None else folder / "metrics.jsonl"
    try:
        if progress is not None and console is not None and console.is_terminal:
            progress.start()
        yield Report(settings, start, progress, metrics, board)
    finally:
        if progress is not None and progress.console.is_terminal:
            progress.stop()
        if board is not None:
            board.close()


def trim_metrics(path: Path, step: int) -> None:
    """Drop the rows after `step`, which a resumed training writes again, and a row that a kill cut short."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["step"] <= step:
            kept.append(line + "\n")
    with atomic_write(path, "w") as file:
        file.write("".join(kept))


def _summary_writer(folder: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "training.tensorboard is true and TensorBoard is not installed: "
            "pip install 'scorefield[tensorboard]', or set it false"
        ) from None
    return SummaryWriter(folder, purge_step=start)
