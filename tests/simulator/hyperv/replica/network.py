# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How one host reaches another's Replica server: names, routes, firewall, listener, log-on, authorisation (operations 7.2, F-43)."""
from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.hyperv.replica.server import Authorization
from simulator.hyperv.replica.settings import CERTIFICATE
from simulator.hyperv.replica.state import RelationSettings

if TYPE_CHECKING:
    from simulator.clock import SimClock
    from simulator.hyperv.role import HyperV

NO_SUCH_HOST, TIMED_OUT, CANNOT_CONNECT, ABORTED = 0x00002AF9, 0x00002EE2, 0x00002EFD, 0x00002EFE
SERVER_EXPIRED, SERVER_NAME, SERVER_AUTHORITY = 0x00002F05, 0x00002F06, 0x00002F0D
TARGET_UNKNOWN, CLIENT_UNTRUSTED, ACCESS_DENIED, UNKNOWN_MACHINE = 0x80090303, 0x80090325, 0x80070005, 0x80070490
REVOCATION_OFFLINE = 0x80092013
"""Windows and WinHTTP codes that come as the reason of a failed job."""


class Unreachable(Exception):
    """A Replica server does not let a host in; ``hresult`` says why. ``network``: there is no answer at all."""

    def __init__(self, hresult: int, message: str) -> None:
        super().__init__(message)
        self.hresult = hresult
        self.message = message

    @property
    def network(self) -> bool:
        """Whether the server could not be reached, rather than refused."""
        return self.hresult in (NO_SUCH_HOST, TIMED_OUT, CANNOT_CONNECT, ABORTED)


class ReplicaNetwork:
    """Which hosts hear which; one for all hosts of a fleet."""

    def __init__(self) -> None:
        self._roles: dict[str, HyperV] = {}
        self._cut: set[frozenset[str]] = set()
        self._down: set[str] = set()
        self.clocks: set[SimClock] = set()
        """Of hosts that have made relations."""

    def settle(self, own: SimClock) -> None:
        """What is due on the clocks of other hosts that replicate happens now."""
        for clock in self.clocks:
            if clock is not own:
                clock.settle()

    def register(self, role: HyperV) -> None:
        """Make a host known by its short name and its FQDN."""
        for name in (role.name, role.host.fqdn):
            self._roles[name.lower()] = role

    def find(self, name: str) -> HyperV | None:
        """The host of a name, reachable or not."""
        return self._roles.get(name.lower())

    def cut(self, one: str, other: str) -> None:
        """No packet gets from one host to the other, either way. KeyError: no such host."""
        self._cut.add(self._pair(one, other))

    def mend(self, one: str, other: str) -> None:
        """They hear each other again."""
        self._cut.discard(self._pair(one, other))

    def take_down(self, name: str) -> None:
        """A host is lost: nobody hears it, and it hears nobody."""
        self._down.add(self._roles[name.lower()].name)

    def bring_up(self, name: str) -> None:
        """It is back."""
        self._down.discard(self._roles[name.lower()].name)

    def is_down(self, role: HyperV) -> bool:
        """Whether a host is lost."""
        return role.name in self._down

    def _pair(self, one: str, other: str) -> frozenset[str]:
        return frozenset(self._roles[name.lower()].name for name in (one, other))

    def hears(self, one: HyperV, other: HyperV) -> bool:
        """Whether packets get through."""
        return not {one.name, other.name} & self._down and frozenset((one.name, other.name)) not in self._cut

    def connect(self, client: HyperV, settings: RelationSettings, *, authorise: bool = True) -> HyperV:
        """The server that ``client`` reaches with these settings. Unreachable: the first thing that is in the way."""
        name = settings.recovery_point
        server = self.find(name)
        if server is None:
            raise Unreachable(NO_SUCH_HOST, f"The name of the Replica server '{name}' could not be resolved.")
        if not self.hears(client, server) or not server.host.firewall.admits(settings.port):
            raise Unreachable(TIMED_OUT, f"The Replica server '{name}' did not answer on port {settings.port}.")
        offered = server.replica.server.settings
        certificate = settings.authentication == CERTIFICATE
        wanted = offered.https_port if certificate else offered.http_port
        if settings.port != wanted or server.replica.stopped or not server.replica.server.listens(settings.port):
            raise Unreachable(CANNOT_CONNECT, f"A connection with the Replica server '{name}' on port {settings.port} could not be made.")
        if certificate:
            _check_certificates(client, server, settings)
        elif not client.host.domain or (client.host.domain or "").lower() != (server.host.domain or "").lower():
            raise Unreachable(TARGET_UNKNOWN, f"The Replica server '{name}' could not be authenticated using Kerberos.")
        if authorise and entry_for(client, server) is None:
            raise Unreachable(ACCESS_DENIED, f"The Replica server '{name}' does not accept replication from this server.")
        return server


def entry_for(client: HyperV, server: HyperV) -> Authorization | None:
    """The entry of ``server`` that lets ``client`` in."""
    return server.replica.server.entry_for(client.host.fqdn)


def _check_certificates(client: HyperV, server: HyperV, settings: RelationSettings) -> None:
    """Each side looks at the other's certificate, and the client at its own."""
    now = client.clock.now()
    problem = client.host.certificates.problem(settings.thumbprint, now)
    own = client.host.certificates.find(settings.thumbprint)
    if problem is not None or own is None:
        raise Unreachable(problem or TARGET_UNKNOWN, "The certificate of this server cannot be used.")
    shown = server.host.certificates.find(server.replica.server.settings.thumbprint)
    assert shown is not None  # the listener does not run without
    if settings.recovery_point.lower() not in shown.names:
        raise Unreachable(SERVER_NAME, "The certificate of the Replica server is for another name.")
    if not shown.begins <= now < shown.ends:
        raise Unreachable(SERVER_EXPIRED, "The certificate of the Replica server has expired.")
    if shown.authority not in client.host.certificates.trusted:
        raise Unreachable(SERVER_AUTHORITY, "The certificate of the Replica server was issued by an authority that is not trusted.")
    for side, certificate in ((client, shown), (server, own)):
        if side.host.certificates.checks_revocation and not certificate.revocation_reachable:
            raise Unreachable(REVOCATION_OFFLINE, "Whether a certificate was revoked could not be found out.")
    if own.authority not in server.host.certificates.trusted:
        raise Unreachable(CLIENT_UNTRUSTED, "The Replica server does not trust the certificate of this server.")
