"""Calls of hosts with the user's own ``ssh``, and what its errors mean.

ssh reports errors as text only. Its exit code is 255 for errors of its own; what it prints before a session begins says that nothing was
done on the host.
"""

import json
import logging
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from taskfleet.errors import ProviderError, UnreachableError
from taskfleet.machine_terms import Host
from taskfleet.machines.ssh.on_host import ANSWER, CUT_OFF

logger = logging.getLogger(__name__)

#: How long a call may take, and one with a bundle.
CALL_SECONDS, SENDING_SECONDS = 40.0, 600.0
#: Hosts that are called at the same time.
MAX_CALLS = 32
#: ssh uses the first value that it finds for each option: the user's own precede those after them.
_FIRST: Final = ("-T", "-o", "BatchMode=yes")
_LAST: Final = (
    *("-o", "ConnectTimeout=10"),
    *("-o", "ServerAliveInterval=10"),
    *("-o", "ServerAliveCountMax=3"),
    *("-o", "ClearAllForwardings=yes"),
    *("-o", "RemoteCommand=none"),
    *("-o", "LogLevel=ERROR"),
)
#: What the host's login shell runs, whichever it is: so the user's shell needs to know only 'single quotes'.
_COMMAND: Final = (
    "exec /bin/sh -c '"
    'PATH="$PATH:$HOME/.local/bin:$HOME/.cargo/bin:/usr/local/bin"; export PATH; '
    "p=$(command -v python3) || { echo taskfleet-no-python; exit 127; }; "
    'exec "$p" -I -c "import sys; b = sys.stdin.buffer; PROGRAM = b.read(int(b.readline())); exec(PROGRAM)"'
    "'"
)
#: What ssh says if no session has begun, and cannot for now.
_NO_SESSION = re.compile(
    r"^ssh: connect to host|kex_exchange_identification|during banner exchange|^ssh: Could not resolve.*Temporary failure|"
    r"exceeded MaxStartups",
    re.MULTILINE | re.IGNORECASE,
)
#: What ssh says if a host cannot be used as it is, and what to do.
_REMEDIES: Final = (
    (
        re.compile(r"identification has changed", re.IGNORECASE),
        "its host key has changed. If the computer was installed again, remove the old key with 'ssh-keygen -R HOST' and run 'ssh HOST' "
        "once; otherwise ask its administrator, since it may be another computer",
    ),
    (
        re.compile(r"host key verification failed|host key is known for", re.IGNORECASE),
        "its host key is not known here. Run 'ssh HOST' once in a terminal, compare the key, and answer yes",
    ),
    (
        re.compile(r"permission denied|no more authentication methods|unprotected private key", re.IGNORECASE),
        "there is no login without a password. 'ssh-copy-id HOST' installs your key there; 'ssh-add' unlocks a key that has a passphrase",
    ),
    (
        re.compile(r"could not resolve hostname", re.IGNORECASE),
        "there is no host of this name. Correct HOSTS in config/pool.env, or describe the host in ~/.ssh/config",
    ),
    (
        re.compile(r"bad configuration option|unsupported option|unknown option|illegal option|^usage: ssh|can't open user config|"
                   r"missing argument|extra arguments|bad port|bad local forwarding|keyword", re.IGNORECASE | re.MULTILINE),
        "ssh does not accept the options. Correct SSH_OPTIONS in config/pool.env, or ~/.ssh/config",
    ),
)  # fmt: skip


class UnusableHostError(ProviderError):
    """A host cannot be used until its user has changed something; nothing was done on it. The text begins with the name of the host."""


class NoSessionError(UnreachableError):
    """A host does not answer, and surely nothing was done on it."""


@dataclass(frozen=True, slots=True)
class Ssh:
    """Calls hosts.

    Args:
        options: Options for ssh from the settings.
        call_seconds: How long a call may take.
    """

    options: tuple[str, ...] = ()
    call_seconds: float = CALL_SECONDS

    def call(self, host: Host, request: Mapping[str, Any], bundle: bytes = b"") -> dict[str, Any]:
        """Carry out a request on a host, and return the answer; see ``on_host``.

        Raises:
            NoSessionError: The host does not answer.
            UnreachableError: The connection was lost, or the answer is late; what was requested may have happened.
            UnusableHostError: The host cannot be used.
        """
        program = resources.files(__package__).joinpath("on_host.py").read_bytes()
        text = json.dumps({**request, "bundle_bytes": len(bundle)}).encode()
        sent = b"%d\n%b%d\n%b%b" % (len(program), program, len(text), text, bundle)
        seconds = SENDING_SECONDS if bundle else self.call_seconds
        with tempfile.TemporaryFile() as errors:  # not a pipe, which a shared connection that stays would keep open
            try:
                done = subprocess.run(
                    ["ssh", *_FIRST, *self.options, *_LAST, "--", host.name, _COMMAND],
                    input=sent,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    timeout=seconds,
                    start_new_session=True,  # Ctrl-C is for the pool
                    check=False,
                )
            except FileNotFoundError:
                raise _no_ssh(host) from None
            except subprocess.TimeoutExpired:
                raise UnreachableError(f"{host.name} did not answer within {seconds:g} s") from None
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()
        printed = done.stdout.decode(errors="replace")
        answer = printed.rpartition(ANSWER)
        if done.returncode == 0 and answer[1]:
            with suppress(ValueError):
                found: dict[str, Any] = json.loads(answer[2].splitlines()[0])
                return found
        logger.debug("%s: exit code %d: %s %s", host.name, done.returncode, said, printed)
        raise _error(host.name, done.returncode, said, printed)

    def address(self, host: Host) -> str:
        """Return the name or address of a host that ssh connects to, which is in the user's configuration of ssh.

        Raises:
            UnusableHostError: ssh is not installed, or does not accept its options.
        """
        words = ["ssh", "-G", *self.options, "--", host.name]
        try:
            done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        except FileNotFoundError:
            raise _no_ssh(host) from None
        if done.returncode:
            raise _error(host.name, done.returncode, done.stderr.strip(), "")
        return next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("hostname "))

    def call_all(self, hosts: Sequence[Host], request: Mapping[str, Any]) -> dict[str, dict[str, Any] | ProviderError]:
        """Carry out a request on several hosts at the same time; return the answer or the error of each, by its name."""
        return at_once(hosts, lambda host: self.call(host, request))


def at_once(
    hosts: Sequence[Host], action: Callable[[Host], dict[str, Any]]
) -> dict[str, dict[str, Any] | ProviderError]:
    """Call a function for all hosts at the same time; return the answer or the error of each, by its name."""

    def attempt(host: Host) -> dict[str, Any] | ProviderError:
        try:
            return action(host)
        except ProviderError as error:
            return error

    if not hosts:
        return {}
    with ThreadPoolExecutor(min(MAX_CALLS, len(hosts))) as threads:
        return dict(zip((one.name for one in hosts), threads.map(attempt, hosts), strict=True))


def _no_ssh(host: Host) -> UnusableHostError:
    return UnusableHostError(f"{host.name}: there is no command ssh here; install the OpenSSH client")


def _error(host: str, code: int, said: str, printed: str) -> ProviderError:
    def for_host(text: str) -> str:
        return re.sub(r"\bHOST\b", lambda _: host, text)

    last = (said or printed.strip()).splitlines()[-1:] or [f"exit code {code}"]
    if code == 255:
        for pattern, remedy in _REMEDIES:
            if pattern.search(said) and "Temporary failure" not in said:
                return UnusableHostError(f"{host}: {for_host(remedy)} ({last[0]})")
        kind = NoSessionError if _NO_SESSION.search(said) else UnreachableError
        return kind(f"{host} does not answer ({last[0]})")
    if "taskfleet-no-python" in printed:
        return UnusableHostError(f"{host}: there is no python3 there. Install it (Debian: apt-get install python3)")
    if code == CUT_OFF:
        return UnreachableError(f"{host} did not get the whole request")
    return UnusableHostError(f"{host}: its shell cannot run a program ({last[0]})")
