"""Report the progress of a job: ``status`` reads it from the ledger, ``text`` formats it, ``progress`` displays it while a worker runs."""
