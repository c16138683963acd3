"""The command line in processes that kill themselves.

`dying.py N RANK ARGUMENTS…` runs a command line that SIGKILLs itself at its N-th fsync or rename where it is process
RANK. `dying.py N ARGUMENTS…`, without a rank, does so in a folder `killed/K` for every K up to N, gives each the same
command again, and prints how many died and how many then ended well.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from scorefield.cli import main


def mortal(die_at: int) -> None:
    """Have this process die at its `die_at`-th call."""
    calls = 0

    def counted(real):
        def call(*args):
            nonlocal calls
            calls += 1
            if calls == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args)

        return call

    os.fsync, Path.replace = counted(os.fsync), counted(Path.replace)


def forked(arguments: list[str], die_at: int) -> int:
    """The exit status of a run in a process of its own, or minus the signal that it died of."""
    process = os.fork()
    if not process:
        mortal(die_at)
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os._exit(main(arguments))
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


if __name__ == "__main__":
    count, *arguments = sys.argv[1:]
    if arguments[0].isdigit():
        if os.environ["RANK"] == arguments[0]:
            mortal(int(count))
        sys.exit(main(arguments[1:]))
    torch.set_num_threads(1)
    main([*arguments, "--out", "warm"])  # all that a run imports is imported once
    moments = {die_at: [*arguments, "--out", f"killed/{die_at}"] for die_at in range(1, int(count) + 1)}
    died = sum(forked(command, die_at) == -signal.SIGKILL for die_at, command in moments.items())
    print(died, sum(forked(command, 0) == 0 for command in moments.values()))
