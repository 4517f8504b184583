"""The services that queues are tested on: every file in ``services``, each started once when a test first wants it.

A file NAME.py there has a class that ends with ``Service``, with ``start()`` (FileNotFoundError: what it runs is not installed),
``stop()``, ``queue_url(name)``, ``transport(name, **options)`` (the options are the transport's, such as ``patience_seconds``),
``advance(seconds)``, ``environment()`` and, if it can, ``pause()`` and ``resume()``. ``transport`` has to work in another process on a copy
of the object's plain attributes.
"""

import json
import os
import pickle
import subprocess
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path

import pytest

from shared_lib.tests.queues.jobs import Job
from shared_lib.tests.services.double import Double

HERE = Path(__file__).parent
SERVICES = sorted(path.stem for path in (HERE / "services").glob("[!_]*.py"))
NUMBERS = count(1)
MODULE = "taskfleet_test_service_"


def service_class(name):
    spec = spec_from_file_location(MODULE + name, HERE / "services" / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    [found] = [thing for word, thing in vars(module).items() if word.endswith("Service") and isinstance(thing, type)]
    return found


@pytest.fixture(scope="session")
def started():
    """Returns a service by name, or raises the error that names what is missing."""
    services = {}

    def start(name):
        if name not in services:
            service = service_class(name)()
            try:
                service.start()
            except FileNotFoundError as error:
                services[name] = error
            else:
                services[name] = service
        return services[name]

    yield start
    for service in services.values():
        if not isinstance(service, FileNotFoundError):
            unlisted = service.unlisted() if isinstance(service, Double) else set()
            service.stop()
            assert unlisted == set()


@pytest.fixture
def running(started, lacking, monkeypatch):
    """Gives a service that runs, and has this test's clients find it."""

    def running(name):
        service = started(name)
        if isinstance(service, FileNotFoundError):
            lacking(str(service))
        for key, value in service.environment().items():
            monkeypatch.setenv(key, value)
        return service

    return running


@pytest.fixture(params=["ledger", *SERVICES])
def new_job(request, running, name, tmp_path):
    """Makes jobs on every kind of queue: ``new_job(**settings)``."""
    made = []

    def new_job(**settings):
        service = None if request.param == "ledger" else running(request.param)
        made.append(Job(service, f"{name}-{len(made)}", tmp_path / str(len(made)), **settings))
        return made[-1]

    yield new_job
    for job in made:
        job.close()


@pytest.fixture(params=SERVICES)
def service(request, running):
    return running(request.param)


@pytest.fixture
def postgresql(running):
    return running("postgresql")


@pytest.fixture
def opened():
    """Opens transports, ``opened(service, name, **options)``, and closes them."""
    transports = []

    def opened(service, name, **options):
        transports.append(service.transport(name, **options))
        return transports[-1]

    yield opened
    for transport in transports:
        transport.close()


@pytest.fixture
def name():
    """A name that no queue has yet."""
    return f"taskfleet-test-{os.getpid()}-{next(NUMBERS)}-{time.time_ns() % 10**9}"


@pytest.fixture
def children():
    """Runs ``child.py`` in a process of its own: ``children(service, name, what, **how)``; kills what is left."""
    processes = []

    def start(service, name, what, **how):
        attributes = {key: value for key, value in vars(service).items() if picklable(value)}
        wanted = {
            "service": type(service).__module__.removeprefix(MODULE),
            "attributes": pickle.dumps(attributes).hex(),
            "name": name,
            "what": what,
            **how,
        }
        processes.append(
            subprocess.Popen(
                [sys.executable, HERE / "child.py", json.dumps(wanted)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | service.environment() | {"PYTHONPATH": str(HERE.parents[2])},
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def picklable(value):
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True
