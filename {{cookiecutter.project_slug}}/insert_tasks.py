"""Put the tasks into the queue: uv run poe insert_tasks"""

from taskfleet import insert_tasks

if __name__ == "__main__":
    # The table is TASK_TABLE in config/task.env; filter_tasks in task.py, if it exists, chooses its rows.
    # Tasks made in Python: TASK_TABLE=task:make_tasks
    insert_tasks()
