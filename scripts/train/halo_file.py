"""model.halo.json: how the tensors of a model travel between nodes (libsplit/halo_file.h)."""
import hashlib
import json
import pathlib
import struct
from dataclasses import dataclass

import codec
import torch

FLAG_SIGN, FLAG_SOFT, FLAG_REST = 2, 4, 8  # quant/recipe.c


@dataclass
class Tensor:
    """One that nodes exchange."""
    entry: dict         # in splitd's plan
    index: int          # of that entry
    quantizer: codec.Quantizer
    bytes: float        # for a frame, headers included
    error: float        # of the outputs, from this tensor alone

    def recipe(self):
        """As bytes: what the file's sum is made of."""
        q = self.quantizer
        flags = (FLAG_SIGN * q.with_sign | FLAG_SOFT * q.soft | FLAG_REST * (q.rest is not None))
        head = struct.pack("<BHfff", flags, self.entry["dim"][2], q.step, q.threshold, q.gain)
        return head + (b"" if q.rest is None else q.rest.numpy().astype("<f4").tobytes())

    def json(self):
        q = self.quantizer
        return {"tensor": self.index, "operator": self.entry["name"],
                "channels": self.entry["dim"][2], "t": q.threshold, "step": q.step, "gain": q.gain,
                "signed": q.with_sign, "soft": q.soft, "drop": False, "bytes": self.bytes,
                "error": self.error, "rest": None if q.rest is None else q.rest.tolist(),
                "contexts": None, "video": None}


def beside(model):
    """Where splitd looks for the file of a model."""
    return pathlib.Path(model).with_suffix(".halo.json")


def write(file, model, nodes, budget, measured, tensors):
    """For `model`, whose every Tensor travels with gamma codes."""
    recipes = hashlib.sha256(b"".join(t.recipe() for t in tensors))
    content = {"model": hashlib.sha256(pathlib.Path(model).read_bytes()).hexdigest(),
               "recipes": recipes.hexdigest(), "nodes": nodes, "budget": budget,
               "measured": measured, "tensors": [t.json() for t in tensors]}
    pathlib.Path(file).write_text(json.dumps(content, indent=1) + "\n")


def read(model, plan):
    """Quantizers by the names of tensors, from the file of `model`."""
    found = {}
    for t in json.loads(beside(model).read_text())["tensors"]:
        rest = None if t["rest"] is None else torch.tensor(t["rest"])
        found[plan["operators"][t["tensor"]]["tensor"]] = codec.Quantizer(
            t["step"], t["t"], t["gain"], t["signed"], t["soft"], rest)
    return found
