"""Choose the machines of a pool, and estimate their cost."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from taskfleet.errors import UsageError
from taskfleet.invocation import poe
from taskfleet.machine_terms import ANY
from taskfleet.machines import LaunchRequest, Preview
from taskfleet.machines.catalogue import Catalogue
from taskfleet.machines.choosing import Choice, Offer, choose
from taskfleet.machines.images import Image
from taskfleet.machines.needs import Need, need_of
from taskfleet.machines.provider import Provider, provider_of
from taskfleet.pool import selection
from taskfleet.pool.code_delivery import preview_script
from taskfleet.pool.estimate import Estimate, first_request, names_of_managers, read_job
from taskfleet.pool.selection import pool_need
from taskfleet.settings import Configuration
from taskfleet.text import harmless


def warn(text: str) -> None:
    """Print a message for the user to standard error."""
    print(harmless(text), file=sys.stderr)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A choice of machines, with the estimated time and cost."""

    choice: Choice
    estimate: Estimate
    catalogue: Catalogue

    @property
    def best(self) -> Offer:
        """The offer that was chosen."""
        best = self.choice.best
        assert best is not None  # else there is no plan
        return best

    def to_json(self) -> dict[str, Any]:
        """Return the object that ``poe plan --json`` prints."""
        choice, estimate = self.choice, self.estimate
        return {
            "machines": choice.count,
            "fewest": choice.fewest,
            "limited_by": choice.limited_by,
            "offer": asdict(self.best),
            "usd_per_hour": estimate.usd_per_hour,
            "nodes": estimate.nodes,
            "tasks": estimate.tasks,
            "hours": estimate.hours,
            "node_hours": estimate.node_hours,
            "usd": estimate.usd,
        }


def plan(
    configuration: Configuration,
    *,
    tasks: int | None = None,
    hours_per_task: float | None = None,
    need: Need | None = None,
    even_if_done: bool = False,
    refresh: bool = False,
    say: Callable[[str], None] = warn,
) -> Plan | None:
    """Choose the machines of the pool of a manager without launching any.

    Args:
        configuration: The settings of the manager.
        tasks: The number of tasks to plan for; None for the remaining tasks in the ledger.
        hours_per_task: The duration of a task; None for HOURS_PER_TASK, or else the mean of the tasks that succeeded.
        need: The requirements; None for those in the settings.
        even_if_done: Whether to plan when no tasks are left.
        refresh: Whether to fetch prices instead of using cached ones.
        say: Called with messages for the user, such as a warning about old prices.

    Returns:
        The plan; None if no tasks of the manager are left.

    Raises:
        NothingFitsError: No offer meets the requirements.
        ProviderError: Prices cannot be fetched, and none are cached.
    """
    left, measured = read_job(configuration)
    tasks = left if tasks is None else tasks
    if tasks == 0 and not even_if_done:
        return None
    hours = measured if hours_per_task is None else hours_per_task
    catalogue = get_catalogue(configuration, refresh=refresh, say=say)
    need = need or pool_need(configuration, tasks)
    need = need if hours is None else replace(need, hours_per_task=hours)
    try:
        choice = selection.choose_machines(need, catalogue)
    except selection.NothingFitsError as error:
        if not provider_of(configuration).lists_offers:
            raise
        raise selection.NothingFitsError(
            f"{error} {poe('list_instance_types --rejected')} shows each type with its reasons."
        ) from None
    estimate = Estimate(choice, tasks, hours)
    return Plan(choice=choice, estimate=estimate, catalogue=catalogue)


def plans(
    configuration: Configuration,
    *,
    even_if_done: bool = False,
    refresh: bool = False,
    say: Callable[[str], None] = warn,
) -> dict[str, Plan]:
    """Choose the machines of the pools of all managers that have tasks left, by the managers' names; that of the default one is empty.

    Args:
        configuration: The settings of the default manager.
        even_if_done: Whether to plan for the default manager if no tasks are left at all.
        refresh: Whether to fetch prices instead of using cached ones.
        say: Called with messages for the user.

    Raises:
        NothingFitsError: No offer meets the requirements of a pool.
        ProviderError: Prices cannot be fetched, and none are cached.
        SettingsError: The settings of a manager or of its pool are invalid.
    """
    found = {}
    for name in ("", *names_of_managers(configuration)):
        try:
            one = plan(configuration.of_manager(name) if name else configuration, refresh=refresh, say=say)
        except selection.NothingFitsError as error:
            raise selection.NothingFitsError(f"Manager {name}: {error}") if name else error from None
        if one is not None:
            found[name] = one
    if not found and even_if_done:
        one = plan(configuration, even_if_done=True, refresh=refresh, say=say)
        assert one is not None
        found[""] = one
    return found


def preview(configuration: Configuration, found: Plan) -> Preview | None:
    """Return what is known of the first launch request of a pool before it is sent; None if nothing is known.

    Args:
        configuration: The settings of the manager whose plan it is.
        found: The plan.
    """
    request = first_request(configuration, found.choice, found.estimate.tasks, token="NAME")
    if isinstance(request, LaunchRequest):
        return provider_of(configuration).preview(configuration, request)
    return Preview(script="", notes=(f"No machine would be launched: {request.text}.",)) if request else None


def start_up_script(configuration: Configuration) -> str:
    """Return the script that starts the machines of a pool, with placeholders for what is not known before the launch.

    Raises:
        UsageError: The provider's machines run no script.
        NothingFitsError, ProviderError: As in ``plan``.
    """
    provider = provider_of(configuration)
    if provider.code_sources:
        return preview_script(configuration)
    found = plan(configuration, even_if_done=True)
    assert found is not None
    known = preview(configuration, found)
    if known is not None and not known.script:
        raise UsageError(" ".join(known.notes))
    if known is None:
        raise UsageError(
            f"Machines of PROVIDER={provider.name} run no start-up script. Choose another provider: "
            f"{poe('plan --show-start-up-script --provider aws')}"
        )
    return known.script


def get_catalogue(
    configuration: Configuration, *, refresh: bool = False, say: Callable[[str], None] = warn
) -> Catalogue:
    """Return the provider's offers and prices, cached for CATALOGUE_HOURS; arguments and errors as in ``plan``."""
    return selection.find_catalogue(configuration, now=time.time(), refresh=refresh, on_stale=say)


def instance_types(configuration: Configuration, catalogue: Catalogue) -> Choice:
    """Return all offers that meet the requirements for one machine, ranked, and the reasons for rejecting each other type."""
    need = need_of(configuration.pool, None)
    return choose(
        replace(need, machines=ANY, price_usd_per_hour=ANY, total_cpus=ANY, simultaneous_tasks=ANY), catalogue
    )


def regions(configuration: Configuration) -> Sequence[tuple[str, Sequence[str]]]:
    """Return the provider's regions, each with its zones."""
    return list(listing_provider(configuration).regions(configuration))


def images(configuration: Configuration) -> Sequence[Image]:
    """Return the provider's current operating system images."""
    return list(listing_provider(configuration).images(configuration, now=time.time()))


def listing_provider(configuration: Configuration) -> Provider:
    """Return the provider in the settings.

    Raises:
        UsageError: It has no list of offers.
    """
    provider = provider_of(configuration)
    if not provider.lists_offers:
        raise UsageError(
            f"PROVIDER={provider.name} has no regions, images or instance types. Set PROVIDER=aws or gcp in config/pool.env, or add "
            "--provider aws."
        )
    return provider
