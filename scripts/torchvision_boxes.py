"""Boxes as torchvision 0.14 computes them: what libsplit's decoders are held against.

Used by scripts/detect-fixtures and scripts/zoo.
"""
import numpy as np
import torch
import torchvision
from torchvision.models.detection import _utils

import detectors

SSD_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # one over the variances of centre and size


def chosen(corners, scores, score, iou, limit):
    """As detectors.chosen(), but batched_nms chooses; the two must agree."""
    best, classes = torch.from_numpy(scores).max(1)
    enough = best >= score
    boxes = torch.from_numpy(corners)[enough]
    best, classes = best[enough], classes[enough]
    keep = torchvision.ops.batched_nms(boxes, best, classes, iou)[:limit]
    found = detectors.Boxes(boxes[keep].numpy(), best[keep].numpy(), classes[keep].numpy())
    ours = detectors.chosen(corners, scores, score, iou, limit)
    assert all(np.allclose(a, b) for a, b in zip(found, ours)), "batched_nms has other boxes"
    return found


def seen(boxes, rows, columns):
    """What of the boxes lies in the picture."""
    corners = detectors.clipped(boxes.corners, rows, columns)
    inside = (corners[:, 2:] > corners[:, :2]).all(1)
    return detectors.Boxes(*(part[inside] for part in boxes._replace(corners=corners)))


def sidecar(decoder, class_offset=0, **detect):
    about = {"task": "detect", "detect": {"decoder": decoder, **detect}}
    if class_offset:
        about["class_offset"] = class_offset
    return about


# ---- SSD

def ssd_anchors(generator, grids, rows, columns):
    """Corners in pixels; `grids`: rows and columns of every map."""
    boxes = generator._grid_default_boxes(grids, [rows, columns])
    boxes = torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    return boxes * torch.tensor([columns, rows, columns, rows])


def ssd_coder():
    return _utils.BoxCoder(weights=SSD_WEIGHTS)


def ssd_sidecar(generator, grids, rows, columns, **limits):
    """Anchors are spread over a map by steps or, without them, evenly."""
    strides = generator.steps or [columns / grid[1] for grid in grids]
    pixels = [(pairs.clamp(0, 1) * torch.tensor([columns, rows])).flatten().tolist()
              for pairs in generator._wh_pairs]
    return sidecar("ssd", class_offset=1, strides=[round(s, 4) for s in strides],
                   anchors=[[round(n, 4) for n in level] for level in pixels],
                   activation="softmax", **limits)


def ssd_decode(logits, offsets, anchors, rows, columns):
    """Corners, cut at the edges, and scores without those of the background."""
    corners = ssd_coder().decode_single(offsets, anchors)
    corners = torchvision.ops.clip_boxes_to_image(corners, (rows, columns))
    return corners.numpy(), logits.softmax(1)[:, 1:].numpy()
