"""What `cold` runs in a process of its own: the time of one step's imports, and of its first step.

Prints a JSON object: `imports`, `first` (from before the step is made to its first loss, all ranks), `loss`.
"""

import json
import time


def main() -> None:
    """Measures what the command line says."""
    start = time.perf_counter()
    from tests.benchmarks.meeting import meet  # importing torch and the rest is measured
    from tests.benchmarks.subject import parse

    build = parse().load()
    imported = time.perf_counter()
    meet()
    began = time.perf_counter()
    loss = build()()()
    meet()
    print(json.dumps({"imports": imported - start, "first": time.perf_counter() - began, "loss": loss}))


if __name__ == "__main__":
    main()
