#!/usr/bin/python3
"""Fine-tunes a network for lossy halos: bands of rows, thresholds, quantization and lost messages
inside, as a cluster of splitd nodes has them.

Run from the root of the project after `make`, on Debian with python3-torch and python3-onnx:

    scripts/train/finetune.py scripts/train/superres.py --out build/train/superres-tuned.onnx

The network is split as splitctl plans it (scripts/train/halo.py); every batch takes one of --nodes
and one of --loss at random.  Afterwards it is exported and shown beside the one before, each
with halos of its own calibration, on pictures that were not trained on.

With --seconds it stops after so long, with exit code 3, and the same command goes on:

    until scripts/train/finetune.py TASK --seconds 90; do [ $? = 3 ] || break; done

A TASK is a Python file with a class Task:

    name, unit       of the table and of its figures
    dynamic          names of the axes that the exported network leaves open: {0: "n"}
    network()        the trained module: (n, channels, rows, columns) -> one tensor
    example()        a picture as the cluster will get it, (1, channels, rows, columns)
    batch(random, n) pictures and targets to train with, from a torch.Generator
    loss(answer, target, before)   `before` is what the whole network answered before training
    held_out()       list of (pictures, targets), not trained on
    score(answer, target)          a number for every picture, more is better
"""
import argparse
import copy
import importlib.util
import pathlib
import sys

import codec
import halo
import halo_file
import session
import torch

THRESHOLD, MAX_GAIN = 0.6, 1.5  # the first in steps
CALIBRATED, SEARCH = 32, 14  # pictures; halvings of the range of steps
SHOWN_LOSS, HEADER = 0.1, 28  # share of messages; bytes before each (proto/header.h)


def parse_arguments(argv):
    def several(kind):
        return lambda text: [kind(word) for word in text.split(",")]

    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                      epilog=__doc__.split("\n\n", 2)[2],
                                      formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("task", type=pathlib.Path, help="Python file with a class Task")
    options.add_argument("--out", type=pathlib.Path,
                         help="the network to write (default: build/train/TASK-tuned.onnx)")
    options.add_argument("--nodes", type=several(int), default=[4, 8], metavar="N,...",
                         help="clusters of so many nodes (default 4,8)")
    options.add_argument("--ratio", type=float, default=25,
                         help="how much smaller than floats halos shall be (default 25)")
    options.add_argument("--soft", action="store_true",
                         help="take the threshold off what is more: the literal ReLU(x - t)")
    options.add_argument("--loss", type=several(float), default=[0, 0.1], metavar="SHARE,...",
                         help="shares of the messages that get lost; 1: nothing is exchanged "
                              "(default 0,0.1)")
    options.add_argument("--policy", choices=("exchange", "auto"), default="exchange",
                         help="exchange all halos, or as splitd plans it (default: exchange)")
    options.add_argument("--steps", type=int, default=1000, help="of training (default 1000)")
    options.add_argument("--batch", type=int, default=32, help="pictures a step (default 32)")
    options.add_argument("--rate", type=float, default=5e-4, help="of learning (default 5e-4)")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--pictures", type=int, default=2000,
                         help="most held-out pictures to look at (default 2000)")
    options.add_argument("--seconds", type=float, default=0,
                         help="stop after so long with exit code 3 (default: never)")
    options.add_argument("--splitctl", type=pathlib.Path, default="build/splitctl")
    args = options.parse_args(argv)
    for name in ("steps", "batch", "threads", "pictures"):
        if getattr(args, name) < 1:
            options.error(f"--{name}: at least 1")
    if not all(1 <= n <= 16 for n in args.nodes):
        options.error("--nodes: 1 to 16 nodes")
    if not all(0 <= share <= 1 for share in args.loss):
        options.error("--loss: shares from 0 to 1")
    if args.ratio <= 1:
        options.error("--ratio: more than 1")
    for file in (args.task, args.splitctl):
        if not file.exists():
            options.error(f"{file} is missing" + (": run make" if file == args.splitctl else ""))
    args.out = args.out or pathlib.Path(f"build/train/{args.task.stem}-tuned.onnx")
    return args


def load_task(file):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Task()


def export(net, task, file):
    torch.onnx.export(net, task.example(), str(file), opset_version=13, input_names=["image"],
                      output_names=["answer"],
                      dynamic_axes={"image": task.dynamic, "answer": task.dynamic})


class Network:
    """A network and how it is split for pictures of any size: as `file`, its export with whatever
    weights."""

    def __init__(self, net, file, args):
        self.net, self.file, self.args = net.eval(), file, args
        self.tapes, self.splits = {}, {}

    def split(self, pictures, nodes):
        shape = (1, *pictures.shape[1:])
        if shape not in self.tapes:
            self.tapes[shape] = halo.Tape(self.net, pictures[:1])
        if (shape, nodes) not in self.splits:
            plan = halo.read_plan(self.args.splitctl, self.file, shape, nodes,
                                  policy=self.args.policy)
            self.splits[shape, nodes] = halo.Split(self.tapes[shape], plan, self.file)
        return self.splits[shape, nodes]


# ---- Calibration


class Samples(codec.Codec):
    """Changes nothing and keeps what was sent: tensor's name -> [(values, channels)]."""

    def __init__(self):
        super().__init__()
        self.messages = {}

    def __call__(self, values, tensor, border, channels=slice(None)):
        self.messages.setdefault(tensor, []).append((values, channels))
        return values


def mean_of_channels(messages, count):
    """Of (values, channels) of a tensor of `count` channels; those that nobody sends are 0."""
    total, number = torch.zeros(count), torch.zeros(count)
    for values, channels in messages:
        total[channels] += values.sum((0, 2, 3))
        number[channels] += values[:, 0].numel()
    return total / number.clamp(min=1)


def quantizer_for(messages, count, coarseness, soft):
    """Of a tensor of `count` channels of which `messages` were sent.  The step is `coarseness`
    standard deviations; gain and rest give values back the variance and the means that the
    threshold takes."""
    everything = torch.cat([values.flatten() for values, _ in messages])
    step = max(coarseness * everything.std().item(), 1e-9)
    made = codec.Quantizer(step, THRESHOLD * step, gain=1.0, soft=soft,
                           with_sign=everything.min().item() < 0)
    seen = [(made.values(made.levels(values)), channels) for values, channels in messages]
    mean, mean_seen = mean_of_channels(messages, count), mean_of_channels(seen, count)
    own = both = 0.0
    for (x, channels), (y, _) in zip(messages, seen):
        off = x - mean[channels].view(1, -1, 1, 1)
        own += off.square().sum().item()
        both += (off * (y - mean_seen[channels].view(1, -1, 1, 1))).sum().item()
    made.gain = min(MAX_GAIN, max(1.0, own / both)) if both > 0 else 1.0
    rest = mean - made.gain * mean_seen
    made.rest = rest if made.with_sign else rest.clamp(min=0)
    return made


def calibrate(splits, pictures, args):
    """Quantizers of all tensors of `splits` with which halos are --ratio times smaller than
    floats."""
    samples, counts = Samples(), {}
    with torch.no_grad():
        for split in splits:
            counts.update((t["tensor"], t["dim"][2]) for t in split.plan["operators"])
            split(pictures, samples)
    coarse, fine = 16.0, 0.01
    for _ in range(SEARCH):
        middle = (coarse * fine) ** 0.5
        quantizers = {t: quantizer_for(m, counts[t], middle, args.soft)
                      for t, m in samples.messages.items()}
        counter = codec.Codec("tq", quantizers, count=True)
        for tensor, messages in samples.messages.items():
            for values, channels in messages:
                counter(values, tensor, None, channels)
        if ratio_of(counter.traffic) < args.ratio:
            fine = middle
        else:
            coarse = middle
    return quantizers


def ratio_of(traffic):
    sent = sum(t.bytes for t in traffic.values())
    return sum(t.dense() for t in traffic.values()) / sent if sent else float("inf")


# ---- Training


def fine_tune(args, task, network, state, file, clock):
    """Trains `network` from where `state` says it is."""
    before = copy.deepcopy(network.net)
    every = max(1, args.steps // 10)

    def batch_of(step):
        random = session.random_of(args.seed, step)
        return random, task.batch(random, args.batch)

    def quantizers_at(step):
        if step % every == 0 or "quantizers" not in state:
            _, (pictures, _) = batch_of(step)
            state["quantizers"] = calibrate([network.split(pictures, n) for n in args.nodes],
                                            pictures[:CALIBRATED], args)
        return state["quantizers"]

    def one_of(choices, random):
        return choices[torch.randint(len(choices), (), generator=random).item()]

    def loss_at(step):
        random, (pictures, target) = batch_of(step)
        split = network.split(pictures, one_of(args.nodes, random))
        share = one_of(args.loss, random)
        halos = codec.Codec("drop" if share == 1 else "tq", quantizers_at(step), share, random)
        with torch.no_grad():
            known = before(pictures)
        return task.loss(split(pictures, halos), target, known)

    session.train(network.net, args.steps, args.rate, loss_at, state, file, clock)


# ---- What it brings


def cells(args):
    """(nodes, mode, share of messages that get lost) of all that is looked at."""
    yield 1, "f32", 0
    for nodes in args.nodes:
        yield from ((nodes, "tq", 0), (nodes, "tq", SHOWN_LOSS), (nodes, "drop", 0))


def held_out(args, task):
    left = args.pictures
    for pictures, target in task.held_out():
        if left > 0:
            yield pictures[:left], target[:left]
        left -= len(pictures)


def calibrated(args, task, network, which, state):
    """Quantizers of a network that is not trained further."""
    if which not in state["calibrated"]:
        known, _ = task.batch(session.random_of(args.seed, 0), CALIBRATED)
        state["calibrated"][which] = calibrate([network.split(known, n) for n in args.nodes],
                                               known, args)
    return state["calibrated"][which]


def measure(args, task, network, which, state, clock):
    """Scores of `network` in every cell, into state["cells"], as far as time allows."""
    quantizers = calibrated(args, task, network, which, state)
    batches = list(held_out(args, task))
    bar = session.Bar(f"looking at the network {which}", len(batches))
    for cell in cells(args):
        nodes, mode, share = cell
        found = state["cells"].setdefault((which, *cell), {"scores": [], "traffic": {}})
        for i, (pictures, target) in list(enumerate(batches))[len(found["scores"]):]:
            if clock.is_over():
                raise session.TimeIsUp
            halos = codec.Codec(mode, quantizers, share, session.random_of(args.seed, i), True)
            with torch.no_grad():
                answer = network.split(pictures, nodes)(pictures, halos)
            found["scores"].append(task.score(answer, target))
            for tensor, t in halos.traffic.items():
                found["traffic"].setdefault(tensor, codec.Traffic()).add(t)
            bar.show(i + 1, f"{nodes} nodes, {mode}")


def error_of(split, pictures, whole, quantizers):
    """Of the answers, relative to those of one node."""
    with torch.no_grad():
        off = split(pictures, codec.Codec("tq", quantizers)) - whole
    return (off.square().sum() / whole.square().sum()).sqrt().item()


def write_halo_file(args, task, network, state, file):
    """The calibration of the exported network, and what was measured with the first of --nodes."""
    nodes, quantizers = args.nodes[0], state["calibrated"]["after"]
    some = next(held_out(args, task))[0][:CALIBRATED]
    split = network.split(some, nodes)
    with torch.no_grad():
        whole = network.net(some)
    seen, one = (state["cells"]["after", *cell] for cell in ((nodes, "tq", 0), (1, "f32", 0)))
    lost = (torch.cat(one["scores"]) - torch.cat(seen["scores"])).float()
    sent, dense, tensors = 0.0, 0.0, []
    for index, entry in enumerate(network.split(task.example(), nodes).plan["operators"]):
        name, heads = entry["tensor"], HEADER * len(entry["messages"])
        exact = heads + sum(m["bytes"] for m in entry["messages"])
        if name not in quantizers or entry["type"] == "Partial":
            sent, dense = sent + exact, dense + exact
            continue
        traffic = seen["traffic"].get(name, codec.Traffic())
        own = heads + traffic.bytes / len(lost)
        sent, dense = sent + own, dense + exact
        error = error_of(split, some, whole, {name: quantizers[name]})
        tensors.append(halo_file.Tensor(entry, index, quantizers[name], own, error))
    halo_file.write(file, args.out, nodes, f"{args.ratio:g}x", {
        "inputs": len(lost), "bytes": sent, "dense_bytes": dense,
        "error": error_of(split, some, whole, quantizers), "agreement": None,
        "drop": lost.mean().item(), "drop_error": standard_error(lost)}, tensors)


def standard_error(values):
    return values.std().item() / len(values) ** 0.5 if len(values) > 1 else 0.0


def figure(score, first):
    """The mean, and how it differs from that of the same pictures before, with its error."""
    off = score - first
    return f"{score.mean():.2f} ({off.mean():+.2f} ± {standard_error(off):.2f})"


def table(args, task, state):
    """Markdown."""
    rows = [f"| {task.name} | smaller than f32 | {task.unit} before | {task.unit} after |",
            "|---|---|---|---|"]
    first = torch.cat(state["cells"]["before", 1, "f32", 0]["scores"]).float()
    for nodes, mode, share in cells(args):
        found = [state["cells"][which, nodes, mode, share] for which in ("before", "after")]
        what = "one node" if nodes == 1 else f"{nodes} nodes, `{mode}`"
        if share > 0:
            what += f", {100 * share:g} % of the messages lost"
        ratio = " / ".join(f"{ratio_of(f['traffic']):.1f}x" for f in found) if mode == "tq" else ""
        scores = [figure(torch.cat(f["scores"]).float(), first) for f in found]
        rows.append(f"| {what} | {ratio} | {scores[0]} | {scores[1]} |")
    return "\n".join(rows)


def main(argv=None):
    args = parse_arguments(argv)
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(args.seed)
    clock = session.Clock(args.seconds)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    task = load_task(args.task)

    file = args.out.with_suffix(".pt")
    kept = ("nodes", "ratio", "soft", "loss", "policy", "steps", "batch", "rate", "seed", "pictures")
    state = session.load(file, {name: getattr(args, name) for name in kept})
    state.setdefault("cells", {})
    state.setdefault("calibrated", {})
    shown = args.out.with_suffix(".before.onnx")
    first, tuned = (Network(task.network(), shown, args) for _ in range(2))
    export(first.net, task, shown)
    if state.get("step", 0) < args.steps:
        fine_tune(args, task, tuned, state, file, clock)
    tuned.net.load_state_dict(state["net"])
    export(tuned.net, task, args.out)
    try:
        measure(args, task, first, "before", state, clock)
        measure(args, task, tuned, "after", state, clock)
    finally:
        session.save(state, file)
    write_halo_file(args, task, tuned, state, halo_file.beside(args.out))
    print(f"{args.out} with {halo_file.beside(args.out).name}, {args.steps} steps\n")
    print(table(args, task, state))


if __name__ == "__main__":
    try:
        session.run_in_pieces(main)
    except (halo.Unsupported, RuntimeError) as error:
        sys.exit(f"finetune: {error}")
