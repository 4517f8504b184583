"""What makes the machines of a cloud's stand-in real: each that it lists is a namespace that boots with its user data."""

import base64
import contextlib
import gzip
import json
import threading
import urllib.request

#: As an image with a warm cache of packages would have it; there is no internet.
SYSTEM = {"UV_OFFLINE": "1", "UV_LINK_MODE": "symlink", "UV_PYTHON_DOWNLOADS": "never"}
LOOK_SECONDS = 0.3


class Floor:
    """The machines of one stand-in, in a ``with`` statement. Faults are ordered by the machine's number, in the order of their starts.

    Args:
        host: Where they run.
        never_boot: The numbers of those that stay dark.
    """

    def __init__(self, host, *, never_boot=()):
        self._host = host
        self._never_boot = set(never_boot)
        self._dark = set()
        self.instances = {}
        """By the provider's name: those that booted."""
        self.started = []
        """Names, in the order of their starts."""
        self._silent = set()
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.trouble = []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join(30)

    def working(self):
        """Give the names of the machines whose power is on."""
        with self._lock:
            return [name for name, one in self.instances.items() if one.is_alive]

    def die_silently(self, name):
        """Cut a machine's power without its provider taking note."""
        with self._lock:
            self._silent.add(name)
            self.instances[name].kill()

    def take_away(self, name):
        """Have the provider take a machine away, if it has not powered itself off."""
        with self._lock:
            if self.listed().get(name):
                self.preempt(name)

    def _run(self):
        while not self._is_over.wait(LOOK_SECONDS):
            try:
                with self._lock:
                    self._look()
            except Exception as error:
                self.trouble.append(error)

    def _look(self):
        there = self.listed()
        for name, is_on in there.items():
            if is_on and name not in self.instances and name not in self._dark:
                self.started.append(name)
                if len(self.started) in self._never_boot:
                    self._dark.add(name)
                    continue
                self.instances[name] = self.boot(name)
            elif not is_on and name in self.instances and self.instances[name].is_alive:
                self.instances[name].kill()
        for name, instance in self.instances.items():
            if there.get(name):
                self.show(name, instance.console())
                if not instance.is_alive and name not in self._silent:
                    self.powered_off(name)

    # --- what differs between providers ---

    def listed(self):
        """Give each machine's name, and whether its power is to be on."""
        raise NotImplementedError

    def boot(self, name):
        """Start a machine; return its ``Instance``."""
        raise NotImplementedError

    def show(self, name, console):
        """Let the provider know what a machine has printed."""
        raise NotImplementedError

    def powered_off(self, name):
        """Let the provider know that a machine has powered itself off."""
        raise NotImplementedError

    def preempt(self, name):
        """Have the provider take a machine away."""
        raise NotImplementedError


class Ec2Floor(Floor):
    """The machines of the stand-in for EC2."""

    def __init__(self, host, double, client, **faults):
        super().__init__(host, **faults)
        self._double, self._client = double, client

    def listed(self):
        """See ``Floor``."""
        return {
            one["InstanceId"]: one["State"]["Name"] in ("pending", "running")
            for page in self._client.get_paginator("describe_instances").paginate()
            for reservation in page["Reservations"]
            for one in reservation["Instances"]
        }

    def boot(self, name):
        """See ``Floor``."""
        answer = self._client.describe_instance_attribute(InstanceId=name, Attribute="userData")
        content = base64.b64decode(answer["UserData"]["Value"])
        with contextlib.suppress(gzip.BadGzipFile):
            content = gzip.decompress(content)
        return self._host.start(content.decode(), name, environment=SYSTEM)

    def show(self, name, console):
        """See ``Floor``."""
        self._double.console(name, console)

    def powered_off(self, name):
        """See ``Floor``: with InstanceInitiatedShutdownBehavior=terminate that ends it."""
        self._client.terminate_instances(InstanceIds=[name])

    def preempt(self, name):
        """See ``Floor``."""
        self._double.interrupt(name)


class GceFloor(Floor):
    """The machines of the stand-in for Compute Engine."""

    def __init__(self, host, double, project, **faults):
        super().__init__(host, **faults)
        self._double = double
        self._shown = {}
        self._address = f"{double.endpoint}/compute/v1/projects/{project}/aggregated/instances"

    def _all(self):
        with urllib.request.urlopen(self._address, timeout=30) as answer:
            scopes = json.load(answer)["items"].values()
        return [one for scope in scopes for one in scope.get("instances", ())]

    def listed(self):
        """See ``Floor``."""
        return {one["name"]: one["status"] in ("PROVISIONING", "STAGING", "RUNNING") for one in self._all()}

    def boot(self, name):
        """See ``Floor``."""
        [script] = [
            item["value"]
            for one in self._all()
            if one["name"] == name
            for item in one["metadata"]["items"]
            if item["key"] == "startup-script"
        ]
        return self._host.start(script, name, environment=SYSTEM, region="us-central1")

    def show(self, name, console):
        """See ``Floor``: what is printed comes on top of what was."""
        shown = self._shown.get(name, 0)
        if console[shown:]:
            self._double.print(name, console[shown:])
        self._shown[name] = len(console)

    def powered_off(self, name):
        """See ``Floor``: it is stopped then, and still there."""
        self._double.stop_machine(name)

    def preempt(self, name):
        """See ``Floor``."""
        self._double.preempt(name)
