"""The worker: one supervisor that never runs user code, a warm process, slots, and the runners that do the tasks.

::

    supervisor ── warm process (imported task.py once) ── slot ── runner ── a process per task, with your function in it
       │                                                  slot ── runner ── (or in the runner itself: TASKS_PER_PROCESS)
       └─ queue: leases, renewals, outcomes

Each process has its modules; those above it see it through a handle.

============  =====================================================  ==========================================================
process       what it is made of                                     seen from above
============  =====================================================  ==========================================================
supervisor    ``supervisor``: the loop; ``lease_buffer``,            ``running`` makes it as the settings say
              ``result_buffer``, ``slot_pool``, ``shutdown``,
              ``prefetch``, ``stop_requests``
warm process  ``warm``                                               ``warm_process``
slot          ``slot``, ``limits``, ``finished_batch``;              ``slot_handle``
              ``spawned_slots``: without fork
runner        ``runner``, ``process_per_task``, ``output``           ``runner_process``, ``runner_connection``; started by
                                                                     ``runner_starters``: with fork (``forking``), ``launching``
============  =====================================================  ==========================================================

What they say to each other: ``config`` (all are told it), ``messages`` (supervisor and slot), ``chunks`` and ``records`` (slot and runner),
``shared_memory`` (slot and runner), ``wire`` (the bytes).
"""
