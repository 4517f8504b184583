"""The chaos test of the local engine: small jobs, seeded faults, and what must be true afterwards.

``scenario`` draws what will happen from a seed, ``harness`` starts inserters, workers and commands and knows their processes, ``faults``
is what can go wrong, ``work`` is the task function and what is right for it, ``checks`` looks at what is left, ``run`` is one run from
beginning to end, ``clock`` a wall clock that can jump. ``python -m tests.chaos --seed N`` repeats a run.
"""
