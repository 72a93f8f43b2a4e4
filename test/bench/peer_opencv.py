#!/usr/bin/python3
"""OpenCV DNN as a contender of `make bench`; test/bench/bench_nets.c describes what is said.

    peer_opencv.py MODEL THREADS NAME=FILE.npy...
"""
import pathlib
import sys
import time

import cv2
import numpy as np


class Contender:
    def __init__(self, model, inputs):
        self.net = cv2.dnn.readNetFromONNX(model)
        self.outputs = self.net.getUnconnectedOutLayersNames()
        self.inputs = {name: np.load(file) for name, file in inputs}
        self.forward()

    def forward(self):
        for name, values in self.inputs.items():
            # Inputs that were not set again count as unchanged, and nothing would be computed.
            self.net.setInput(values, name)
        return self.net.forward(self.outputs)

    def run(self, runs):
        ms = []
        for _ in range(int(runs)):
            start = time.perf_counter()
            self.forward()
            ms.append((time.perf_counter() - start) * 1e3)
        return "ms " + " ".join(f"{t:.4f}" for t in ms)

    def answer(self, folder):
        for i, values in enumerate(self.forward()):
            values.astype(np.float32).tofile(pathlib.Path(folder) / f"{i}.f32")
        return f"done {len(self.outputs)}"


def main():
    model, threads, *inputs = sys.argv[1:]
    cv2.setNumThreads(int(threads))
    try:
        contender = Contender(model, [text.split("=", 1) for text in inputs])
    except cv2.error as error:
        print("failed", (error.err or str(error)).splitlines()[0], flush=True)
        sys.exit(1)
    verbs = {"run": contender.run, "answer": contender.answer}
    print("ready OpenCV", cv2.__version__, flush=True)
    for line in sys.stdin:
        verb, value = line.rstrip("\n").split(" ", 1)
        print(verbs[verb](value), flush=True)


if __name__ == "__main__":
    main()
