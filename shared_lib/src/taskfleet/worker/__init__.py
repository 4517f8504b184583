"""The worker: one supervisor that never runs user code, a warm process, slots, and the runners that do the tasks.

::

    supervisor ── warm process (imported task.py once) ── slot ── runner ── your function
       │                                                  slot ── runner ── your function
       └─ queue: leases, renewals, outcomes

``supervisor`` is the loop, ``flow`` says how much to lease ahead, ``warm``, ``slot`` and ``runner`` are the processes, ``limits`` what they
are told, ``records`` and ``wire`` how they talk, ``output`` what tasks print, ``system`` what the operating system offers.
"""
