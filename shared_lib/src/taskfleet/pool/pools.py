"""The pools of a job: one for each manager that has tasks, stepped together by one controller process."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from taskfleet.errors import LedgerError, ProviderError, StartUpError, TaskfleetError, UnreachableError
from taskfleet.ledger import managers
from taskfleet.ledger.database import Database
from taskfleet.pool.controller import Controller
from taskfleet.pool.planning import Plan
from taskfleet.pool.records import End
from taskfleet.pool.teardown import add_up
from taskfleet.settings.manager_files import DEFAULT_MANAGER


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a step of all pools."""

    is_complete: bool = False
    """Whether all tasks are done and no machine exists."""
    give_up_reason: str = ""
    """Why some pool has given up, if no other one has a machine or a task that can run; else empty."""


class Pools:
    """Manages the pools of a job. A pool is added when its manager has tasks that can run.

    Args:
        database: The job's ledger.
        make: Returns the controller of the pool of a manager; its arguments are the number of the manager and a function that prints a
            message for the user. It raises a TaskfleetError if there can be none.
        needed: Returns the numbers of the managers whose tasks can run.
        say: Prints a message for the user.
    """

    def __init__(
        self,
        database: Database,
        make: Callable[[int, Callable[[str], None]], Controller],
        *,
        needed: Callable[[], Iterable[int]],
        say: Callable[[str], None],
    ) -> None:
        self._database = database
        self._make = make
        self._needed = needed
        self._say = say
        self._controllers: dict[int, Controller] = {}
        self._plans: dict[int, Plan | None] = {}
        self._failed: dict[int, str] = {}
        """Why a manager has no pool."""
        self._names: dict[int, str] = {}
        self._retried = ""
        """The error because of which a pool is to be added again; it is printed once."""

    def add(self, number: int) -> None:
        """Add the pool of a manager.

        Raises:
            TaskfleetError: It cannot have one.
        """
        self._names[number] = managers.names(self._database).get(number, DEFAULT_MANAGER)
        self._controllers[number] = self._make(number, lambda text: self._say(self._named(number, text)))

    def step(self, now: float) -> Outcome:
        """Take a step of every pool."""
        for number in self._needed():
            if number not in self._controllers and number not in self._failed:
                self._add_later(number)
        for number, controller in self._controllers.items():
            claims = sum(self._claims(one) for one in self._controllers if one != number)
            try:
                self._plans[number] = controller.step(now, other_claims=claims)
            except (ProviderError, StartUpError) as error:  # unlike errors of the queue, which do not end the pools
                return Outcome(give_up_reason=self._named(number, str(error).rstrip(".")))
        plans = self._plans.values()
        if plans and all(one is not None and one.is_complete for one in plans):
            return Outcome(is_complete=True)
        reasons = self._failed | {
            number: one.hold.text
            for number, one in self._plans.items()
            if one is not None and one.gives_up and one.hold
        }
        others = [one for number, one in self._plans.items() if number not in reasons]
        if reasons and all(one is not None and one.is_idle for one in others):
            return Outcome(give_up_reason="; ".join(self._named(number, text) for number, text in reasons.items()))
        return Outcome()

    def terminate_all(self, now: float, end: End) -> int:
        """Terminate all machines of all pools; see ``Reconciler.terminate_all``."""
        return add_up(partial(one.terminate_all, now, end) for one in self._controllers.values())

    @property
    def last_console(self) -> str:
        """See ``Reconciler.last_console``; of a pool that gave up, if there is one."""
        gave_up = {number for number, one in self._plans.items() if one is not None and one.gives_up}
        consoles = {number: one.last_console for number, one in self._controllers.items() if one.last_console}
        return next((consoles[number] for number in sorted(consoles, key=lambda one: one not in gave_up)), "")

    def _claims(self, number: int) -> bool:
        """Return whether a pool has a claim on a share of what the job may still spend; one that has taken no step yet has."""
        plan = self._plans.get(number)
        return plan.is_claim if plan is not None else number not in self._plans

    def _add_later(self, number: int) -> None:
        try:
            self.add(number)
        except UnreachableError as error:
            if str(error) != self._retried:
                self._say(self._named(number, f"{error} Retrying."))
            self._retried = str(error)
        except LedgerError:
            raise
        except TaskfleetError as error:
            self._failed[number] = str(error).rstrip(".")
            self._say(self._named(number, str(error)))

    def _named(self, number: int, text: str) -> str:
        """Return a message with the name of a pool, if there are several."""
        return text if len(self._names) < 2 else f"Pool {self._names[number]}: {text}"
