"""The pool of a job's machines: ``planning`` decides, ``controller`` acts, ``records`` has the state in the ledger.

The controller may be killed between any two steps, and continued wherever the ledger is: a machine is recorded before it is launched, and
every step compares the records with the provider's list.
"""
