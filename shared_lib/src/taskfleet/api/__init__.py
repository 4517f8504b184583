"""The commands as Python functions that take a ``Configuration`` and return values; ``job.Job`` has them as methods.

These functions do not parse a command line, prompt, print to standard output or choose an exit code.
"""
