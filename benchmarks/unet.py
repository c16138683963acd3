"""How fast the networks are: ve/cifar10_ncsnpp_continuous against diffusers' UNet2DModel in its nearest configuration
(61.9M parameters) and against its own 3×3 convolutions alone; and the memory of ve/ffhq_ncsnpp_continuous at 1024×1024.

    python benchmarks/unet.py --out benchmarks/records/DATE_unet [--rounds 7]

All programs run in turn in one process, round after round, and ratios are medians of the rounds' ratios. "Convolutions
alone" are all 3×3 convolutions of the network one after another, with their sizes, layout and precision and nothing in
between: forwards for an evaluation, forwards and backwards for a step of training. Memory is the peak resident size of
a process that does nothing else; "beyond the weights" is what it grew by since they were there.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from diffusers import UNet2DModel
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import scorefield as sf
from scorefield.data import open_data
from scorefield.network_model import NetworkModel
from scorefield.recipes import load_recipe
from scorefield.recipes.build import build
from scorefield.training import train

CIFAR10, FFHQ = "ve/cifar10_ncsnpp_continuous", "ve/ffhq_ncsnpp_continuous"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def scorefield_model(recipe, precision) -> NetworkModel:
    torch.manual_seed(0)
    return build(load_recipe(recipe)).eval().requires_grad_(False).prepare(precision)


def diffusers_network(dropout=0.0, **options) -> nn.Module:
    torch.manual_seed(0)
    common = {
        "in_channels": 3,
        "out_channels": 3,
        "time_embedding_type": "fourier",
        "mid_block_scale_factor": 2**0.5,
        "act_fn": "silu",
        "norm_num_groups": None,
        "norm_eps": 1e-6,
        "attention_head_dim": None,
        "dropout": dropout,
    }
    return UNet2DModel(**common, **options)


def diffusers_cifar10(dropout=0.0) -> nn.Module:
    return diffusers_network(
        dropout,
        sample_size=32,
        block_out_channels=(128, 256, 256, 256),
        layers_per_block=4,
        down_block_types=("SkipDownBlock2D", "AttnSkipDownBlock2D", "SkipDownBlock2D", "SkipDownBlock2D"),
        up_block_types=("SkipUpBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D", "SkipUpBlock2D"),
    )


def diffusers_ffhq() -> nn.Module:
    down = ["SkipDownBlock2D"] * 8
    up = ["SkipUpBlock2D"] * 8
    down[6], up[1] = "AttnSkipDownBlock2D", "AttnSkipUpBlock2D"
    return diffusers_network(
        sample_size=1024,
        block_out_channels=(16, 32, 64, 128, 256, 512, 512, 512),
        layers_per_block=1,
        down_block_types=down,
        up_block_types=up,
    )


def convolutions(network, batch, precision, training):
    """Its 3×3 convolutions alone, as a program, and their operations in units of 1e9."""
    seen = []
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    hooks = [layer.register_forward_hook(lambda m, a, y: seen.append((m, a[0].shape, y.shape))) for layer in layers]
    with torch.no_grad():
        network(torch.rand(batch, 3, 32, 32), torch.zeros(batch))
    for hook in hooks:
        hook.remove()
    layout = torch.contiguous_format if training and precision == "bf16" else torch.channels_last
    make = {"dtype": DTYPES[precision], "requires_grad": training}
    images, calls, operations = {}, [], 0
    for layer, shape, output in seen:
        operations += 2 * layer.weight.numel() * output[0] * output[2] * output[3] / 1e9
        if shape not in images:
            images[shape] = torch.randn(shape).to(memory_format=layout, dtype=make["dtype"]).requires_grad_(training)
        weight = torch.randn(layer.weight.shape).to(memory_format=layout, dtype=make["dtype"]).requires_grad_(training)
        bias = torch.randn(len(weight), **make)
        calls.append((images[shape], weight, bias, layer.stride, layer.padding))

    def program():
        for x, weight, bias, stride, padding in calls:
            y = nn.functional.conv2d(x, weight, bias, stride, padding)
            if training:
                torch.autograd.grad(y, (x, weight, bias), y.detach())

    return program, operations * (3 if training else 1)


def operations_of(program):
    with FlopCounterMode(display=False) as counter:
        program()
    return counter.get_total_flops() / 1e9


def measure(programs, rounds):
    """Seconds of each program in each round; the first round, which warms up, is left out."""
    times = {name: [] for name in programs}
    for i in range(rounds + 1):
        for name, program in programs.items():
            began = time.perf_counter()
            program()
            if i:
                times[name].append(time.perf_counter() - began)
    return times


def ratio(times, above, below):
    return statistics.median(a / b for a, b in zip(times[above], times[below], strict=True))


def evaluation(batch, rounds):
    x, sigma = torch.rand(batch, 3, 32, 32), torch.full((batch,), 0.5)
    models = {precision: scorefield_model(CIFAR10, precision) for precision in DTYPES}
    other = diffusers_cifar10().eval()
    programs = {f"scorefield {precision}": lambda m=m: m(x, sigma) for precision, m in models.items()}
    programs["diffusers fp32"] = lambda: other(x, sigma)
    whole, part = {}, {}
    for precision in DTYPES:
        programs[f"convolutions {precision}"], part[precision] = convolutions(
            scorefield_model(CIFAR10, "fp32").network, batch, precision, training=False
        )
    with torch.no_grad():
        whole = operations_of(programs["scorefield fp32"])
        times = measure(programs, rounds)
        profiles = {p: top(programs[f"scorefield {p}"]) for p in DTYPES} if batch > 1 else {}
    rates = {p: whole / part[p] * ratio(times, f"convolutions {p}", f"scorefield {p}") for p in DTYPES}
    return {
        "batch": batch,
        "GFLOP": whole,
        "median seconds": {name: statistics.median(values) for name, values in times.items()},
        "scorefield fp32 / diffusers fp32": ratio(times, "scorefield fp32", "diffusers fp32"),
        "scorefield bf16 / diffusers fp32": ratio(times, "scorefield bf16", "diffusers fp32"),
        "scorefield bf16 / scorefield fp32": ratio(times, "scorefield bf16", "scorefield fp32"),
        "convolutions bf16 / convolutions fp32": ratio(times, "convolutions bf16", "convolutions fp32"),
        "rate of the evaluation / rate of its convolutions": rates,
        "profiles": profiles,
    }


def training(batch, rounds):
    x, sigma = torch.rand(batch, 3, 32, 32), torch.full((batch,), 0.5)
    torch.manual_seed(0)
    ours = build(load_recipe(CIFAR10)).network.train()
    theirs = diffusers_cifar10(dropout=0.1).train()

    def step(network, precision):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            output = network(x, sigma)
            loss = (output if isinstance(output, torch.Tensor) else output.sample).float().square().mean()
        loss.backward()
        network.zero_grad(set_to_none=True)

    programs = {
        f"{name} {p}": lambda n=n, p=p: step(n, p)
        for name, n in (("scorefield", ours), ("diffusers", theirs))
        for p in DTYPES
    }
    part = {}
    for p in DTYPES:
        programs[f"convolutions {p}"], part[p] = convolutions(ours, batch, p, training=True)
    whole = operations_of(programs["scorefield fp32"])
    times = measure(programs, rounds)
    rates = {p: whole / part[p] * ratio(times, f"convolutions {p}", f"scorefield {p}") for p in DTYPES}
    return {
        "batch": batch,
        "GFLOP": whole,
        "median seconds": {name: statistics.median(values) for name, values in times.items()},
        "scorefield fp32 / diffusers fp32": ratio(times, "scorefield fp32", "diffusers fp32"),
        "scorefield bf16 / diffusers fp32": ratio(times, "scorefield bf16", "diffusers fp32"),
        "scorefield bf16 / diffusers bf16": ratio(times, "scorefield bf16", "diffusers bf16"),
        "rate of the step / rate of its convolutions": rates,
        "profiles": {p: top(programs[f"scorefield {p}"]) for p in DTYPES},
    }


def top(program, count=12):
    """Milliseconds inside each operator, and calls, of the operators that take most."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        program()
    entries = sorted(found.key_averages(), key=lambda entry: -entry.self_cpu_time_total)[:count]
    return {entry.key: [round(entry.self_cpu_time_total / 1e3, 1), entry.count] for entry in entries}


def status(key):
    """GiB of a line of the kernel's account of this process: VmRSS is its size, VmHWM the largest it had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 2**20


def peak(name, precision):
    """In a process of its own: GiB beyond the weights of one evaluation at 1024×1024."""
    x, sigma = torch.rand(1, 3, 1024, 1024), torch.full((1,), 0.5)
    if name == "scorefield":
        network = scorefield_model(FFHQ, precision)
    else:
        network = diffusers_ffhq().eval().to(DTYPES[precision])
        x, sigma = x.to(DTYPES[precision]), sigma.to(DTYPES[precision])
    before = status("VmRSS")
    with torch.no_grad():
        network(x, sigma)
    return status("VmHWM") - before


def whole(what):
    """In a process of its own: GiB that it takes, everything included, for one step at 1024×1024."""
    if what == "sampling":
        model = scorefield_model(FFHQ, "fp32")
        sampler = sf.PredictorCorrector(sf.ReverseDiffusion(), sf.Langevin(0.15))
        sf.sample(model, 1, sampler=sampler, steps=1)
    else:
        overrides = ["training.steps=1", "training.batch_size=1", f"model.checkpointing={what == 'checkpointed'}"]
        train(load_recipe(FFHQ, overrides), open_data(torch.zeros(1, 3, 1024, 1024, dtype=torch.uint8)))
    return status("VmHWM")


def memory():
    def separately(*arguments):
        command = [sys.executable, __file__, "--memory", *arguments]
        return float(subprocess.run(command, check=True, capture_output=True).stdout.split()[-1])

    beyond = {f"{name} {p}": separately(name, p) for p in DTYPES for name in ("scorefield", "diffusers")}
    ratios = {f"scorefield {p} / diffusers {p}": beyond[f"scorefield {p}"] / beyond[f"diffusers {p}"] for p in DTYPES}
    steps = {
        "a predictor–corrector step and the denoising": separately("sampling"),
        "a training step, batch 1": separately("plain"),
        "a training step, batch 1, with checkpointing": separately("checkpointed"),
    }
    return {"beyond the weights, one evaluation": beyond | ratios, "the whole process": steps}


def report(result):
    """The record's page: every ratio, every time, and where the time goes."""
    lines = [
        "# Networks: speed and memory",
        "",
        f"{result['machine']}. What is compared, and how: `benchmarks/unet.py`. Ratios are medians of the rounds'",
        "ratios; all numbers are in `results.json`, with milliseconds and calls of each operator.",
    ]
    for heading, measured in result.items():
        if heading == "machine":
            continue
        lines += ["", f"## {heading[0].upper()}{heading[1:]}", "", "| | |", "|---|---|"]
        profiles = measured.get("profiles", {})
        for name, value in measured.items():
            rows = value.items() if isinstance(value, dict) else [("", value)]
            if name not in ("profiles", "batch"):
                lines += [f"| {f'{name}: {key}'.strip(': ')} | {number:.3g} |" for key, number in rows]
        for precision, operators in profiles.items():
            total = sum(milliseconds for milliseconds, _ in operators.values())
            shares = ", ".join(f"{name} {t / total:.0%}" for name, (t, _) in list(operators.items())[:8])
            lines += ["", f"Time in operators, {precision}: {shares}."]
    return "\n".join(lines).replace("aten::", "") + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory:
        print(peak(*arguments.memory) if len(arguments.memory) == 2 else whole(*arguments.memory))
        return
    result = {
        "machine": f"{platform.machine()}, {arguments.threads} threads, torch {torch.__version__}",
        "evaluation, batch 16": evaluation(16, arguments.rounds),
        "evaluation, batch 1": evaluation(1, 3 * arguments.rounds),
        "training, batch 8": training(8, arguments.rounds),
        "memory at 1024×1024 in GiB": memory(),
    }
    text = json.dumps(result, indent=1, ensure_ascii=False)
    print(text)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "results.json").write_text(text + "\n", encoding="utf-8")
        (arguments.out / "README.md").write_text(report(result), encoding="utf-8")


if __name__ == "__main__":
    main()
