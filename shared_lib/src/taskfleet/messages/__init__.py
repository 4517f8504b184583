"""The messages between a ledger and remote workers: messages of tasks, and batches of events."""
