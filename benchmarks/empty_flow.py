"""An empty Prefect flow of as many tasks as a run has, in a process of its own, with the settings of the command.

`python -m benchmarks.empty_flow TASKS` runs it. Nothing of a run is imported but those settings.
"""

from __future__ import annotations

import sys

from flows.settings import prepare_environment


def main() -> None:
    """Each task after the one before; results are kept as a run's tasks keep theirs."""
    prepare_environment(debug=False)
    from prefect import flow, task

    @task(persist_result=True, result_serializer="json")
    def nothing(number: int) -> int:
        return number + 1

    @flow(persist_result=True, result_serializer="json")
    def empty(tasks: int) -> int:
        number = 0
        for _ in range(tasks):
            number = nothing(number)
        return number

    empty(int(sys.argv[1]))


if __name__ == "__main__":
    main()
