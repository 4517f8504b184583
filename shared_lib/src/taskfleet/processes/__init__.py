"""Processes, and what the operating system does with them; where it lacks something, each function has a plain answer.

``identity`` says which one is meant, ``tree`` who is below whom and ends with whom, ``memory`` what they hold; ``sockets`` are handed from
one to another, ``descriptors`` are open files, ``polling`` waits for them, ``linux`` is what no other system offers.
"""
