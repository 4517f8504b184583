"""Versions of the code of a project's functions, by which results of other code are told apart."""
