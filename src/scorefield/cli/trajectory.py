"""How samples come about: the reverse process as a filmstrip or an animation."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from scorefield.cli.choices import OptionError
from scorefield.data import atomic_write, check_writable, filmstrip, grid, save_image
from scorefield.samplers import Progress
from scorefield.score import Denoiser

FRAMES = {".png": 12, ".gif": 48}
SHOWN = 8
MILLISECONDS, LAST = 60, 1500


class Trajectory:
    """Frames of the first few samples of a walk of so many `steps`, for a `.png` (a row each) or a `.gif`.

    Raises OptionError where the file has another ending, is that of the samples, or the samples are no images.
    """

    def __init__(self, path: str, out: str, model: Denoiser, steps: int) -> None:
        self.path, self.model, ending = path, model, Path(path).suffix.lower()
        if ending not in FRAMES:
            raise OptionError(
                f"--trajectory {path}: give a name that ends in .png (a filmstrip) or .gif (an animation)"
            )
        if Path(path).resolve() == Path(out).resolve():
            raise OptionError(f"--trajectory {path} and --out {out} are one file: give two names")
        if len(model.space.shape) != 3 or model.space.shape[0] not in (1, 3):
            raise OptionError(
                f"--trajectory with data of shape {model.space.shape}: it shows grey or colour images only"
            )
        check_writable(path)
        count = min(FRAMES[ending], steps) - 1
        self.wanted = {round(1 + (steps - 2) * i / max(1, count - 1)) for i in range(count)}
        self.frames: list[Tensor] = []

    def see(self, progress: Progress) -> None:
        """Keep the frame of a step, if it is one of those wanted."""
        if progress.step in self.wanted:
            self.frames.append(visible(self.model, progress.x[:SHOWN], progress.t))

    def write(self, samples: Tensor) -> None:
        """Write the frames, and the samples themselves, in data units, as the last."""
        frames = [*self.frames, samples[:SHOWN].cpu()]
        if self.path.lower().endswith(".png"):
            save_image(self.path, filmstrip(frames))
            return
        large = (frame.repeat_interleave(3, 2).repeat_interleave(3, 3) for frame in frames)
        first, *rest = (Image.fromarray(grid(frame).squeeze()) for frame in large)
        shown = [MILLISECONDS] * len(rest) + [LAST]
        with atomic_write(self.path) as file:
            first.save(file, "gif", save_all=True, append_images=rest, duration=shown, loop=0)


def visible(model: Denoiser, x: Tensor, t: Tensor) -> Tensor:
    """x at time t with the brightness of an image: two standard deviations of noise beyond black and white."""
    ends = torch.tensor([0.0, 1.0], dtype=x.dtype, device=x.device).reshape(2, *[1] * len(model.space.shape))
    black, white = model.sde.alpha(t) * model.space.to_model(ends.expand(2, *model.space.shape))
    margin = 2 * model.sde.sigma(t)
    brightness: Tensor = (x - black + margin) / (white - black + 2 * margin)
    return brightness.clamp(0, 1).cpu()
