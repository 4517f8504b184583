"""The pool of a job's machines: ``planning`` decides, ``controller`` does, ``records`` remembers.

The controller may be killed between any two steps and gone on with anywhere the ledger is: a machine is written down before it is
ordered, and the provider's own list is compared with what is written down at each step.
"""
