"""Delivery of the project to machines: upload of its code, and start-up scripts with the worker's environment."""

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from taskfleet.errors import SettingsError
from taskfleet.extras import OPTIONAL_PACKAGES
from taskfleet.files import make_private_folder
from taskfleet.machines import LaunchRequest
from taskfleet.machines.choosing import Offer
from taskfleet.machines.facts import OFFERS_VARIABLE, pack_offers
from taskfleet.machines.provider import provider_of
from taskfleet.pool import bundle
from taskfleet.pool.start_up import Code, GitCode, ImageCode, UserScripts, read_scripts, script
from taskfleet.pool.worker_packages import read_lock, unneeded_packages
from taskfleet.processes.identity import MANAGER_VARIABLE, SLOTS_VARIABLE
from taskfleet.queues.addresses import is_remote, sdk_of
from taskfleet.settings import Configuration
from taskfleet.settings.environment import worker_environment
from taskfleet.settings.parsers import is_in_project

logger = logging.getLogger(__name__)


class CodeDelivery:
    """Uploads the code of a project, once for all pools that get it in the same way.

    Args:
        say: Prints a message for the user.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._delivered: dict[tuple[object, ...], Code] = {}
        self._packed: bundle.Bundle | None = None

    def deliver(self, configuration: Configuration, offers: Iterable[Offer]) -> Callable[[LaunchRequest], str]:
        """Upload the code if machines need it.

        Args:
            configuration: The settings of the manager whose pool it is.
            offers: The machines that can be launched.

        Returns:
            A function that returns the start-up script for a launch request.

        Raises:
            SettingsError: A setting is missing.
            BundleError: The project cannot be packed.
            ProviderError: The bucket cannot be written to.
            StartUpError: One of the user's scripts cannot be read.
        """
        pool = configuration.pool
        scripts = read_scripts(pool, configuration.project)
        way = pool.provider, pool.code_from, pool.bucket, pool.git_url, pool.git_revision
        if not provider_of(configuration).bucket_scheme:
            return self._pack_for_sending(configuration)
        code = self._delivered.get(way) or _code(configuration, self._say)
        self._delivered[way] = code
        make = _script_maker(configuration, scripts, code, offers)
        return lambda order: make(order.lifetime_seconds, order.offers)

    def _pack_for_sending(self, configuration: Configuration) -> Callable[[LaunchRequest], str]:
        """Pack the code for machines that get it from their provider; return a function that returns the path of the bundle."""
        if is_in_project(configuration.settings.queue_url):  # they share the project's folder
            return lambda _: ""
        if self._packed is None:
            folder = _packed_folder(configuration)
            shutil.rmtree(folder, ignore_errors=True)
            make_private_folder(folder)
            self._packed = _pack(configuration, folder, is_private=True)
            _report(self._packed, f"sent to each machine ({folder})", self._say)
        path = str(self._packed.path)
        return lambda _: path


def preview_script(configuration: Configuration) -> str:
    """Return the start-up script that machines would run that get a copy of the code, with placeholders for a bundle."""
    pool, provider = configuration.pool, provider_of(configuration)
    code: Code = bundle.StoredBundle(
        address=f"{pool.bucket or f'{provider.bucket_scheme}://BUCKET'}/BUNDLE.tar.gz",
        hash="0" * 64,
    )
    if pool.code_from == "git":
        code = GitCode(url=pool.git_url or "GIT_URL", revision=pool.git_revision)
    elif pool.code_from == "image":
        code = ImageCode()
    make = _script_maker(configuration, read_scripts(pool, configuration.project), code, ())
    return make(pool.lifetime_hours * 3600, ())


def clear_bundles(configuration: Configuration) -> Mapping[str, int]:
    """Remove the job's bundles, if it has any; return how many are left."""
    pool = configuration.pool
    shutil.rmtree(_packed_folder(configuration), ignore_errors=True)
    if pool.code_from != "bundle" or pool.code_from not in provider_of(configuration).code_sources or not pool.bucket:
        return {}
    left = bundle.remove(pool.bucket, job_id=configuration.settings.job_id, provider=pool.provider)
    return {"bundles of code": left}


def _script_maker(
    configuration: Configuration, scripts: UserScripts, code: Code, offers: Iterable[Offer]
) -> Callable[[float, Iterable[Offer]], str]:
    """Return a function from a lifetime in seconds, and the offers of a launch request, to a start-up script."""
    environment = worker_environment(configuration) | {SLOTS_VARIABLE: _slots(offers)}
    if configuration.manager:
        environment[MANAGER_VARIABLE] = configuration.manager
    return lambda lifetime_seconds, requested: script(
        provider=configuration.pool.provider,
        job_id=configuration.settings.job_id,
        lifetime_seconds=lifetime_seconds,
        code=code,
        environment=environment | {OFFERS_VARIABLE: pack_offers(requested)},
        queue_package=" ".join(_queue_packages(configuration)),
        scripts=scripts,
    )


def _code(configuration: Configuration, say: Callable[[str], None]) -> Code:
    pool, provider = configuration.pool, provider_of(configuration)
    if pool.code_from not in provider.code_sources:
        raise SettingsError(
            f"CODE_FROM={pool.code_from} does not work with PROVIDER={provider.name}; choose {' or '.join(provider.code_sources)}."
        )
    if pool.code_from == "image":
        return ImageCode()
    if pool.code_from == "git":
        if not pool.git_url:
            raise SettingsError("CODE_FROM=git needs GIT_URL in config/pool.env: the repository to clone.")
        return GitCode(url=pool.git_url, revision=pool.git_revision)
    if not pool.bucket:
        raise SettingsError(
            "BUCKET is not set: machines download the project's code from a bucket. Name one in config/pool.env, such as "
            f"BUCKET={provider.bucket_scheme}://my-bucket/jobs, or set CODE_FROM=git or image."
        )
    with tempfile.TemporaryDirectory(prefix="taskfleet-bundle-") as folder:
        packed = _pack(configuration, Path(folder))
        unneeded = unneeded_packages(read_lock(configuration.project), _queue_packages(configuration))
        stored = bundle.upload(packed, pool.bucket, job_id=configuration.settings.job_id, provider=pool.provider)
    _report(packed, f"in {stored.address}", say)
    if unneeded:
        logger.info("machines skip %d packages that workers do not need: %s", len(unneeded), ", ".join(unneeded))
    return stored


def _pack(configuration: Configuration, folder: Path, *, is_private: bool = False) -> bundle.Bundle:
    ledger = configuration.ledger_path
    return bundle.pack(configuration.project, folder, leave_out=[ledger, ledger.parent], is_private=is_private)


def _packed_folder(configuration: Configuration) -> Path:
    ledger = configuration.ledger_path
    return ledger.with_name(f"{ledger.stem}.code")


def _report(packed: bundle.Bundle, place: str, say: Callable[[str], None]) -> None:
    say(f"Code: {packed.files:,} files, {packed.size_bytes / 2**20:.1f} MiB, {place}")
    for name in packed.left_out:
        say(f"  left out, it looks like a secret: {name}")


def _queue_packages(configuration: Configuration) -> tuple[str, ...]:
    """Return the package for the queue service, if the tasks are in one."""
    url = configuration.settings.queue_url
    return (OPTIONAL_PACKAGES[sdk_of(url)].distribution,) if is_remote(url) else ()


def _slots(offers: Iterable[Offer]) -> str:
    """Return the number of slots for each number of CPUs, as in SLOTS_VARIABLE."""
    fewest: dict[int, int] = {}
    for one in offers:
        fewest[one.cpus] = min(one.slots, fewest.get(one.cpus, one.slots))
    return " ".join(f"{cpus}:{slots}" for cpus, slots in sorted(fewest.items()))
