"""The commands, one module each; ``arguments`` is what they share."""
