"""Runs licd under cProfile, which starts at SIGUSR1 and is written down at SIGUSR2.

python profile_run.py OUTPUT PYTHON -m MODULE ARGUMENT ...     what follows OUTPUT is the command of a bare licd
"""

from __future__ import annotations

import cProfile
import runpy
import signal
import sys
from pathlib import Path


def main() -> None:
    output, _, flag, module, *arguments = sys.argv[1:]
    assert flag == "-m"
    profiler = cProfile.Profile()

    def finish(number: int, frame: object) -> None:
        profiler.disable()
        beside = f"{output}.new"
        profiler.dump_stats(beside)
        Path(beside).rename(output)

    signal.signal(signal.SIGUSR1, lambda number, frame: profiler.enable())
    signal.signal(signal.SIGUSR2, finish)
    sys.argv = [module, *arguments]
    sys.path[0] = str(Path.cwd())  # as of `python -m`, in place of this file's folder
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
