"""Put the tasks into the queue: uv run poe insert_tasks"""

from taskfleet import insert_tasks

import task

if __name__ == "__main__":
    # The table is TASK_TABLE in config/task.env. To insert tasks made in Python:
    #     insert_tasks(source=task.make_tasks(), filter_tasks=task.filter_tasks)
    insert_tasks(filter_tasks=task.filter_tasks)
