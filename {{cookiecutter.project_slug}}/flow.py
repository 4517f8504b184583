"""Tasks that take the results of others, an example: uv run python flow.py"""

import random

from taskfleet.graph import app, flow


@app
def fraction(seed: int, n: int = 100_000) -> float:
    """Return which fraction of n random points in a square are in its circle."""
    numbers = random.Random(seed)
    return sum(numbers.random() ** 2 + numbers.random() ** 2 < 1 for _ in range(n)) / n


@app
def average(values: list[float]) -> float:
    """Return the average of all fractions. Each app may also be a function of task.py: average = app(task.average)"""
    return sum(values) / len(values)


if __name__ == "__main__":
    with flow("pi"):
        pi = average(fraction.map(seed=range(100)))  # 101 tasks of the job "pi"; the last one waits for the others
    print(f"pi is about {4 * pi.result():.3f}")
