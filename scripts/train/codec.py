"""What values become on their way between nodes: the modes of quant/ in torch, and losses.

Messages become the same floats as there, up to the last bit.
"""
from dataclasses import dataclass

import numpy as np
import torch

MODES = ("f32", "f16", "q8", "q4", "tq", "drop")
SCALED_HEAD = 6                        # bytes before the values of q8 and q4
LEVELS = {"q8": (255, 127), "q4": (15, 7)}  # the largest, without and with a sign


@dataclass
class Quantizer:
    """Of one tensor: see quant/levels.h, whose words these are."""
    step: float
    threshold: float
    gain: float
    with_sign: bool
    soft: bool = False
    rest: torch.Tensor = None  # of each channel, what a level of 0 becomes; None: 0

    def levels(self, values):
        """Whole numbers as floats."""
        if not self.with_sign:
            values = values.clamp(min=0)
        step, threshold = np.float32(self.step), np.float32(self.threshold)
        inverse = 1 / step
        size = values.abs() * float(inverse) + float(1 - threshold * inverse)
        return torch.sign(values) * torch.where(size >= 1, size, torch.zeros(())).floor()

    def values(self, levels, channels=slice(None)):
        """Of these channels of the tensor."""
        step, threshold, gain = (np.float32(x) for x in (self.step, self.threshold, self.gain))
        origin = gain * (-step / 2 if self.soft else threshold - step / 2)
        values = levels * float(gain * step) + torch.sign(levels) * float(origin)
        if self.rest is not None:
            values = values + self.rest[channels].view(1, -1, 1, 1)
        return values if self.with_sign else values.clamp(min=0)


@dataclass
class Traffic:
    """What was sent of one tensor."""
    messages: int = 0
    values: int = 0
    bytes: int = 0

    def dense(self):
        """Bytes of the same messages as floats."""
        return self.messages + 4 * self.values

    def add(self, other):
        self.messages += other.messages
        self.values += other.values
        self.bytes += other.bytes


class Codec:
    """What receivers have of what was sent.

    mode       -- one of MODES; "drop": nothing is sent
    quantizers -- of tensors, by their names in splitd's plan; with "tq", others travel as
                  halves; "drop" takes their `rest`
    loss       -- the chance of a message to get lost
    random     -- torch.Generator that decides which
    count      -- keep `traffic`, by tensors' names; of "tq" with its gamma codes
    """

    def __init__(self, mode="f32", quantizers=None, loss=0.0, random=None, count=False):
        if mode not in MODES:
            raise ValueError(f"'{mode}' is none of {', '.join(MODES)}")
        self.mode, self.quantizers, self.loss, self.random = mode, quantizers or {}, loss, random
        self.traffic = {} if count else None

    def __call__(self, values, tensor, border, channels=slice(None)):
        """What the receiver has of one message for every picture.

        values   -- (pictures, channels, rows, columns)
        tensor   -- its name
        border   -- of the same shape, the receiver's own row next to them, which it takes for a
                    lost message; None: it has none and takes zeros
        channels -- which ones of the tensor they are
        """
        if self.mode == "drop":
            return self.nothing(values, tensor, channels)
        received = self.received(values, tensor, channels)
        if self.loss == 0:
            return received
        lost = torch.rand(len(values), 1, 1, 1, generator=self.random) < self.loss
        return torch.where(lost, torch.zeros_like(values) if border is None else border, received)

    def nothing(self, values, tensor, channels):
        quantizer = self.quantizers.get(tensor)
        if quantizer is None or quantizer.rest is None:
            return torch.zeros_like(values)
        return quantizer.rest[channels].view(1, -1, 1, 1).expand_as(values)

    def received(self, values, tensor, channels):
        """Decoded; as for gradients, what became something is what was sent."""
        if self.mode == "f32":
            self.count(values, tensor, 1 + 4 * values[0].numel())
            return values
        with torch.no_grad():
            seen, passes = self.quantized(values, tensor, channels)
        return seen + passes * (values - values.detach())

    def quantized(self, values, tensor, channels):
        """(decoded values, where they come from: 1, or 0 where they say nothing)."""
        n = values[0].numel()
        if self.mode == "tq" and tensor in self.quantizers:
            quantizer = self.quantizers[tensor]
            levels = quantizer.levels(values)
            if self.traffic is not None:
                self.count(values, tensor, gamma_lengths(levels, quantizer.with_sign))
            return quantizer.values(levels, channels), levels.abs().clamp(max=1)
        if self.mode in ("f16", "tq"):
            self.count(values, tensor, 1 + 2 * n)
            return values.half().float(), torch.ones(())
        self.count(values, tensor, SCALED_HEAD + (n if self.mode == "q8" else (n + 1) // 2))
        return scaled(values, *LEVELS[self.mode]), torch.ones(())

    def count(self, values, tensor, lengths):
        """Adds a message for every picture, of `lengths` bytes each or one by one."""
        if self.traffic is None:
            return
        t = self.traffic.setdefault(tensor, Traffic())
        t.messages += len(values)
        t.values += values.numel()
        t.bytes += int(np.broadcast_to(lengths, len(values)).sum())


def scaled(values, unsigned, signed):
    """Whole numbers times a scale, the largest magnitude of a message being the largest number."""
    largest = values.abs().amax((1, 2, 3), keepdim=True)
    below = (values < 0).flatten(1).any(1).view(-1, 1, 1, 1)
    scale = largest / torch.where(below, float(signed), float(unsigned))
    inverse = torch.where(scale > 0, 1 / scale, torch.zeros(()))
    return (values * inverse).round() * scale


def gamma_bits(numbers):
    """Of the Elias gamma codes of whole numbers from 1 on (quant/gamma.h)."""
    return 2 * np.frexp(np.asarray(numbers, np.float64))[1] - 1


def gamma_lengths(levels, with_sign):
    """Bytes of messages of CODEC_TQ (quant/tq.h), at most those of CODEC_F16."""
    levels = levels.flatten(1).abs().numpy()
    messages, n = levels.shape
    message, place = np.nonzero(levels)
    before = np.r_[-1, place[:-1]][:len(place)]  # of the same message, or -1
    before[np.r_[True, message[1:] != message[:-1]][:len(place)]] = -1
    bits = gamma_bits(place - before) + gamma_bits(levels[message, place]) + with_sign
    total = np.bincount(message, weights=bits, minlength=messages)
    last = np.full(messages, -1)
    last[message] = place  # the last one stays
    total += np.where(last < n - 1, gamma_bits(n - last), 0)
    return np.minimum(1 + np.ceil(total / 8), 1 + 2 * n).astype(np.int64)
