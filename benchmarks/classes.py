"""How good the bundled classifiers are, and whether what they guide to is of the class asked for.

    python benchmarks/classes.py --out benchmarks/records/DATE_classes \
        --mnist TRAIN.zip TEST.zip --cifar10 TRAIN.zip TEST.zip

Accuracy and cross-entropy of each bundled classifier on held-out images, at several ratios of noise to data. Then
samples of every class by the default sampler at several scales, and what a judge says of them: a convolutional network
of another kind, trained here on the training images without noise, which has seen neither the model nor the classifier.
Their variety is the rms standard deviation of the samples of a class over that of as many held-out images.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

import scorefield as sf
from scorefield.data import grid, open_data, save_image
from scorefield.training.accuracy import accuracy

SCALES = {"mnist": (1.0, 2.0, 4.0), "cifar10": (1.0, 3.0)}
EACH = {"mnist": 20, "cifar10": 10}
EPOCHS = {"mnist": 6, "cifar10": 4}
PER_ROW = 10


def judge(name: str, x: Tensor, labels: Tensor) -> nn.Module:
    """A network trained to tell clean images apart."""
    torch.manual_seed(0)

    def stage(inputs, outputs):
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    layers = [*stage(x.shape[1], 32), nn.MaxPool2d(2), *stage(32, 64), *stage(64, 64), nn.MaxPool2d(2)]
    layers += [*stage(64, 128), *stage(128, 128), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3)]
    network = nn.Sequential(*layers, nn.Linear(512, 10))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    batches = len(x) // 128
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=EPOCHS[name] * batches)
    for _ in range(EPOCHS[name]):
        order = torch.randperm(len(x))
        for rows in order[: 128 * batches].split(128):
            part = x[rows] / 255
            if name == "cifar10":
                part = torch.where(torch.rand(len(part), 1, 1, 1) < 0.5, part.flip(3), part)
                left, top = torch.randint(0, 5, (2,)).tolist()
                part = nn.functional.pad(part, (2, 2, 2, 2))[..., top : top + 32, left : left + 32]
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(part), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def right(network: nn.Module, x: Tensor, labels: Tensor) -> float:
    found = torch.cat([network(part).argmax(1) for part in x.split(250)])
    return float((found == labels).double().mean())


def record(name: str, train: str, test: str, out: Path) -> str:
    model, held_out = sf.load(name), open_data(test)
    classifier = model.classifier
    source = open_data(train)
    network = judge(name, source.tensor(), source.labels)
    images, labels = held_out.tensor() / 255, held_out.labels
    judged = right(network, images, labels)
    print(name, "judge", judged, flush=True)
    text = f"## {name}\n\n{len(held_out)} held-out images.\n\n"
    rows = accuracy(classifier, held_out)
    text += "| noise/data | " + " | ".join(f"{row.ratio:g}" for row in rows) + " |\n" + "|---" * (len(rows) + 1) + "|\n"
    text += "| right | " + " | ".join(f"{row.accuracy:.1%}" for row in rows) + " |\n"
    text += "| cross-entropy, nats | " + " | ".join(f"{row.cross_entropy:.2f}" for row in rows) + " |\n\n"
    print(text, flush=True)
    each, classes = EACH[name], classifier.classes
    wanted = torch.arange(classes).repeat_interleave(each)
    text += f"The judge names {judged:.1%} of the held-out images right, and of {each} samples of each class:\n\n"
    text += "| scale | as asked for | variety |\n|---|---|---|\n"
    real = varieties(torch.stack([images[labels == k][:each] for k in range(classes)]))
    plain = sf.sample(model, classes * each)
    text += f"| without a class | {right(network, plain, wanted):.1%} (chance) | |\n"
    for scale in SCALES[name]:
        x = torch.stack([sf.sample(model, each, label=k, scale=scale) for k in range(classes)])
        share = right(network, x.flatten(0, 1), wanted)
        text += f"| {scale:g} | {share:.1%} | {varieties(x) / real:.2f} |\n"
        print(name, scale, share, flush=True)
        save_image(out / f"{name}_{scale:g}.png", grid(x[:, :PER_ROW].flatten(0, 1), columns=PER_ROW))
    return text + f"\nA row for each class, at scale {SCALES[name][1]:g}: ![]({name}_{SCALES[name][1]:g}.png)\n"


def varieties(x: Tensor) -> float:
    """The rms standard deviation within classes (class, sample, *image)."""
    return float(x.flatten(2).var(1).mean().sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    for name in ("mnist", "cifar10"):
        parser.add_argument(f"--{name}", nargs=2)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in ("mnist", "cifar10"):
        if (zips := getattr(given, name)) is not None:
            (given.out / f"{name}.md").write_text(record(name, *zips, given.out), encoding="utf-8")


if __name__ == "__main__":
    main()
