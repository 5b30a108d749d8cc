# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt for asyncio: a connection that is kept, calls in threads with a time limit, events in the loop.

libvirt's own event loop runs in a thread of its own. libvirtaio is not used: the threads that make the calls would call
into it (update_handle twice a call, add_timeout at each event), and asyncio's loop may not be touched from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import threading
import typing as t
import weakref

import libvirt

from archipel_protocol import errors, jids, states

from .backoff import pauses
from .threads import Threads, settle

log = logging.getLogger(__name__)

T = t.TypeVar("T")
# (uuid, virDomainEventType, its detail)
EventCallback = t.Callable[[str, int, int], None]

DEFINED = libvirt.VIR_DOMAIN_EVENT_DEFINED
UNDEFINED = libvirt.VIR_DOMAIN_EVENT_UNDEFINED

# A daemon that says nothing for INTERVAL * (COUNT + 1) seconds is given up, and with it every call that hangs in it.
KEEPALIVE_INTERVAL = 5
KEEPALIVE_COUNT = 4
# Calls on one domain at the same time. A domain whose QEMU hangs keeps that many threads, here and in libvirtd; the
# others are for everybody else.
LANE = 2
# Threads for calls on domains, and for those on the host, which a host full of hanging domains must not stop. Together
# below libvirtd's max_client_requests (role libvirt): libvirtd reads no further from who exceeds it.
DOMAIN_THREADS = 34
HOST_THREADS = 12
# After this many seconds of trying, the agent counts as started although libvirt has not answered yet.
FIRST_ATTEMPT = 10
_GONE = (
    libvirt.VIR_ERR_NO_DOMAIN,
    libvirt.VIR_ERR_NO_STORAGE_POOL,
    libvirt.VIR_ERR_NO_STORAGE_VOL,
    libvirt.VIR_ERR_NO_NETWORK,
)


class DomainNotFound(errors.LibvirtError):
    """libvirt has no domain with that UUID here."""


def translate(fault: libvirt.libvirtError) -> errors.LibvirtError:
    """libvirt's error as one of our tree; its text and number stay."""
    code = fault.get_error_code()
    kind = DomainNotFound if code == libvirt.VIR_ERR_NO_DOMAIN else errors.LibvirtError
    return kind(fault.get_error_message() or str(fault), code)


@contextlib.contextmanager
def ignoring_what_went() -> t.Iterator[None]:
    """What was removed between the listing and the look at it is no fault: here, or on the same storage elsewhere."""
    try:
        yield
    except libvirt.libvirtError as fault:
        if not has_gone(fault):
            raise


def has_gone(fault: libvirt.libvirtError) -> bool:
    """Whether libvirt says that there is no such thing, or no more.

    A file of shared storage may be known longer than it is there: then to open it fails, with errno in ``int1``.
    """
    missing = (fault.get_error_code(), fault.get_int1()) == (libvirt.VIR_ERR_SYSTEM_ERROR, errno.ENOENT)
    return missing or fault.get_error_code() in _GONE


def open_connection(uri: str) -> libvirt.virConnect:
    """A connection that notices when its daemon is gone or hangs. Blocking."""
    connection = libvirt.open(uri)
    _keep_alive(connection)
    return connection


def _keep_alive(connection: libvirt.virConnect) -> bool:
    """Has the daemon looked after; False for drivers without one, as test:///default: they have none to lose."""
    try:
        connection.setKeepAlive(KEEPALIVE_INTERVAL, KEEPALIVE_COUNT)
    except libvirt.libvirtError as fault:
        if fault.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return False
    return True


class _Lane:
    """The calls on one domain: those that run, and those of them that were given up."""

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(LANE)
        self.running: list[str] = []
        self.overdue = 0


class Libvirt:
    """The connection to one libvirt daemon.

    ``connection`` is for functions that run in call(); it is None while the daemon is out of reach.
    """

    _event_thread: threading.Thread | None = None

    def __init__(self, uri: str, timeout: float = 30.0) -> None:
        self.uri = uri
        self.timeout = timeout
        self.connection: libvirt.virConnect | None = None
        self._host_pool = Threads(HOST_THREADS, "libvirt-host")
        self._domain_pool = Threads(DOMAIN_THREADS, "libvirt-domain")
        self._own = threading.local()
        self._has_daemon = False
        self._lanes: weakref.WeakValueDictionary[str, _Lane] = weakref.WeakValueDictionary()
        self._event_callbacks: list[EventCallback] = []
        self._connection_callbacks: list[t.Callable[[bool], None]] = []
        self._watchers: list[tuple[str, asyncio.Event]] = []
        self._closed = asyncio.Event()
        self._tried = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._metadata_callbacks: list[t.Callable[[str], None]] = []
        self._registrations: list[int] = []
        self._reason = "not connected yet"

    @property
    def connected(self) -> bool:
        """Whether the daemon answers, as far as known."""
        return self.connection is not None

    async def start(self) -> None:
        """Begins to connect, for ever; returns once it was tried."""
        self._loop = asyncio.get_running_loop()
        self._run_events()
        self._keeper = asyncio.create_task(self._keep_connected())
        try:
            await asyncio.wait_for(self._tried.wait(), FIRST_ATTEMPT)
        except asyncio.TimeoutError:
            log.warning("libvirt at %s has not answered for %d s", self.uri, FIRST_ATTEMPT)

    async def stop(self) -> None:
        """Ends the connection; calls that hang are left behind."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        connection, self.connection = self.connection, None
        if connection is not None:
            try:
                await asyncio.wait_for(self._in_thread(self._close, connection), 2)
            except asyncio.TimeoutError:
                log.warning("libvirt at %s does not let go", self.uri)
        for pool in (self._host_pool, self._domain_pool):
            pool.stop()

    def on_event(self, callback: EventCallback) -> t.Callable[[], None]:
        """Has ``callback(uuid, event, detail)`` called in the loop at each lifecycle event; returns what ends it."""
        self._event_callbacks.append(callback)
        return lambda: self._event_callbacks.remove(callback)

    def on_metadata(self, callback: t.Callable[[str], None]) -> None:
        """Has ``callback(namespace)`` called in the loop when an application's metadata of a domain changes."""
        self._metadata_callbacks.append(callback)

    def on_connection(self, callback: t.Callable[[bool], None]) -> None:
        """Has ``callback(connected)`` called in the loop when the daemon comes or goes."""
        self._connection_callbacks.append(callback)

    async def call(self, function: t.Callable[..., T], *args: t.Any, timeout: float | None = None) -> T:
        """What ``function(connection, *args)`` returns, run in a thread.

        Where the first argument is a domain's UUID, the call takes one of the few turns of that domain.

        Raises LibvirtError for libvirt's errors, and ArchipelError naming the function where it takes longer than
        ``timeout`` seconds; the call itself then goes on, libvirt has no way to end it.
        """
        connection = self.connection
        if connection is None:
            raise errors.LibvirtError(f"libvirt is out of reach: {self._reason}", libvirt.VIR_ERR_NO_CONNECT)
        limit = self.timeout if timeout is None else timeout
        name = getattr(function, "__name__", "call").strip("_").replace("_", " ")
        work = functools.partial(self._run, connection, function, *args)
        try:
            if args and isinstance(args[0], str) and jids.is_uuid(args[0]):
                return await self._in_lane(args[0], name, work, limit)
            async with asyncio.timeout(limit):
                return await self._host_pool.run(work)
        except libvirt.libvirtError as fault:
            raise translate(fault) from fault
        except asyncio.TimeoutError:
            raise errors.ArchipelError(f"libvirt did not finish '{name}' within {limit:g} s") from None

    def _run(self, connection: libvirt.virConnect, function: t.Callable[..., T], *args: t.Any) -> T:
        """In a thread, on its own connection to the daemon.

        libvirt's client (9.0) loses wake-ups where threads share a connection: a call would wait for another one's end,
        or for the next keep-alive. Drivers without a daemon have no such client, and their state in the connection.
        """
        if self._has_daemon:
            own = getattr(self._own, "connection", None)
            if own is None or not own.isAlive():
                own = self._own.connection = open_connection(self.uri)
            connection = own
        return function(connection, *args)

    async def _in_lane(self, uuid: str, name: str, work: t.Callable[[], T], limit: float) -> T:
        """Runs ``work`` when there is a turn on the domain. A call that is given up keeps its turn until it is back."""
        lane = self._lanes.setdefault(uuid, _Lane())
        if lane.overdue >= LANE:
            # Nothing will come of waiting.
            raise _hangs(name, lane)
        try:
            async with asyncio.timeout(limit):
                await lane.turns.acquire()
        except asyncio.TimeoutError:
            raise _hangs(name, lane) from None
        answer: asyncio.Future[T] = self._loop.create_future()
        lane.running.append(name)
        given_up = False

        def back(result: t.Any, fault: BaseException | None) -> None:
            lane.turns.release()
            lane.running.remove(name)
            lane.overdue -= given_up
            settle(answer, result, fault)

        take_back = self._domain_pool.submit(work, back)
        try:
            async with asyncio.timeout(limit):
                return await answer
        except (asyncio.TimeoutError, asyncio.CancelledError) as reason:
            if not answer.cancelled():
                raise  # its own error
            # One that no thread has begun is not begun any more.
            if take_back():
                back(None, None)
            elif isinstance(reason, asyncio.TimeoutError):
                given_up = True
                lane.overdue += 1
            raise

    async def call_apart(self, function: t.Callable[..., T], *args: t.Any) -> T:
        """As call(), for what may take hours: on a connection and in a thread of its own, without a time limit."""

        def run() -> T:
            connection = open_connection(self.uri)
            try:
                return function(connection, *args)
            finally:
                connection.close()

        future: asyncio.Future[T] = self._loop.create_future()

        def thread() -> None:
            try:
                result = run()
            except BaseException as exc:  # handed over to who awaits it
                self._loop.call_soon_threadsafe(settle, future, None, exc)
            else:
                self._loop.call_soon_threadsafe(settle, future, result, None)

        threading.Thread(target=thread, name="libvirt-apart", daemon=True).start()
        try:
            return await future
        except libvirt.libvirtError as fault:
            raise translate(fault) from fault

    async def wait_for_state(self, uuid: str, predicate: t.Callable[[int], bool], timeout: float) -> int:
        """The first state of the domain that satisfies ``predicate``; looks only when libvirt tells of an event.

        Raises ArchipelError naming the last state seen after ``timeout`` seconds, DomainNotFound where it vanishes.
        """
        state = states.NOSTATE
        deadline = self._loop.time() + timeout
        with self.watch(uuid) as changed:
            try:
                while True:
                    changed.clear()
                    state = await self.call(_state, uuid)
                    if predicate(state):
                        return state
                    await asyncio.wait_for(changed.wait(), deadline - self._loop.time())
            except asyncio.TimeoutError:
                message = f"the virtual machine is still {states.NAMES.get(state, 'unknown')} after {timeout:g} s"
                raise errors.ArchipelError(message) from None

    @contextlib.contextmanager
    def watch(self, uuid: str) -> t.Iterator[asyncio.Event]:
        """An event that is set whenever libvirt tells something of the domain, or of the agent in its guest."""
        watcher = (uuid, asyncio.Event())
        self._watchers.append(watcher)
        try:
            yield watcher[1]
        finally:
            self._watchers.remove(watcher)

    async def domain_capabilities(self, *args: t.Any) -> str:
        """The domain capabilities as XML; the arguments are virConnect.getDomainCapabilities' own."""
        return await self.call(_domain_capabilities, *args)

    def _in_thread(self, function: t.Callable[..., T], *args: t.Any) -> asyncio.Future[T]:
        return self._host_pool.run(functools.partial(function, *args))

    def _run_events(self) -> None:
        """libvirt's event loop, one for the process, before the first connection (virEventRegisterDefaultImpl)."""
        if Libvirt._event_thread is not None:
            return
        # libvirt prints every error to stderr unless told otherwise; each comes as an exception anyway.
        libvirt.registerErrorHandler(lambda context, fault: None, None)
        libvirt.virEventRegisterDefaultImpl()

        def run() -> None:
            while True:
                libvirt.virEventRunDefaultImpl()

        Libvirt._event_thread = threading.Thread(target=run, name="libvirt-events", daemon=True)
        Libvirt._event_thread.start()

    async def _keep_connected(self) -> None:
        wait = pauses(first=0.5, largest=15)
        while True:
            try:
                connection = await self._in_thread(self._open)
            except libvirt.libvirtError as fault:
                reason = fault.get_error_message() or str(fault)
                if reason != self._reason:
                    log.warning("libvirt at %s is out of reach: %s", self.uri, reason)
                self._reason = reason
                self._tried.set()
                await asyncio.sleep(next(wait))
                continue
            log.info("connected to libvirt at %s", self.uri)
            wait = pauses(first=0.5, largest=15)
            self.connection = connection
            self._tell(True)
            self._tried.set()
            await self._closed.wait()
            self._reason = f"the connection to {self.uri} was lost"
            log.warning("%s", self._reason)
            self.connection = None
            self._tell(False)
            await self._in_thread(self._close, connection)

    def _tell(self, connected: bool) -> None:
        for callback in list(self._connection_callbacks):
            callback(connected)

    def _open(self) -> libvirt.virConnect:
        """In a thread."""
        self._closed.clear()
        connection = libvirt.open(self.uri)
        self._has_daemon = _keep_alive(connection)
        try:
            connection.registerCloseCallback(self._on_close, None)
        except libvirt.libvirtError as fault:
            if fault.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                raise
        self._registrations = [
            connection.domainEventRegisterAny(None, event, callback, None)
            for event, callback in (
                (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle),
                (libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, self._on_metadata),
                (libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, self._on_guest_agent),
            )
        ]
        return connection

    def _close(self, connection: libvirt.virConnect) -> None:
        """In a thread; a daemon that is gone cannot be told."""
        deregister = [functools.partial(connection.domainEventDeregisterAny, one) for one in self._registrations]
        for step in (*deregister, connection.unregisterCloseCallback, connection.close):
            try:
                step()
            except libvirt.libvirtError as fault:
                log.debug("closing the connection to libvirt: %s", fault)

    def _on_close(self, connection: libvirt.virConnect, reason: int, opaque: object) -> None:
        """In the event thread, when the daemon is gone."""
        self._loop.call_soon_threadsafe(self._closed.set)

    def _on_lifecycle(
        self, connection: libvirt.virConnect, domain: libvirt.virDomain, event: int, detail: int, opaque: object
    ) -> None:
        """In the event thread."""
        self._loop.call_soon_threadsafe(self._deliver, domain.UUIDString(), event, detail)

    def _on_metadata(
        self, connection: libvirt.virConnect, domain: libvirt.virDomain, kind: int, namespace: str, opaque: object
    ) -> None:
        """In the event thread."""
        if kind == libvirt.VIR_DOMAIN_METADATA_ELEMENT:
            for callback in list(self._metadata_callbacks):
                self._loop.call_soon_threadsafe(callback, namespace)

    def _on_guest_agent(
        self, connection: libvirt.virConnect, domain: libvirt.virDomain, state: int, reason: int, opaque: object
    ) -> None:
        """In the event thread."""
        self._loop.call_soon_threadsafe(self._rouse, domain.UUIDString())

    def _deliver(self, uuid: str, event: int, detail: int) -> None:
        self._rouse(uuid)
        for callback in list(self._event_callbacks):
            callback(uuid, event, detail)

    def _rouse(self, uuid: str) -> None:
        for which, changed in self._watchers:
            if which == uuid:
                changed.set()


def _hangs(name: str, lane: _Lane) -> errors.ArchipelError:
    message = f"libvirt does not begin '{name}': '{lane.running[0]}' on this domain has not come back"
    return errors.ArchipelError(message)


def _state(connection: libvirt.virConnect, uuid: str) -> int:
    return int(connection.lookupByUUIDString(uuid).state()[0])


def _domain_capabilities(connection: libvirt.virConnect, *args: t.Any) -> str:
    return connection.getDomainCapabilities(*args)
