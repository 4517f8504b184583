"""Start slots without fork."""

import multiprocessing
import os
import socket
import traceback
from typing import Any

from taskfleet.processes.tree import lead_group
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.forking import block_stopping_signals


def start_slot(sock: socket.socket, config: WorkerConfig) -> Any:
    """Start and return a slot's process, which serves the supervisor at the other end of a socket."""
    process = multiprocessing.get_context("spawn").Process(
        target=_slot_main, args=(sock, config), name="taskfleet-slot"
    )
    process.start()
    return process


def _slot_main(sock: socket.socket, config: WorkerConfig) -> None:
    from taskfleet.worker.slot import Slot
    from taskfleet.worker.wire import Channel

    code = 1
    try:
        lead_group()
        block_stopping_signals()
        Slot(Channel(sock), None, config).serve()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
