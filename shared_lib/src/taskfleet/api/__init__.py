"""What the commands do, as Python functions that take a ``Configuration`` and return values; ``job.Job`` has them as methods.

Nothing here parses a command line, asks a question, prints to standard output or decides on an exit code.
"""
