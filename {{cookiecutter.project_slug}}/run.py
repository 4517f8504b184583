"""Work on the tasks in the queue, with every core of this machine: uv run poe launch_worker"""

from taskfleet import launch_worker

if __name__ == "__main__":
    launch_worker()
