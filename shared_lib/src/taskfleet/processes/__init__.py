"""Processes: which one is meant (``identity``), and what the operating system does with them (``system``)."""
