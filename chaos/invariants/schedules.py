"""What runs by the calendar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.invariants.world import Invariant

if TYPE_CHECKING:
    from chaos.history import Event
    from chaos.invariants.world import World


class _Ticks(Invariant):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.ran: dict[str, dict[int, str]] = {}
        """By entry and instant in µs: the first message."""
        self.accounts: dict[str, dict[str, int]] = {}

    def on_tick(self, event: Event) -> None:
        if event.type == "ok":
            self.accounts[event.id] = event.value
        else:
            self.note(event, self.ran.setdefault(event.id, {}).setdefault(round(event.at), event.value))

    def note(self, event: Event, first: str) -> None:
        """A tick has started; the first message of its instant."""

    def missing(self, name: str) -> list[int]:
        """Instants that are due and never ran."""
        account, ran = self.accounts[name], self.ran.get(name, {})
        return [at for at in range(account["first"], account["last"] + 1, account["step"]) if at not in ran]


class B1(_Ticks):
    """Each instant of an entry is enqueued once; which never ran are those that its mark says were skipped."""

    key = "B1"

    def note(self, event: Event, first: str) -> None:
        self.checked += 1
        if event.value != first:
            self.complain(
                event.id,
                f"the tick of {event.id} at {event.at:.0f} µs was enqueued twice, as {first} and as {event.value}",
                ids=(first, event.value),
            )

    def close(self) -> None:
        for name, account in self.accounts.items():
            missing = self.missing(name)
            self.checked += 1
            if len(missing) > account["skipped"]:
                self.complain(
                    name,
                    f"{len(missing)} ticks of {name} never ran, and {account['skipped']} were skipped; "
                    f"missing: {missing[:10]}",
                )


class B2(_Ticks):
    """What the policy of an entry passes over, while no beat lives, is passed over."""

    key = "B2"

    def close(self) -> None:
        for name, account in self.accounts.items():
            missing = self.missing(name)
            if not account["skipped"] and account.get("policy", "all") == "all":
                continue
            self.checked += 1
            if len(missing) < account["skipped"]:
                self.complain(
                    name,
                    f"{account['skipped']} ticks of {name} were skipped, as its mark says, and only {len(missing)} "
                    "never ran",
                )
            elif account.get("policy") == "all":
                self.complain(
                    name, f"{account['skipped']} ticks of {name}, which is to catch up with all, were skipped"
                )
