"""Machines on computers that are reached with ssh: real sshd, and whatever happens to hosts, connections and processes."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
from taskfleet.errors import UnreachableError
from taskfleet.machine_terms import Host
from taskfleet.machines import FailureReason, LaunchRequest, MachineState
from taskfleet.machines.ssh import machines as ssh_machines
from taskfleet.machines.ssh.calls import NoSessionError, Ssh, UnusableHostError
from taskfleet.machines.ssh.machines import SshJob, SshMachines

from shared_lib.tests.machines.contract import Contract, offer, until

#: Replaces a worker: prints its name, and stops after SIGTERM.
WORKER = """
import os, signal, sys, time
print("machine", os.environ["TASKFLEET_MACHINE"], "slots", os.environ["SLOTS"], "nice", os.nice(0), flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
while not os.path.exists(DONE):
    time.sleep(0.05)
sys.exit(int(open(DONE).read()))
"""
ALONE = f"import os, sys; DONE = os.path.expanduser('~/done'){WORKER}"


def make(
    ssh_hosts, names, job_id="job", run="job-1", *, script="", bundle=None, clock=time.monotonic, options=(), **calls
):
    worker = f"exec {sys.executable} -c {shlex.quote(ALONE)}\n"
    job = SshJob(
        job_id=job_id,
        run=run,
        pool=run,
        hosts=tuple(Host(*one) if isinstance(one, tuple) else Host(one) for one in names),
        nice=7,
        environment={"MARK": 'it\'s "$HOME"'},
        scripts=lambda: {"start.sh": script or worker},
        bundle=lambda _: bundle,
        obstacles=lambda: (),
    )
    return SshMachines(job, Ssh((*options, *ssh_hosts.options), **calls), clock=clock)


def offers(*names, slots=3):
    return tuple(offer(name, "ssh", slots=slots, is_single=True) for name in names)


@pytest.fixture
def cloud(ssh_hosts):
    for name in ("ws1", "ws2"):
        ssh_hosts.add(name)
    return SimpleNamespace(
        machines=make(ssh_hosts, ["ws1", "ws2"]),
        others=make(ssh_hosts, ["ws1", "ws2"], "other", "other-1"),
        offers=offers("ws1", "ws2"),
        dry=offers("ws3")[0],
        can_queue=False,
        no_such_name="job-1-nothing-1",
        says=lambda instance_id: f"machine {instance_id} slots 3 nice 7",
        hosts=ssh_hosts,
    )


class TestSshMachines(Contract):
    def test_a_lost_answer_does_not_start_a_second_worker(self, cloud, tmp_path, monkeypatch):
        """Its ssh ends without the answer that the host has given."""
        before = os.environ["PATH"]
        folder = tmp_path / "commands"
        folder.mkdir()
        (folder / "ssh").write_text(f'#!/bin/sh\nPATH={before}\nssh "$@" > /dev/null\nexit 255\n')
        (folder / "ssh").chmod(0o755)
        with monkeypatch.context() as patch:
            patch.setenv("PATH", f"{folder}:{before}")
            with pytest.raises(UnreachableError, match="ws1 does not answer"):
                cloud.machines.launch(self.order(cloud))
        assert len(self.there(cloud.machines)) == 2
        again = cloud.machines.launch(self.order(cloud))
        assert {one.instance_id for one in again.launched} == self.there(cloud.machines)
        until(
            lambda: all(len(cloud.hosts[name].processes()) == 2 for name in ("ws1", "ws2")),
            "a keeper and a worker each",
        )
        self.end(cloud.machines)

    def test_of_several_requests_at_the_same_moment_one_starts_a_worker(self, cloud):
        order = self.order(cloud, number=1)
        threads = [
            threading.Thread(target=make(cloud.hosts, ["ws1"]).launch, args=(order,), daemon=True) for _ in range(4)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join(60)
        until(lambda: len(cloud.hosts["ws1"].processes()) == 2, "a keeper and a worker")
        assert len(self.there(cloud.machines)) == 1
        assert [one.name[0] for one in (cloud.hosts["ws1"].home / ".taskfleet").glob("*/*")] == ["j"]
        self.end(cloud.machines)

    def test_a_connection_that_is_lost_during_a_request_starts_nothing(self, cloud, tmp_path):
        bundle = tmp_path / "0.tar.gz"
        bundle.write_bytes(os.urandom(50 << 20))
        machines = make(cloud.hosts, ["ws1"], bundle=bundle)
        errors = []

        def launch():
            try:
                machines.launch(self.order(cloud, number=1))
            except UnreachableError as error:
                errors.append(error)

        thread = threading.Thread(target=launch)
        thread.start()
        until(lambda: len(cloud.hosts["ws1"].connections()) >= 1, "a connection")
        cloud.hosts["ws1"].stop()
        thread.join(60)
        cloud.hosts["ws1"].start()
        assert len(errors) == 1
        assert cloud.machines.list() == []
        assert not list((cloud.hosts["ws1"].home / ".taskfleet").glob("*/[!.]*"))

    def test_another_machine_of_the_pool_on_the_same_host_is_refused(self, cloud):
        cloud.machines.launch(self.order(cloud, number=1))
        answer = cloud.machines.launch(self.order(cloud, "job-1-def", number=1))
        assert (answer.launched, answer.failures[0].reason) == ((), FailureReason.STOCK_OUT)
        assert "job-1-abc-1" in answer.failures[0].text
        self.end(cloud.machines)

    @pytest.mark.parametrize("victim", ["keeper", "worker"])
    def test_nothing_survives_the_keeper_or_the_worker(self, cloud, victim):
        """A process that the worker has started lets go of everything but its environment."""
        child = f"{sys.executable} -c 'import time; time.sleep(1000)'"
        script = f"setsid nohup {child} </dev/null >/dev/null 2>&1 &\nexec {sys.executable} -c 'import time; time.sleep(1000)'\n"
        machines, host = make(cloud.hosts, ["ws1"], script=script), cloud.hosts["ws1"]
        [one] = machines.launch(self.order(cloud, number=1)).launched
        until(lambda: len(host.processes()) == 3, "keeper, worker and child")
        folder = next((host.home / ".taskfleet").glob("*/job-*"))
        keeper = json.loads((folder / "keeper.json").read_text())["pid"]
        [worker] = (pid for pid in host.processes() if parent(pid) == keeper and session(pid) == keeper)
        os.kill(keeper if victim == "keeper" else worker, signal.SIGKILL)
        if victim == "keeper":
            until(lambda: worker not in host.processes(), "the end of the worker")
        until(lambda: self.states(machines)[one.instance_id] is MachineState.ENDED, "the end of the machine")
        assert host.processes() == []

    def test_a_machine_ends_itself_when_its_lifetime_is_over(self, cloud):
        cloud.machines.launch(self.order(cloud, lifetime_seconds=1.0))
        until(lambda: not any(cloud.hosts[name].processes() for name in ("ws1", "ws2")), "the end of all processes")
        assert {one.detail for one in cloud.machines.list()} == {"its lifetime is over"}

    def test_a_worker_that_does_not_stop_is_killed_at_the_second_request(self, cloud):
        script = "trap '' TERM\necho deaf\nwhile :; do sleep 0.1; done\n"
        machines = make(cloud.hosts, ["ws1"], script=script)
        [one] = machines.launch(self.order(cloud, number=1)).launched
        until(lambda: "deaf" in machines.console(one.instance_id), "its start")
        machines.terminate([one.instance_id])
        assert self.states(machines) == {one.instance_id: MachineState.ENDING}
        machines.terminate([one.instance_id])
        until(lambda: self.states(machines) == {one.instance_id: MachineState.ENDED}, "its end")
        assert cloud.hosts["ws1"].processes() == []

    def test_a_host_whose_workers_fail_at_once_is_left_alone(self, cloud):
        machines = make(cloud.hosts, ["ws1", "ws2"], script="echo no disk today\nexit 3\n")
        for number in range(2):
            [one] = machines.launch(self.order(cloud, f"job-1-{number}", number=1)).launched
            until(lambda one=one: self.states(machines)[one.instance_id] is MachineState.ENDED, "its end")
        assert {each.detail for each in machines.list()} == {"its worker ended with code 3"}
        answer = machines.launch(self.order(cloud, "job-1-2"))
        assert [one.instance_type for one in answer.launched] == ["ws2"]
        assert "ws1: the last 2 workers failed at once: no disk today" in answer.failures[0].text

    def test_a_host_that_does_not_answer_is_skipped_and_asked_less_and_less(self, cloud, caplog):
        now = 1000.0
        machines = make(cloud.hosts, ["ws1", "ws2"], clock=lambda: now)
        first, second = machines.launch(self.order(cloud)).launched
        assert len(machines.list()) == 2
        cloud.hosts["ws1"].stop()
        assert self.there(machines) == {first.instance_id, second.instance_id}
        assert "ws1 does not answer" in caplog.text
        answer = machines.launch(self.order(cloud, "job-1-def", number=1))
        assert answer.failures[0].reason is FailureReason.STOCK_OUT
        cloud.hosts["ws1"].start()
        now += 5
        assert self.there(machines) == {first.instance_id, second.instance_id}
        assert "answers again" not in caplog.text
        now += 5
        assert self.there(machines) == {first.instance_id, second.instance_id}
        assert "ws1 answers again" in caplog.text
        cloud.hosts["ws1"].stop()
        machines.list()
        now += ssh_machines.UNANSWERED_SECONDS
        listed = {one.instance_id: one for one in machines.list()}
        assert listed[first.instance_id].state is MachineState.ENDED
        assert "ws1 does not answer any longer" in listed[first.instance_id].detail
        assert listed[second.instance_id].state is MachineState.RUNNING
        machines.clear()
        cloud.hosts["ws2"].stop()
        with pytest.raises(UnreachableError, match="No host"):
            machines.list()
        for name in ("ws1", "ws2"):
            cloud.hosts[name].start()
        now += 1000
        self.end(machines)

    def test_a_host_that_hangs_does_not_delay_the_others_for_long(self, cloud):
        machines = make(cloud.hosts, ["ws1", "ws2"], options=("-o", "ConnectTimeout=2"))
        cloud.hosts["ws1"].process.send_signal(signal.SIGSTOP)
        answer = machines.launch(self.order(cloud))
        assert [one.instance_type for one in answer.launched] == ["ws2"]
        assert len(self.there(machines)) == 1
        cloud.hosts["ws1"].process.send_signal(signal.SIGCONT)
        self.end(machines)


@pytest.fixture
def with_network(ssh_hosts):
    """Hosts with networks, processes and mounts of their own."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a process a network of its own")
    ssh_hosts.add("ws1", has_network=True)
    return ssh_hosts


def test_a_worker_outlives_a_broken_link(with_network):
    now = 1000.0
    host = with_network["ws1"]
    with_network.add("ws2")
    options = ("-o", "ConnectTimeout=1")
    machines = make(with_network, ["ws1", "ws2"], clock=lambda: now, options=options)
    request = LaunchRequest(token="job-1-abc", number=1, offers=offers("ws1"), lifetime_seconds=3600.0)
    [one] = machines.launch(request).launched
    until(lambda: len(host.processes()) == 2, "a keeper and a worker")
    assert len(machines.list()) == 1
    host.set_link("down")
    now += 1
    assert [each.state for each in machines.list()] == [MachineState.RUNNING]
    with pytest.raises(UnreachableError, match="ws1 does not answer"):
        machines.terminate([one.instance_id])
    now += ssh_machines.UNANSWERED_SECONDS
    assert [each.state for each in machines.list()] == [MachineState.ENDED]
    assert machines.clear() == {"folders on hosts": 0}
    assert len(host.processes()) == 2
    host.set_link("up")
    now += 1000
    until(lambda: machines.list()[0].state is MachineState.RUNNING, "an answer")
    machines.terminate([one.instance_id])
    until(lambda: machines.list()[0].state is MachineState.ENDED, "its end")
    assert machines.clear() == {"folders on hosts": 0}
    assert list(host.home.glob(".taskfleet")) == []


def test_hosts_may_share_a_home_directory(with_network):
    with_network.add("ws2", has_network=True, home=with_network["ws1"].home)
    machines = make(with_network, ["ws1", "ws2"])
    request = LaunchRequest(token="job-1-abc", number=2, offers=offers("ws1", "ws2"), lifetime_seconds=3600.0)
    assert len(machines.launch(request).launched) == 2
    home = with_network["ws1"].home
    assert sorted(one.name for one in (home / ".taskfleet").iterdir()) == ["ws1", "ws2"]
    states = {one.instance_type: one.state for one in machines.list()}
    assert states == dict.fromkeys(("ws1", "ws2"), MachineState.RUNNING)
    for pid in with_network["ws2"].processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: any(one.state is MachineState.ENDED for one in machines.list()), "the end of one")
    states = {one.instance_type: one.state for one in machines.list()}
    assert states == {"ws1": MachineState.RUNNING, "ws2": MachineState.ENDED}
    machines.terminate([one.instance_id for one in machines.list()])
    until(lambda: not with_network["ws1"].processes(), "the end of the worker")


def test_a_full_disk_is_said_and_leaves_nothing(with_network, tmp_path):
    host = with_network["ws1"]
    host.run("mount", "-t", "tmpfs", "-o", "size=64k", "none", str(host.home))
    bundle = tmp_path / "0.tar.gz"
    with tarfile.open(bundle, "w:gz") as tar:
        (tmp_path / "data").write_bytes(os.urandom(1 << 20))
        tar.add(tmp_path / "data", "data")
    machines = make(with_network, ["ws1"], bundle=bundle)
    request = LaunchRequest(token="job-1-abc", number=1, offers=offers("ws1"), lifetime_seconds=3600.0)
    answer = machines.launch(request)
    assert (answer.launched, answer.failures[0].reason) == ((), FailureReason.STOCK_OUT)
    assert "No space left on device" in answer.failures[0].text
    assert machines.list() == []
    assert host.run("ls", "-A", f"{host.home}/.taskfleet/ws1") == ""


def stat(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()


def parent(pid):
    return int(stat(pid)[1])


def session(pid):
    return int(stat(pid)[3])


@pytest.fixture
def ws1(ssh_hosts):
    return ssh_hosts.add("ws1")


def ask(ssh_hosts, name="ws1", *options):
    return Ssh((*options, *ssh_hosts.options)).call(Host(name), {"do": "list", "job_id": "job", "run": ""})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("unknown key", ["host key is not known here", "'ssh ws1'"]),
        ("other key", ["host key has changed", "'ssh-keygen -R ws1'"]),
        ("no login", ["no login without a password", "'ssh-copy-id ws1'"]),
        ("no name", ["no host of this name", "HOSTS in config/pool.env"]),
        ("bad option", ["SSH_OPTIONS in config/pool.env"]),
        ("no shell", ["ws1: its shell cannot run a program", "for admirals only"]),
        ("no python", ["no python3 there", "apt-get install python3"]),
    ],
)
def test_a_host_that_cannot_be_used_has_one_remedy(ssh_hosts, ws1, change, words):
    name, options = "ws1", ()
    if change == "unknown key":
        ssh_hosts.forget_keys()
    elif change == "other key":
        ws1.stop()
        os.unlink(ws1.folder / "host_key")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ws1.folder / "host_key"], check=True)
        ws1.start()
    elif change == "no login":
        (ssh_hosts.folder / "user.pub").write_text("")
    elif change == "no name":
        name = "ws1.invalid"
    elif change == "bad option":
        options = ("-o", "NoSuchOption=1")
    else:
        line = "echo for admirals only"
        if change == "no python":
            line = f"{ssh_hosts.folder}/shell"
            text = '#!/bin/sh\nexec env -i PATH=/nowhere HOME=/nowhere /bin/sh -c "${SSH_ORIGINAL_COMMAND#exec }"\n'
            (ssh_hosts.folder / "shell").write_text(text)
            (ssh_hosts.folder / "shell").chmod(0o755)
        ws1.stop()
        with (ws1.folder / "sshd_config").open("a") as file:
            file.write(f"ForceCommand {line}\n")
        ws1.start()
    if change == "no python" and os.path.exists("/usr/local/bin/python3"):
        pytest.skip("this computer has python3 in a place where it is always found")
    with pytest.raises(UnusableHostError) as raised:
        ask(ssh_hosts, name, *options)
    for word in words:
        assert word in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_login_that_talks_and_a_shared_connection_do_no_harm(ssh_hosts, ws1):
    short = tempfile.mkdtemp(prefix="tf", dir="/tmp")  # sockets have short paths
    (ws1.home / ".bashrc").write_text("echo taskfleet-answer: '{\"welcome\": 1}'; echo quota exceeded >&2\n")
    with (ssh_hosts.folder / "config").open("a") as file:
        file.write(f"  ControlMaster auto\n  ControlPath {short}/%C\n  ControlPersist 600\n")
    try:
        for _ in range(2):
            assert ask(ssh_hosts)["machines"] == []
    finally:
        subprocess.run(["ssh", *ssh_hosts.options, "-O", "exit", "ws1"], capture_output=True, check=False)
        shutil.rmtree(short)


def test_a_host_where_nothing_listens_surely_did_nothing(ssh_hosts, ws1):
    ws1.stop()
    with pytest.raises(NoSessionError):
        ask(ssh_hosts)
