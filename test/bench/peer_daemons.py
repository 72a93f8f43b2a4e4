#!/usr/bin/python3
"""Daemons on this machine as a contender of `make bench`; test/bench/bench_nets.c describes what is
said.

    peer_daemons.py BUILD MODEL NODES NAME=FILE.npy...

Starts NODES daemons on loopback, each with one compute thread and a core of its own.  What is measured is
what a client sees:
f32 tensors in and out over HTTP included.
"""
import ctypes
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np

from infer import Client, tensors_request

READY_S = 60
# What plans are chosen by (cluster.json, "costs"): the defaults are a Raspberry Pi's on gigabit Ethernet, these
# one core's of the machine on which this was written, and its loopback's.  Memory gives 40 GB/s to one core and 25
# to each of two; of a message of 400 KB, sender and receiver pack, copy and unpack for 160 us, of one of 2 KB for 20
# to 30 (splitctl trace).
COSTS = {"macs_per_us": 125000, "weight_bytes_per_us": 25000, "link_bytes_per_us": 2500, "message_us": 25}


def free_ports(count):
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def start_daemon(index):
    """No daemon outlives this program, however it ends; each has a core of its own while there are some."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[index % len(cores)]})


class Contender:
    def __init__(self, folder, build, model, nodes, inputs):
        self.folder, self.build, self.name = pathlib.Path(folder), build, "model"
        *ports, http = free_ports(nodes + 1)
        names = [f"n{i + 1}" for i in range(nodes)]
        self.config = self.folder / "cluster.json"
        self.config.write_text(json.dumps({
            "cluster": "bench", "coordinator": names[0],
            "nodes": [{"name": name, "address": f"tcp://127.0.0.1:{port}", "threads": 1}
                      for name, port in zip(names, ports)],
            "models": [{"name": self.name, "file": str(pathlib.Path(model).resolve())}],
            "http": {"listen": f"127.0.0.1:{http}"},
            "costs": COSTS}))
        self.daemons = [self.start(i, name) for i, name in enumerate(names)]
        self.client = Client(f"http://127.0.0.1:{http}")
        self.body, self.headers = tensors_request(inputs)

    def start(self, index, name):
        command = [f"{self.build}/splitd", "--config", self.config, "--node", name, "--state",
                   self.folder / name]
        with open(self.folder / f"{name}.log", "w") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                    preexec_fn=lambda: start_daemon(index))

    def stop(self):
        for daemon in self.daemons:
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(5)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def infer(self):
        return self.client.infer(self.name, self.body, self.headers)

    def run(self, runs):
        ms = []
        for _ in range(int(runs)):
            start = time.perf_counter()
            self.infer()
            ms.append((time.perf_counter() - start) * 1e3)
        return "ms " + " ".join(f"{t:.4f}" for t in ms)

    def answer(self, folder):
        body, head_bytes = self.infer()
        at = head_bytes
        outputs = json.loads(body[:head_bytes])["outputs"]
        for i, output in enumerate(outputs):
            end = at + output["parameters"]["binary_data_size"]
            (pathlib.Path(folder) / f"{i}.f32").write_bytes(body[at:end])
            at = end
        return f"done {len(outputs)}"


def main():
    build, model, nodes, *files = sys.argv[1:]
    inputs = dict(text.split("=", 1) for text in files)
    with tempfile.TemporaryDirectory() as folder:
        contender = Contender(folder, build, model, int(nodes),
                              {name: np.load(file) for name, file in inputs.items()})
        try:
            contender.client.wait_until_ready(READY_S)
            verbs = {"run": contender.run, "answer": contender.answer}
            print(f"ready {nodes} daemons", flush=True)
            for line in sys.stdin:
                verb, value = line.rstrip("\n").split(" ", 1)
                print(verbs[verb](value), flush=True)
        except OSError as error:  # also TimeoutError
            print("failed", str(error).splitlines()[0], flush=True)
            sys.exit(1)
        finally:
            contender.stop()


if __name__ == "__main__":
    main()
