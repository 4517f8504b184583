"""Run scripts written for rms-cloud-tasks: ``from taskfleet.rms import Worker, WorkerData`` replaces their own import.

``docs/rms.md`` compares the two.
"""

from taskfleet.rms.worker import Worker
from taskfleet.worker_data import WorkerData

__all__ = ["Worker", "WorkerData"]
