"""`python -m benchmarks [NAME] [options]`: runs one benchmark, or all of them."""

from __future__ import annotations

import argparse

from benchmarks import help as help_speed
from benchmarks import overhead, parse, predict, profile, promotion, run_split, scale, training
from benchmarks.measure import Options

BENCHMARKS = {
    "training": training.main,
    "profile": profile.main,
    "parse": parse.main,
    "help": help_speed.main,
    "run_split": run_split.main,
    "overhead": overhead.main,
    "predict": predict.main,
    "scale": scale.main,
    "promotion": promotion.main,
}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=[*BENCHMARKS, "all"], default="all")
    parser.add_argument("--repeat", type=int, default=7, help="repetitions of each arm, after one to warm up")
    parser.add_argument("--preset", default="rows", help="profile, run_split, overhead, predict: the preset")
    parser.add_argument("--problem", choices=list(training.PROBLEMS), help="training: one of its problems, not all")
    parser.add_argument("--large", action="store_true", help="scale: 6 million samples as well (25 GB, an hour)")
    parser.add_argument("--samples", type=int, help="training, predict, scale: measure with so many, for a trial")
    options = parser.parse_args()
    for name, run in BENCHMARKS.items():
        if options.name in (name, "all"):
            run(Options(options.repeat, options.preset, options.large, options.problem, options.samples))


if __name__ == "__main__":
    main()
