"""`python -m benchmarks [NAME] [options]`: runs one benchmark, or all of them."""

from __future__ import annotations

import argparse
import subprocess
import sys

from benchmarks import accuracy, overhead, parse, predict, profile, promotion, run_split, scale, training
from benchmarks import help as help_speed
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
    "accuracy": accuracy.main,
}
BY_NAME_ALONE = {"accuracy"}  # hours of training, and the test images are looked at: never as one of all


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=[*BENCHMARKS, "all"], default="all")
    parser.add_argument("--repeat", type=int, default=7, help="repetitions of each arm, after one to warm up")
    parser.add_argument("--preset", default="rows", help="profile, run_split, overhead, predict, accuracy: the preset")
    parser.add_argument("--problem", choices=list(training.PROBLEMS), help="training: one of its problems, not all")
    parser.add_argument("--large", action="store_true", help="scale: 6 million samples as well (25 GB, an hour)")
    parser.add_argument("--dataset", default="mnist", help="accuracy: a name of the dataset catalog")
    parser.add_argument("--seeds", type=int, default=3, help="accuracy: how many, each a whole training")
    parser.add_argument("--first-seed", type=int, default=20, help="accuracy: the first of them")
    parser.add_argument("--held-out", action="store_true", help="accuracy: on training images held out, to choose by")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="accuracy: over the preset")
    parser.add_argument("--samples", type=int, help="training, predict, scale, promotion: so many, for a trial")
    options = parser.parse_args()
    if options.name == "all":
        given = [argument for argument in sys.argv[1:] if argument != "all"]
        others = [name for name in BENCHMARKS if name not in BY_NAME_ALONE]
        for name in others:  # each in a process of its own, for what one leaves would count in another
            subprocess.run([sys.executable, "-m", "benchmarks", name, *given], check=True)
        return
    BENCHMARKS[options.name](
        Options(
            repeat=options.repeat,
            preset=options.preset,
            large=options.large,
            problem=options.problem,
            samples=options.samples,
            dataset=options.dataset,
            seeds=options.seeds,
            first_seed=options.first_seed,
            held_out=options.held_out,
            settings=tuple(options.set),
        )
    )


if __name__ == "__main__":
    main()
