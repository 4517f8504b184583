"""Operating system functions for processes, each with a fallback for systems that lack them.

``identity`` names processes, ``tree`` finds and kills descendants, ``memory`` measures memory, ``sockets`` passes sockets between
processes, ``waking`` wakes up a loop, ``descriptors`` handles open files, ``shell`` reads the environment that a bash script sets up, and
``linux`` is the access to functions of Linux only.
"""
