"""Long runs in pieces: time that is up, states that survive, a bar that shows how far it is."""
import math
import os
import pathlib
import sys
import time

import torch

UNFINISHED = 3  # exit code of a run that wants to be called again


class TimeIsUp(Exception):
    """Everything is saved; the same command goes on from here."""


class Clock:
    """Says when a piece of `seconds` is over; 0: never."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds if seconds else float("inf")

    def is_over(self):
        return time.monotonic() > self.end


class Bar:
    """How far something is: a bar where stderr is a terminal, else a line now and then."""

    WIDTH, EVERY = 30, (0.2, 30.0)  # seconds, on a terminal and elsewhere

    def __init__(self, what, total):
        self.what, self.total = what, total
        self.terminal = sys.stderr.isatty()
        self.next = time.monotonic()

    def show(self, done, note=""):
        now = time.monotonic()
        if now < self.next and done < self.total:
            return
        self.next = now + self.EVERY[0 if self.terminal else 1]
        full = self.WIDTH * done // self.total
        bar = f"[{'#' * full}{'.' * (self.WIDTH - full)}] " if self.terminal else ""
        text = f"{self.what}: {bar}{done} of {self.total}{', ' + note if note else ''}"
        end = "\n" if not self.terminal or done >= self.total else ""
        sys.stderr.write(("\r\x1b[K" if self.terminal else "") + text + end)
        sys.stderr.flush()


def save(state, file):
    """All or nothing: a run that is killed leaves the state before."""
    part = pathlib.Path(f"{file}.part")
    torch.save(state, part)
    os.replace(part, file)


def load(file, settings):
    """What save() left of a run with these settings, {} if nothing.  SystemExit with a sentence
    if they are others."""
    if not pathlib.Path(file).exists():
        return {"settings": settings}
    state = torch.load(file)
    for name, value in settings.items():
        if state["settings"].get(name) != value:
            sys.exit(f"{file} is of a run with {name} {state['settings'].get(name)}, not {value}: "
                     "remove it to begin anew")
    return state


def random_of(seed, step):
    """The same numbers for a step, whatever happened before."""
    return torch.Generator().manual_seed(seed * 1000003 + step)


def train(net, steps, rate, loss_at, state, file, clock):
    """Adam over `steps` steps of loss_at(step), at a rate that rises to `rate` within a
    twentieth and then falls to 0 as a cosine.

    Goes on from `state`, which it saves to `file` when the time of `clock` is up and at the end,
    with what the caller has put there."""
    optimizer = torch.optim.Adam(net.parameters())
    first = state.get("step", 0)
    if first > 0:
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
    warm, bar, mean = max(1, steps // 20), Bar("training", steps), None
    for step in range(first, steps):
        if clock.is_over():
            break
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / warm) * (
                1 + math.cos(math.pi * step / steps)) / 2
        loss = loss_at(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        first = step + 1
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        bar.show(first, f"loss {mean:.4f}")
    state.update(step=first, net=net.state_dict(), optimizer=optimizer.state_dict())
    save(state, file)
    if first < steps:
        raise TimeIsUp


def run_in_pieces(main):
    """Ends the process with the code of main(), or with UNFINISHED when its time was up."""
    try:
        sys.exit(main())
    except TimeIsUp:
        print("not finished: the same command goes on from here", file=sys.stderr)
        sys.exit(UNFINISHED)
