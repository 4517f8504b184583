"""Slots that are started without fork."""

import multiprocessing
import os
import socket
import traceback
from typing import Any

from taskfleet.processes.tree import lead_group
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.forking import block_stopping_signals


def start_slot(sock: socket.socket, config: WorkerConfig) -> Any:
    """Start a slot's process, which serves the supervisor at the other end of a socket; return the process."""
    process = multiprocessing.get_context("spawn").Process(target=_be_slot, args=(sock, config), name="taskfleet-slot")
    process.start()
    return process


def _be_slot(sock: socket.socket, config: WorkerConfig) -> None:
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
