"""What travels between a ledger and workers elsewhere: messages with tasks, and messages with events."""
