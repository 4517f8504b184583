"""Run the tasks in the queue on all cores of this machine: uv run poe launch_worker"""

from taskfleet import launch_worker

if __name__ == "__main__":
    launch_worker()
