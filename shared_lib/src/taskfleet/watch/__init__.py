"""Watching a job: ``status`` gathers what there is to say, ``text`` puts it into words, ``progress`` shows it while a worker works."""
