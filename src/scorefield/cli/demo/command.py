"""`scorefield demo`: chapters are made one after the other, then the page."""

from typing import Annotated

import typer

from scorefield.cli.options import DeviceOption, JsonOption, SeedOption


def demo(
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="For index.html and its pictures.")] = "demo",
    model: Annotated[
        str, typer.Option("--model", metavar="MODEL", help="A model of grey images of 28 x 28 pixels.")
    ] = "mnist",
    colour: Annotated[
        str, typer.Option("--colour", metavar="MODEL", help="A model of colour images of 32 x 32 pixels.")
    ] = "cifar10",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Make a page of pictures that shows what models can do: samples, likelihoods, codes, inpainting, colourization.

    Files of an earlier demo are replaced one by one. On two cores it takes a few minutes.
    """
    from pathlib import Path

    from rich.console import Console

    import scorefield as sf
    from scorefield.cli.demo.chapter import Effort, Stage
    from scorefield.cli.demo.chapters import CHAPTERS
    from scorefield.cli.demo.chart import check_matplotlib
    from scorefield.cli.demo.colour import in_colour
    from scorefield.cli.demo.page import page
    from scorefield.cli.result import stopwatch, tell
    from scorefield.cli.session import choose_device
    from scorefield.counting import Evaluations
    from scorefield.data import atomic_write, check_writable, open_data, save_image

    check_matplotlib()
    folder = Path(out)
    check_writable(folder / "index.html")
    effort = Effort()

    def stage(name: str, data: str) -> Stage:
        scored, source = sf.load(name, device=choose_device(device)), open_data(data)
        scored.space.check(source.tensor())
        return Stage(scored, name, source.tensor(), source.labels, seed, effort)

    digits, photographs = stage(model, "example:mnist"), stage(colour, "example:cifar10")
    plan = [*((make, digits) for make in CHAPTERS), (in_colour, photographs)]
    console = Console(stderr=True, highlight=False)
    chapters, elapsed = [], stopwatch()
    with sf.count_evaluations(digits.model) as grey, sf.count_evaluations(photographs.model) as coloured:
        for number, (make, of) in enumerate(plan, 1):
            title, begun = f"{number}/{len(plan)} {make.__name__}", elapsed()
            with console.status(title):
                chapter = make(of)
                for picture in chapter.pictures:
                    for name, image in picture.files.items():
                        save_image(folder / name, image)
            chapters.append(chapter)
            console.print(f"{title}, {elapsed() - begun:.0f} s")
    seconds = elapsed()
    evaluations = Evaluations(grey.forward + coloured.forward, grey.backward + coloured.backward)
    with atomic_write(folder / "index.html", "w") as file:
        file.write(page(digits, photographs, chapters, evaluations, seconds))
    tell(
        as_json,
        f"{folder / 'index.html'}: open it in a browser",
        out=out,
        model=model,
        colour=colour,
        seed=seed,
        **{name: value for chapter in chapters for name, value in chapter.facts.items()},
        evaluations=evaluations.forward,
        evaluations_backward=evaluations.backward,
        device=str(sf.api.device_of(digits.model)),
        seconds=seconds,
    )
