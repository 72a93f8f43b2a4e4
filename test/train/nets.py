"""Small networks with what networks are made of, and random weights."""
import torch
import torch.nn.functional as F
from torch import nn


class Residual(nn.Module):
    """Batch normalization, strides, a shortcut, sums in place, a mean, a dense layer."""

    shape = (1, 3, 32, 32)

    def __init__(self, c=16):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        self.conv1, self.conv2 = nn.Conv2d(c, 2 * c, 3, 2, 1), nn.Conv2d(2 * c, 2 * c, 3, 1, 1)
        self.shortcut, self.relu = nn.Conv2d(c, 2 * c, 1, 2), nn.ReLU(inplace=True)
        self.dense = nn.Linear(2 * c, 7)

    def forward(self, x):
        x = self.relu(self.norm(self.stem(x)))
        y = self.conv2(self.relu(self.conv1(x)))
        y += self.shortcut(x)
        return self.dense(torch.flatten(F.adaptive_avg_pool2d(self.relu(y), 1), 1))


class Plain(nn.Sequential):
    """Unpadded convolutions, pools with incomplete windows, dense layers on a map."""

    shape = (1, 3, 33, 33)

    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(),
                         nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(8, 16, 3), nn.ReLU(),
                         nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16 * 7 * 7, 20), nn.ReLU(),
                         nn.Linear(20, 5))


class Bottleneck(nn.Module):
    """Depthwise convolutions between narrow tensors; squeeze and excite."""

    shape = (1, 3, 48, 40)

    def __init__(self):
        super().__init__()
        self.stem, self.expand = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 48, 1)
        self.depthwise = nn.Conv2d(48, 48, 3, 1, 1, groups=48)
        self.project, self.head = nn.Conv2d(48, 8, 1), nn.Conv2d(8, 6, 1)
        self.squeeze, self.excite = nn.Conv2d(48, 4, 1), nn.Conv2d(4, 48, 1)

    def inner(self, x):
        return F.relu6(self.depthwise(F.relu6(self.expand(x))))

    def forward(self, x):
        x = F.relu6(self.stem(x))
        y = self.inner(x)
        y = y * torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        x = x + self.project(y)
        return self.head(x + self.project(self.inner(x)))


class UpAndDown(nn.Module):
    """Four ways to more rows, a dilated convolution, branches, values of both signs."""

    shape = (1, 3, 40, 24)

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, 2, 1)
        self.up = nn.ConvTranspose2d(12, 8, 4, 2, 1)
        self.dilated = nn.Conv2d(28, 8, 3, padding=2, dilation=2)
        self.last = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        a = F.silu(self.conv1(x))
        b = F.relu(self.conv2(a))
        linear = F.interpolate(b, scale_factor=2, mode="bilinear", align_corners=False)
        y = torch.relu(self.dilated(torch.cat([a, F.relu(self.up(b)), linear], 1)))
        return F.pixel_shuffle(self.last(y) + F.interpolate(F.avg_pool2d(y, 2), scale_factor=2), 2)


ALL = (Residual, Plain, Bottleneck, UpAndDown)


def make(kind):
    torch.manual_seed(1)
    return kind().eval()
