"""Samples into one file, or into a folder that several processes fill and that goes on where it was killed."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import typer
from torch import Tensor

import scorefield as sf
from scorefield.cli.errors import INTERRUPTED
from scorefield.cli.processes import Processes
from scorefield.cli.progress import sample_progress
from scorefield.cli.result import kept
from scorefield.cli.trajectory import Trajectory
from scorefield.data import Shards, prepare_shards, save_samples
from scorefield.recipes.build import recipe_of
from scorefield.samplers import Adaptive, Progress, Sampler
from scorefield.score import Denoiser
from scorefield.times import Grid, GridName

Seen = Callable[[float], None]
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Drawing:
    """How samples are drawn: by a walk of `steps` on a grid, or, where these are None, in the sampler's own."""

    model: Denoiser
    sampler: Sampler | Adaptive
    steps: int | None
    grid: GridName | Grid | None
    seed: int
    film: Trajectory | None = None

    def draw(self, part: range, seen: Seen) -> Tensor:
        """The samples of these indices, in data units; `seen` is told which share of their way is done."""
        film = self.film if part.start == 0 else None

        def stepped(done: Progress) -> None:
            seen(done.step / done.steps)
            if film is not None:
                film.see(done)

        walk: dict[str, Any] = {"grid": self.grid} if isinstance(self.grid, str | Tensor) else {}
        if isinstance(self.grid, str):
            walk["steps"] = self.steps
        samples = sf.sample(
            self.model,
            len(part),
            seed=self.seed,
            sampler=self.sampler,
            batch_size=len(part),
            first=part.start,
            callback=stepped,
            **walk,
        ).cpu()
        if film is not None:
            film.write(samples)
        return samples


@dataclass(frozen=True)
class Drawn:
    """How many samples had been there before, and the network evaluations of all processes for the others."""

    resumed: int
    evaluations: int


def to_file(drawing: Drawing, parts: Sequence[range], out: str) -> Drawn:
    """Draw all samples and write them as one file, those that are done also where it is cut short."""
    n = parts[-1].stop
    with (
        sf.count_evaluations(drawing.model) as evaluations,
        kept(lambda samples: save_samples(out, samples, drawing.seed), n, out) as done,
        sample_progress(n) as show,
    ):
        for part in parts:
            done.append(drawing.draw(part, lambda share: show(part.start + share * len(part))))  # noqa: B023
            show(part.stop)
    return Drawn(0, evaluations.forward)


def to_folder(drawing: Drawing, shards: Shards, settings: Mapping[str, Any], name: str, team: Processes) -> Drawn:
    """Draw the samples that a folder lacks; this process draws every `team.world`-th batch.

    A batch is written while the next is drawn. `settings` are those of `settings_of`; `name` is what the model was
    called.
    """
    pending = team.from_first(lambda: _pending(drawing, shards, settings, name))
    resumed = shards.n - sum(map(len, pending))
    others = _Others(shards, [pending[rank :: team.world] for rank in range(1, team.world)] if team.first else [])
    made = 0
    try:
        with (
            sf.count_evaluations(drawing.model) as evaluations,
            sample_progress(shards.n, resumed=resumed, shown=team.first) as show,
            _Writer(shards) as writer,
        ):
            for part in pending[team.rank :: team.world]:
                samples = drawing.draw(part, lambda share: show(made + share * len(part) + others.made()))  # noqa: B023
                writer.write(part, samples)
                made += len(part)
                show(made + others.made())
            writer.finish()
            total = team.total(evaluations.forward, lambda: show(made + others.made()))
    except (KeyboardInterrupt, RuntimeError, MemoryError, ValueError, OSError) as error:
        if isinstance(error, KeyboardInterrupt) and not team.first:
            raise typer.Exit(INTERRUPTED) from None
        done = shards.n - sum(map(len, shards.pending()))
        error.add_note(f"{done} of {shards.n} samples are in {shards.folder}: give the same command to go on")
        raise
    return Drawn(resumed, total)


def _pending(drawing: Drawing, shards: Shards, settings: Mapping[str, Any], name: str) -> list[range]:
    """The batches to draw: those that are not done, and the first one where it has to be seen on its way."""
    prepare_shards(shards.folder, shards.n, settings, model=name)
    pending, first = shards.pending(), shards.parts[0]
    unseen = drawing.film is not None and not Path(drawing.film.path).exists()
    return [first, *pending] if unseen and first not in pending else pending


class _Writer:
    """Writes a batch in a thread, once the one before is written."""

    def __init__(self, shards: Shards) -> None:
        self._shards, self._thread = shards, ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def write(self, part: range, samples: Tensor) -> None:
        """Begin to write a batch. Raises what went wrong with the one before."""
        self.finish()
        self._writing = self._thread.submit(self._shards.write, part, samples)

    def finish(self) -> None:
        """Wait until all is written. Raises what went wrong."""
        if self._writing is not None:
            self._writing.result()


class _Others:
    """What the other processes have made, by the files that are there."""

    def __init__(self, shards: Shards, queues: list[list[range]]) -> None:
        self._shards, self._queues = shards, queues
        self._made, self._looked = 0, time.monotonic()

    def made(self) -> int:
        """Their samples since the beginning, as of a moment ago."""
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            for queue in self._queues:
                while queue and self._shards.done(queue[0]):
                    self._made += len(queue.pop(0))
            self._looked = time.monotonic()
        return self._made


def settings_of(drawing: Drawing, batch_size: int, **more: Any) -> dict[str, Any]:
    """All that determines the bytes of samples, but for the machine; `more` is what the drawing does not know."""
    return {
        "seed": drawing.seed,
        "sampler": str(drawing.sampler),
        "steps": drawing.steps,
        "grid": drawing.grid.tolist() if isinstance(drawing.grid, Tensor) else drawing.grid,
        "batch_size": batch_size,
        **more,
        "device": sf.api.device_of(drawing.model).type,
        "weights": fingerprint(drawing.model),
    }


def fingerprint(model: Denoiser) -> str:
    """A hash of the weights, a classifier's too, and of the parts of the recipe that say what they mean."""
    digest = hashlib.blake2b(digest_size=8)
    recipe = recipe_of(model)
    if recipe is not None:
        sections = recipe.model_dump(mode="json", include={"data", "sde", "model"})
        digest.update(json.dumps(sections, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
