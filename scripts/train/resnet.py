#!/usr/bin/python3
"""Trains a residual network of the size that CIFAR-10 is used with, on Fashion-MNIST, and is a
task for scripts/train/finetune.py.

Run from the root of the project, on Debian with python3-torch and dataset-fashion-mnist:

    until scripts/train/resnet.py --seconds 90; do [ $? = 3 ] || break; done

Fourteen layers of 16, 32 and 64 channels; pictures of 28x28 with two black pixels around.  One
thread, one seed and a fixed number of steps make the result repeatable on one machine.  It takes
a quarter of an hour of one core and writes build/train/resnet.pt.
"""
import argparse
import pathlib

import fashion
import session
import torch
import torch.nn.functional as F
from torch import nn

WEIGHTS = pathlib.Path("build/train/resnet.pt")
WIDTHS, BLOCKS, CLASSES = (16, 32, 64), 2, 10
EPOCHS, BATCH, PEAK_RATE, BORDER = 6, 64, 6e-3, 2


class Block(nn.Module):
    """Two 3x3 convolutions and what they are added to."""

    def __init__(self, channels, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.shortcut = None if channels == out else nn.Conv2d(channels, out, 1, stride)

    def forward(self, x):
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + (self.shortcut(x) if self.shortcut else x))


class ResNet(nn.Module):
    """scores = ResNet()(pictures of 32 x 32)"""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, WIDTHS[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(WIDTHS[0])
        blocks, channels = [], WIDTHS[0]
        for width in WIDTHS:
            for _ in range(BLOCKS):
                blocks.append(Block(channels, width, 1 if channels == width else 2))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.dense = nn.Linear(channels, CLASSES)

    def forward(self, x):
        x = self.blocks(F.relu(self.norm(self.stem(x))))
        return self.dense(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def prepared(pictures):
    return F.pad(pictures.float() / 255, (BORDER,) * 4)


# ---- What finetune.py asks of a task


class Task:
    name, unit, dynamic = "ResNet-14 on Fashion-MNIST", "%", {0: "n"}

    def __init__(self):
        self.pictures, self.labels = fashion.load("train")
        self.test = fashion.load("t10k")

    def network(self):
        net = ResNet()
        net.load_state_dict(torch.load(WEIGHTS)["net"])
        return net

    def example(self):
        return prepared(self.test[0][:1])

    def batch(self, random, size):
        pick = torch.randint(len(self.pictures), (size,), generator=random)
        x = prepared(self.pictures[pick])
        return x.flip(3) if torch.rand((), generator=random) < .5 else x, self.labels[pick]

    def loss(self, answer, target, teacher):
        """Half what the labels say, half what the network said before."""
        told = F.kl_div(F.log_softmax(answer / 2, 1), F.softmax(teacher / 2, 1),
                        reduction="batchmean") * 4
        return (F.cross_entropy(answer, target) + told) / 2

    def held_out(self):
        x, y = self.test
        return [(prepared(a), b) for a, b in zip(x.split(100), y.split(100))]

    def score(self, answer, target):
        return 100.0 * (answer.argmax(1) == target)


# ---- Training from nothing


def accuracy(net, task):
    net.eval()
    with torch.no_grad():
        return torch.cat([task.score(net(x), y) for x, y in task.held_out()]).mean().item()


def main():
    options = argparse.ArgumentParser(description="Trains the network that finetune.py shows.")
    options.add_argument("--seconds", type=float, default=0,
                         help="stop after so long; the same command goes on (default: never)")
    options.add_argument("--out", type=pathlib.Path, default=WEIGHTS)
    args = options.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    task, net = Task(), ResNet()
    steps = EPOCHS * len(task.pictures) // BATCH

    def loss_at(step):
        net.train()
        x, y = task.batch(session.random_of(1, step), BATCH)
        return F.cross_entropy(net(x), y)

    session.train(net, steps, PEAK_RATE, loss_at, session.load(args.out, {"steps": steps}),
                  args.out, session.Clock(args.seconds))
    print(f"{args.out}: accuracy {accuracy(net, task):.2f} % of {len(task.test[1])} test pictures")


if __name__ == "__main__":
    session.run_in_pieces(main)
