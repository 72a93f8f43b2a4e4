#!/usr/bin/python3
"""Trains the small classifier conf/demo/fashion.onnx on Fashion-MNIST.

Run from the root of the project, on Debian with python3-torch, python3-numpy, python3-pil and
dataset-fashion-mnist (MIT licence, Zalando SE):

    /usr/bin/python3 scripts/train/fashion.py

One thread, one seed and a fixed number of steps make the result repeatable on one machine.
It takes a minute and a half of one core and writes

    conf/demo/fashion.onnx                  the network
    conf/demo/fashion/0-t-shirt.png ...     the first test picture of every class
    test/fixtures/fashion_{in,out}.npy      one test picture and what torch makes of it

and prints the accuracy over the 10,000 test pictures.
"""
import argparse
import gzip
import hashlib
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

DATASET = pathlib.Path("/usr/share/datasets/fashion-mnist")
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
           "ankle-boot")
CHANNELS, EPOCHS, BATCH, PEAK_RATE = 16, 6, 64, 6e-3


class Classifier(nn.Module):
    """Three 3x3 convolutions with pooling between, global average, one dense layer.

    The batch normalizations exist in training only: the exporter folds them.
    """

    def __init__(self, channels):
        super().__init__()
        widths = (1, channels, 2 * channels, 4 * channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in zip(widths, widths[1:]))
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in widths[1:])
        self.dense = nn.Linear(widths[-1], len(CLASSES))

    def forward(self, x):
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            if i > 0:
                x = F.max_pool2d(x, 2)
            x = F.relu(norm(conv(x)))
        return self.dense(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def read_idx(name, header_bytes):
    with gzip.open(DATASET / name) as f:
        return np.frombuffer(f.read(), np.uint8, offset=header_bytes)


def load(part):
    """(pictures uint8 n x 1 x 28 x 28, labels int64 n) of "train" or "t10k"."""
    pictures = read_idx(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
    labels = read_idx(f"{part}-labels-idx1-ubyte.gz", 8).astype(np.int64)
    return torch.from_numpy(pictures.copy()), torch.from_numpy(labels)


def scaled(pictures):
    return pictures.float() / 255


def accuracy(net, pictures, labels):
    net.eval()
    right = 0
    with torch.no_grad():
        for x, y in zip(pictures.split(500), labels.split(500)):
            right += (net(scaled(x)).argmax(1) == y).sum().item()
    return right / len(labels)


def train(net, pictures, labels, test):
    steps = len(pictures) // BATCH
    optimizer = torch.optim.Adam(net.parameters(), weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE,
                                                   total_steps=EPOCHS * steps)
    for epoch in range(EPOCHS):
        net.train()
        order = torch.randperm(len(pictures))
        for pick in order[:steps * BATCH].split(BATCH):
            x = scaled(pictures[pick])
            if torch.rand(()) < .5:
                x = x.flip(3)
            loss = F.cross_entropy(net(x), labels[pick])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {EPOCHS}: accuracy {accuracy(net, *test):.4f}", flush=True)
    net.eval()


def write_onnx(net, file):
    torch.onnx.export(net, torch.zeros(1, 1, 28, 28), str(file), opset_version=13,
                      input_names=["image"], output_names=["scores"],
                      dynamic_axes={"image": {0: "n"}, "scores": {0: "n"}})
    data = file.read_bytes()
    print(f"{file}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


def first_of_each_class(labels):
    return [int((labels == k).nonzero()[0]) for k in range(len(CLASSES))]


def write_pictures(net, pictures, labels, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for label, i in enumerate(first_of_each_class(labels)):
        with torch.no_grad():
            answer = int(net(scaled(pictures[i:i + 1])).argmax())
        name = f"{label}-{CLASSES[label]}.png"
        Image.fromarray(pictures[i, 0].numpy()).save(folder / name, optimize=True)
        print(f"{name}: test picture {i}, the network says {CLASSES[answer]}")


def write_fixture(net, picture, folder):
    folder.mkdir(parents=True, exist_ok=True)
    x = scaled(picture)
    with torch.no_grad():
        y = net(x)
    np.save(folder / "fashion_in.npy", x.numpy())
    np.save(folder / "fashion_out.npy", y.numpy())


def main():
    options = argparse.ArgumentParser(description="Trains the Fashion-MNIST classifier.")
    options.add_argument("--out", type=pathlib.Path, default="conf/demo")
    options.add_argument("--fixtures", type=pathlib.Path, default="test/fixtures")
    args = options.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(1)

    test = load("t10k")
    net = Classifier(CHANNELS)
    train(net, *load("train"), test)

    args.out.mkdir(parents=True, exist_ok=True)
    write_onnx(net, args.out / "fashion.onnx")
    write_pictures(net, *test, args.out / "fashion")
    write_fixture(net, test[0][:1], args.fixtures)


if __name__ == "__main__":
    main()
