"""The project's own PostgreSQL server for QUEUE_URL=server: its programs, its data, and its processes.

``queues.own_server`` has its record, and how clients find it.
"""
