"""Training: a loop to read from top to bottom, the same for score models and for classifiers, which differ in their
task (:mod:`scorefield.training.task`).

A run folder holds `recipe.yaml`, the averaged model (`model.json` and `weights.safetensors`: the folder is a MODEL),
the training's state in `state/`, pictures of samples in `samples/`, copies of the averaged model in `snapshots/`, and
`metrics.jsonl`. Everything is written whole.

What a step does depends on (recipe, step, state) alone, so that a training that was killed and goes on ends with the
weights that it would have had, on a CPU bit for bit. It may go on with another `training.steps`.
"""

import copy
import math
import os
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from rich.console import Console
from torch import Tensor

from scorefield.data import Batches, Source, atomic_write
from scorefield.network_model import NetworkModel
from scorefield.noise import key
from scorefield.recipes import Recipe, to_yaml
from scorefield.recipes.build import RecipeModel
from scorefield.recipes.build_classifier import RecipeClassifier
from scorefield.recipes.classifier import ClassifierRecipe
from scorefield.training.interrupt import graceful
from scorefield.training.objective import draws, model_units
from scorefield.training.preview import preview_samples
from scorefield.training.report import reporting, trim_metrics
from scorefield.training.schedule import ema_decay, learning_rate, update_ema
from scorefield.training.state import has_state, load_state, save_state
from scorefield.training.task import Classification, Model, ScoreMatching, Task, TrainingError


@dataclass(frozen=True)
class Trained(Generic[Model]):
    """The averaged model of a training, the steps it has made, and whether these are all."""

    model: Model
    steps: int
    finished: bool


def train(
    recipe: Recipe,
    source: Source,
    out: str | os.PathLike[str] | None = None,
    *,
    init: NetworkModel | None = None,
    resume: bool = True,
    device: str | None = None,
    console: Console | None = None,
    preview: Callable[[RecipeModel], Tensor] = preview_samples,
) -> Trained[RecipeModel]:
    """Train the recipe's model on `source`, in the run folder `out` (None: nothing is written).

    It starts from the weights of `init`, or from random ones. A run folder with a state is gone on with, whatever
    `init` is; `resume=False` refuses it instead. SIGINT and SIGTERM end the training
    after the present step and a checkpoint. `preview` makes images in data units for `samples/`.

    Raises:
        TrainingError: data, weights or a run folder that do not fit the recipe, a loss that is not finite.
        OSError: where a file cannot be written; the last checkpoint stays.
    """
    return learn(ScoreMatching(recipe, init, preview), source, out, resume=resume, device=device, console=console)


def train_classifier(
    recipe: ClassifierRecipe,
    source: Source,
    out: str | os.PathLike[str] | None = None,
    *,
    resume: bool = True,
    device: str | None = None,
    console: Console | None = None,
) -> Trained[RecipeClassifier]:
    """Train the recipe's classifier on labelled data that its SDE perturbs; all else as in `train`."""
    return learn(Classification(recipe), source, out, resume=resume, device=device, console=console)


def learn(
    task: Task[Model],
    source: Source,
    out: str | os.PathLike[str] | None,
    *,
    resume: bool,
    device: str | None,
    console: Console | None,
) -> Trained[Model]:
    """Train what a task makes, on a task's loss; see `train`."""
    recipe: Recipe | ClassifierRecipe = task.recipe
    settings = recipe.training
    accelerator = Accelerator(cpu=device == "cpu")
    rank, world, device_ = accelerator.process_index, accelerator.num_processes, accelerator.device
    folder = None if out is None else Path(out)
    _check_device(device, device_)
    _check_data(recipe, source, world)
    if folder is not None and has_state(folder / "state"):
        _check_resumable(task, folder, resume)

    with torch.random.fork_rng([device_] if device_.type == "cuda" else []), graceful() as wish:
        torch.manual_seed(key(settings.seed, "weights"))
        model = task.start(resumes=folder is not None and has_state(folder / "state"))
        average = copy.deepcopy(model).requires_grad_(False).eval().to(device_)
        adam = torch.optim.Adam(model.parameters(), settings.lr, settings.betas, settings.eps, settings.weight_decay)
        objective, optimizer = accelerator.prepare(task.objective(model), adam)
        part = settings.batch_size // world
        rows = slice(rank * part, (rank + 1) * part)
        batches = Batches(source, settings.batch_size, settings.seed, recipe.data.flip, rank, world)
        step = 0 if folder is None else load_state(folder / "state", model.network, average.network, adam)
        writer = folder if accelerator.is_main_process else None
        _begin(task, average, writer, step)
        with reporting(settings, step, writer, console if accelerator.is_main_process else None) as report:
            model.train()
            stopped = False
            while step < settings.steps and not stopped:
                x, labels = batches.batch(step)
                u, z, v, w = draws(settings.seed, step, (settings.batch_size, *recipe.data.shape), rows)
                x0 = model_units(model.space, x, v, recipe.data.dequantize)
                batch = [None if a is None else a.to(device_) for a in (x0, u, z, task.labels(labels, w))]
                lr = learning_rate(
                    step, steps=settings.steps, lr=settings.lr, warmup=settings.warmup, decay=settings.decay
                )
                for group in adam.param_groups:
                    group["lr"] = lr

                torch.manual_seed(key(settings.seed, "dropout", step, rank))
                loss = torch.zeros((), device=device_)
                for i, piece in enumerate(_pieces(batch, settings.parts)):
                    with nullcontext() if i == settings.parts - 1 else accelerator.no_sync(objective):
                        with torch.autocast(device_.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                            share = objective(*piece) / settings.parts
                        accelerator.backward(share)
                    loss += share.detach()
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip or math.inf)
                told = torch.stack([loss, norm.float(), loss.new_tensor(float(wish.stop))])
                loss_value, norm_value, stop_value = accelerator.reduce(told, "mean").tolist()
                if not (math.isfinite(loss_value) and math.isfinite(norm_value)):
                    raise TrainingError(_not_finite(step, loss_value, norm_value, lr, folder))
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                step += 1
                update_ema(average.network, model.network, ema_decay(step, settings.ema))

                stopped, last = stop_value > 0, step == settings.steps
                report.step(step, loss_value)
                if last or step % settings.log_every == 0:
                    report.tell(step, lr=lr, gradient_norm=norm_value)
                if writer is not None:
                    task.note(average, writer, step, report)
                if writer is not None and (last or stopped or step % settings.checkpoint_every == 0):
                    save_state(writer / "state", step, model.network, average.network, adam)
                    task.save(average, writer, step)
    return Trained(average, step, step == settings.steps)


def _pieces(batch: Sequence[Tensor | None], parts: int) -> Iterator[list[Tensor | None]]:
    """A batch in equal parts."""
    columns = [[None] * parts if whole is None else whole.chunk(parts) for whole in batch]
    for row in zip(*columns, strict=True):
        yield list(row)


def _begin(task: Task[Model], average: Model, folder: Path | None, step: int) -> None:
    """Write down what is trained, and bring the run folder to the state that the training goes on from."""
    if folder is None:
        return
    steps = task.recipe.training.steps
    if step > steps:
        raise TrainingError(f"{folder} has made {step} steps, training.steps is {steps}: give more")
    with atomic_write(folder / "recipe.yaml", "w") as file:
        file.write(to_yaml(task.recipe))
    if step:
        task.save(average, folder, step)
    trim_metrics(folder / "metrics.jsonl", step)


def _check_device(asked: str | None, given: torch.device) -> None:
    if asked is not None and torch.device(asked).type != given.type:
        raise TrainingError(f"device {asked} asked for, this machine gives {given.type}: ask for that, or for none")


def _check_data(recipe: Recipe | ClassifierRecipe, source: Source, world: int) -> None:
    """Refuse data that are not what the recipe's model takes."""
    data, batch = recipe.data, recipe.training.batch_size
    for what, given, expected in (
        ("shape", list(source.shape), list(data.shape)),
        ("levels", source.levels, data.levels),
    ):
        if given != expected:
            raise TrainingError(
                f"{source.name} has {what} {given}, the recipe's data.{what} is {expected}: "
                f"set data.{what} or give other data"
            )
    if data.classes and source.classes != data.classes:
        raise TrainingError(
            f"{source.name} has {source.classes or 'no'} classes, the recipe's data.classes is {data.classes}: "
            "set data.classes (0 trains without labels) or give other data"
        )
    if batch % (world * recipe.training.parts):
        raise TrainingError(
            f"training.batch_size = {batch} is not divisible by {world} processes with training.parts = "
            f"{recipe.training.parts} each: change one of them"
        )


def _check_resumable(task: Task[Model], folder: Path, resume: bool) -> None:
    """Refuse to go on with another recipe."""
    if not resume:
        raise TrainingError(f"{folder} holds a training: go on with it (resume), or choose another folder")
    old, new = (r.model_dump(mode="json") for r in (task.read(folder / "recipe.yaml"), task.recipe))
    for section, values in new.items():
        free: Set[str] | None = task.free.get(section, set())
        was = old[section]
        if not isinstance(values, dict):
            values, was = {"": values}, {"": was}
        for name in [] if free is None else sorted((values.keys() | was.keys()) - free):
            if was.get(name) != values.get(name):
                dotted = f"{section}.{name}".rstrip(".")
                raise TrainingError(
                    f"{folder} was trained with {dotted} = {was.get(name)}, now {values.get(name)}: "
                    "give the same recipe to go on, or choose another folder"
                )


def _not_finite(step: int, loss: float, norm: float, lr: float, folder: Path | None) -> str:
    kept = f"; {folder} keeps the last checkpoint" if folder is not None else ""
    return (
        f"step {step}: loss {loss}, gradient norm {norm}, learning rate {lr:.3g}: not finite{kept}; "
        "lower training.lr or training.clip, or use training.precision=fp32"
    )
