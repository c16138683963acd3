"""Trainings in processes of their own that die. A program: `killed.py FOLDER` prints a name and a number a case.

The processes are forked before torch has computed anything, so that none pays for the imports again.
"""

import os
import signal
import sys
import time
from pathlib import Path

import torch
from cases import vectors

from scorefield.training import train


def child(folder: Path, die_at: int | None = None, stop_at: int | None = None) -> int:
    """Fork a training; at its `die_at`-th fsync or rename it kills itself. Return its process id."""
    process = os.fork()
    if process:
        return process
    torch.set_num_threads(1)
    calls = 0

    def counted(real):
        def call(*args):
            nonlocal calls
            calls += 1
            if calls == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if calls == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            return real(*args)

        return call

    os.fsync, Path.replace = counted(os.fsync), counted(Path.replace)
    done = train(*vectors("training.checkpoint_every=1"), folder)
    os._exit(0 if done.finished else 3)


def ended(process: int) -> int:
    """The signal that a process died of, as a negative number, or its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main(folder: Path) -> None:
    """Kill trainings in the midst of writing, at any time, and by SIGTERM; then let each end."""
    torch.optim.Adam([torch.zeros(1)])  # imports what takes seconds
    assert ended(child(folder / "undisturbed")) == 0

    deaths = 0
    for die_at in (2, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 17, 20, 23):
        deaths += ended(child(folder / "writing", die_at=die_at)) == -signal.SIGKILL
    assert ended(child(folder / "writing")) == 0
    print(f"writing {deaths}")

    deaths = 0
    for delay in (0.03, 0.1, 0.2):
        process = child(folder / "running")
        time.sleep(delay)
        os.kill(process, signal.SIGKILL)
        deaths += ended(process) == -signal.SIGKILL
    assert ended(child(folder / "running")) == 0
    print(f"running {deaths}")

    print(f"stopped {ended(child(folder / 'stopped', stop_at=12))}")
    assert ended(child(folder / "stopped")) == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
