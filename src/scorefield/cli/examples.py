"""The examples at the end of each command's help. All of them run, in this order, where there are files of those names.

`mnist` comes with the package, and so do the images of `example:mnist`. A `.pth` whose `config.json` is not at hand
takes the name of a recipe instead.
"""

from collections.abc import Sequence

EXAMPLES: dict[str, tuple[str, ...]] = {
    "scorefield": (
        "scorefield sample mnist --out samples.png",
        "scorefield likelihood mnist --data example:mnist --n 16",
    ),
    "train": (
        "scorefield train mnist --data example:mnist --out runs/digits --steps 20",
        "scorefield train table --data points.npy --out runs/points data.shape=[2] model.width=64",
        "scorefield train mnist --data example:mnist --out runs/small --steps 10 model.channels=16 sde.name=subvp",
    ),
    "train-classifier": (
        "scorefield train-classifier runs/digits --data example:mnist --steps 20",
        "scorefield train-classifier mnist --data example:mnist --out runs/which --steps 20 model.channels=16",
    ),
    "sample": (
        "scorefield sample mnist --out samples.png --n 16 --budget 20 --trajectory way.gif",
        "scorefield sample mnist --out threes.png --n 16 --label 3 --guidance-scale 2",
        "scorefield sample mnist --out many --n 200 --batch-size 50 --sampler dpmpp-2m-sde --steps 15",
    ),
    "likelihood": (
        "scorefield likelihood mnist --data example:mnist --n 8",
        "scorefield likelihood mnist --data example:mnist --n 8 --probes 4 --out bits.csv",
        "scorefield likelihood mnist --data example:mnist --n 2 --tol 1e-3 --json",
    ),
    "encode": (
        "scorefield encode mnist --data example:mnist --out latents.npz --n 8",
        "scorefield encode mnist --data example:mnist --out latents.npz --n 8 --check --tol 1e-5",
    ),
    "decode": (
        "scorefield decode mnist --data latents.npz --out decoded.png",
        "scorefield decode mnist --data latents.npz --out decoded.npz --tol 1e-4",
    ),
    "inpaint": (
        "scorefield inpaint mnist --data example:mnist --hole 4,4,12,20 --images 8 --out inpainted.png",
        "scorefield inpaint mnist --data example:mnist --hole 0.75 --n 4 --images 4 --out inpainted.png",
        "scorefield inpaint mnist --data example:mnist --known mask.png --images 8 --n 2 --out inpainted.npz",
    ),
    "colorize": (
        "scorefield colorize runs/colour --data grey --out coloured.png",
        "scorefield colorize runs/colour --data grey --n 8 --images 2 --method repaint --budget 500 --out coloured.npz",
    ),
    "superres": (
        "scorefield superres runs/colour --data small --factor 4 --out large.png",
        "scorefield superres mnist --data example:mnist --degrade --images 4 --out large.png",
        "scorefield superres mnist --data example:mnist --degrade --factor 2 --std 0 --method ddrm --out large.npz",
    ),
    "deblur": (
        "scorefield deblur runs/colour --data blurred --blur 2 --out sharp.png",
        "scorefield deblur mnist --data example:mnist --degrade --blur 1.5 --images 4 --out sharp.png",
    ),
    "solve": (
        "scorefield solve mnist --operator matrix.npy --data example:mnist --degrade --images 4 --out solved.png",
        "scorefield solve mnist --operator projections.py --data measured.npy --std 0.05 --budget 300 --out solved.npz",
    ),
    "calibrate": (
        "scorefield calibrate runs/digits",
        "scorefield calibrate runs/digits --budgets 6,12 --samples 16 --trials 0",
    ),
    "convert": (
        "scorefield convert checkpoint.pth ncsnpp --config config.json",
        "scorefield convert checkpoint.pth raw --config config.json --raw --dtype float16",
        "scorefield convert edm-cifar10-32x32-uncond-vp.pkl edm",
    ),
    "info": (
        "scorefield info mnist",
        "scorefield info runs/digits --json",
    ),
    "recipes": (
        "scorefield recipes",
        "scorefield recipes mnist",
        "scorefield recipes mnist model.channels=64 > wide.yaml",
    ),
    "demo": (
        "scorefield demo --out demo",
        "scorefield demo --model mnist --seed 1 --out another --json",
    ),
}


def epilog(examples: Sequence[str]) -> str:
    """Examples as the end of a help page."""
    lines = (f"  $ {example}".replace("[", r"\[") for example in examples)
    return "\n\n".join(("[bold]Examples[/bold]", *lines))
