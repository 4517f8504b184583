"""Machines of Google Cloud: Compute Engine instances."""
