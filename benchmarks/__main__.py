"""`python -m benchmarks [NAME] [options]`: runs one benchmark, or all of them."""

from __future__ import annotations

import argparse

from benchmarks import help as help_speed
from benchmarks import parse, profile, run_split

BENCHMARKS = {"parse": parse.main, "profile": profile.main, "help": help_speed.main, "run_split": run_split.main}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=[*BENCHMARKS, "all"], default="all")
    parser.add_argument("--repeat", type=int, default=7, help="repetitions of each arm, after one to warm up")
    parser.add_argument("--preset", default="rows", help="run_split: the preset to run")
    options = parser.parse_args()
    for name, run in BENCHMARKS.items():
        if options.name in (name, "all"):
            run(options.repeat, options.preset)


if __name__ == "__main__":
    main()
