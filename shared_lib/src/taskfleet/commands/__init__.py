"""The commands, one module each; ``terminal`` has what they share."""
