"""Slurm's states of jobs as states of machines; https://slurm.schedmd.com/job_state_codes.html."""

from typing import Final

from taskfleet.machines import EndReason, MachineState

_QUEUED: Final = {
    "PENDING",
    "CONFIGURING",  # its nodes are being booted, which is not charged
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "RESV_DEL_HOLD",
    "SPECIAL_EXIT",
}
_RUNNING: Final = {"RUNNING", "SUSPENDED", "RESIZING", "SIGNALING", "STOPPED"}
_ENDING: Final = {"COMPLETING", "STAGE_OUT"}
#: States of jobs that have ended, each with words for people.
_ENDED: Final = {
    "COMPLETED": "its worker ended",
    "CANCELLED": "cancelled",
    "FAILED": "its script failed",
    "TIMEOUT": "it reached its time limit",
    "PREEMPTED": "preempted",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "out of memory",
    "BOOT_FAIL": "its node did not boot",
    "DEADLINE": "it missed its deadline",
    "REVOKED": "it runs on another cluster",
    "LAUNCH_FAILED": "it could not be launched",
    "RECONFIG_FAIL": "its node could not be configured",
}
#: Ends that may be the node's fault.
SUSPICIOUS: Final = frozenset({"FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "LAUNCH_FAILED", "RECONFIG_FAIL"})


def state_of(word: str) -> MachineState:
    """Return the state of a machine whose job has a state. A job in an unknown state counts as running: it is never taken for gone."""
    if word in _QUEUED:
        return MachineState.QUEUED
    if word in _ENDING:
        return MachineState.ENDING
    return MachineState.ENDED if word in _ENDED else MachineState.RUNNING


def is_known(word: str) -> bool:
    """Return whether a state of a job is known."""
    return word in _QUEUED | _RUNNING | _ENDING or word in _ENDED


def is_ended(word: str) -> bool:
    """Return whether a job in a state has ended."""
    return word in _ENDED


def end_of(word: str, *, has_run: bool) -> tuple[EndReason, str]:
    """Return why a machine ended whose job ended in a state, and the words for people."""
    words = f"{_ENDED[word]} ({word})"
    if word == "PREEMPTED":
        return EndReason.PREEMPTED, words
    if not has_run:
        return EndReason.CANCELLED, words
    return EndReason.ENDED, words
