"""The chaos test: small jobs over any queue, seeded faults, and what must be true afterwards.

``scenario`` draws what will happen from a seed, ``harness`` starts inserters, workers and commands and knows their processes, ``queues``
is what tasks go over, ``faults`` what can go wrong, ``work`` is the task function and what is right for it, ``checks`` looks at what
is left, ``run`` is one run from beginning to end, ``clock`` a wall clock that can jump.
``python -m tests.chaos --queue NAME --seed N`` repeats a run.
"""
