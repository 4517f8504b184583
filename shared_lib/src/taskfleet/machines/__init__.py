"""Machines that workers run on: what there is to be had, which are the best, and how they are started, listed and ended."""
