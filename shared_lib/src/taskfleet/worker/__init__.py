"""Run tasks: a supervisor that never runs user code, a warm process, slots, and runners that call the task function.

::

    supervisor ── warm process (imported task.py once) ── slot ── runner ── one process per task, which calls your function
       │                                                  slot ── runner ── (or in the runner itself: TASKS_PER_PROCESS)
       └─ queue: leases, renewals, outcomes

Each process has its own modules. The processes above it use a handle.

============  =====================================================  ==========================================================
process       modules                                                handle used by the process above
============  =====================================================  ==========================================================
supervisor    ``supervisor``: the loop; ``lease_buffer``,            ``running`` creates it from the settings
              ``result_buffer``, ``slot_pool``, ``shutdown``,
              ``prefetch``, ``stop_requests``
warm process  ``warm``                                               ``warm_process``
slot          ``slot``, ``limits``, ``finished_batch``;              ``slot_handle``
                            ``spawned_slots``: start without fork
runner        ``runner``, ``process_per_task``, ``output``           ``runner_process``, ``runner_connection``; started by
                                                                     ``runner_starters``: with fork (``forking``), ``launching``
============  =====================================================  ==========================================================

Communication: ``config`` (sent to all processes), ``messages`` (supervisor and slot), ``chunks`` and ``records`` (slot and runner),
``shared_memory`` (slot and runner), ``wire`` (encoding).
"""
