"""What everything but the network costs: sampler steps, per-sample noise, imports, the command line's help.

    python benchmarks/overhead.py [--model mnist] --out benchmarks/records/DATE_overhead

Ratios are medians over repetitions of two things measured in turn in the same process. Samplers with steps of their own
evaluate fewer and fewer samples; what they spend beside the network is held against an evaluation of the whole batch.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

import scorefield as sf
from scorefield.samplers import Adaptive

SAMPLERS = {
    "ancestral": sf.Ancestral(),
    "Euler–Maruyama": sf.EulerMaruyama(),
    "reverse diffusion + Langevin": sf.PredictorCorrector(sf.ReverseDiffusion(), sf.Langevin()),
    "Heun": sf.Heun(),
    "UniPC 3": sf.UniPC(3),
    "probability flow, tol 1e-2": sf.ProbabilityFlow(1e-2),
    "adaptive SDE, tol 0.2": sf.AdaptiveSDE(0.2),
}


class Stopwatch:
    """Times spent inside a module's forward: (size of the batch, seconds)."""

    def __init__(self, module):
        self.times = []
        module.register_forward_pre_hook(self._start)
        module.register_forward_hook(self._stop)

    def _start(self, *_):
        self.began = time.perf_counter()

    def _stop(self, _, arguments, __):
        self.times.append((len(arguments[0]), time.perf_counter() - self.began))


def sampler_overhead(model, batch, repeats):
    watch, rows = Stopwatch(model.network), []
    for name, sampler in SAMPLERS.items():
        shares, evaluations = [], []
        for seed in range(repeats):
            watch.times.clear()
            began = time.perf_counter()
            steps = None if isinstance(sampler, Adaptive) else 20
            sf.sample(model, batch, sampler=sampler, steps=steps, batch_size=batch, seed=seed)
            beside = time.perf_counter() - began - sum(seconds for _, seconds in watch.times)
            evaluations.append(statistics.median(seconds for size, seconds in watch.times if size == batch))
            shares.append(beside / len(watch.times) / evaluations[-1])
        rows.append((name, statistics.median(shares), 1e3 * statistics.median(evaluations)))
    return rows


def noise_ratio(shape, batch, repeats):
    noise, ratios = sf.Noise(0, range(batch)), []
    for _ in range(repeats):
        times = []
        for draw in (lambda: noise.normal(shape), lambda: torch.randn(batch, *shape)):
            began = time.perf_counter()
            for _ in range(100):
                draw()
            times.append(time.perf_counter() - began)
        ratios.append(times[0] / times[1])
    return statistics.median(ratios)


def seconds(command, repeats):
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mnist")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    model = sf.load(arguments.model, device="cpu")
    lines = [
        f"# Overhead\n\ntorch {torch.__version__}, {torch.get_num_threads()} threads, model `{arguments.model}`, "
        f"batch {arguments.batch}; medians of {arguments.repeats}.\n",
        "| sampler | everything but the network, per evaluation, of an evaluation | an evaluation, ms |\n|---|---|---|",
    ]
    rows = sampler_overhead(model, arguments.batch, arguments.repeats)
    lines += [f"| {name} | {share:.1%} | {evaluation:.1f} |" for name, share, evaluation in rows]
    lines.append("\n| per-sample noise against `torch.randn` | ratio |\n|---|---|")
    for shape in ((2,), (1, 28, 28), (3, 32, 32), (3, 256, 256)):
        lines.append(f"| {arguments.batch} x {shape} | {noise_ratio(shape, arguments.batch, arguments.repeats):.2f} |")
    python = [sys.executable, "-c"]
    torch_alone = seconds([*python, "import torch"], arguments.repeats)
    with_us = seconds([*python, "import torch, scorefield"], arguments.repeats)
    whole = seconds(
        [*python, "import scorefield as sf; sf.sample, sf.load, sf.fit, sf.NetworkModel"], arguments.repeats
    )
    script = str(Path(sys.executable).with_name("scorefield"))
    lines += [
        "\n| start | seconds |\n|---|---|",
        f"| `import torch` | {torch_alone:.2f} |",
        f"| `import scorefield` beyond torch | {with_us - torch_alone:.2f} |",
        f"| … with every function resolved | {whole - torch_alone:.2f} |",
        f"| `scorefield --help` | {seconds([script, '--help'], arguments.repeats):.2f} |",
        f"| `scorefield sample --help` | {seconds([script, 'sample', '--help'], arguments.repeats):.2f} |",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "README.md").write_text(text)


if __name__ == "__main__":
    main()
