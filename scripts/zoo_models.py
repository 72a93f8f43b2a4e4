"""Networks with seeded random weights for tests and benchmarks; nothing is downloaded.

Used by scripts/zoo and scripts/bench-models.  Needs Debian's python3-torch and
python3-torchvision.
"""
import torch
import torchvision
from torch import nn
from torchvision.models import resnet

SEED = 20240607
OPSET = 13


def randomize(model, shape):
    """Weights, biases and statistics as in a trained network: values neither vanish nor explode,
    and neither does rounding, which a deep network of full-strength residual branches multiplies."""
    branch_ends = []
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        # Fresh ones are all zero or all one, which would hide that somebody forgot them.
        if getattr(module, "bias", None) is not None:
            nn.init.normal_(module.bias, 0, 0.05)
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, 0, 0.4)
        if hasattr(module, "layer_scale"):  # ConvNeXt's, 1e-6 before training
            nn.init.uniform_(module.layer_scale, 0.2, 0.6)
        if isinstance(module, (resnet.BasicBlock, resnet.Bottleneck)):
            branch_ends.append(module.bn3 if hasattr(module, "bn3") else module.bn2)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics of the next pass, not a running mean
    for module in branch_ends:
        nn.init.uniform_(module.weight, 0.1, 0.4)
    # One pass in training mode sets the statistics of all batch normalizations.
    if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        with torch.no_grad():
            model.train()(torch.randn(2, *shape[1:]))
    return model.eval()


class MainOutput(nn.Module):
    """Torchvision's segmentation networks answer with a dictionary."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)["out"]


# What keeps torchvision from downloading a backbone or from adding heads for training only.
ARGUMENTS = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
    "deeplabv3_mobilenet_v3_large": {"weights_backbone": None},
    "lraspp_mobilenet_v3_large": {"weights_backbone": None},
    "fcn_resnet50": {"weights_backbone": None},
}


def torchvision_network(name):
    if hasattr(torchvision.models.segmentation, name):
        make = getattr(torchvision.models.segmentation, name)
        return MainOutput(make(weights=None, **ARGUMENTS[name]))
    return getattr(torchvision.models, name)(weights=None, **ARGUMENTS.get(name, {}))


def convolution(channels_in, channels_out, kernel=3, stride=1, activation=nn.SiLU):
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out), activation())


class UNet(nn.Module):
    """Ronneberger, Fischer, Brox (2015), padded, three levels of half the width; goes up by a
    transposed convolution or by bilinear interpolation."""

    def __init__(self, width=16, transposed=True):
        super().__init__()

        def block(channels_in, channels_out):
            return nn.Sequential(convolution(channels_in, channels_out, activation=nn.ReLU),
                                 convolution(channels_out, channels_out, activation=nn.ReLU))

        widths = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList(block(i, o) for i, o in zip([3] + widths, widths))
        self.bottom = block(widths[-1], 8 * width)
        self.up, self.join = nn.ModuleList(), nn.ModuleList()
        for o in reversed(widths):
            self.up.append(nn.ConvTranspose2d(2 * o, o, 2, 2) if transposed else
                           nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"),
                                         nn.Conv2d(2 * o, o, 1)))
            self.join.append(block(2 * o, o))
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x):
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = nn.functional.max_pool2d(x, 2)
        x = self.bottom(x)
        for up, join, skip in zip(self.up, self.join, reversed(skips)):
            x = join(torch.cat([skip, up(x)], 1))
        return self.head(x)


class Bottleneck(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(convolution(channels, channels, 1), convolution(channels, channels))

    def forward(self, x):
        return x + self.body(x)


class CSP(nn.Module):
    """YOLOv8's C2f: half of the channels pass through bottlenecks, every stage is kept."""

    def __init__(self, channels_in, channels_out, depth=1):
        super().__init__()
        half = channels_out // 2
        self.enter = convolution(channels_in, 2 * half, 1)
        self.stages = nn.ModuleList(Bottleneck(half) for _ in range(depth))
        self.leave = convolution((2 + depth) * half, channels_out, 1)

    def forward(self, x):
        parts = list(self.enter(x).chunk(2, 1))
        for stage in self.stages:
            parts.append(stage(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class SPPF(nn.Module):
    """Three poolings in a row see what poolings of 5, 9 and 13 pixels would."""

    def __init__(self, channels):
        super().__init__()
        self.enter = convolution(channels, channels // 2, 1)
        self.leave = convolution(2 * channels, channels, 1)

    def forward(self, x):
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(nn.functional.max_pool2d(parts[-1], 5, 1, 2))
        return self.leave(torch.cat(parts, 1))


class YOLO(nn.Module):
    """A small detector in the manner of YOLOv5 and YOLOv8: CSP stages, SPPF, a neck that goes up
    and down again, and, as YOLOv8 has it, decoded boxes (x, y, w, h) and class scores of three
    scales: 1 x (4 + classes) x cells."""

    STRIDES = (8, 16, 32)

    def __init__(self, width=16, classes=20, sharpness=1.0):
        super().__init__()
        w, self.outputs = width, 4 + classes
        self.sharpness = sharpness  # of the class scores: random ones are nearly all 0 or 1
        self.stem = nn.Sequential(convolution(3, w, 3, 2), convolution(w, 2 * w, 3, 2),
                                  CSP(2 * w, 2 * w))
        self.stage3 = nn.Sequential(convolution(2 * w, 4 * w, 3, 2), CSP(4 * w, 4 * w, 2))
        self.stage4 = nn.Sequential(convolution(4 * w, 8 * w, 3, 2), CSP(8 * w, 8 * w, 2))
        self.stage5 = nn.Sequential(convolution(8 * w, 16 * w, 3, 2), CSP(16 * w, 16 * w),
                                    SPPF(16 * w))
        self.up4, self.up3 = CSP(24 * w, 8 * w), CSP(12 * w, 4 * w)
        self.narrow3, self.down4 = convolution(4 * w, 4 * w, 3, 2), CSP(12 * w, 8 * w)
        self.narrow4, self.down5 = convolution(8 * w, 8 * w, 3, 2), CSP(24 * w, 16 * w)
        self.heads = nn.ModuleList(nn.Conv2d(c * w, self.outputs, 1) for c in (4, 8, 16))

    def decode(self, x, stride):
        rows, columns = x.shape[2:]
        y, x_of = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        grid = torch.stack([x_of, y], 0).float()
        box, classes = x[:, :4].sigmoid(), (x[:, 4:] * self.sharpness).sigmoid()
        centre = (box[:, :2] * 2 - 0.5 + grid) * stride
        size = (box[:, 2:] * 2) ** 2 * stride
        return torch.cat([centre, size, classes], 1).flatten(2)

    def forward(self, x):
        c3 = self.stage3(self.stem(x))
        c4 = self.stage4(c3)
        c5 = self.stage5(c4)
        p4 = self.up4(torch.cat([nn.functional.interpolate(c5, scale_factor=2), c4], 1))
        p3 = self.up3(torch.cat([nn.functional.interpolate(p4, scale_factor=2), c3], 1))
        n4 = self.down4(torch.cat([self.narrow3(p3), p4], 1))
        n5 = self.down5(torch.cat([self.narrow4(n4), c5], 1))
        maps = [head(m) for head, m in zip(self.heads, (p3, n4, n5))]
        return torch.cat([self.decode(m, s) for m, s in zip(maps, self.STRIDES)], 2)


class Suppressed(nn.Module):
    """What exporters append to a detector: non-maximum suppression within each class, and boxes,
    scores and classes of what is left.  How many that are differs from picture to picture.  Of
    random boxes and scores rounding would change the order: larger ones overlap, coarse ones are equal
    or apart."""

    def __init__(self, model, iou=0.3):
        super().__init__()
        self.model, self.iou = model, iou

    def forward(self, x):
        values = self.model(x)[0]
        centre, half = values[:2].T, 2 * values[2:4].T
        boxes = torch.cat([centre - half, centre + half], 1)
        scores, classes = ((values[4:] * 64).round() / 64).max(0)
        apart = boxes + classes[:, None] * 4096.0  # boxes of two classes never meet
        keep = torchvision.ops.nms(apart, scores, self.iou)
        return boxes[keep], scores[keep], classes[keep]


class Heads(nn.Module):
    """Of torchvision's SSD what a network computes: class scores and offsets to the anchors."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        heads = self.model.head(list(self.model.backbone(x).values()))
        return heads["cls_logits"], heads["bbox_regression"]


class HandHardSigmoid(nn.Module):
    def forward(self, x):
        return nn.functional.relu6(x + 3) / 6


class HandHardSwish(nn.Module):
    def forward(self, x):
        return x * nn.functional.relu6(x + 3) * (1 / 6)


class TensorFlowStyle(nn.Module):
    """A network as TensorFlow's exporters write it: channels last outside, padding "SAME" as an
    operator of its own that adds more below and to the right, hard-swish by hand."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                new = self.rewritten(child)
                if new is not None:
                    setattr(parent, name, new)

    @staticmethod
    def rewritten(module):
        if isinstance(module, nn.Hardswish):
            return HandHardSwish()
        if isinstance(module, nn.Hardsigmoid):
            return HandHardSigmoid()
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2) and module.padding[0] > 0:
            before, after = module.padding[0] - 1, module.padding[0]
            module.padding = (0, 0)
            return nn.Sequential(nn.ZeroPad2d((before, after, before, after)), module)
        return None

    def forward(self, x):
        return self.model(x.permute(0, 3, 1, 2))


def detector(name):
    return getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None)


OWN = {
    "mobilenet_v3_small_tf":
        lambda: TensorFlowStyle(torchvision_network("mobilenet_v3_small")),
    "unet": UNet,
    "unet_bilinear": lambda: UNet(transposed=False),
    "yolo": lambda: YOLO(sharpness=0.1),
    "yolo_suppressed": lambda: Suppressed(YOLO(sharpness=0.1)),
    "ssd300_vgg16": lambda: Heads(detector("ssd300_vgg16")),
    "ssdlite320_mobilenet_v3_large": lambda: Heads(detector("ssdlite320_mobilenet_v3_large")),
}


def make_network(name, shape):
    """The same for the same name and shape, ready to be run."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    model = OWN[name]() if name in OWN else torchvision_network(name)
    return randomize(model, shape)


def export(model, shape, file, opset=OPSET, dynamic=(), outputs=("output",)):
    """`dynamic`: the input's axes whose extents the file leaves open; `outputs`: names."""
    axes = {"input": {axis: f"axis{axis}" for axis in dynamic}} if dynamic else None
    torch.onnx.export(model, torch.zeros(shape), file, opset_version=opset, dynamic_axes=axes,
                      input_names=["input"], output_names=list(outputs))
