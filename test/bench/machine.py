"""What the machine is and what others do with it: figures from a busy machine are worth little."""
import os
import pathlib
import time

BUSY_CORES = 0.05  # of others, above which the machine does not count as idle


def busy_ticks():
    """Ticks that all CPUs have worked since the machine started."""
    fields = [int(n) for n in open("/proc/stat").readline().split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    return user + nice + system + irq + softirq + steal


def processes():
    """{pid: (parent, name, own ticks, ticks of children that ended)}"""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            text = pathlib.Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        name, rest = text[text.index("(") + 1:].rsplit(")", 1)
        fields = rest.split()
        user, system, of_children_user, of_children_system = map(int, fields[11:15])
        found[int(pid)] = (int(fields[1]), name, user + system,
                           of_children_user + of_children_system)
    return found


def family(found):
    """The pids of this process and of all that it started."""
    ours = {os.getpid()}
    grown = True
    while grown:
        more = {pid for pid, (parent, *_) in found.items() if parent in ours} - ours
        ours |= more
        grown = bool(more)
    return ours


class Load:
    """What others did with the machine between start and stop."""

    def __init__(self):
        self.start, self.busy, self.before = time.monotonic(), busy_ticks(), processes()

    def stop(self):
        """(cores that others kept busy, [(cores, name)] of those that still run)"""
        hz = os.sysconf("SC_CLK_TCK")
        after, seconds = processes(), time.monotonic() - self.start
        ours = family(after)

        def used(pid, kind):
            return after[pid][kind] - (self.before[pid][kind] if pid in self.before else 0)

        own = sum(used(pid, 2) + used(pid, 3) for pid in ours)
        cores = (busy_ticks() - self.busy - own) / hz / seconds
        who = sorted(((used(pid, 2) / hz / seconds, after[pid][1]) for pid in set(after) - ours),
                     reverse=True)
        return max(0.0, cores), [w for w in who if w[0] >= 0.02][:5]


def describe():
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo")
                  if line.startswith("model name")), "unknown CPU")
    load = Load()
    time.sleep(1)
    cores, who = load.stop()
    print(f"machine: {model}, {len(os.sched_getaffinity(0))} CPUs, load average "
          f"{' '.join(f'{n:.2f}' for n in os.getloadavg())}, others use {cores:.2f} cores"
          + "".join(f", {name} {n:.2f}" for n, name in who))
    if cores > BUSY_CORES:
        print("WARNING: the machine is not idle: take the times below with care")


def report(load):
    """Says what others did during a Load, as the last line of a benchmark."""
    cores, who = load.stop()
    print(f"all the while others used {cores:.2f} cores"
          + "".join(f", {name} {n:.2f}" for n, name in who))
    if cores > BUSY_CORES:
        print("WARNING: the machine was not idle: do not quote these times")
