"""What a network computes when nodes of splitd compute it together: inside torch, with gradients.

`splitctl plan --json` says which node computes which rows and what the nodes send each other.
This module follows it with torch's own operators.  What a node computes itself is exact; what it
receives went through the codec of quant/, or got lost.

    tape = Tape(net, example)                         # the network's operators, from one run
    plan = read_plan(splitctl, "net.onnx", example.shape, nodes=4)
    split = Split(tape, plan, "net.onnx")             # net.onnx is what torch exports of `net`
    answer = split(pictures, Codec("q8"))

A codec's gradient is that of doing nothing (straight-through), but none passes values that became
0 or were lost.  Networks are split in evaluation mode: batch normalizations keep their statistics,
which nodes could not gather on their own.
"""
import json
import subprocess
from dataclasses import dataclass

import onnx
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

ROWS = 2  # axis of a batch of pictures: images, channels, rows, columns


class Unsupported(Exception):
    """The network, or splitd's plan for it, holds something that is not simulated."""


# ---- A network as a list of operators


class Ref(int):
    """The number of a value, in its place among an operator's arguments."""


def substitute(args, value_of):
    """`args` with value_of(ref) in place of each Ref."""
    if isinstance(args, Ref):
        return value_of(args)
    if isinstance(args, (tuple, list)):
        return tuple(substitute(a, value_of) for a in args)
    if isinstance(args, dict):
        return {name: substitute(a, value_of) for name, a in args.items()}
    return args


@dataclass
class Step:
    """One operator: a function of torch with its arguments."""
    function: object
    args: tuple
    kwargs: dict
    out: tuple  # Refs, several of split() and its like

    @property
    def name(self):
        return self.function.__name__

    def inputs(self):
        found = []
        substitute((self.args, self.kwargs), found.append)
        return found

    def argument(self, names):
        """The arguments by their names; `names` are all of the function's, in order."""
        return {**dict(zip(names.split(), self.args)), **self.kwargs}

    def run(self, value_of):
        return self.function(*substitute(self.args, value_of),
                             **substitute(self.kwargs, value_of))


class Recorder(TorchFunctionMode):
    """Writes down every call of torch that yields tensors."""

    def __init__(self, example):
        super().__init__()
        self.steps = []
        self.values = [example]  # held, so that no identity is used twice
        self.number = {id(example): Ref(0)}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        taken, named = self.refer(args), self.refer(kwargs)
        result = function(*args, **kwargs)
        outputs = result if isinstance(result, (tuple, list)) else (result,)
        if outputs and all(isinstance(t, torch.Tensor) for t in outputs):
            if "inplace" in named:
                named["inplace"] = False
            self.steps.append(Step(out_of_place(function), taken, named,
                                   tuple(self.define(t) for t in outputs)))
        return result

    def define(self, tensor):
        """A tensor that was changed in place is another value than before."""
        self.values.append(tensor)
        self.number[id(tensor)] = Ref(len(self.values) - 1)
        return self.number[id(tensor)]

    def refer(self, args):
        if isinstance(args, torch.Tensor):
            return self.number.get(id(args), args)
        if isinstance(args, (tuple, list)):
            return tuple(self.refer(a) for a in args)
        if isinstance(args, dict):
            return {name: self.refer(a) for name, a in args.items()}
        return args


def out_of_place(function):
    """The function that yields what `function` would leave in its first argument."""
    name = function.__name__
    if name.startswith("__i"):
        return getattr(torch.Tensor, "__" + name[3:], function)
    if name.endswith("_") and not name.endswith("__"):
        return getattr(torch.Tensor, name[:-1], function)
    return function


class Tape:
    """The operators of `net`, in their order, for pictures as large as `example`: one batch of
    them.  The network yields one tensor, and always by the same operators."""

    def __init__(self, net, example):
        if net.training:
            raise ValueError("a network is split in evaluation mode: call its eval() first")
        recorder = Recorder(example)
        with torch.no_grad(), recorder:
            self.answer = recorder.refer(net(example))
        if not isinstance(self.answer, Ref):
            raise Unsupported("the network does not yield one tensor")
        self.shapes = [tuple(v.shape) for v in recorder.values]
        live, steps = {self.answer}, []
        for step in reversed(recorder.steps):
            if live.intersection(step.out):
                live.update(step.inputs())
                steps.append(step)
        self.steps = steps[::-1]


# ---- Operators that read other rows than they yield


@dataclass
class Reach:
    """Output rows [a, b) read these input rows, by the formula of tiling/reach.h."""
    num: int
    den: int
    lo: int
    hi: int

    def rows(self, a, b):
        return (a * self.num + self.lo) // self.den, ((b - 1) * self.num + self.hi) // self.den + 1


def pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


class Sliding:
    """Convolutions and pools.  `fill` is what stands beyond the picture's edge, and
    `call(x, value_of)` computes without adding rows."""

    def __init__(self, kernel, stride, dilation, padding, fill, call):
        self.reach = Reach(stride, 1, -padding, (kernel - 1) * dilation - padding)
        self.fill, self.call = fill, call

    def reads(self, rows, height):
        return clip(self.reach.rows(*rows), height)

    def compute(self, x, at, rows, value_of):
        """Output `rows`, where `x` holds the rows that they read, from row `at` on."""
        first, end = self.reach.rows(*rows)
        beyond = (0, 0, at - first, end - at - x.shape[ROWS])
        return self.call(F.pad(x, beyond, value=self.fill) if any(beyond) else x, value_of)


class Growing:
    """Operators that make `factor` rows of one.  Of a part that begins with row 0, `call` makes
    the output rows from `-before` on."""

    def __init__(self, reach, factor, before, call):
        self.reach, self.factor, self.before, self.call = reach, factor, before, call

    def reads(self, rows, height):
        return clip(self.reach.rows(*rows), height)

    def compute(self, x, at, rows, value_of):
        skip = rows[0] + self.before - at * self.factor
        return self.call(x, value_of)[:, :, skip:skip + rows[1] - rows[0]]


class Everything:
    """Operators that read all rows of their first input."""

    def __init__(self, step):
        self.step = step

    def reads(self, rows, height):
        return 0, height

    def compute(self, x, at, rows, value_of):
        first = self.step.inputs()[0]
        return self.step.run(lambda ref: x if ref == first else value_of(ref))


def clip(rows, height):
    return max(rows[0], 0), min(rows[1], height)


def read_conv(step, shapes):
    a = step.argument("input weight bias stride padding dilation groups")
    stride, dilation = pair(a.get("stride", 1)), pair(a.get("dilation", 1))
    if isinstance(a.get("padding"), str):
        raise Unsupported("conv2d with its padding as a word: say how many pixels")
    padding = pair(a.get("padding", 0))
    weight, bias, groups = a["weight"], a.get("bias"), a.get("groups", 1)
    kernel = shapes[weight] if isinstance(weight, Ref) else weight.shape

    def call(x, value_of):
        w, b = substitute((weight, bias), value_of)
        return F.conv2d(x, w, b, stride, (0, padding[1]), dilation, groups)

    return Sliding(kernel[2], stride[0], dilation[0], padding[0], 0.0, call)


def read_conv_transpose(step, shapes):
    a = step.argument("input weight bias stride padding output_padding groups dilation")
    stride, dilation = pair(a.get("stride", 1)), pair(a.get("dilation", 1))
    padding, more = pair(a.get("padding", 0)), pair(a.get("output_padding", 0))
    weight, bias, groups = a["weight"], a.get("bias"), a.get("groups", 1)
    last = ((shapes[weight] if isinstance(weight, Ref) else weight.shape)[2] - 1) * dilation[0]
    if last + 1 < stride[0]:
        raise Unsupported("conv_transpose2d with a kernel smaller than its stride")

    def call(x, value_of):
        w, b = substitute((weight, bias), value_of)
        return F.conv_transpose2d(x, w, b, stride, (0, padding[1]), more, groups, dilation)

    reach = Reach(1, stride[0], padding[0] - last + stride[0] - 1, padding[0])
    return Growing(reach, stride[0], padding[0], call)


def read_max_pool(step, shapes):
    a = step.argument("input kernel_size stride padding dilation ceil_mode return_indices")
    kernel = pair(a["kernel_size"])
    stride, padding = pair(a.get("stride") or kernel), pair(a.get("padding", 0))
    dilation, ceil = pair(a.get("dilation", 1)), a.get("ceil_mode", False)

    def call(x, _):
        return F.max_pool2d(x, kernel, stride, (0, padding[1]), dilation, ceil)

    return Sliding(kernel[0], stride[0], dilation[0], padding[0], float("-inf"), call)


def read_avg_pool(step, shapes):
    a = step.argument("input kernel_size stride padding ceil_mode count_include_pad "
                      "divisor_override")
    kernel = pair(a["kernel_size"])
    stride, padding = pair(a.get("stride") or kernel), pair(a.get("padding", 0))
    if a.get("ceil_mode") or (any(padding) and not a.get("count_include_pad", True)):
        raise Unsupported("avg_pool2d that does not count what is beyond the edge")

    def call(x, _):
        return F.avg_pool2d(x, kernel, stride, (0, padding[1]),
                            divisor_override=a.get("divisor_override"))

    return Sliding(kernel[0], stride[0], 1, padding[0], 0.0, call)


def read_pixel_shuffle(step, shapes):
    factor = step.argument("input upscale_factor")["upscale_factor"]
    return Growing(Reach(1, factor, 0, 0), factor, 0, lambda x, _: F.pixel_shuffle(x, factor))


def read_interpolate(step, shapes):
    a = step.argument("input size scale_factor mode align_corners")
    mode = a.get("mode", "nearest")
    have, get = shapes[step.inputs()[0]][ROWS:], shapes[step.out[0]][ROWS:]
    if mode not in ("nearest", "bilinear") or a.get("align_corners") or any(
            g % h for g, h in zip(get, have)):
        raise Unsupported(f"interpolate from {have} to {get}, {mode}")
    factors = tuple(float(g // h) for g, h in zip(get, have))
    f = get[0] // have[0]
    reach = Reach(1, f, 0, 0) if mode == "nearest" else Reach(2, 2 * f, 1 - f, 1 + f)
    return Growing(reach, f, 0, lambda x, _: F.interpolate(x, scale_factor=factors, mode=mode))


def read_everything(step, shapes):
    if len(shapes[step.out[0]]) > ROWS and shapes[step.out[0]][ROWS] > 1:
        raise Unsupported(f"{step.name} to more than one row")
    return Everything(step)


# Function of torch -> how it reads, and the operator of ONNX that torch exports it as.
READERS = {
    "conv2d": (read_conv, "Conv"),
    "conv_transpose2d": (read_conv_transpose, "ConvTranspose"),
    "max_pool2d": (read_max_pool, "MaxPool"),
    "avg_pool2d": (read_avg_pool, "AveragePool"),
    "pixel_shuffle": (read_pixel_shuffle, "DepthToSpace"),
    "interpolate": (read_interpolate, "Resize"),
    "adaptive_avg_pool2d": (read_everything, "GlobalAveragePool"),
    "mean": (read_everything, "ReduceMean"),
    "linear": (read_everything, "Gemm"),
}
FLATTENERS = ("flatten", "reshape", "view")


# ---- splitd's plan


def read_plan(splitctl, model, shape, nodes, halo="f32", policy="exchange"):
    """What splitctl plans for an input of `shape`; it hangs on the mode of the halos too.  Raises
    RuntimeError with what it says if it cannot."""
    done = subprocess.run(
        [str(splitctl), "plan", str(model), "--json", "--local", str(nodes), "--halo", halo,
         "--policy", policy, "--shape", "x".join(str(n) for n in shape)],
        capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout)


def rows_of(box):
    """The rows of a box of the plan, None if it is empty."""
    (first, end), (channel, channel_end) = box["rows"], box["channels"]
    return (first, end) if first < end and channel < channel_end else None


def hull(a, b):
    """Of two ranges of rows, either of which may be None."""
    return (min(a[0], b[0]), max(a[1], b[1])) if a and b else a or b


class Split:
    """A tape on the nodes of a plan.  Call it with pictures and a codec.

    A value that has rows is held in bands: each node's own, with what it received.  Any other
    value, such as the mean of a map, all nodes have.  An operator that yields as many rows as it
    reads is taken to compute each from the same row, unless READERS knows better."""

    def __init__(self, tape, plan, model):
        self.tape, self.plan, self.nodes = tape, plan, plan["nodes"]
        self.exported = onnx.load(str(model), load_external_data=False).graph
        self.height = {}   # of values in bands
        self.reader = {}   # place on the tape -> (reader, the operator's entry in the plan)
        self.tensor = {}   # value -> its entry in the plan; not those within one operator
        self.read_tape()
        self.run = {}      # value -> per node, the rows that it computes, or None
        self.need = {}     # value -> per node, the rows that it reads, or None
        self.spread()
        self.check()

    # -- What is what

    def read_tape(self):
        names, entries = {}, {}
        for node in self.exported.node:
            names.setdefault(node.op_type, []).append(node.name)
        for entry in self.plan["operators"]:
            entries.setdefault(entry["name"], entry)
        if self.tape.shapes[0][ROWS] > 1:
            self.height[Ref(0)] = self.tape.shapes[0][ROWS]
        met = {}
        for i, step in enumerate(self.tape.steps):
            entry = None
            if step.name in READERS:
                kind = READERS[step.name][1]
                place = met[kind] = met.get(kind, -1) + 1
                exported = names.get(kind, [])
                entry = entries.get(exported[place]) if place < len(exported) else None
            banded = [ref for ref in step.inputs() if ref in self.height]
            if banded:
                self.read_step(i, step, banded, entry)
        if self.tape.answer in self.height:
            name = self.exported.output[0].name
            self.place(self.tape.answer, next(
                e for e in self.plan["operators"] if e["tensor"] == name))

    def read_step(self, i, step, banded, entry):
        shape = self.tape.shapes[step.out[0]]
        height = self.height[banded[0]]
        if step.name in READERS:
            if entry is None:
                raise Unsupported(f"{step.name}, step {i}, is not in splitd's plan")
            self.reader[i] = READERS[step.name][0](step, self.tape.shapes), entry
            self.place(self.behind(banded[0]), self.plan["operators"][entry["inputs"][0]])
            if len(shape) == 4 and shape[ROWS] > 1:
                self.height[step.out[0]] = shape[ROWS]
        elif step.name in FLATTENERS and len(shape) == 2:
            self.reader[i] = Everything(step), None
            self.height[step.out[0]] = height
        elif all(self.same_rows(ref, height) for ref in (*step.out, *banded)):
            self.height.update((ref, height) for ref in step.out)
        else:
            raise Unsupported(f"{step.name} from {self.tape.shapes[banded[0]]} to {shape}")

    def same_rows(self, ref, height):
        shape = self.tape.shapes[ref]
        return len(shape) == 2 or (len(shape) == 4 and shape[ROWS] == height)

    def behind(self, ref):
        """The map that was flattened to `ref`."""
        while len(self.tape.shapes[ref]) == 2:
            step = next(s for s in self.tape.steps if ref in s.out)
            ref = next(r for r in step.inputs() if r in self.height)
        return ref

    def place(self, ref, tensor):
        _, channels, rows, columns = self.tape.shapes[ref]
        if tensor["dim"] != [rows, columns, channels] or \
                self.tensor.setdefault(ref, tensor) is not tensor:
            raise Unsupported(f"splitd's {tensor['tensor']} {tensor['dim']} is not the "
                              f"{self.tape.shapes[ref]} that is read here")

    # -- Who computes and who reads which rows

    def spread(self):
        nobody = [None] * self.nodes
        for i in reversed(range(len(self.tape.steps))):
            step = self.tape.steps[i]
            for ref in step.out:
                if ref in self.height:
                    self.run[ref] = self.rows_to_run(ref)
            for ref in step.inputs():
                if ref in self.height:
                    read = self.rows_to_read(i, step, ref)
                    self.need[ref] = [hull(a, b) for a, b in
                                      zip(self.need.get(ref, nobody), read)]

    def rows_to_run(self, ref):
        if ref in self.tensor:
            return [rows_of(node) for node in self.tensor[ref]["nodes"]]
        return self.need[ref]

    def rows_to_read(self, i, step, ref):
        if i not in self.reader:
            return self.run[step.out[0]]
        reader, entry = self.reader[i]
        height = self.height[ref]
        if entry and entry["type"] == "Partial":
            return [rows_of(node["owns"]) for node in self.tensor[ref]["nodes"]]
        return [rows and reader.reads(rows, height) for rows in self.rows_of_step(i, step)]

    def rows_of_step(self, i, step):
        """The rows of its result that each node computes."""
        if step.out[0] in self.height:
            return self.run[step.out[0]]
        return [rows_of(node) for node in self.reader[i][1]["nodes"]]

    def check(self):
        """That nodes have what they read, and that no message is left out."""
        known = {id(t) for t in self.tensor.values()}
        for entry in self.plan["operators"]:
            if entry["messages"] and entry["type"] != "Partial" and entry["dim"][0] > 1 and \
                    id(entry) not in known:
                raise Unsupported(f"nodes send each other {entry['tensor']}, "
                                  "which is within an operator here")
        for ref, tensor in self.tensor.items():
            if ref == 0:
                continue
            have = list(self.run[ref])
            for m in sorted(tensor["messages"], key=lambda m: m["rows"]):
                have[m["to"]] = hull(have[m["to"]], rows_of(m))
            for n, need in enumerate(self.need.get(ref, ())):
                if need and hull(have[n], need) != have[n]:
                    raise Unsupported(f"node {n} reads rows {need} of {tensor['tensor']} "
                                      f"and has {have[n]}")

    # -- Computing

    def __call__(self, pictures, codec):
        """The network's answer to (n, channels, rows, columns), where values that nodes send each
        other go through `codec`."""
        frame = Frame(self, pictures, codec)
        for i, step in enumerate(self.tape.steps):
            frame.compute(i, step)
        return frame.answer()


class Frame:
    """The values of one call of a Split."""

    def __init__(self, split, pictures, codec):
        self.split, self.codec = split, codec
        self.whole = {Ref(0): pictures}
        self.bands = {}  # value -> per node (first row, values) or None
        if Ref(0) in split.height:
            self.bands[Ref(0)] = [(0, pictures)] * split.nodes

    def rows(self, ref, node, rows):
        at, values = self.bands[ref][node]
        if values.dim() == 2 or (at, at + values.shape[ROWS]) == rows:
            return values
        return values[:, :, rows[0] - at:rows[1] - at]

    def compute(self, i, step):
        split = self.split
        if not any(ref in split.height for ref in step.inputs()):
            self.keep(step, step.run(self.whole.__getitem__))
            return
        reader, entry = split.reader.get(i, (None, None))
        if entry and entry["type"] == "Partial":
            source = step.inputs()[0]
            mean = self.assemble(self.bands[source], split.tensor[source])
            self.keep(step, step.run(lambda ref: mean if ref == source else self.whole[ref]))
            return
        made = [rows and self.compute_rows(step, reader, node, rows)
                for node, rows in enumerate(split.rows_of_step(i, step))]
        if step.out[0] not in split.height:
            self.keep(step, self.assemble(made, entry))
            return
        for k, ref in enumerate(step.out):
            self.bands[ref] = [m and (m[0], m[1][k] if isinstance(m[1], tuple) else m[1])
                               for m in made]
            self.exchange(ref)

    def compute_rows(self, step, reader, node, rows):
        """(first row, result) of a node."""
        value_of = self.whole.__getitem__
        if reader is None:
            return rows[0], step.run(lambda ref: self.rows(ref, node, rows)
                                     if ref in self.bands else value_of(ref))
        source = step.inputs()[0]
        read = reader.reads(rows, self.split.height[source])
        x = self.rows(source, node, read)
        return rows[0], reader.compute(x, read[0], rows, value_of)

    def keep(self, step, result):
        self.whole.update(zip(step.out, result if isinstance(result, (tuple, list)) else [result]))

    def assemble(self, made, entry):
        """One tensor of the parts that nodes own."""
        parts, axis = [], ROWS
        for node, band in zip(entry["nodes"], made):
            box = node["owns"]
            if band is None or rows_of(box) is None:
                continue
            at, values = band
            if values.dim() == 4:
                values = values[:, :, box["rows"][0] - at:box["rows"][1] - at]
            if box["rows"] == [0, entry["dim"][0]]:
                axis = 1
                values = values[:, box["channels"][0]:box["channels"][1]]
            parts.append(values)
        return torch.cat(parts, axis) if len(parts) > 1 else parts[0]

    def exchange(self, ref):
        """Nodes send each other what the plan says of this value."""
        tensor = self.split.tensor.get(ref)
        if tensor is None:
            return
        mine = list(self.bands[ref])
        for node in range(self.split.nodes):
            messages = [m for m in tensor["messages"] if m["to"] == node]
            if messages:
                self.bands[ref][node] = self.receive(mine, node, messages, tensor)

    def receive(self, mine, node, messages, tensor):
        """What `node` has of a tensor after these messages."""
        own, held = mine[node], None
        if own:
            held = own[0], own[0] + own[1].shape[ROWS]
        for m in messages:
            held = hull(held, tuple(m["rows"]))
        like = mine[messages[0]["from"]][1]
        band = like.new_zeros(*like.shape[:2], held[1] - held[0], like.shape[3])
        if own:
            band[:, :, own[0] - held[0]:own[0] - held[0] + own[1].shape[ROWS]] = own[1]
        for m in messages:
            (first, end), channels = m["rows"], slice(*m["channels"])
            at, values = mine[m["from"]]
            values = values[:, channels, first - at:end - at]
            instead = border(own, first)[:, channels].expand_as(values) if own else None
            band[:, channels, first - held[0]:end - held[0]] = self.codec(
                values, tensor["tensor"], instead, channels)
        return held[0], band

    def answer(self):
        ref = self.split.tape.answer
        if ref in self.whole:
            return self.whole[ref]
        return self.assemble(self.bands[ref], self.split.tensor[ref])


def border(band, row):
    """Of a node's rows the one next to `row`."""
    at, values = band
    return values[:, :, :1] if row < at else values[:, :, -1:]
