"""The worker: one supervisor that never runs user code, a warm process, slots, and the runners that do the tasks.

::

    supervisor ── warm process (imported task.py once) ── slot ── runner ── a process per task, with your function in it
       │                                                  slot ── runner ── (or in the runner itself: TASKS_PER_PROCESS)
       └─ queue: leases, renewals, outcomes

``supervisor`` is the loop, ``prefetch`` says how much to lease ahead, ``warm``, ``slot``, ``runner`` and ``process_per_task`` are the
processes, ``config`` what they are told, ``records`` and ``wire`` how they talk, ``output`` what tasks print, ``system`` what the operating
system offers.
"""
