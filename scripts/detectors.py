"""What the outputs of detectors mean, by the formulas of their papers and in NumPy alone.

Shares no code with libsplit/task_detect*.c, which is held against it: scripts/detect-fixtures,
scripts/zoo, scripts/ap50.  Every decoder yields the corners (n, 4: left, top, right, bottom in
pixels of the network's input) and the scores of all classes (n, classes).
"""
import collections

import numpy as np

Boxes = collections.namedtuple("Boxes", "corners scores classes")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def grid(rows, columns, at=0.0):
    """Columns and rows of all cells, row by row."""
    y, x = np.mgrid[:rows, :columns]
    return x.ravel() + at, y.ravel() + at


def from_centres(x, y, width, height):
    return np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)


def yolox(values, shapes, strides):
    """`values` (n, 5 + classes); `shapes`: rows and columns of the map of every stride."""
    cells = [(*grid(rows, columns), np.full(rows * columns, s))
             for (rows, columns), s in zip(shapes, strides)]
    x, y, s = (np.concatenate(part) for part in zip(*cells))
    v = values.astype(np.float64)
    corners = from_centres((v[:, 0] + x) * s, (v[:, 1] + y) * s, np.exp(v[:, 2]) * s,
                           np.exp(v[:, 3]) * s)
    return corners, v[:, 4:5] * v[:, 5:]


def yolov5(maps, strides, anchors):
    """`maps`: (anchors, rows, columns, 5 + classes) of every stride, before the sigmoid;
    `anchors`: (width, height) in pixels, a list for every stride."""
    corners, scores = [], []
    for values, stride, sizes in zip(maps, strides, anchors):
        v = sigmoid(values.astype(np.float64))
        rows, columns = v.shape[1:3]
        y, x = np.mgrid[:rows, :columns]
        size = np.asarray(sizes, np.float64)[:, None, None]
        corners.append(from_centres((2 * v[..., 0] - 0.5 + x) * stride,
                                    (2 * v[..., 1] - 0.5 + y) * stride,
                                    (2 * v[..., 2]) ** 2 * size[..., 0],
                                    (2 * v[..., 3]) ** 2 * size[..., 1]).reshape(-1, 4))
        scores.append((v[..., 4:5] * v[..., 5:]).reshape(len(corners[-1]), -1))
    return np.concatenate(corners), np.concatenate(scores)


def yolov8(values):
    """(4 + classes, n): x, y, width and height in pixels, then the classes."""
    v = values.astype(np.float64)
    return from_centres(*v[:4]), v[4:].T


def nanodet(classes, distances, shapes, strides, at=0.5):
    """Of every stride (n, classes) and (n, 4 * bins): left, top, right and bottom of a point, each
    the mean of a distribution over 0..bins-1 cells (generalized focal loss)."""
    corners = []
    for values, (rows, columns), stride in zip(distances, shapes, strides):
        x, y = grid(rows, columns, at)
        bins = values.shape[1] // 4
        side = softmax(values.astype(np.float64).reshape(-1, 4, bins)) @ np.arange(bins)
        corners.append(np.stack([x - side[:, 0], y - side[:, 1], x + side[:, 2], y + side[:, 3]], 1)
                       * stride)
    return np.concatenate(corners), np.concatenate(classes).astype(np.float64)


def overlaps(box, others):
    """Intersection over union of one box with each of the others."""
    inner = np.maximum(0, np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]))
    both = inner.prod(1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - both
    return np.where(both > 0, both / np.where(union > 0, union, 1), 0)


def chosen(corners, scores, score, iou, limit):
    """The best class of each box, then greedy non-maximum suppression within each class."""
    classes, best = scores.argmax(1), scores.max(1)
    order = np.flatnonzero(best >= score)
    order = order[np.argsort(-best[order], kind="stable")]
    keep = []
    while len(order) and len(keep) < limit:
        first, order = order[0], order[1:]
        keep.append(first)
        same = classes[order] == classes[first]
        order = order[~(same & (overlaps(corners[first], corners[order]) > iou))]
    return Boxes(corners[keep], best[keep], classes[keep])


def clipped(corners, rows, columns):
    return np.clip(corners, 0, (columns, rows, columns, rows))
