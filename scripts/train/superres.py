#!/usr/bin/python3
"""Trains the demo network conf/demo/superres.onnx: RGB super-resolution by two.

Run from the root of the project, on Debian with python3-torch, python3-numpy and python3-pil:

    /usr/bin/python3 scripts/train/superres.py

The photographs come from Debian's lomiri-wallpapers packages; they are downloaded into
build/train (no root needed, nothing is installed).  One thread, one seed and a fixed number
of steps make the result repeatable on one machine.  It takes two and a half minutes of one core
and writes

    conf/demo/superres.onnx                  the network
    conf/demo/dogs-reference.png, dogs.png   the demo picture and its half-size version
    test/fixtures/superres_{in,out}.npy      a small input and what torch makes of it

and prints PSNR against bicubic enlargement for the photographs that were held out.
"""
import argparse
import functools
import hashlib
import io
import math
import pathlib
import subprocess

import numpy as np
import onnx.numpy_helper
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

PACKAGES = ("lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04")
DRAWINGS = ("umang_by", "analogpattern_by", "Fossa_by", "Infinite-Sea_by",
            "Painting-Colors_by")
HELD_OUT = ("friends_by", "life_by", "seeding_by")  # never trained on
DEMO = "friends_by_Aitzol_Berasategi.jpg"
DEMO_CROP = (0, 300, 2056, 2356)
DEMO_SIZE = 360
FIXTURE_BOX = (70, 60, 90, 84)  # left, top, right, bottom in dogs.png: 24 rows, 20 columns

CHANNELS, LAYERS = 32, 6
BATCH, PATCH = 16, 48
PEAK_RATE, WARM_UP = 2e-3, 100
JPEG_SHARE = 0.3  # of the patches, so that mild JPEG noise is not sharpened


class SuperRes(nn.Module):
    """3x3 convolutions with ReLU, plus a linear 3x3 convolution past them, then depth to space.

    The skip starts as exact bilinear enlargement and the last convolution near zero, so that
    training begins at bilinear quality; without it a short run ends below bicubic.
    """

    def __init__(self, channels, layers):
        super().__init__()
        widths = [3] + [channels] * (layers - 1) + [12]
        self.body = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, widths[1:]))
        for conv in self.body:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)
        self.body[-1].weight.data *= 0.05
        self.skip = nn.Conv2d(3, 12, 3, padding=1, bias=False)
        self.skip.weight.data = bilinear_kernel()
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x):
        h = x
        for conv in self.body[:-1]:
            h = F.relu(conv(h))
        return self.shuffle(self.body[-1](h) + self.skip(x))


def bilinear_kernel():
    """Weights (12,3,3,3) of bilinear enlargement; output channel = colour * 4 + row * 2 + column."""
    taps = (torch.tensor([.25, .75, 0.]), torch.tensor([0., .75, .25]))
    w = torch.zeros(12, 3, 3, 3)
    for colour in range(3):
        for row in range(2):
            for column in range(2):
                w[colour * 4 + row * 2 + column, colour] = torch.outer(taps[row], taps[column])
    return w


def fetch_photographs(folder):
    """Downloads and unpacks the packages once; returns the paths of the photographs."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        root = folder / package
        if not root.is_dir():
            if not list(folder.glob(package + "_*.deb")):
                subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
            deb = sorted(folder.glob(package + "_*.deb"))[-1]
            part = folder / (package + ".part")
            subprocess.run(["dpkg-deb", "-x", deb, part], check=True)
            part.rename(root)
    photos = [f for p in PACKAGES for f in (folder / p / "usr/share/backgrounds").glob("*.jpg")]
    return sorted((f for f in photos if not f.name.startswith(DRAWINGS)), key=lambda f: f.name)


def shrink_to_width(picture, width):
    """Lanczos shrinking removes the softness of JPEG and of the camera.  Sides come out even."""
    height = round(picture.height * width / picture.width)
    picture = picture.resize((width, height), Image.LANCZOS)
    return picture.crop((0, 0, width // 2 * 2, height // 2 * 2))


def half_size(picture):
    return picture.resize((picture.width // 2, picture.height // 2), Image.BICUBIC)


def pair(picture):
    """(low resolution, reference), both uint8 rows x columns x 3."""
    return np.asarray(half_size(picture)), np.asarray(picture)


def jpeg_round_trip(patch, quality):
    packed = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(patch)).save(packed, "JPEG", quality=quality)
    return np.asarray(Image.open(packed))


def sample_patch(low, high, rng):
    """A random patch in a random orientation; of two places the one with more detail."""
    places = []
    for _ in range(2):
        top = int(rng.integers(low.shape[0] - PATCH + 1))
        left = int(rng.integers(low.shape[1] - PATCH + 1))
        green = low[top:top + PATCH, left:left + PATCH, 1].astype(np.int16)
        places.append((np.abs(np.diff(green, axis=1)).sum(), top, left))
    _, top, left = max(places)
    x = low[top:top + PATCH, left:left + PATCH]
    y = high[2 * top:2 * (top + PATCH), 2 * left:2 * (left + PATCH)]
    turns, mirror = int(rng.integers(4)), int(rng.integers(2))
    x, y = np.rot90(x, turns), np.rot90(y, turns)
    if mirror:
        x, y = x[:, ::-1], y[:, ::-1]
    if rng.random() < JPEG_SHARE:
        x = jpeg_round_trip(x, int(rng.integers(75, 96)))
    return x, y


def chances(pairs):
    """As many patches of a photograph as it has pixels."""
    area = np.array([low.shape[0] * low.shape[1] for low, _ in pairs], float)
    return area / area.sum()


def sample_batch(pairs, chances, rng, size=BATCH):
    picks = rng.choice(len(pairs), size, p=chances)
    patches = [sample_patch(*pairs[i], rng) for i in picks]
    return to_tensor([x for x, _ in patches]), to_tensor([y for _, y in patches])


def to_tensor(pictures):
    """NCHW floats in 0..1, stored channels-last."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().div_(255)


def learning_rate(step, steps):
    warm = min(1, (step + 1) / WARM_UP)
    return PEAK_RATE * warm * 0.5 * (1 + math.cos(math.pi * step / steps)) + 1e-6


def train(net, pairs, steps, rng):
    net.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(net.parameters(), betas=(.9, .99))
    total = 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        x, y = sample_batch(pairs, chances(pairs), rng)
        loss = F.l1_loss(net(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.item()
        if (step + 1) % 200 == 0:
            print(f"step {step + 1} of {steps}: mean |error| {total / 200:.5f}", flush=True)
            total = 0.0
    net.to(memory_format=torch.contiguous_format).eval()


def enlarge(net, low):
    with torch.no_grad():
        y = net(to_tensor([low]))[0]
    return (y.permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()


def enlarge_bicubic(low):
    size = (low.shape[1] * 2, low.shape[0] * 2)
    return np.asarray(Image.fromarray(low).resize(size, Image.BICUBIC))


def psnr(a, b):
    """Peak signal to noise ratio of two uint8 pictures, all pixels and colours, in dB."""
    return 10 * math.log10(255**2 / np.mean((a.astype(float) - b.astype(float))**2))


def report(net, name, low, high):
    ours, bicubic = psnr(enlarge(net, low), high), psnr(enlarge_bicubic(low), high)
    print(f"{name}: network {ours:.2f} dB, bicubic {bicubic:.2f} dB, gain {ours - bicubic:+.2f}")


def write_demo_picture(photo, folder):
    reference = Image.open(photo).convert("RGB").crop(DEMO_CROP)
    reference = reference.resize((DEMO_SIZE, DEMO_SIZE), Image.LANCZOS)
    reference.save(folder / "dogs-reference.png", optimize=True)
    half_size(reference).save(folder / "dogs.png", optimize=True)
    return pair(reference)


def write_onnx(net, file):
    torch.onnx.export(net, torch.zeros(1, 3, 64, 80), str(file), opset_version=13,
                      input_names=["image"], output_names=["upscaled"],
                      dynamic_axes={"image": {2: "h", 3: "w"}, "upscaled": {2: "h2", 3: "w2"}})
    data = file.read_bytes()
    print(f"{file}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


def write_fixture(net, low, folder):
    left, top, right, bottom = FIXTURE_BOX
    x = to_tensor([low[top:bottom, left:right]]).contiguous()
    with torch.no_grad():
        y = net(x)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "superres_in.npy", x.numpy())
    np.save(folder / "superres_out.npy", y.contiguous().numpy())


class Task:
    """What finetune.py asks for."""

    name, unit, dynamic = "demo super-resolution", "dB", {2: "rows", 3: "columns"}

    def network(self):
        """The demo's, from its exported file: weights keep their names."""
        net = SuperRes(CHANNELS, LAYERS)
        graph = onnx.load("conf/demo/superres.onnx").graph
        net.load_state_dict({w.name: torch.from_numpy(onnx.numpy_helper.to_array(w).copy())
                             for w in graph.initializer})
        return net

    def example(self):
        return to_tensor([np.asarray(Image.open("conf/demo/dogs.png"))]).contiguous()

    @functools.cached_property
    def photographs(self):
        """(those to train with, those held out)"""
        files = fetch_photographs(pathlib.Path("build/train"))
        return tuple([Image.open(f).convert("RGB") for f in files
                      if f.name.startswith(HELD_OUT) == held_out] for held_out in (False, True))

    @functools.cached_property
    def pairs(self):
        return [pair(shrink_to_width(p, width)) for p in self.photographs[0]
                for width in (1600, 800)]

    def batch(self, random, size):
        rng = np.random.default_rng(torch.randint(2**62, (), generator=random).item())
        return sample_batch(self.pairs, chances(self.pairs), rng, size)

    def loss(self, answer, target, before):
        return F.l1_loss(answer, target)

    def held_out(self):
        """Squares of the demo's size from the photographs that were held out."""
        side = self.example().shape[2]
        for low, high in (pair(shrink_to_width(p, 800)) for p in self.photographs[1]):
            for top in range(0, low.shape[0] - side + 1, side):
                for left in range(0, low.shape[1] - side + 1, side):
                    x = low[top:top + side, left:left + side]
                    y = high[2 * top:2 * (top + side), 2 * left:2 * (left + side)]
                    yield to_tensor([x]).contiguous(), to_tensor([y])

    def score(self, answer, target):
        seen = (answer.clamp(0, 1) * 255).round()
        error = (seen - (target * 255).round()).square().mean((1, 2, 3))
        return 10 * torch.log10(255**2 / error)


def calibrate(args):
    """Writes what `make demo` shows seams with: the demo's network, calibrated for four nodes."""
    import finetune
    import session

    file = args.out / "superres.onnx"
    given = finetune.parse_arguments([__file__, "--nodes", "4", "--ratio", "24", "--splitctl",
                                      str(args.splitctl), "--out", str(file)])
    task, state = Task(), {"cells": {}, "calibrated": {}}
    network = finetune.Network(task.network(), file, given)
    finetune.measure(given, task, network, "after", state, session.Clock(0))
    finetune.write_halo_file(given, task, network, state, args.out / "superres-24x.halo.json")


def main():
    options = argparse.ArgumentParser(description="Trains the demo's super-resolution network.")
    options.add_argument("--steps", type=int, default=2800)
    options.add_argument("--build", type=pathlib.Path, default="build/train",
                         help="downloads and the trained weights (superres.pt)")
    options.add_argument("--out", type=pathlib.Path, default="conf/demo")
    options.add_argument("--fixtures", type=pathlib.Path, default="test/fixtures")
    options.add_argument("--export", action="store_true",
                         help="do not train: use the weights of the last run")
    options.add_argument("--calibrate", action="store_true",
                         help="only write superres-24x.halo.json (needs splitctl)")
    options.add_argument("--splitctl", type=pathlib.Path, default="build/splitctl")
    args = options.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(1)
    rng = np.random.default_rng(1)

    if args.calibrate:
        calibrate(args)
        return
    photos = fetch_photographs(args.build)
    held_out = [f for f in photos if f.name.startswith(HELD_OUT)]
    net = SuperRes(CHANNELS, LAYERS)
    weights = args.build / "superres.pt"
    if args.export:
        net.load_state_dict(torch.load(weights))
        net.eval()
    else:
        pictures = [Image.open(f).convert("RGB") for f in photos if f not in held_out]
        print(f"training on {len(pictures)} photographs, {args.steps} steps", flush=True)
        pairs = [pair(shrink_to_width(p, width)) for p in pictures for width in (1600, 800)]
        train(net, pairs, args.steps, rng)
        torch.save(net.state_dict(), weights)

    args.out.mkdir(parents=True, exist_ok=True)
    write_onnx(net, args.out / "superres.onnx")
    for photo in held_out:
        if photo.name != DEMO:
            picture = shrink_to_width(Image.open(photo).convert("RGB"), 1200)
            report(net, photo.name, *pair(picture))
    demo = next(f for f in held_out if f.name == DEMO)
    low, high = write_demo_picture(demo, args.out)
    report(net, "dogs.png", low, high)
    write_fixture(net, low, args.fixtures)


if __name__ == "__main__":
    main()
