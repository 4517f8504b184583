"""What runs on a host: it is sent over ssh with each call, and runs with the host's own Python (3.8 or later) on Linux.

It runs before anything is installed, so it imports only the standard library, and no other module of this library. Standard input has
this program, a request in JSON, and for a new machine the bundle with the project's code; the last line of the output is the answer.

A machine is a folder ``~/.taskfleet/HOST/TOKEN``: hosts may share a home directory. A process that stays (``Keeper``) runs the worker,
ends it when it is told to or when the machine's lifetime is over, and leaves no process behind. It is identified by its PID, the time of
its start and the boot of the host, so that no other process is mistaken for it; all processes that descend from it have the machine's
folder in their environment.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

#: Begins the line with the answer, among what the scripts of a login shell may print.
ANSWER = "taskfleet-answer: "
MACHINE, KEEPER, ENDING, ENDED, CONSOLE = "machine.json", "keeper.json", "ending", "ended.json", "console.log"
TOKEN_VARIABLE, FOLDER_VARIABLE = "TASKFLEET_MACHINE", "TASKFLEET_FOLDER"
#: A worker that does not stop after SIGTERM is killed after this time, or at the next request to end it.
KILL_SECONDS = 60.0
TICK_SECONDS = 0.5
#: A new machine whose keeper has not started after this time never will.
START_SECONDS = 30.0
#: A worker that fails sooner has failed quickly; after as many in a row, the host gets no more machines.
QUICK_SECONDS, MAX_QUICK_FAILURES = 60.0, 2
#: A larger console is emptied, lest a worker that prints without end fills the disk.
CONSOLE_BYTES = 32 << 20
SHOWN_BYTES = 64 << 10
CONNECT_SECONDS = 5.0
#: The exit code if the request is not complete.
CUT_OFF = 75
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


# --- processes ---


def boot_id() -> str:
    """Return a name of this boot of the host."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> str:
    """Return when a process started, in clock ticks since the boot; empty if it is not running."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    fields = text[text.rindex(")") + 2 :].split()
    return "" if fields[0] in "ZX" else fields[19]


def by_folder() -> dict[str, list[int]]:
    """Return the processes of all machines of this user, by the machines' folders."""
    found: dict[str, list[int]] = {}
    prefix = f"{FOLDER_VARIABLE}=".encode()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with suppress(OSError):
                for line in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    if line.startswith(prefix) and start_time(int(name)):
                        found.setdefault(os.fsdecode(line[len(prefix) :]), []).append(int(name))
    return found


def kill(pids: list[int]) -> None:
    """Kill processes."""
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


# --- machines ---


def root() -> Path:
    """Return the folder of this host's machines."""
    return Path.home() / ".taskfleet" / socket.gethostname().replace("/", "_")


def read(path: Path) -> dict[str, Any]:
    """Return the object in a file; empty if there is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write(path: Path, content: dict[str, Any]) -> None:
    """Write an object to a file atomically."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(content))
    os.replace(draft, path)


def machines(request: dict[str, Any]) -> list[tuple[Path, dict[str, Any]]]:
    """Return the folders of the machines that a request is about, the oldest first, each with its description."""
    found = [(one.parent, read(one)) for one in root().glob(f"*/{MACHINE}")]
    return sorted(
        (
            (folder, one)
            for folder, one in found
            if one.get("job_id") == request["job_id"]
            and folder.name.startswith(request["run"])
            and folder.name[0] != "."
        ),
        key=lambda pair: pair[1].get("created_at", 0.0),
    )


def keeper_of(folder: Path) -> int:
    """Return the PID of the process that keeps a machine; 0 if it is not running."""
    found = read(folder / KEEPER)
    pid = found.get("pid", 0)
    return pid if pid and found.get("boot") == boot_id() and start_time(pid) == found.get("start") else 0


def state_of(folder: Path, machine: dict[str, Any], processes: dict[str, list[int]]) -> tuple[str, str]:
    """Return the state of a machine, and why it has ended."""
    if keeper_of(folder):
        return ("ending" if (folder / ENDING).exists() else "running"), ""
    is_of_boot = machine.get("boot") == boot_id()
    is_new = is_of_boot and 0 <= time.time() - machine.get("created_at", 0.0) < START_SECONDS
    if is_new and not (folder / KEEPER).exists():
        return "starting", ""
    if str(folder) in processes:  # its keeper was killed
        kill(processes[str(folder)])
        return "ending", ""
    ended = read(folder / ENDED)
    if ended:
        return "ended", str(ended.get("reason", ""))
    if not is_of_boot:
        return "ended", f"{socket.gethostname()} was restarted"
    return "ended", "its processes were killed" if (folder / KEEPER).exists() else "its start was interrupted"


def do_list(request: dict[str, Any]) -> dict[str, Any]:
    """Return the machines of a job."""
    processes = by_folder()
    found = []
    for folder, one in machines(request):
        state, reason = state_of(folder, one, processes)
        found.append(
            {
                "token": folder.name,
                "order": one.get("order"),
                "created_at": one.get("created_at"),
                "state": state,
                "reason": reason,
            }
        )
    return {"machines": found, "now": time.time()}


def do_end(request: dict[str, Any]) -> dict[str, Any]:
    """End machines; the second request kills them."""
    processes = by_folder()
    for folder, _ in machines(request):
        if folder.name not in request["tokens"]:
            continue
        (folder / ENDING).touch()
        keeper = keeper_of(folder)
        if keeper:
            os.kill(keeper, signal.SIGTERM)
        else:
            kill(processes.get(str(folder), []))
    return {}


def do_console(request: dict[str, Any]) -> dict[str, Any]:
    """Return the end of what a machine printed; None if there is no such machine."""
    for folder, _ in machines(request):
        if folder.name == request["token"]:
            return {"text": console(folder)}
    return {"text": None}


def console(folder: Path) -> str:
    """Return the end of what a machine printed."""
    try:
        with open(folder / CONSOLE, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - SHOWN_BYTES))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def do_clear(request: dict[str, Any]) -> dict[str, Any]:
    """Delete the folders of machines that have ended."""
    processes = by_folder()
    for folder, one in machines(request):
        if state_of(folder, one, processes)[0] == "ended":
            shutil.rmtree(folder, ignore_errors=True)
    for draft in root().glob(f".{request['run']}*") if request["run"] else ():
        if not start_time(int(draft.suffix[1:] or 0)):  # the call that made it was killed
            shutil.rmtree(draft, ignore_errors=True)
    for empty in (root(), root().parent):
        with suppress(OSError):  # it is not
            empty.rmdir()
    return {"left": len(machines(request))}


# --- a new machine ---


def do_start(request: dict[str, Any], program: bytes, bundle: bytes) -> dict[str, Any]:
    """Start a machine, unless its pool has one here, or workers fail here."""
    folder, processes = root() / request["token"], by_folder()
    if folder.exists():  # an earlier call has started it
        return {"is_known": True}
    earlier = [(one, each) for one, each in machines(request) if each.get("pool") == request["pool"]]
    for one, each in earlier:
        if state_of(one, each, processes)[0] != "ended":
            return {"refused": f"machine {one.name} of this job is still there"}
    last = [one for one, _ in earlier][-MAX_QUICK_FAILURES:]
    if len(last) == MAX_QUICK_FAILURES and all(read(one / ENDED).get("is_quick_failure") for one in last):
        lines = console(last[-1]).strip().splitlines()[-3:]
        return {"refused": f"the last {MAX_QUICK_FAILURES} workers failed at once: {' / '.join(lines) or 'no output'}"}
    draft = root() / f".{folder.name}.{os.getpid()}"
    try:
        draft.mkdir(mode=0o700, parents=True)
        for name, content in request["scripts"].items():
            (draft / name).write_text(content)
        (draft / "on_host.py").write_bytes(program)
        if bundle:
            trusted: Any = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
            with tarfile.open(fileobj=io.BytesIO(bundle), mode="r:gz") as tar:
                tar.extractall(draft / "project", **trusted)
        kept = {name: request[name] for name in ("job_id", "order", "pool", "lifetime_seconds", "nice")}
        write(draft / MACHINE, {**kept, "created_at": time.time(), "boot": boot_id()})
        if folder.exists():  # another call has just started it
            shutil.rmtree(draft)
            return {"is_known": True}
        draft.rename(folder)  # fails if another call has done so meanwhile
        start_keeper(folder, request["environment"])
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        return {"refused": f"the machine's folder cannot be written ({error})"}
    return {}


def start_keeper(folder: Path, variables: dict[str, str]) -> None:
    """Start the process that keeps a machine, and return when it runs."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SSH_", "TASKFLEET_"))}
    environment = {**inherited, **variables, TOKEN_VARIABLE: folder.name, FOLDER_VARIABLE: str(folder)}
    with open(folder / CONSOLE, "ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-I", str(folder / "on_host.py"), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
    until = time.monotonic() + START_SECONDS / 2
    while not (folder / KEEPER).exists():
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            raise OSError(f"its keeper did not start: {console(folder).strip()[-300:]}")
        time.sleep(0.01)


class Keeper:
    """Runs the worker of a machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._machine = read(folder / MACHINE)
        self._signals = 0
        self._libc = ctypes.CDLL(None)

    def run(self) -> None:
        """Run the scripts of the machine, and record how it ended."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        with suppress(OSError):
            os.nice(self._machine["nice"])
        write(self._folder / KEEPER, {"pid": os.getpid(), "boot": boot_id(), "start": start_time(os.getpid())})
        began = time.clock_gettime(time.CLOCK_BOOTTIME)
        reason, code = self._run_script("start.sh", began + self._machine["lifetime_seconds"])
        if (self._folder / "after.sh").exists() and self._folder.exists():
            os.environ["code"] = str(code)  # noqa: SIM112 (for the user's script, as with Slurm)
            self._run_script("after.sh", time.clock_gettime(time.CLOCK_BOOTTIME) + KILL_SECONDS)
        self._end_descendants()
        seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - began
        with suppress(FileNotFoundError):
            write(
                self._folder / ENDED,
                {
                    "reason": reason
                    or ("its worker has finished" if code == 0 else f"its worker ended with code {code}"),
                    "is_quick_failure": not reason and code != 0 and seconds < QUICK_SECONDS,
                },
            )

    def _on_signal(self, *_: object) -> None:
        self._signals += 1

    def _run_script(self, name: str, ends_at: float) -> tuple[str, int]:
        """Run a script; return why it was ended, or nothing, and its exit code."""
        before = self._signals
        child = subprocess.Popen(
            ["bash", str(self._folder / name)],
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: self._libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
        )
        reason, kill_at = "", float("inf")
        while True:
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            if not reason:
                if self._signals > before:
                    reason = "terminated"
                elif not self._folder.exists():
                    reason = "its folder was deleted"
                elif now >= ends_at:
                    reason = "its lifetime is over"
                if reason:
                    child.terminate()
                    kill_at = now + KILL_SECONDS
            elif self._signals > before + 1 or now >= kill_at:
                child.kill()
            with suppress(OSError):
                if os.path.getsize(self._folder / CONSOLE) > CONSOLE_BYTES:
                    os.truncate(self._folder / CONSOLE, 0)
                    print(f"(more than {CONSOLE_BYTES >> 20} MiB of output were dropped)", flush=True)
            with suppress(subprocess.TimeoutExpired):
                return reason, child.wait(TICK_SECONDS if not reason else TICK_SECONDS / 10)

    def _end_descendants(self) -> None:
        """Kill what the worker left behind: this process has become the parent of those whose own parent has ended."""
        while True:
            pids = [one for one in by_folder().get(str(self._folder), []) if one != os.getpid()]
            with suppress(OSError):
                pids += map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
            kill(pids)
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if not pids:
                return
            time.sleep(0.01)


# --- what a host is ---


def do_check(request: dict[str, Any]) -> dict[str, Any]:
    """Return what a host has, and what it sees of the user's files and of the queue."""
    home = Path.home()
    found = {
        "now": time.time(),
        "system": os.uname().sysname,
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30,
        "uv": shutil.which("uv") or "",
        "bash": shutil.which("bash") or "",
        "free_gib": shutil.disk_usage(home).free / 2**30,
        "is_writable": os.access(home, os.W_OK),
        "python": "",
        "sees_project": False,
        "queue": "",
    }
    if request.get("probe"):
        with suppress(OSError):
            found["sees_project"] = Path(request["probe"]).read_text() == request["probe_text"]
        with suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run([request["python"], "-c", ""], capture_output=True, timeout=20, check=False)
            found["python"] = request["python"] if done.returncode == 0 else ""
    if request.get("queue"):
        try:
            socket.create_connection(tuple(request["queue"]), CONNECT_SECONDS).close()
        except OSError as error:
            found["queue"] = error.strerror or str(error)
    return found


def main(stream: BinaryIO, program: bytes) -> None:
    """Read a request, carry it out, and print the answer."""
    length = int(stream.readline())
    text = stream.read(length)
    request = json.loads(text) if len(text) == length else {}
    bundle = stream.read(request.get("bundle_bytes", 0))
    if not request or len(bundle) < request.get("bundle_bytes", 0):
        sys.exit(CUT_OFF)  # the connection was lost: nothing may be done by halves
    does = {
        "start": lambda request: do_start(request, program, bundle),
        "list": do_list,
        "end": do_end,
        "console": do_console,
        "clear": do_clear,
        "check": do_check,
    }
    answer = does[request["do"]](request)
    print(f"\n{ANSWER}{json.dumps(answer)}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        Keeper(Path(sys.argv[1])).run()
    else:
        main(sys.stdin.buffer, PROGRAM)  # type: ignore[name-defined]  # noqa: F821
