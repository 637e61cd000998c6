#!/usr/bin/env python3
"""A client of IMPP/1 in one file: presence and messages, with the standard library alone.

Written from docs/protocol.md; the sections named below are that text's. It needs Python 3.9, and
OpenSSL with TLS 1.3 behind it. From the top: the codec and the tables (sections 3 to 6, 11, 12),
presence documents (8), signing in (7), one connection (`Session`), what outlives connections
(`Request`, `Client`), what outlives the program (`Place`, `Shown`, `Outbox`), the command line.
What came later than this text is passed over by its section 19: `Foreign`, `Unknown`.

    client = impp.Client(impp.account_of(Path("alice.toml")))
    client.send(impp.Message(impp.NO_ID, "bob@a.example", b"Lunch?"))
    client.follow(["bob@a.example"])
    while True:
        print(client.next(60))

What the standard library cannot do, this client does not: it has no exporter of TLS, so it signs in
by SCRAM-SHA-256 without channel binding, and resumes its session by the server's end point; it asks
no DNS server for SRV records, so without `server` in the profile it connects to the domain itself;
and of addresses and domains that are not ASCII it checks less than section 5 asks for.
"""

from __future__ import annotations

import argparse
import base64
import collections
import contextlib
import dataclasses
import datetime
import enum
import functools
import hashlib
import hmac
import json
import os
import random
import re
import signal
import socket
import ssl
import sys
import tempfile
import time
import unicodedata
import urllib.parse
import uuid
from pathlib import Path
from typing import (
    Any, Callable, Deque, Dict, Generic, Iterable, Iterator, List, Mapping, NamedTuple, Optional,
    Sequence, Tuple, Type, TypeVar, Union,
)

PORT = 2778
ALPN = "impp/1"
AGENT = "impp.py/1"
FEATURES = ("every-item", "short-pages", "repeats")
FRAME_BYTES_MAX = 65_536
EVENTS_MAX = 4_096          # What came unasked and was not looked at yet, of one connection;
EVENTS_BYTES_MAX = 8 << 20  # beyond either it is dropped, and asked for again.
OUTBOX_MAX = 1_000
ASKED_MILLIS_MAX = 24 * 3_600_000  # What was tried is asked again so long; then it is unknown.
SEEN_MAX = 1_000            # Ids of messages read lately, for when a cursor is worth nothing.
ANSWER_SECONDS_MAX = 30.0
BACKOFF_SECONDS_MAX = 30.0


class Malformed(Exception):
    """Octets or texts that break the protocol's grammar. The text says which and why."""


class Foreign(Malformed):
    """A number of something that came after this program: what it stands in is passed over."""


class ConnectionLost(Exception):
    """The connection is gone, and what it was asked may have been done or not.

    `retry_after` is how many seconds the server wants to be left alone, at least; `final` says that
    coming back needs the person (their account, password or device was taken away).
    """

    def __init__(self, why: str, retry_after: float = 0, final: bool = False) -> None:
        super().__init__(why)
        self.retry_after, self.final = retry_after, final


class Distrusted(Exception):
    """The server, or what it sent, cannot be trusted; trying again does not cure that."""


class Refused(Exception):
    """The answer to a request was an ERROR, which is `error`."""

    def __init__(self, error: Error) -> None:
        text = f": {error.text}" if error.text else ""
        super().__init__(f"{label(error.code)} (by the {label(error.by)}){text}")
        self.error = error


class NotLetIn(Refused):
    """The ERROR was to the sign-in, or to what each connection asks for: nothing else was asked."""


# --- Section 3 and 4: varints, frames, fields ---------------------------------------------------

Raw = Union[int, bytes]


def varint(number: int) -> bytes:
    """The one spelling of a number from 0 to 2**64 - 1."""
    if not 0 <= number < 1 << 64:
        raise Malformed(f"{number} is no number of 64 bits")
    out = bytearray()
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(data: bytes, at: int) -> Tuple[int, int]:
    """The number that begins at `at`, and where it ends."""
    value = shift = 0
    for end in range(at, min(at + 10, len(data))):
        byte = data[end]
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            if (byte == 0 and end > at) or value >> 64:
                raise Malformed("not a minimal varint of at most 64 bits")
            return value, end + 1
    raise Malformed("a varint that does not end")


def read_octets(data: bytes, at: int) -> Tuple[bytes, int]:
    """The octets behind the length that begins at `at`, and where they end."""
    length, at = read_varint(data, at)
    if length > len(data) - at:
        raise Malformed("octets that end too early")
    return data[at:at + length], at + length


def put_fields(fields: Mapping[int, Raw]) -> bytes:
    """Fields by their numbers, encoded."""
    out = bytearray()
    for number in sorted(fields):
        value = fields[number]
        if isinstance(value, int):
            out += varint(number * 2) + varint(value)
        else:
            out += varint(number * 2 + 1) + varint(len(value)) + value
    return bytes(out)


def get_fields(data: bytes) -> Dict[int, Raw]:
    """Encoded fields by their numbers, which have to rise, from 1 on."""
    fields: Dict[int, Raw] = {}
    at, last = 0, 0
    while at < len(data):
        key, at = read_varint(data, at)
        number = key >> 1
        if number <= last:
            raise Malformed(f"field {number}: repeated or out of order")
        last = number
        if key & 1:
            fields[number], at = read_octets(data, at)
        else:
            fields[number], at = read_varint(data, at)
    return fields


# --- Section 5: types of values -----------------------------------------------------------------

T = TypeVar("T")
R = TypeVar("R", bound="Record")


def same(value: T) -> T:
    """What needs no change."""
    return value


@dataclasses.dataclass(frozen=True)
class Kind(Generic[T]):
    """A type of values: its shape, how a value is written and read, and how it is shown as JSON."""

    shape: int
    write: Callable[[T], Raw]
    read: Callable[[Any], T]
    show: Callable[[T], Any] = same


def at_most(most: int, show: Callable[[int], Any] = same) -> Kind[int]:
    """Integers from 0 to `most`."""

    def check(value: int) -> int:
        if not 0 <= value <= most:
            raise Malformed(f"{value} is more than {most}")
        return value

    return Kind(0, check, check, show)


def check_flag(value: int) -> bool:
    """A flag that is there is 1."""
    if value != 1:
        raise Malformed("a flag that is not 1")
    return True


def check_sixteen(value: bytes) -> bytes:
    """An id or a version."""
    if len(value) != 16:
        raise Malformed(f"{len(value)} octets instead of 16")
    return value


def check_text(value: str) -> str:
    """Text without control characters other than line feed and tab."""
    if any(unicodedata.category(char) == "Cc" and char not in "\n\t" for char in value):
        raise Malformed("text with control characters")
    return value


def check_domain(domain: str) -> str:
    """A domain in canonical form, as far as the standard library can tell."""
    labels = domain.split(".")
    ldh = all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", part) for part in labels)
    if not ldh or len(domain) > 253 or re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        raise Malformed(f"{domain!r} is no domain in canonical form")
    return domain


def check_address(address: str) -> str:
    """An address in canonical form, as far as the standard library can tell: of users that are not
    ASCII the script and PRECIS's classes of characters are left to the server."""
    user, _, domain = address.rpartition("@")
    is_folded = user == unicodedata.normalize("NFC", user.lower())
    is_plain = not any(
        char in '@:/"<> ' or unicodedata.category(char)[0] in "CZ" for char in user
    )
    if not (0 < len(user.encode()) <= 64 and is_folded and is_plain):
        raise Malformed(f"{address!r} is no address in canonical form")
    check_domain(domain)
    return address


def parse_address(text: str) -> str:
    """What a person writes (`Bob@A.example`, `im:bob@a.example`) as an address."""
    scheme, colon, rest = text.partition(":")
    if colon:
        if scheme.lower() not in ("im", "pres"):
            raise Malformed(f"{text!r}: an address is user@domain, im: or pres:")
        text = urllib.parse.unquote(rest.partition("?")[0], errors="strict")
    user, _, domain = text.strip().rpartition("@")
    if not domain.isascii():
        domain = domain.encode("idna").decode()
    return check_address(unicodedata.normalize("NFC", f"{user.lower()}@{domain.lower()}"))


def texts(check: Callable[[str], str]) -> Kind[str]:
    """Texts that a check lets pass."""

    def read(value: bytes) -> str:
        try:
            return check(value.decode())
        except UnicodeDecodeError as error:
            raise Malformed("text that is not UTF-8") from error

    return Kind(1, lambda value: check(value).encode(), read)


def numbers(of: Type[N]) -> Kind[N]:
    """The numbers of a table; another one came later."""

    def read(value: int) -> N:
        try:
            return of(value)
        except ValueError as error:
            raise Foreign(f"{of.__name__} has no number {value}") from error

    return Kind(0, int, read, label)


def or_later(of: Type[N]) -> Kind[Union[N, int]]:
    """The numbers of a table; one that came later is itself, where it is only shown."""

    def read(value: int) -> Union[N, int]:
        try:
            return of(INTEGER.read(value))
        except ValueError:
            return value

    return Kind(0, int, read, lambda value: label(value) if isinstance(value, of) else value)


def maps(of: Type[R]) -> Kind[R]:
    """Maps with these fields."""
    return Kind(1, lambda value: value.encode(), of.decode, lambda value: value.to_json())


def lists(of: Kind[T], most: int = 4_096) -> Kind[Tuple[T, ...]]:
    """Lists of values of shape 1, at least one and at most so many."""

    def write(values: Sequence[T]) -> bytes:
        items = [bytes(of.write(value)) for value in values]
        if len(items) > most:
            raise Malformed(f"a list of {len(items)}, more than {most}")
        return b"".join(varint(len(item)) + item for item in items)

    def read(data: bytes) -> Tuple[T, ...]:
        values: List[T] = []
        at = count = 0
        while at < len(data):
            item, at = read_octets(data, at)
            count += 1
            try:
                values.append(of.read(item))
            except Foreign:
                pass  # The others are none the worse.
        if not 0 < count <= most:
            raise Malformed(f"a list of {count}")
        return tuple(values)

    return Kind(1, write, read, lambda values: [of.show(value) for value in values])


def rfc3339(millis: int) -> str:
    """A time as scripts read it."""
    when = datetime.datetime.fromtimestamp(millis / 1000, datetime.timezone.utc)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def hex_of(octets: bytes) -> str:
    """Octets as scripts read them."""
    return octets.hex()


def uuid_of(octets: bytes) -> str:
    """The id of a message as scripts read it."""
    return str(uuid.UUID(bytes=octets))


INTEGER = at_most((1 << 53) - 1)
SECONDS = at_most((1 << 32) - 1)
TIME = at_most(253_402_207_200_000, rfc3339)
FLAG: Kind[bool] = Kind(0, int, check_flag)
OCTETS: Kind[bytes] = Kind(1, same, same, hex_of)
SIXTEEN: Kind[bytes] = Kind(1, check_sixteen, check_sixteen, hex_of)
MESSAGE_ID: Kind[bytes] = Kind(1, check_sixteen, check_sixteen, uuid_of)
TEXT = texts(check_text)
ADDRESS = texts(check_address)
DOMAIN = texts(check_domain)


# --- Tables of fields ---------------------------------------------------------------------------


def need(number: int, kind: Kind[Any]) -> Any:
    """A field that is always there."""
    return dataclasses.field(metadata={"number": number, "kind": kind})


def may(number: int, kind: Kind[Any], absent: Any = None) -> Any:
    """A field that may be left out, and then is `absent`: None, False, () or a new `dict`."""
    metadata = {"number": number, "kind": kind}
    if absent is dict:
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=absent, metadata=metadata)


class Record:
    """A map of fields: a dataclass whose fields are made by `need` and `may`."""

    def encode(self) -> bytes:
        """Its fields, encoded."""
        return put_fields({field.metadata["number"]: field.metadata["kind"].write(value)
                           for field, value in self._said()})

    def to_json(self) -> Dict[str, Any]:
        """Its fields by their names, as scripts read them."""
        return {field.name.rstrip("_"): field.metadata["kind"].show(value)
                for field, value in self._said()}

    def _said(self) -> Iterator[Tuple[dataclasses.Field[Any], Any]]:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if not (value is None or value is False or value == () or value == {}):
                yield field, value

    @classmethod
    def decode(cls: Type[R], data: bytes) -> R:
        """The record of encoded fields. Fields unknown here are skipped below 64."""
        raw = get_fields(data)
        values: Dict[str, Any] = {}
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            found = raw.pop(field.metadata["number"], None)
            where = f"{cls.__name__}.{field.name}"
            if found is not None:
                kind = field.metadata["kind"]
                if isinstance(found, int) != (kind.shape == 0):
                    raise Malformed(f"{where}: wrong shape")
                try:
                    values[field.name] = kind.read(found)
                except Malformed as error:
                    raise type(error)(f"{where}: {error}") from error
            elif field.default is dataclasses.MISSING and field.default_factory is not dict:
                raise Malformed(f"{where}: missing")
        critical = [number for number in raw if number >= 64]
        if critical:
            raise Malformed(f"{cls.__name__}: field {critical[0]} must be understood")
        return cls(**values)


# --- Tables of numbers: from 1 on as they stand here, where nothing else is said ----------------

N = TypeVar("N", bound=enum.IntEnum)


def label(number: enum.IntEnum) -> str:
    """The number's name as the tables write it."""
    return number.name.lower().replace("_", "-")


# Section 6: what a request is about.
Thing = enum.IntEnum("Thing", {
    "PRESENCE": 1, "WATCHERS": 2, "RULES": 3, "CONTACTS": 5, "DEVICES": 6, "READ_MARKS": 7,
    "REQUESTS": 9, "SUBSCRIPTIONS": 10, "LAYER": 11, "ACTS": 12, "DELEGATIONS": 13, "TYPING": 14,
    "EXPLAIN": 16, "FATE": 17, "LOG": 32})
# Section 7: what binds a ticket to its connection.
Binding = enum.IntEnum("Binding", "EXPORTER SERVER_END_POINT NONE")
# Section 10: how a subscription stands, and why.
State = enum.IntEnum("State", "PENDING ACTIVE WAITING TERMINATED STALE UNKNOWN")
Event = enum.IntEnum(
    "Event", "SUBSCRIBE APPROVED DEACTIVATED PROBATION REJECTED TIMEOUT GIVEUP NORESOURCE")
# Section 11: what became of a MESSAGE, what an item of the log is, and how a message ended.
Outcome = enum.IntEnum("Outcome", "DELIVERED DUPLICATE QUEUED SENT")
ItemKind = enum.IntEnum("ItemKind", "MESSAGE SENT FATE DEVICE DAMAGED GONE DELETED")
Fate = enum.IntEnum("Fate", "DELIVERED FAILED EXPIRED UNKNOWN")
DeviceEvent = enum.IntEnum("DeviceEvent", "REMOVED MADE_ROOM")
# Section 12: what a contact may see, whether it is followed; what somebody asks for, and what is
# said to that; how a watcher has proven who it is.
Grant = enum.IntEnum("Grant", "NONE STATUS ALL")
Following = enum.IntEnum("Following", "YES NO")
RequestKind = enum.IntEnum("RequestKind", "SUBSCRIBE MESSAGE")
Decision = enum.IntEnum("Decision", "ALLOW POLITE DENY")
Proof = enum.IntEnum("Proof", "SIGN_IN DOMAIN")
# Section 13: why a connection ends.
Reason = enum.IntEnum(
    "Reason", "DONE PROTOCOL STOPPING TIMEOUT REVOKED REPLACED BUSY IDLE REDUNDANT")
# Section 14: what went wrong, and who says so.
Code = enum.IntEnum(
    "Code", "MALFORMED TOO_LARGE UNSUPPORTED NOT_OFFERED WRONG_STATE NOT_SIGNED_IN AUTH_FAILED "
    "REFUSED NOT_FOUND CONFLICT EXPIRED OUT_OF_WINDOW TOO_SHORT BAD_CURSOR BAD_VERSION FULL "
    "RATE_LIMITED BUSY STOPPING STORAGE MOVED UNKNOWN_DOMAIN UNREACHABLE UNTRUSTED LOOP INTERNAL")
Sayer = enum.IntEnum("Sayer", "SERVER HOME RECIPIENT")
PASSING = frozenset((Code.FULL, Code.RATE_LIMITED, Code.BUSY, Code.STOPPING, Code.STORAGE,
                     Code.UNREACHABLE, Code.INTERNAL))


# --- Section 6: the commands -------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Hello(Record):
    """The first frame of each side."""

    version: int = need(1, INTEGER)
    features: Tuple[str, ...] = may(2, lists(TEXT), ())
    agent: Optional[str] = may(3, TEXT)
    time: Optional[int] = may(4, TIME)
    domains: Tuple[str, ...] = may(5, lists(DOMAIN), ())
    mechanisms: Tuple[str, ...] = may(6, lists(TEXT), ())
    frame_max: Optional[int] = may(7, INTEGER)
    body_max: Optional[int] = may(8, INTEGER)
    idle: Optional[int] = may(9, SECONDS)
    requests_max: Optional[int] = may(10, INTEGER)
    requests_per_second: Optional[int] = may(13, INTEGER)
    requests_burst: Optional[int] = may(14, INTEGER)
    work_per_second: Optional[int] = may(15, INTEGER)
    work_burst: Optional[int] = may(16, INTEGER)
    stored_per_second: Optional[int] = may(17, INTEGER)
    stored_burst: Optional[int] = may(18, INTEGER)
    lease_min: Optional[int] = may(19, SECONDS)
    lease_max: Optional[int] = may(20, SECONDS)
    leases_max: Optional[int] = may(21, INTEGER)


@dataclasses.dataclass(frozen=True)
class Auth(Record):
    """A step of signing in."""

    mechanism: Optional[str] = may(1, TEXT)
    data: Optional[bytes] = may(2, OCTETS)
    device: Optional[bytes] = may(3, SIXTEEN)
    device_name: Optional[str] = may(4, TEXT)
    resume: Optional[bytes] = may(5, SIXTEEN)
    binding: Optional[Binding] = may(6, numbers(Binding))
    versions_follow: bool = may(7, FLAG, False)


@dataclasses.dataclass(frozen=True)
class Challenge(Record):
    """The server's step of signing in."""

    data: bytes = need(1, OCTETS)


@dataclasses.dataclass(frozen=True)
class Done(Record):
    """OK: the answer to a request that was done."""

    data: Optional[bytes] = may(1, OCTETS)
    address: Optional[str] = may(2, ADDRESS)
    resume: Optional[bytes] = may(3, OCTETS)
    window: Optional[int] = may(4, SECONDS)
    resumed: bool = may(5, FLAG, False)
    lease: Optional[int] = may(6, SECONDS)
    state: Optional[State] = may(7, numbers(State))
    number: Optional[int] = may(8, INTEGER)
    version: Optional[bytes] = may(9, SIXTEEN)
    content: Optional[bytes] = may(10, OCTETS)
    outcome: Optional[Outcome] = may(11, numbers(Outcome))
    time: Optional[int] = may(12, TIME)
    next: Optional[bytes] = may(13, OCTETS)
    layer_ended: bool = may(15, FLAG, False)
    cursor: Optional[bytes] = may(16, OCTETS)
    dropped: bool = may(20, FLAG, False)


@dataclasses.dataclass(frozen=True)
class Error(Record):
    """ERROR: the answer to a request that was not done."""

    code: Code = need(1, numbers(Code))
    by: Sayer = need(2, numbers(Sayer))
    text: Optional[str] = may(3, TEXT)
    retry_after: Optional[int] = may(4, SECONDS)
    minimum: Optional[int] = may(5, SECONDS)
    version: Optional[int] = may(6, INTEGER)
    address: Optional[str] = may(7, ADDRESS)
    forgotten: bool = may(8, FLAG, False)

    @property
    def passes(self) -> bool:
        """Whether the same request may succeed later."""
        return self.code in PASSING


@dataclasses.dataclass(frozen=True)
class Publish(Record):
    """Change a state."""

    address: str = need(1, ADDRESS)
    what: Thing = need(2, numbers(Thing))
    content: Optional[bytes] = may(3, OCTETS)
    lease: Optional[int] = may(4, SECONDS)
    replace: bool = may(5, FLAG, False)
    base: Optional[int] = may(6, INTEGER)


@dataclasses.dataclass(frozen=True)
class HeldVersion(Record):
    """What is held of one presentity."""

    address: str = need(1, ADDRESS)
    version: bytes = need(2, SIXTEEN)


@dataclasses.dataclass(frozen=True)
class Subscribe(Record):
    """Follow a state or a series."""

    address: str = need(1, ADDRESS)
    what: Thing = need(2, numbers(Thing))
    lease: Optional[int] = may(3, SECONDS)
    version: Optional[bytes] = may(4, SIXTEEN)
    cursor: Optional[bytes] = may(5, OCTETS)
    expand: bool = may(6, FLAG, False)
    versions: Tuple[HeldVersion, ...] = may(10, lists(maps(HeldVersion)), ())
    snapshots: bool = may(11, FLAG, False)
    at_end: bool = may(64, FLAG, False)


@dataclasses.dataclass(frozen=True)
class Fetch(Record):
    """Read a state or a series once."""

    address: str = need(1, ADDRESS)
    what: Thing = need(2, numbers(Thing))
    version: Optional[bytes] = may(3, SIXTEEN)
    cursor: Optional[bytes] = may(4, OCTETS)
    max: Optional[int] = may(5, INTEGER)
    about: Optional[str] = may(9, ADDRESS)
    delivery: bool = may(10, FLAG, False)
    id: Optional[bytes] = may(11, MESSAGE_ID)
    at_end: bool = may(69, FLAG, False)
    metadata: bool = may(70, FLAG, False)
    item: Optional[bytes] = may(71, OCTETS)
    backwards: bool = may(72, FLAG, False)
    with_: Optional[str] = may(73, ADDRESS)
    since: Optional[int] = may(74, TIME)


@dataclasses.dataclass(frozen=True)
class Notify(Record):
    """What changed in a thing that is followed, or why following ended."""

    address: str = need(1, ADDRESS)
    what: Thing = need(2, numbers(Thing))
    state: State = need(3, numbers(State))
    base: Optional[bytes] = may(4, SIXTEEN)
    version: Optional[bytes] = may(5, SIXTEEN)
    snapshot: Optional[bytes] = may(6, OCTETS)
    patch: Optional[bytes] = may(7, OCTETS)
    event: Optional[Event] = may(8, numbers(Event))


@dataclasses.dataclass(frozen=True)
class Header(Record):
    """A further header of a message."""

    name: str = need(1, TEXT)
    value: str = need(2, TEXT)


@dataclasses.dataclass(frozen=True)
class Message(Record):
    """Append to an inbox."""

    id: bytes = need(1, MESSAGE_ID)
    to: str = need(2, ADDRESS)
    body: bytes = need(5, OCTETS)
    from_: Optional[str] = may(3, ADDRESS)
    content_type: Optional[str] = may(4, TEXT)
    created: Optional[int] = may(6, TIME)
    expires: Optional[int] = may(7, TIME)
    reply_to: Optional[str] = may(8, ADDRESS)
    thread: Optional[str] = may(9, TEXT)
    headers: Tuple[Header, ...] = may(10, lists(maps(Header), 32), ())
    volatile: bool = may(11, FLAG, False)
    sender: Optional[str] = may(12, ADDRESS)
    redirected_from: Optional[str] = may(48, ADDRESS)


@dataclasses.dataclass(frozen=True)
class Ack(Record):
    """Custody of the log up to a cursor."""

    address: str = need(1, ADDRESS)
    cursor: bytes = need(2, OCTETS)


@dataclasses.dataclass(frozen=True)
class Ping(Record):
    """Are you there?"""

    answered: Optional[int] = may(1, INTEGER)


@dataclasses.dataclass(frozen=True)
class Bye(Record):
    """The orderly end of the connection."""

    reason: Reason = need(1, numbers(Reason))
    text: Optional[str] = may(2, TEXT)
    retry_after: Optional[int] = may(3, SECONDS)
    server: Optional[str] = may(4, TEXT)


COMMANDS: Tuple[Type[Record], ...] = (
    Hello, Auth, Challenge, Done, Error, Publish, Subscribe, Fetch, Notify, Message, Ack, Ping, Bye)


class Frame(NamedTuple):
    """A frame of a known kind."""

    number: int
    command: Record

    def encode(self) -> bytes:
        """The octets of it."""
        body = varint(self.number) + self.command.encode()
        if len(body) > FRAME_BYTES_MAX:
            raise Malformed(f"a frame of {len(body)} octets, more than {FRAME_BYTES_MAX}")
        kind = 1 + COMMANDS.index(type(self.command))
        return len(body).to_bytes(3, "big") + bytes([kind]) + body


class Unknown(NamedTuple):
    """A frame of a kind that is not known here, or with the number of something that is not."""

    number: int
    kind: int
    why: str


def decode_frame(kind: int, body: bytes) -> Union[Frame, Unknown]:
    """A frame without its head."""
    number, at = read_varint(body, 0)
    INTEGER.read(number)
    if not 1 <= kind <= len(COMMANDS):
        return Unknown(number, kind, f"no kind {kind}")
    try:
        return Frame(number, COMMANDS[kind - 1].decode(body[at:]))
    except Foreign as error:
        return Unknown(number, kind, str(error))


# --- Section 8: the presence document -----------------------------------------------------------

Fields = Dict[str, str]
WORDS = frozenset(("activities", "mood", "privacy"))
TIMES = frozenset(("last-seen", "timestamp"))
NAMES = WORDS | TIMES | frozenset((
    "class", "contact", "device-id", "display-name", "note", "place-is", "place-type", "priority",
    "relationship", "service-class", "sphere", "status", "status-icon", "time-offset",
    "user-input"))


def check_name(name: str) -> str:
    """A registered name, or a reverse-domain one."""
    label_of = r"[a-z0-9-]+"
    is_reverse = re.fullmatch(rf"{label_of}(\.{label_of})+", name) and len(name) <= 64
    if name not in NAMES and not is_reverse:
        raise Malformed(f"{name!r} is no name of a presence field")
    return name


def check_part(part: str) -> str:
    """The id of a tuple or device."""
    if not re.fullmatch(r"[!-~]{1,64}", part):
        raise Malformed(f"{part!r} is no id of a tuple or device")
    return part


def check_value(name: str, value: str) -> str:
    """A field's value in the canonical form of its type."""
    is_turned = re.search("[\u202a-\u202e\u2066-\u2069]", value)
    is_ok = 1 <= len(value.encode()) <= 4_096 and not is_turned
    if name == "status":
        is_ok = value in ("open", "closed")
    elif name in WORDS:
        is_ok = is_ok and value == " ".join(sorted(set(value.split()), key=str.encode))
    elif name == "priority":
        is_ok = re.fullmatch(r"0|1|0\.[0-9]{0,2}[1-9]", value) is not None
    elif name == "time-offset":
        is_ok = re.fullmatch(r"0|-?[1-9][0-9]{0,9}", value) is not None
        is_ok = is_ok and -(1 << 31) <= int(value) < 1 << 31
    elif name in TIMES:
        form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d*[1-9])?Z"
        is_ok = re.fullmatch(form, value, re.ASCII) is not None
    if not is_ok:
        raise Malformed(f"presence field {name!r}: {value!r} is not in canonical form")
    return check_text(value)


NAME, PART_ID = texts(check_name), texts(check_part)
UNSET = lists(NAME, 64)


def rising(names: Sequence[str]) -> None:
    """Names that stand once each and in order."""
    if any(before >= after for before, after in zip(names, names[1:])):
        raise Malformed("names that do not rise")


def by_key(kind: Kind[Tuple[R, ...]], make: Callable[[str, T], R],
           take: Callable[[R], Tuple[str, T]]) -> Kind[Dict[str, T]]:
    """What is known by keys, which rise in the list that it is encoded as."""

    def write(values: Dict[str, T]) -> Raw:
        return kind.write(tuple(make(key, values[key]) for key in sorted(values)))

    def read(data: bytes) -> Dict[str, T]:
        pairs = [take(record) for record in kind.read(data)]
        rising([key for key, _ in pairs])
        return dict(pairs)

    return Kind(1, write, read)


@dataclasses.dataclass(frozen=True)
class Pair(Record):
    """A field's name and value."""

    name: str = need(1, NAME)
    value: str = need(2, TEXT)

    def __post_init__(self) -> None:
        check_value(self.name, self.value)


FIELDS = by_key(lists(maps(Pair), 64), Pair, lambda pair: (pair.name, pair.value))


@dataclasses.dataclass(frozen=True)
class Part(Record):
    """A tuple or a device."""

    id: str = need(1, PART_ID)
    fields: Fields = may(2, FIELDS, dict)


PARTS = by_key(lists(maps(Part), 16), Part, lambda part: (part.id, part.fields))


@dataclasses.dataclass(frozen=True)
class PartChange(Record):
    """The change of a tuple or device."""

    id: str = need(1, PART_ID)
    set: Fields = may(2, FIELDS, dict)
    unset: Tuple[str, ...] = may(3, UNSET, ())
    remove: bool = may(4, FLAG, False)


CHANGES: Kind[Dict[str, PartChange]] = by_key(
    lists(maps(PartChange), 32), lambda _, change: change, lambda change: (change.id, change))


@dataclasses.dataclass(frozen=True)
class Patch(Record):
    """What makes one document out of another."""

    set: Fields = may(1, FIELDS, dict)
    unset: Tuple[str, ...] = may(2, UNSET, ())
    tuples: Dict[str, PartChange] = may(3, CHANGES, dict)
    devices: Dict[str, PartChange] = may(4, CHANGES, dict)


def changed(fields: Fields, unset: Sequence[str], to: Fields) -> Fields:
    """Fields after a patch of them."""
    rising(unset)
    after = {**{name: value for name, value in fields.items() if name not in unset}, **to}
    if len(after) > 64:
        raise Malformed("more than 64 fields")
    return after


@dataclasses.dataclass(frozen=True)
class Document(Record):
    """What somebody shows of themselves."""

    person: Fields = may(1, FIELDS, dict)
    tuples: Dict[str, Fields] = may(2, PARTS, dict)
    devices: Dict[str, Fields] = may(3, PARTS, dict)

    def version(self) -> bytes:
        """The digest of its encoding."""
        return digest(self.encode())

    def applied(self, patch: Patch) -> Document:
        """What a patch makes of it."""

        def parts(of: Dict[str, Fields], changes: Dict[str, PartChange]) -> Dict[str, Fields]:
            after = dict(of)
            for part, change in changes.items():
                if change.remove:
                    after.pop(part, None)
                else:
                    after[part] = changed(after.get(part, {}), change.unset, change.set)
            if len(after) > 16:
                raise Malformed("more than 16 tuples or devices")
            return after

        return Document(changed(self.person, patch.unset, patch.set),
                        parts(self.tuples, patch.tuples), parts(self.devices, patch.devices))

    def as_patch(self) -> Patch:
        """What makes it out of an empty document."""

        def changes(parts: Dict[str, Fields]) -> Dict[str, PartChange]:
            return {part: PartChange(part, fields) for part, fields in parts.items()}

        return Patch(self.person, (), changes(self.tuples), changes(self.devices))

    def to_json(self) -> Dict[str, Any]:
        """The document as scripts read it."""
        out: Dict[str, Any] = {"person": self.person, "tuples": []}
        for kind, parts in (("tuples", self.tuples), ("devices", self.devices)):
            if parts or kind == "tuples":
                out[kind] = [{"id": name, **parts[name]} for name in sorted(parts)]
        return out


def digest(encoding: bytes) -> bytes:
    """A version: the first 16 octets of SHA-256."""
    return hashlib.sha256(encoding).digest()[:16]


# --- Sections 11 and 12: the log, contacts, explanations ----------------------------------------


@dataclasses.dataclass(frozen=True)
class FateReport(Record):
    """How a message ended."""

    id: bytes = need(1, MESSAGE_ID)
    to: str = need(2, ADDRESS)
    fate: Fate = need(3, numbers(Fate))
    code: Optional[Code] = may(4, numbers(Code))
    by: Optional[Sayer] = may(5, numbers(Sayer))
    text: Optional[str] = may(6, TEXT)
    address: Optional[str] = may(7, ADDRESS)


@dataclasses.dataclass(frozen=True)
class DeviceReport(Record):
    """What became of a device."""

    id: bytes = need(1, SIXTEEN)
    event: DeviceEvent = need(3, numbers(DeviceEvent))
    last_seen: int = need(4, TIME)
    name: Optional[str] = may(2, TEXT)
    newcomer: Optional[bytes] = may(5, SIXTEEN)
    newcomer_name: Optional[str] = may(6, TEXT)


@dataclasses.dataclass(frozen=True)
class DeletionReport(Record):
    """An item that its owner deleted."""

    cursor: bytes = need(1, OCTETS)
    id: Optional[bytes] = may(2, MESSAGE_ID)


@dataclasses.dataclass(frozen=True)
class Item(Record):
    """An item of the log."""

    kind: ItemKind = need(1, numbers(ItemKind))
    cursor: bytes = need(2, OCTETS)
    time: int = need(3, TIME)
    message: Optional[bytes] = may(4, OCTETS)
    fate: Optional[FateReport] = may(5, maps(FateReport))
    device: Optional[DeviceReport] = may(6, maps(DeviceReport))
    deleted: Optional[DeletionReport] = may(7, maps(DeletionReport))
    size: Optional[int] = may(8, INTEGER)

    def read(self) -> Optional[Message]:
        """The message of it, if there is one and it can be read."""
        try:
            return None if self.message is None else Message.decode(self.message)
        except Malformed:
            return None


@dataclasses.dataclass(frozen=True)
class Page(Record):
    """A piece of the log."""

    cursor: bytes = need(2, OCTETS)
    oldest: bytes = need(4, OCTETS)
    items: Tuple[bytes, ...] = may(1, lists(OCTETS), ())
    more: bool = may(3, FLAG, False)

    def known(self) -> Iterator[Item]:
        """Its items, but for those that have to do with what came later (section 19). What cannot
        be read keeps nobody from the next: it stands there as damaged."""
        for item in self.items:
            try:
                yield Item.decode(item)
            except Foreign:
                pass
            except Malformed:
                yield Item(ItemKind.DAMAGED, OCTETS.read(get_fields(item).get(2, self.cursor)), 0)


@dataclasses.dataclass(frozen=True)
class ShortPage(Record):
    """A page as it is told: without what its reader knows."""

    items: Tuple[bytes, ...] = may(1, lists(OCTETS), ())
    cursor: Optional[bytes] = may(2, OCTETS)
    more: bool = may(3, FLAG, False)
    oldest: Optional[bytes] = may(4, OCTETS)

    def whole(self, owner: str, oldest: Optional[bytes]) -> Page:
        """The page that it stands for: of that owner's log, behind a page with this `oldest`."""
        items = tuple(self._whole(item, owner) for item in self.items)
        cursor = self.cursor
        if cursor is None and items:
            cursor = OCTETS.read(get_fields(items[-1]).get(2))
        oldest = self.oldest if self.oldest is not None else oldest
        if cursor is None or oldest is None:
            raise Malformed("a short page that nothing can be left out of")
        return Page(cursor, oldest, items, self.more)

    @staticmethod
    def _whole(item: bytes, owner: str) -> bytes:
        fields = get_fields(item)
        message = fields.get(4)
        if isinstance(message, bytes):
            fields[4] = put_fields({2: owner.encode(), **get_fields(message)})
        return put_fields(fields)


@dataclasses.dataclass(frozen=True)
class Contact(Record):
    """An entry of the contact list."""

    address: str = need(1, ADDRESS)
    grant: Union[Grant, int] = need(5, or_later(Grant))
    name: Optional[str] = may(2, TEXT)
    groups: Tuple[str, ...] = may(3, lists(TEXT, 16), ())
    follow: bool = may(4, FLAG, False)
    subscription: Optional[State] = may(6, numbers(State))


@dataclasses.dataclass(frozen=True)
class Contacts(Record):
    """The contact list, or a part of it."""

    entries: Tuple[Contact, ...] = may(1, lists(maps(Contact)), ())


@dataclasses.dataclass(frozen=True)
class ContactChange(Record):
    """Fields of an entry to change: the others stay as they are."""

    address: str = need(1, ADDRESS)
    name: Optional[str] = may(2, TEXT)
    more_groups: Tuple[str, ...] = may(3, lists(TEXT, 16), ())
    less_groups: Tuple[str, ...] = may(4, lists(TEXT, 16), ())
    follow: Optional[Following] = may(5, numbers(Following))
    grant: Optional[Grant] = may(6, numbers(Grant))
    add: bool = may(7, FLAG, False)


@dataclasses.dataclass(frozen=True)
class ContactEdit(Record):
    """An edit of the contact list: one of these. (`set`, of a whole entry, is not made here.)"""

    remove: Optional[str] = may(2, ADDRESS)
    change: Optional[ContactChange] = may(3, maps(ContactChange))

    @property
    def about(self) -> str:
        """Whose entry it changes."""
        return self.change.address if self.change else self.remove or ""

    def is_so(self, entries: Mapping[str, Contact]) -> bool:
        """Whether it would change nothing."""
        entry, change = entries.get(self.about), self.change
        if entry is None or change is None:
            return entry is None and change is None
        follows = entry.follow == (change.follow is Following.YES)
        return (change.name in (None, entry.name or "")
                and set(change.more_groups) <= set(entry.groups)
                and not set(change.less_groups) & set(entry.groups)
                and (change.follow is None or follows) and change.grant in (None, entry.grant))


@dataclasses.dataclass(frozen=True)
class WatcherEntry(Record):
    """Somebody who watches a presence, or has looked at it."""

    watcher: str = need(1, ADDRESS)
    state: State = need(2, numbers(State))
    event: Event = need(3, numbers(Event))
    since: Optional[int] = may(4, TIME)
    proven: bool = may(5, FLAG, False)
    by: Union[Proof, int, None] = may(6, or_later(Proof))
    polite: bool = may(7, FLAG, False)
    looks: Optional[int] = may(8, INTEGER)
    looked: Optional[int] = may(9, TIME)
    sessions: Optional[int] = may(10, INTEGER)


@dataclasses.dataclass(frozen=True)
class Watchers(Record):
    """Those who watch a presence, or a part of them; or what has changed of them."""

    entries: Tuple[WatcherEntry, ...] = may(1, lists(maps(WatcherEntry)), ())
    gone: Tuple[str, ...] = may(2, lists(ADDRESS), ())
    more: bool = may(3, FLAG, False)
    dropped: Optional[int] = may(4, INTEGER)


@dataclasses.dataclass(frozen=True)
class RequestEntry(Record):
    """Somebody who waits for a decision."""

    kind: RequestKind = need(1, numbers(RequestKind))
    from_: str = need(2, ADDRESS)
    since: int = need(3, TIME)
    count: Optional[int] = may(4, INTEGER)


@dataclasses.dataclass(frozen=True)
class Requests(Record):
    """All that waits for a decision, or a part of it."""

    entries: Tuple[RequestEntry, ...] = may(1, lists(maps(RequestEntry)), ())
    more: bool = may(2, FLAG, False)


@dataclasses.dataclass(frozen=True)
class RequestEdit(Record):
    """A decision about somebody who waits for one."""

    from_: str = need(1, ADDRESS)
    decision: Decision = need(2, numbers(Decision))


@dataclasses.dataclass(frozen=True)
class ReadMark(Record):
    """How far a conversation was read, here and by the other."""

    address: str = need(1, ADDRESS)
    cursor: Optional[bytes] = may(2, OCTETS)
    id: Optional[bytes] = may(3, MESSAGE_ID)
    time: Optional[int] = may(4, TIME)
    received: Optional[bytes] = may(5, MESSAGE_ID)
    read: Optional[bytes] = may(6, MESSAGE_ID)


@dataclasses.dataclass(frozen=True)
class ReadMarks(Record):
    """How far conversations were read, or what has changed of that."""

    entries: Tuple[ReadMark, ...] = may(1, lists(maps(ReadMark)), ())


@dataclasses.dataclass(frozen=True)
class ReadMarkEdit(Record):
    """A conversation was read up to a message."""

    address: str = need(1, ADDRESS)
    cursor: bytes = need(2, OCTETS)


@dataclasses.dataclass(frozen=True)
class Deletion(Record):
    """An item of the log is to go."""

    cursor: bytes = need(1, OCTETS)


@dataclasses.dataclass(frozen=True)
class TypingEdit(Record):
    """Its owner writes to somebody just now."""

    to: str = need(1, ADDRESS)


@dataclasses.dataclass(frozen=True)
class TypingNotice(Record):
    """Somebody writes just now."""

    from_: str = need(1, ADDRESS)
    lasts: int = need(2, SECONDS)


@dataclasses.dataclass(frozen=True)
class Act(Record):
    """What a delegate did."""

    delegate: str = need(1, ADDRESS)
    right: str = need(2, TEXT)
    count: int = need(3, INTEGER)
    first: int = need(4, TIME)
    last: int = need(5, TIME)


@dataclasses.dataclass(frozen=True)
class Acts(Record):
    """What delegates did, the oldest first, or a part of it."""

    entries: Tuple[Act, ...] = may(1, lists(maps(Act)), ())


@dataclasses.dataclass(frozen=True)
class Whereabouts(Record):
    """Where a message that was sent is, or how it ended."""

    id: bytes = need(1, MESSAGE_ID)
    to: str = need(2, ADDRESS)
    since: int = need(4, TIME)
    fate: Optional[Fate] = may(3, numbers(Fate))
    code: Optional[Code] = may(5, numbers(Code))
    by: Optional[Sayer] = may(6, numbers(Sayer))
    text: Optional[str] = may(7, TEXT)
    next_try: Optional[int] = may(8, TIME)
    address: Optional[str] = may(9, ADDRESS)


@dataclasses.dataclass(frozen=True)
class RuleTrace(Record):
    """What a rule says about somebody, and why."""

    id: str = need(1, TEXT)
    why: str = need(3, TEXT)
    matched: bool = may(2, FLAG, False)
    grants: Tuple[str, ...] = may(4, lists(TEXT), ())


@dataclasses.dataclass(frozen=True)
class Explanation(Record):
    """What the rules say about somebody."""

    owner: str = need(1, ADDRESS)
    watcher: str = need(2, ADDRESS)
    decision: str = need(3, TEXT)
    fields: Tuple[str, ...] = may(4, lists(TEXT), ())
    rules: Tuple[RuleTrace, ...] = may(5, lists(maps(RuleTrace)), ())


# What has entries and is read in parts (section 12), and what is told while it is followed.
LISTS: Dict[Thing, Type[Record]] = {
    Thing.CONTACTS: Contacts, Thing.WATCHERS: Watchers, Thing.REQUESTS: Requests,
    Thing.READ_MARKS: ReadMarks, Thing.ACTS: Acts}
NEWS: Dict[Thing, Type[Record]] = {
    Thing.WATCHERS: Watchers, Thing.REQUESTS: Requests, Thing.READ_MARKS: ReadMarks,
    Thing.TYPING: TypingNotice}


# --- Section 7: SCRAM ---------------------------------------------------------------------------


def prepare_password(password: str) -> str:
    """PRECIS OpaqueString, as far as the standard library can: spaces, NFC, no controls."""
    if any(unicodedata.category(char) == "Cc" for char in password):
        raise Malformed("a password with control characters")
    spaced = "".join(" " if unicodedata.category(c) == "Zs" else c for c in password)
    return unicodedata.normalize("NFC", spaced)


class Scram:
    """One sign-in by SCRAM-SHA-256, or with `exporter` (32 octets of the TLS connection's exporter,
    from whatever library has one) by SCRAM-SHA-256-PLUS. No I/O: messages in, messages out."""

    def __init__(self, user: str, password: str, nonce: Optional[str] = None,
                 exporter: Optional[bytes] = None) -> None:
        self.mechanism = "SCRAM-SHA-256" if exporter is None else "SCRAM-SHA-256-PLUS"
        self._password = prepare_password(password).encode()
        self._nonce = nonce or base64.b64encode(os.urandom(24)).decode()
        gs2 = "n,," if exporter is None else "p=tls-exporter,,"
        self._binding = gs2.encode() + (exporter or b"")
        name = user.replace("=", "=3D").replace(",", "=2C")
        self._bare = f"n={name},r={self._nonce}"
        self.first = (gs2 + self._bare).encode()
        self._expected = b""

    def proof(self, challenge: bytes) -> bytes:
        """The last message, which answers the server's challenge."""
        text = challenge.decode("utf-8", "replace")
        parts = [part.partition("=")[::2] for part in text.split(",")]
        if len(parts) < 3 or [part[0] for part in parts[:3]] != ["r", "s", "i"]:
            raise Distrusted("the challenge is none of SCRAM's")
        if any(part[0] == "m" for part in parts):
            raise Distrusted("the challenge asks for what is not known here")
        (_, nonce), (_, salt), (_, count) = parts[:3]
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise Distrusted("the challenge is not about this sign-in")
        if not re.fullmatch("[1-9][0-9]{0,6}", count) or not 4_096 <= int(count) <= 1_000_000:
            raise Distrusted("the count of iterations is out of bounds")
        salted = hashlib.pbkdf2_hmac(
            "sha256", self._password, base64.b64decode(salt), int(count))
        no_proof = f"c={base64.b64encode(self._binding).decode()},r={nonce}"
        signed = f"{self._bare},{text},{no_proof}".encode()
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        final = hmac.digest(server_key, signed, "sha256")
        self._expected = b"v=" + base64.b64encode(final)
        return f"{no_proof},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, final: Optional[bytes]) -> None:
        """Whether the server has proven that it knows the account."""
        if not self._expected or not hmac.compare_digest(final or b"", self._expected):
            raise Distrusted("the server has not proven that it knows the account")


class Ticket(NamedTuple):
    """What resumes a session, bound by the server's end point."""

    session: bytes
    secret: bytes

    @staticmethod
    def read(resume: Optional[bytes]) -> Optional[Ticket]:
        """The ticket that an OK brings."""
        if resume is None or len(resume) != 48:
            return None
        return Ticket(resume[:16], resume[16:])

    def proof(self, side: str, certificate: bytes) -> bytes:
        """What `client` or `server` proves to hold it by, where the server has this certificate."""
        words = f"impp/1 resume {side}, server end point".encode()
        return hmac.digest(self.secret, words + hashlib.sha256(certificate).digest(), "sha256")


# --- One connection -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Account:
    """Whose session, where, and from which device."""

    address: str
    password: str
    device: Optional[bytes]     # None: its sessions are of no device.
    host: str
    port: int = PORT
    trust: Optional[str] = None
    device_name: str = "impp.py"

    @property
    def domain(self) -> str:
        """The domain that the server has to prove."""
        return self.address.rpartition("@")[2]


class Wire:
    """Frames over TLS. `timeout` bounds what waits for the network, in seconds."""

    def __init__(self, account: Account, timeout: float) -> None:
        context = ssl.create_default_context(cafile=account.trust)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols([ALPN])
        try:
            tcp = socket.create_connection((account.host, account.port), timeout)
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._tls = context.wrap_socket(tcp, server_hostname=account.domain)
        except ssl.SSLCertVerificationError as error:
            raise Distrusted(f"{account.domain}: {error.verify_message}") from error
        except OSError as error:
            raise ConnectionLost(f"{account.host}:{account.port}: {error}") from error
        self._timeout = timeout
        self._buffer = bytearray()
        self.heard = time.monotonic()
        if self._tls.selected_alpn_protocol() != ALPN:
            self.close()
            raise Distrusted(f"the server does not speak {ALPN}")

    def certificate(self) -> bytes:
        """What the server has proven itself by."""
        return self._tls.getpeercert(binary_form=True) or b""

    def send(self, number: int, command: Record) -> None:
        """Writes a frame whole, or the connection is lost."""
        data = Frame(number, command).encode()
        try:
            self._tls.settimeout(self._timeout)
            self._tls.sendall(data)
        except OSError as error:
            raise ConnectionLost(f"writing: {error}") from error

    def receive(self, seconds: float) -> Optional[Union[Frame, Unknown]]:
        """The next frame; none if it has not come whole within so many seconds."""
        until = time.monotonic() + seconds
        while True:
            taken = self._take()
            if taken is not None:
                return taken
            left = until - time.monotonic()
            if left <= 0:
                return None
            try:
                self._tls.settimeout(left)
                data = self._tls.recv(FRAME_BYTES_MAX)
            except socket.timeout:
                continue
            except OSError as error:
                raise ConnectionLost(f"reading: {error}") from error
            if not data:
                raise ConnectionLost("the server has closed the connection")
            self.heard = time.monotonic()
            self._buffer += data

    def _take(self) -> Optional[Union[Frame, Unknown]]:
        if len(self._buffer) < 4:
            return None
        end = 4 + int.from_bytes(self._buffer[:3], "big")
        if end > 4 + FRAME_BYTES_MAX:
            raise ConnectionLost(f"the server sends a frame of {end - 4} octets")
        if len(self._buffer) < end:
            return None
        kind, body = self._buffer[3], bytes(self._buffer[4:end])
        del self._buffer[:end]
        try:
            return decode_frame(kind, body)
        except Malformed as error:
            raise ConnectionLost(f"the server sends what cannot be read: {error}") from error

    def close(self) -> None:
        """Ends the connection."""
        try:
            self._tls.close()
        except OSError:
            pass


Told = Union[Notify, Message]


class Session:
    """A connection, signed in. Requests are asked one at a time; what comes unasked meanwhile waits
    for `next`, and where it is too much is dropped, which `dropped` says.

    `ticket` goes on with a session of before, if that is still there, which `resumed` says; of its
    layer `layer_ended`. Afterwards `ticket` is the one for the next connection. The numbers of
    requests rise from `number` on, over all connections of a session."""

    def __init__(self, wire: Wire, account: Account, timeout: float,
                 ticket: Optional[Ticket] = None, number: int = 0) -> None:
        self._wire = wire
        self._timeout = timeout
        self._changed: Optional[float] = None
        self.number = number
        self._told: Deque[Told] = collections.deque()
        self._told_bytes = 0
        self._pinged: Optional[int] = None
        self._hello: Optional[Hello] = None
        self._skew = 0
        self.account = account
        self.dropped = self.resumed = self.layer_ended = False
        self.ticket = ticket
        try:
            self._wire.send(0, Hello(1, features=FEATURES, agent=AGENT))
            if not self._resume():
                self._sign_in()
        except BaseException:
            self._wire.close()
            raise

    def _sign_in(self) -> None:
        account = self.account
        scram = Scram(account.address, account.password)
        name = account.device_name if account.device else None
        challenge = self.call(Auth(scram.mechanism, scram.first, account.device, name,
                                   binding=Binding.SERVER_END_POINT))
        if not isinstance(challenge, Challenge):
            raise Distrusted("OK where a challenge has to be")
        done = self.ok(Auth(data=scram.proof(challenge.data)))
        scram.verify(done.data)
        self._signed_in(done)

    def _resume(self) -> bool:
        if self.ticket is None:
            return False
        certificate = self._wire.certificate()
        proof = self.ticket.proof("client", certificate)
        try:
            done = self.ok(Auth(data=proof, device=self.account.device, resume=self.ticket.session,
                                binding=Binding.SERVER_END_POINT))
        except Refused as error:
            if error.error.code is not Code.EXPIRED:
                raise
            return False
        if not hmac.compare_digest(done.data or b"", self.ticket.proof("server", certificate)):
            raise Distrusted("the server has not proven that it knows the session")
        self.resumed, self.layer_ended = True, done.layer_ended
        self._signed_in(done)
        return True

    def _signed_in(self, done: Done) -> None:
        if done.address != self.account.address:
            raise Distrusted(f"signed in as {done.address}, not as {self.account.address}")
        self.ticket = Ticket.read(done.resume)

    @property
    def idle(self) -> float:
        """After so many seconds of silence a PING is due."""
        return float(self._hello.idle or 60) if self._hello else 60.0

    def offers(self, feature: str) -> bool:
        """Whether the server's HELLO has named it."""
        return self._hello is not None and feature in self._hello.features

    @property
    def repeats(self) -> Optional[bytes]:
        """The session, if its server does what is repeated in it under its number only once."""
        return self.ticket.session if self.ticket and self.offers("repeats") else None

    def server_time(self) -> int:
        """The server's time in milliseconds since 1970."""
        return int(time.time() * 1000) + self._skew

    def ask_time(self) -> None:
        """Asks for the server's time, in case that a clock was set."""
        self._set_time(self.ok(Ping()).time)

    def _set_time(self, millis: Optional[int]) -> None:
        if millis is not None:
            self._skew = millis - int(time.time() * 1000)

    def next_number(self) -> int:
        """One that no request of the session has had."""
        self.number += 1
        return self.number

    def call(self, command: Record, number: Optional[int] = None) -> Union[Done, Challenge]:
        """Asks, and waits for the answer. Raises `Refused` if that is an ERROR."""
        number = self._ask(command, number)
        until = time.monotonic() + max(self._timeout, ANSWER_SECONDS_MAX)
        while time.monotonic() < until:
            frame = self._wire.receive(until - time.monotonic())
            answer = None if frame is None else self._handle(frame, number)
            if answer is not None:
                return answer
        raise ConnectionLost("no answer in time")

    def ok(self, command: Record, number: Optional[int] = None) -> Done:
        """Asks what is answered by OK; under a number, where it has had one before."""
        done = self.call(command, number)
        if not isinstance(done, Done):
            raise Distrusted("a challenge where OK has to be")
        return done

    def next(self, seconds: float) -> Optional[Told]:
        """What comes unasked, in its order; none if nothing did for so long."""
        until = time.monotonic() + seconds
        while not self._told and not self.dropped:
            now = time.monotonic()
            silent = now - self._wire.heard
            if silent >= 1.5 * self.idle:
                raise ConnectionLost("the server is silent")
            rests = 0.0 if self._changed is None else now - self._changed
            if max(silent, rests) >= self.idle and self._pinged is None:
                self._ping()
            due = self.idle - max(silent, rests) if self._pinged is None \
                else 1.5 * self.idle - silent
            if now >= until:
                return None
            frame = self._wire.receive(max(0.0, min(until - now, due)))
            if frame is not None:
                self._handle(frame, None)
        if not self._told:
            return None
        told = self._told.popleft()
        self._told_bytes -= weight(told)
        return told

    def _ping(self) -> None:
        """Asks whether the server is there, and says that all answers have come: so it keeps none
        for a session that rests."""
        self._pinged = self._ask(Ping(self.number if self.offers("repeats") else None))
        self._changed = None

    def _ask(self, command: Record, number: Optional[int] = None) -> int:
        if number is None:
            number = self.next_number()
        if isinstance(command, (Publish, Message, Ack)):
            self._changed = time.monotonic()
        self._wire.send(number, command)
        return number

    def _handle(self, frame: Union[Frame, Unknown],
                number: Optional[int]) -> Optional[Union[Done, Challenge]]:
        """What a frame means; the answer if it is that to request `number`."""
        if isinstance(frame, Unknown):
            self._pass_over(frame, number)
            return None
        command = frame.command
        if isinstance(command, Bye):
            why = f"the server says: {label(command.reason)} {command.text or ''}".rstrip()
            raise ConnectionLost(why, command.retry_after or 0, command.reason == Reason.REVOKED)
        if isinstance(command, Error):
            if frame.number == 0:
                raise ConnectionLost(f"the server could not read us: {command.text}")
            if frame.number == number:
                raise Refused(command)
        elif isinstance(command, (Done, Challenge)):
            if frame.number == number:
                return command
            if frame.number == self._pinged:
                self._pinged = None
        elif isinstance(command, Ping):
            self._wire.send(frame.number, Done())
        elif isinstance(command, Hello):
            if command.version != 1:
                raise Distrusted(f"the server speaks version {command.version}")
            self._hello = command
            self._set_time(command.time)
        elif isinstance(command, (Notify, Message)) and frame.number == 0:
            self._push(command)
        return None

    def _pass_over(self, frame: Unknown, number: Optional[int]) -> None:
        """What came later is passed over; whoever asked hears that the answer cannot be read."""
        of = COMMANDS[frame.kind - 1] if 1 <= frame.kind <= len(COMMANDS) else None
        why = f"of a newer server: {frame.why}"
        if of is Bye or (of is Error and frame.number == 0):
            raise ConnectionLost(why)
        if of in (Error, Done) and frame.number == number:
            raise Refused(Error(Code.INTERNAL, Sayer.SERVER, why))

    def _push(self, told: Told) -> None:
        self._told_bytes += weight(told)
        if len(self._told) >= EVENTS_MAX or self._told_bytes > EVENTS_BYTES_MAX:
            self._told.clear()
            self._told_bytes = 0
            self.dropped = True
        else:
            self._told.append(told)

    def entries(self, what: Thing) -> Tuple[List[Any], Optional[int]]:
        """One of `LISTS`, in all its parts; and its number, which a change names as its base."""
        found: List[Any] = []
        number = cursor = None
        while True:
            done = self.ok(Fetch(self.account.address, what, cursor=cursor))
            found.extend(getattr(LISTS[what].decode(done.content or b""), "entries"))
            number, cursor = done.number if number is None else number, done.next
            if cursor is None:
                return found, number

    def forget_told(self, what: Thing) -> None:
        """What was told of a thing, and not looked at yet, is of before."""
        self._told = collections.deque(
            told for told in self._told if isinstance(told, Message) or told.what is not what)
        self._told_bytes = sum(map(weight, self._told))

    def bye(self) -> None:
        """Ends the session: what is bound to it goes with it."""
        try:
            self._wire.send(0, Bye(Reason.DONE))
        except ConnectionLost:
            pass
        self._wire.close()

    def close(self) -> None:
        """Ends the connection alone."""
        self._wire.close()


def weight(told: Told) -> int:
    """About how many octets of memory it takes while it waits."""
    if isinstance(told, Message):
        return 512 + len(told.body)
    return 512 + len(told.snapshot or b"") + len(told.patch or b"")


# --- What outlives connections ------------------------------------------------------------------


class Request:
    """What is asked until it is answered, by step 6 of section 13: as the very same, under its
    number, as long as the session goes on in which it was asked; else of a change it is looked
    first whether it was done. `may_be_done`: a program of before has asked it."""

    def __init__(self, command: Record, may_be_done: bool = False) -> None:
        self.command = command
        self._may_be_done = may_be_done
        self._session: Optional[bytes] = None
        self._number = 0

    def ask(self, session: Session) -> Done:
        """Asks it on this connection."""
        if self._session is not None and self._session == session.repeats:
            try:
                return session.ok(self.command, self._number)
            except Refused as error:
                if not error.error.forgotten:
                    raise
        done = done_before(session, self.command) if self._may_be_done else None
        if done is not None:
            return done
        self._session, self._number = session.repeats, session.next_number()
        self._may_be_done = True
        return session.ok(self.command, self._number)


def done_before(session: Session, asked: Record) -> Optional[Done]:
    """OK, if all is so already as a PUBLISH asks for; it may have been this very one that made it
    so. What comes to the same when it is done twice is asked again, without looking."""
    if not isinstance(asked, Publish):
        return None
    content = asked.content or b""
    if asked.what is Thing.RULES:
        now = session.ok(Fetch(asked.address, Thing.RULES))
        return Done(number=now.number) if now.content == content else None
    if asked.what is Thing.CONTACTS:
        entries, number = session.entries(Thing.CONTACTS)
        edit = ContactEdit.decode(content)
        if not edit.is_so({entry.address: entry for entry in entries}):
            return None
        # By the newest number another may have added and removed them again.
        return Done(number=None if edit.remove else number)
    if asked.what is Thing.REQUESTS:
        about = RequestEdit.decode(content).from_
        waits = any(entry.from_ == about for entry in session.entries(Thing.REQUESTS)[0])
        return None if waits else Done()
    return None


class Taken(enum.Enum):
    """What a NOTIFY did to what is followed."""

    NOTHING = enum.auto()
    CHANGED = enum.auto()
    ASK_AGAIN = enum.auto()


class Followed:
    """Somebody's presence, as it was told last."""

    def __init__(self, presentity: str) -> None:
        self.presentity = presentity
        self.state: Optional[State] = None
        self.event: Optional[Event] = None
        self.document: Optional[Document] = None
        self.version: Optional[bytes] = None
        self._is_asked = False

    def answered(self, done: Done, asked_anew: bool) -> Taken:
        """The OK to SUBSCRIBE. While it stands, what is held stays until a NOTIFY replaces it."""
        before = self.state
        self._is_asked = asked_anew
        self._stand(done.state or State.UNKNOWN, None)
        return Taken.NOTHING if self.state == before else Taken.CHANGED

    def take(self, told: Notify) -> Taken:
        """A NOTIFY, by the list of section 10."""
        before = (self.state, self.version)
        self._stand(told.state, told.event)
        if told.snapshot is not None:
            if digest(told.snapshot) != told.version:
                raise Distrusted(f"{self.presentity}: a snapshot that is not its version")
            self.document, self.version = Document.decode(told.snapshot), told.version
            self._is_asked = False
        elif told.patch is not None and not self._is_asked and told.version != self.version:
            patched = self._patched(told)
            if patched is None:
                return Taken.ASK_AGAIN
            self.document, self.version = patched, told.version
        return Taken.NOTHING if (self.state, self.version) == before else Taken.CHANGED

    def _patched(self, told: Notify) -> Optional[Document]:
        if self.document is None or told.base != self.version or told.patch is None:
            return None
        try:
            patched = self.document.applied(Patch.decode(told.patch))
            return patched if patched.version() == told.version else None
        except Malformed:
            return None

    def _stand(self, state: State, event: Optional[Event]) -> None:
        self.state, self.event = state, event
        if state not in (State.ACTIVE, State.STALE):
            self.document = self.version = None


class Presence(NamedTuple):
    """Somebody's presence, or how the subscription to it stands, has changed."""

    followed: Followed


class Ended(NamedTuple):
    """Somebody cannot be followed, and `error` says why."""

    presentity: str
    error: Error


class LogPage(NamedTuple):
    """News of the log."""

    page: Page


class News(NamedTuple):
    """What its owner keeps is this now, if it is `whole`; else this of it has changed."""

    what: Thing
    content: Record
    is_whole: bool


class Volatile(NamedTuple):
    """A message that is not stored."""

    message: Message


Happening = Union[Presence, Ended, LogPage, News, Volatile]


class Client:
    """What its person wants, over as many connections as that takes.

    On every connection, the first one too, it does what section 13 lists: goes on with its session
    or signs in, follows anew with the versions held, reads its log on from its cursor, publishes
    again. A message without an answer is sent again under its id by whoever waits in `send`.

    `patience` is how many seconds may pass without any connection before `ConnectionLost` is
    raised; none is for ever. What happens is held until `next` is asked for it, and no longer.
    `connect` opens connections.
    """

    def __init__(self, account: Account, timeout: float = 10, patience: Optional[float] = None,
                 connect: Callable[[Account, float], Wire] = Wire) -> None:
        self.account, self._connect = account, connect
        self._timeout, self._patience = timeout, patience
        self._session: Optional[Session] = None
        self._ticket: Optional[Ticket] = None
        self._number = 0  # The highest of a request, kept with the ticket.
        self._failures = 0
        self._connections = 0
        self._happened: Deque[Happening] = collections.deque()
        self._followed: Dict[str, Followed] = {}
        self._asked: Dict[str, None] = {}
        self._retry: Dict[str, float] = {}
        self._expands = False
        self._news: Dict[Thing, None] = {}
        self._follows_log = False
        self._cursor: Optional[bytes] = None
        self._oldest: Optional[bytes] = None
        self._layer: Optional[Layer] = None

    # Connections (section 13)

    @property
    def connections(self) -> int:
        """How often it has signed in."""
        return self._connections

    def session(self) -> Session:
        """The open session, if need be a new one in which all is asked for again."""
        return self._over_connections(same)

    def ok(self, command: Record, may_be_done: bool = False) -> Done:
        """Asks over a new connection if one is lost meanwhile, and has it done once."""
        return self._over_connections(Request(command, may_be_done).ask)

    def close(self) -> None:
        """Ends the session in order."""
        if self._session is not None:
            self._session.bye()
            self._session = self._ticket = None

    def _over_connections(self, do: Callable[[Session], T], is_patient: bool = False) -> T:
        """Does it over as many connections as it takes; patiently, also as often as the server is
        too busy for it just now."""
        until = None if self._patience is None else time.monotonic() + self._patience
        while True:
            try:
                return do(self._connected())
            except ConnectionLost as error:
                self._lost(error, until)
            except Refused as error:
                passes = error.error.passes and error.error.code is not Code.FULL
                if not is_patient or not passes or error.error.by is not Sayer.SERVER:
                    raise
                self._wait(error, error.error.retry_after, until)

    def _connected(self) -> Session:
        if self._session is None:
            try:
                wire = self._connect(self.account, self._timeout)
                self._session = Session(
                    wire, self.account, self._timeout, self._ticket, self._number)
                self._ticket = self._session.ticket
                self._connections += 1
                self._say_again(self._session)
            except Refused as error:
                self._give_back()
                if error.error.passes:
                    raise ConnectionLost(str(error), error.error.retry_after or 0) from error
                raise NotLetIn(error.error) from error
            self._failures = 0
        return self._session

    def _lost(self, error: ConnectionLost, until: Optional[float]) -> None:
        """The connection has ended; who asks for one next opens another."""
        self._give_back()
        if error.final:
            raise error
        self._wait(error, error.retry_after, until)

    def _give_back(self) -> None:
        if self._session is not None:
            self._number = self._session.number
            self._session.close()
            self._session = None

    def _wait(self, error: Exception, least: Optional[float], until: Optional[float]) -> None:
        pause = min(BACKOFF_SECONDS_MAX, 0.5 * 2 ** min(self._failures, 6))
        self._failures += 1
        pause = (least or 0) + pause * random.uniform(0.5, 1)
        if until is not None and time.monotonic() + pause > until:
            raise error
        time.sleep(pause)

    def _also(self, ask: Callable[[Session], None]) -> None:
        """Asks for one thing more: over a new connection, which is asked for all, that is done."""
        if self._session is not None:
            try:
                ask(self._session)
            except ConnectionLost as error:
                self._lost(error, None)
        self.session()

    def _say_again(self, session: Session) -> None:
        if self._expands:
            self._expand(session)
        for presentity in list(self._asked):
            self._ask(session, presentity, anew=False)
        for what in self._news:
            self._ask_news(session, what)
        if self._follows_log:
            self._read_on(session)
        stands = session.resumed and not session.layer_ended
        if self._layer is not None and not (stands and self._layer.is_said):
            self._layer.publish(session, again=self._connections > 1)

    # Presence of others (section 10)

    def follow(self, presentities: Iterable[str]) -> None:
        """Follows somebody's presence from now on, over all connections."""
        for presentity in presentities:
            self._asked[presentity] = None
            self._also(functools.partial(self._ask, presentity=presentity, anew=False))

    def follow_contacts(self) -> None:
        """Follows the contact list from now on, whoever comes to stand in it."""
        self._expands = True
        self._also(self._expand)

    def followed(self, presentity: str) -> Optional[Followed]:
        """What is known of somebody who is followed."""
        return self._followed.get(presentity)

    def _ask(self, session: Session, presentity: str, anew: bool) -> None:
        followed = self._followed.setdefault(presentity, Followed(presentity))
        self._retry.pop(presentity, None)
        version = None if anew else followed.version
        try:
            done = session.ok(Subscribe(presentity, Thing.PRESENCE, version=version))
        except Refused as error:
            if error.error.passes:
                wait = error.error.retry_after or BACKOFF_SECONDS_MAX
                self._retry[presentity] = time.monotonic() + wait
                return
            self._asked.pop(presentity, None)
            self._followed.pop(presentity, None)
            self._happened.append(Ended(presentity, error.error))
            return
        if followed.answered(done, version is None) is Taken.CHANGED:
            self._happened.append(Presence(followed))

    def _expand(self, session: Session) -> None:
        done = session.ok(Subscribe(self.account.address, Thing.CONTACTS, expand=True))
        entries = list(Contacts.decode(done.content or b"").entries)
        while done.next is not None:
            done = session.ok(Fetch(self.account.address, Thing.CONTACTS, cursor=done.next))
            entries += Contacts.decode(done.content or b"").entries
        stand = {entry.address: entry.subscription for entry in entries if entry.follow}
        for gone in [who for who in self._followed if who not in stand and who not in self._asked]:
            del self._followed[gone]
        for who, state in stand.items():
            followed = self._followed.setdefault(who, Followed(who))
            answer = Done(state=state or State.TERMINATED)
            if followed.answered(answer, asked_anew=True) is Taken.CHANGED:
                self._happened.append(Presence(followed))

    # Messages and the log (section 11)

    def send(self, message: Message, keep: Callable[[Message], None] = lambda _: None,
             is_patient: bool = True) -> Tuple[Message, Done]:
        """Sends a message: as it was sent, and what the server says.

        One with `NO_ID` gets its id when the server's time is known; before it may leave under
        that, `keep` is told. Where the connection is lost, or patiently, where the server is too
        busy just now, the very same is sent again under its id, so that it is delivered once.
        `ConnectionLost` says that nobody knows.
        """
        is_free = message.id == NO_ID  # No server can have taken it: the id may be another one yet.
        request = Request(message)

        def attempt(session: Session) -> Done:
            nonlocal message, request, is_free
            if message.id == NO_ID:
                message = dataclasses.replace(message, id=new_id(session.server_time()))
                request = Request(message)
                keep(message)
            try:
                return request.ask(session)
            except ConnectionLost:
                is_free = False
                raise
            except Refused as error:
                said = error.error
                if said.code is not Code.OUT_OF_WINDOW or said.forgotten or not is_free:
                    raise
            session.ask_time()
            message, is_free = dataclasses.replace(message, id=NO_ID), False
            return attempt(session)

        done = self._over_connections(attempt, is_patient)
        return message, done

    def read(self, cursor: Optional[bytes] = None, **how: Any) -> Iterator[Page]:
        """The log from a cursor on, or from the oldest item, up to its end as it is now; and from
        the oldest item if the cursor is worth nothing any more.

        `how` are more fields of FETCH: with `backwards` it goes from the end to the oldest, or to
        `since`, or of one conversation, `with_`; with `metadata`, messages without their bodies."""
        if how and not self.session().offers("series"):
            raise Refused(Error(Code.UNSUPPORTED, Sayer.SERVER, "the server has no such series"))
        while True:
            asked = Fetch(self.account.address, Thing.LOG, cursor=cursor, **how)
            try:
                done = self.ok(asked)
            except Refused as error:
                if error.error.code is not Code.BAD_CURSOR or cursor is None:
                    raise
                done = self.ok(dataclasses.replace(asked, cursor=None))
            page = Page.decode(done.content or b"")
            yield page
            if not page.more:
                return
            cursor = page.cursor

    def item(self, cursor: bytes) -> Optional[Item]:
        """The item that has this cursor."""
        return next((item for page in self.read(item=cursor) for item in page.known()), None)

    def follow_log(self, cursor: Optional[bytes]) -> None:
        """Reads the log from a cursor, and on as it grows, over all connections."""
        self._follows_log, self._cursor = True, cursor
        self._also(self._read_on)

    def _read_on(self, session: Session) -> None:
        asked = Subscribe(self.account.address, Thing.LOG, cursor=self._cursor)
        try:
            session.ok(asked)
        except Refused as error:
            if error.error.code is not Code.BAD_CURSOR or self._cursor is None:
                raise
            session.ok(dataclasses.replace(asked, cursor=None))
        session.forget_told(Thing.LOG)  # Pages of before come behind a gap, or a second time.
        self._oldest = None

    def acknowledge(self, cursor: bytes) -> None:
        """Takes custody of the log up to a cursor."""
        self.ok(Ack(self.account.address, cursor))

    # One's own presence (section 9)

    def publish(self, document: Document, lease: int) -> Done:
        """Shows a document for so many seconds, whatever happens to connections."""
        patch = document.as_patch().encode()
        return self.ok(Publish(self.account.address, Thing.PRESENCE, patch, lease, replace=True))

    def end_layer(self) -> Done:
        """Shows nothing more from this device."""
        self._layer = None
        return self.ok(Publish(self.account.address, Thing.PRESENCE, lease=0))

    def hold(self, document: Document) -> None:
        """Shows a document as long as the session lives, and again in the next one."""
        layer = self._layer = self._layer or Layer(self.account.address, document)
        layer.wanted = document
        self._also(lambda session: layer.publish(session, again=False))

    # What an owner keeps (section 12)

    def entries(self, what: Thing) -> Tuple[List[Any], Optional[int]]:
        """One of `LISTS`, and its number, which a change names as its base."""
        return self._over_connections(lambda session: session.entries(what))

    def edit(self, what: Thing, edit: Record, base: Optional[int] = None) -> Publish:
        """The request by which a thing is changed: with `base`, from that number of it on."""
        return Publish(self.account.address, what, edit.encode(), base=base)

    def follow_news(self, what: Thing) -> None:
        """Follows one of `NEWS` from now on, over all connections."""
        self._news[what] = None
        self._also(functools.partial(self._ask_news, what=what))

    def _ask_news(self, session: Session, what: Thing) -> None:
        session.ok(Subscribe(self.account.address, what))

    def unread(self) -> Dict[str, int]:
        """How many messages of whom were not read yet, on any device."""
        marks = {mark.address: mark.id for mark in self.entries(Thing.READ_MARKS)[0]}
        is_read = set()
        count: Dict[str, int] = collections.defaultdict(int)
        for page in self.read(backwards=True, metadata=True):
            for item in page.known():
                message = item.read() if item.kind == ItemKind.MESSAGE else None
                who = message.from_ if message is not None else None
                if message is None or who is None or who in is_read:
                    continue
                if message.id == marks.get(who):
                    is_read.add(who)
                else:
                    count[who] += 1
        return dict(count)

    def explain(self, about: str, delivery: bool = False) -> Explanation:
        """What one's own rules say about somebody."""
        asked = Fetch(self.account.address, Thing.EXPLAIN, about=about, delivery=delivery)
        return Explanation.decode(self.ok(asked).content or b"")

    # What happens

    def next(self, seconds: float) -> Optional[Happening]:
        """What happens next; none if nothing did for so long."""
        until = time.monotonic() + seconds
        while not self._happened:
            left = until - time.monotonic()
            if left <= 0:
                return None
            try:
                self._look(self.session(), left)
            except ConnectionLost as error:
                self._lost(error, None)
            except Malformed as error:
                self._lost(ConnectionLost(f"the server tells what cannot be read: {error}"), None)
        return self._happened.popleft()

    def _look(self, session: Session, seconds: float) -> None:
        due = [who for who, when in self._retry.items() if when <= time.monotonic()]
        for presentity in due:
            self._ask(session, presentity, anew=False)
        if self._happened:
            return
        told = session.next(min(seconds, 1.0) if self._retry else seconds)
        if session.dropped:
            session.dropped = False
            self._say_again(session)
        elif isinstance(told, Message):
            self._happened.append(Volatile(told))
        elif told is not None:
            self._take(session, told)

    def _take(self, session: Session, told: Notify) -> None:
        content = told.patch if told.snapshot is None else told.snapshot
        if told.what is Thing.PRESENCE:
            self._take_presence(session, told)
        elif content is None:
            pass
        elif told.what is Thing.LOG and self._follows_log:
            page = ShortPage.decode(content).whole(told.address, self._oldest)
            self._cursor, self._oldest = page.cursor, page.oldest
            self._happened.append(LogPage(page))
        elif told.what in self._news:
            is_whole = told.snapshot is not None
            self._happened.append(News(told.what, NEWS[told.what].decode(content), is_whole))

    def _take_presence(self, session: Session, told: Notify) -> None:
        followed = self._followed.get(told.address)
        if followed is None:
            if not self._expands:
                return
            followed = self._followed[told.address] = Followed(told.address)
        taken = followed.take(told)
        if taken is Taken.ASK_AGAIN:
            self._ask(session, told.address, anew=True)
        elif taken is Taken.CHANGED:
            self._happened.append(Presence(followed))
        if told.state is State.TERMINATED and told.address not in self._asked:
            self._followed.pop(told.address, None)


class Layer:
    """What a device shows while its session lives, and how it is said again."""

    def __init__(self, owner: str, wanted: Document) -> None:
        self.owner, self.wanted = owner, wanted
        self.is_said = False
        self._before: Optional[Document] = None
        self._said: List[Document] = []

    def publish(self, session: Session, again: bool) -> None:
        """Publishes it; `again`, after a connection was lost, by the list of section 9."""
        self.is_said = False
        if self._before is None:
            self._before = self._own(session)
        self._said = [*self._said[-1:], self.wanted]
        if again:
            self._publish_again(session)
        else:
            self._put(session, self.wanted, None)
        self.is_said = True

    def _publish_again(self, session: Session) -> None:
        layer = self._fetch(session, Thing.LAYER)
        if layer is None:
            try:
                self._put(session, self._rest(self._own(session), self._before or Document()), 0)
            except Refused as error:
                if error.error.code is not Code.CONFLICT:
                    raise
        elif layer in self._said:
            self._put(session, self.wanted, None)

    def _rest(self, shown: Document, before: Document) -> Document:
        """What may be said without hiding what the owner has said elsewhere since."""

        def rest(wanted: Dict[str, T], now: Dict[str, T], then: Dict[str, T]) -> Dict[str, T]:
            return {key: value for key, value in wanted.items()
                    if key not in now or now[key] == then.get(key)}

        wanted = self.wanted
        return Document(rest(wanted.person, shown.person, before.person),
                        rest(wanted.tuples, shown.tuples, before.tuples),
                        rest(wanted.devices, shown.devices, before.devices))

    def _put(self, session: Session, document: Document, base: Optional[int]) -> None:
        patch = document.as_patch().encode()
        session.ok(Publish(self.owner, Thing.PRESENCE, patch, replace=True, base=base))

    def _own(self, session: Session) -> Document:
        return self._fetch(session, Thing.PRESENCE) or Document()

    def _fetch(self, session: Session, what: Thing) -> Optional[Document]:
        try:
            done = session.ok(Fetch(self.owner, what))
        except Refused as error:
            if error.error.code is Code.NOT_FOUND:
                return None
            raise
        return None if done.content is None else Document.decode(done.content)


NO_ID = bytes(16)  # Of a message that has not been tried yet.


def new_id(millis: int) -> bytes:
    """A UUIDv7 of a time of the server's."""
    made = bytearray(millis.to_bytes(6, "big") + os.urandom(10))
    made[6], made[8] = made[6] & 0x0F | 0x70, made[8] & 0x3F | 0x80
    return bytes(made)


# --- What is kept beside a profile --------------------------------------------------------------


class Usage(Exception):
    """A bad argument, profile or file."""


def read_profile(path: Path) -> Dict[str, str]:
    """The texts of a profile: lines of TOML of the form `key = "text"`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise Usage(f"{path}: {error.strerror}") from error
    found: Dict[str, str] = {}
    for line in lines:
        value = r'("(?:[^"\\]|\\.)*"|\'[^\']*\')'
        match = re.fullmatch(rf"\s*([A-Za-z_-]+)\s*=\s*{value}\s*(#.*)?", line)
        if match:
            text = match.group(2)
            try:
                found[match.group(1)] = json.loads(text) if text[0] == '"' else text[1:-1]
            except ValueError as error:
                raise Usage(f"{path}: {match.group(1)}: {error}") from error
    return found


def beside(profile: Path, what: str) -> Path:
    """Where something of this program's is kept beside a profile."""
    return profile.with_name(f"{profile.name}.py-{what}")


def write_private(path: Path, data: bytes, is_new: bool = False) -> None:
    """Writes a file that only its owner can read, whole or not at all; `is_new`, over none."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix="new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            os.link(temporary, path)
        else:
            os.replace(temporary, path)
        sync_folder(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def sync_folder(path: Path) -> None:
    """That a name was made or taken away is on the disk, where a system can say so."""
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def device_of(profile: Path) -> bytes:
    """The id of this installation: drawn once, and kept beside the profile."""
    path = beside(profile, "device")
    try:
        if not path.exists():
            with contextlib.suppress(FileExistsError):  # Of two at once the first one counts.
                write_private(path, os.urandom(16).hex().encode(), is_new=True)
        return check_sixteen(bytes.fromhex(path.read_text(encoding="utf-8").strip()))
    except (OSError, ValueError, Malformed) as error:
        raise Usage(f"{path}: {error}") from error


def account_of(path: Path, has_device: bool = True) -> Account:
    """Whose profile it is; without a device nothing is kept."""
    profile = read_profile(path)
    if "address" not in profile or "password" not in profile:
        raise Usage(f"{path}: address and password are needed")
    address = parse_address(profile["address"])
    host, _, port = profile.get("server", "").rpartition(":")
    trust = profile.get("trust")
    return Account(address, profile["password"], device_of(path) if has_device else None,
                   host.strip("[]") or address.rpartition("@")[2], int(port or PORT),
                   str(path.parent / trust) if trust else None)


class Place:
    """How far this installation has read the log, kept beside the profile, and the ids of what it
    has read lately: for a server whose store was put back, which takes no cursor of before."""

    def __init__(self, profile: Path, is_kept: bool = True) -> None:
        self._path, self._is_kept = beside(profile, "cursor"), is_kept
        self.cursor: Optional[bytes] = None
        self._seen: Dict[str, None] = {}
        if is_kept and self._path.exists():
            try:
                kept = json.loads(self._path.read_text(encoding="utf-8"))
                self.cursor = bytes.fromhex(kept["cursor"])
                self._seen = dict.fromkeys(kept["seen"])
            except (KeyError, TypeError, ValueError) as error:
                raise Usage(f"{self._path}: {error!r}") from error

    def is_new(self, item: Item) -> bool:
        """Whether an item has not been dealt with before."""
        return self._key(item) not in self._seen

    def dealt_with(self, items: Sequence[Item], cursor: bytes) -> None:
        """These were dealt with, and so was all before the cursor."""
        for item in items:
            self._seen[self._key(item)] = None
        while len(self._seen) > SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        self.cursor = cursor
        kept = {"cursor": cursor.hex(), "seen": list(self._seen)}
        if self._is_kept:
            write_private(self._path, json.dumps(kept).encode())

    def forget_cursor(self) -> None:
        """The cursor is worth nothing: from the oldest item on."""
        self.cursor = None

    @staticmethod
    def _key(item: Item) -> str:
        message = item.read()
        if message is not None:
            return f"{item.kind}:{message.id.hex()}:{message.from_}:{message.to}"
        if item.fate is not None:
            return f"{item.kind}:{item.fate.id.hex()}:{item.fate.to}"
        return f"{item.kind}:{item.time}:{item.cursor.hex()}"


def contact_edit_of(command: Optional[Record]) -> Optional[ContactEdit]:
    """The edit of the contact list that a request is, if it is one."""
    if not isinstance(command, Publish) or command.what is not Thing.CONTACTS:
        return None
    return ContactEdit.decode(command.content or b"")


class Shown:
    """The contact list as the person of this profile knows it: its number when it was last shown
    whole, and those of what was done to entries here since. An edit that waits is made on that, and
    not on what is newest when it goes."""

    def __init__(self, profile: Path) -> None:
        self._path = beside(profile, "contacts")

    def base(self, address: str) -> Optional[int]:
        """The number that an edit of somebody's entry is made on; none if nothing was shown."""
        shown = self._load()
        return max(shown[0], shown[1].get(address, 0)) if shown else None

    def whole(self, number: int) -> None:
        """The list was shown, as it is under that number."""
        self._keep(number, {})

    def edited(self, address: str, number: int) -> None:
        """An edit made here was done, and gave the list that number."""
        shown = self._load()
        if shown:
            self._keep(shown[0], {**shown[1], address: number})

    def _load(self) -> Optional[Tuple[int, Dict[str, int]]]:
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            return int(kept["number"]), dict(kept["own"])
        except (OSError, KeyError, TypeError, ValueError):
            return None  # It is to be shown again.

    def _keep(self, number: int, own: Dict[str, int]) -> None:
        newest = sorted(own.items(), key=lambda entry: entry[1])[-SEEN_MAX:]
        kept = {"number": number, "own": dict(newest)}
        write_private(self._path, json.dumps(kept).encode())


class Unanswered:
    """Nobody knows whether it was done: it was tried a day ago, and no answer came."""


class Outbox:
    """What was written and not answered yet, in its order: MESSAGEs, and PUBLISHes with the base
    that they were made on. A folder of files that only their owner reads, each a frame; one program
    at a time sends or adds. What is sent keeps its id, so that it comes once, however often it is
    tried; a change has none, and the name of its file says since when it may have been done."""

    def __init__(self, profile: Path) -> None:
        self._folder = beside(profile, "outbox")
        self._shown = Shown(profile)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other programs out, and waits for one that is in."""
        import fcntl  # Only here, as not all systems have it.

        self._folder.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(self._folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for half in self._folder.glob("new-*"):
                half.unlink()  # Of a program that was killed while it wrote.
            yield
        finally:
            os.close(lock)

    def put(self, command: Record) -> int:
        """Keeps one more, under a number; on the disk when it returns."""
        with self.locked():
            paths = self.paths()
            if len(paths) >= OUTBOX_MAX:
                raise Usage(f"{OUTBOX_MAX} wait in the outbox, and that is the most")
            number = self._number(paths[-1]) + 1 if paths else 1
            self._write(self._folder / f"{number:012}.frame", command)
            return number

    def holds(self, number: int) -> bool:
        """Whether that still waits."""
        return any(self._number(path) == number for path in self.paths())

    def paths(self) -> List[Path]:
        """The files of what waits, in its order."""
        return sorted(self._folder.glob("*.frame"))

    def load(self, path: Path) -> Optional[Record]:
        """What is kept in a file; none if that cannot be read, which keeps nobody from the next."""
        try:
            data = path.read_bytes()
            frame = decode_frame(data[3], data[4:])
        except (OSError, IndexError, Malformed):
            return None
        return frame.command if isinstance(frame, Frame) else None

    def is_unknown(self, path: Path, command: Record, now: int) -> bool:
        """Whether nobody knows at that time whether it was done, nor can be asked."""
        tried = self._tried(path)
        if isinstance(command, Message) and command.id != NO_ID:
            tried = int.from_bytes(command.id[:6], "big")
        return tried is not None and tried + ASKED_MILLIS_MAX <= now

    def send(self, client: Client) -> Iterator[Tuple[Record, Union[Done, Error, Unanswered]]]:
        """Sends what waits: each, and what was answered. What was answered for good waits no more,
        once that was looked at, and so does what is unknown. A message that has to wait holds up
        those for its recipient, and a change the changes behind it. Where the server is not
        reached, that is raised, and the rest waits."""
        held_up, changes_wait = set(), False
        with self.locked():
            for path in self.paths():
                command = self.load(path)
                answer: Union[Done, Error, Unanswered, None] = Unanswered()
                if isinstance(command, Message) and command.to not in held_up:
                    if not self._is_over(client, path, command):
                        command, answer = self._message(client, path, command, not held_up)
                        held_up.update([command.to] if answer is None else [])
                elif isinstance(command, Publish) and not changes_wait:
                    if not self._is_over(client, path, command):
                        path, answer = self._change(client, path, command)
                        changes_wait = answer is None
                else:
                    continue
                if answer is not None:
                    yield command, answer
                    path.unlink()
                    sync_folder(path)

    def _is_over(self, client: Client, path: Path, command: Record) -> bool:
        return self.is_unknown(path, command, client.session().server_time())

    def _message(self, client: Client, path: Path, message: Message,
                 is_patient: bool) -> Tuple[Message, Union[Done, Error, None]]:
        """Sends a message: as it was sent, and what was answered; nothing if it has to wait. Where
        one was waited for in vain, others are not waited for."""
        try:
            return client.send(message, functools.partial(self._write, path), is_patient)
        except NotLetIn:
            raise
        except Refused as refused:
            error = refused.error
            return message, None if error.forgotten or error.passes else error

    def _change(self, client: Client, path: Path,
                command: Publish) -> Tuple[Path, Union[Done, Error, None]]:
        """Asks for a change: its file, and what was answered; nothing if it has to wait."""
        edit, may_be_done = contact_edit_of(command), self._tried(path) is not None
        path = self._trying(path, client.session().server_time())
        try:
            done = client.ok(command, may_be_done)
        except NotLetIn:
            raise
        except Refused as refused:
            error = refused.error
            if error.code is Code.NOT_FOUND and edit and edit.remove:
                return path, Done()  # It was removed before, by whomever.
            # There is no room until its owner makes some.
            waits = error.forgotten or error.passes and error.code is not Code.FULL
            return path, None if waits else error
        if edit and done.number is not None:
            self._follow_on(path, edit.about, done.number)
            self._shown.edited(edit.about, done.number)
        return path, done

    def _follow_on(self, done: Path, about: str, number: int) -> None:
        """Edits of an entry that were written after one were made on what that came to; what
        grants something stays on the list on which that was decided."""
        for path in self.paths():
            command = self.load(path)
            edit = contact_edit_of(command)
            is_behind = path.name > done.name and self._tried(path) is None
            grants = edit is not None and edit.change is not None and edit.change.grant is not None
            if is_behind and edit and edit.about == about and not grants \
                    and isinstance(command, Publish) and (command.base or number) < number:
                self._write(path, dataclasses.replace(command, base=number))

    @staticmethod
    def _number(path: Path) -> int:
        return int(path.name.partition(".")[0])

    @staticmethod
    def _tried(path: Path) -> Optional[int]:
        """Since when a change may have been done."""
        parts = path.name.split(".")
        return int(parts[1]) if len(parts) == 3 else None

    def _trying(self, path: Path, now: int) -> Path:
        """A change may be done from now on, if it may not already."""
        if self._tried(path) is not None:
            return path
        tried = path.with_name(f"{path.stem}.{now}{path.suffix}")
        path.rename(tried)
        sync_folder(tried)
        return tried

    @staticmethod
    def _write(path: Path, command: Record) -> None:
        write_private(path, Frame(0, command).encode())


# --- The command line ---------------------------------------------------------------------------


class Stop:
    """SIGINT and SIGTERM end the program, but not in the middle of what is done `with` this."""

    def __init__(self) -> None:
        self._is_held = self._is_asked = False
        signal.signal(signal.SIGINT, self._asked)
        signal.signal(signal.SIGTERM, self._asked)

    def _asked(self, *_: Any) -> None:
        self._is_asked = True
        if not self._is_held:
            raise KeyboardInterrupt

    def __enter__(self) -> None:
        self._is_held = True

    def __exit__(self, *_: Any) -> None:
        self._is_held = False
        if self._is_asked:
            raise KeyboardInterrupt


def say(**fields: Any) -> None:
    """An object on stdout, without what is absent."""
    known = {name.rstrip("_"): value for name, value in fields.items() if value is not None}
    print(json.dumps(known, ensure_ascii=False), flush=True)


def body_of(message: Message) -> Dict[str, str]:
    """The body of a message as it is said: text, or what it is in Base64."""
    try:
        if not (message.content_type or "text/plain").startswith("text/"):
            raise ValueError
        return {"body": message.body.decode()}
    except ValueError:
        return {"body_base64": base64.b64encode(message.body).decode()}


def say_item(item: Item) -> None:
    """An item of the log on stdout."""
    out: Dict[str, Any] = {"item": label(item.kind), "cursor": item.cursor.hex(),
                           "received": rfc3339(item.time), "size": item.size}
    message = item.read()
    if message is not None:
        known = message.to_json()
        out.update(known, type=known.pop("content_type", "text/plain"))
        del out["body"]
        out.update(body_of(message))
    elif item.message is not None:
        out["item"] = "unreadable"
    if item.fate is not None:
        known = item.fate.to_json()
        out.update(known, cause=known.get("code"))
    if item.device is not None:
        known = item.device.to_json()
        out.update(known, device=known.pop("id"))
    if item.deleted is not None:
        known = item.deleted.to_json()
        out.update(known, deleted=item.deleted.cursor.hex(), cursor=item.cursor.hex())
    say(**out)


def say_done(command: Record, answer: Union[Done, Error, Unanswered, None]) -> None:
    """What became of a message or a change on stdout; without an answer it waits. What was wanted
    is said of that which was not done, as it is nowhere else any more."""
    what: Dict[str, Any] = {}
    if isinstance(command, Message):
        what.update(to=command.to, id=uuid_of(command.id) if command.id != NO_ID else None)
    elif isinstance(command, Publish):
        what.update(changed=label(command.what))
    if answer is None:
        what.update(outcome="waiting")
    elif isinstance(answer, Unanswered):
        what.update(outcome="unknown")
    elif isinstance(answer, Error):
        # It had been sent before, and the server knows no more whether it came.
        is_unknown = answer.code is Code.OUT_OF_WINDOW
        what.update(answer.to_json(), outcome="unknown" if is_unknown else "failed")
    else:
        what.update(answer.to_json())
        what.setdefault("outcome", "dropped" if answer.dropped else "done")
    edit = contact_edit_of(command)
    if edit:
        what.update(about=edit.about)
    if isinstance(answer, (Error, Unanswered)) or isinstance(answer, Done) and answer.dropped:
        what.update(wanted=edit.to_json() if edit else None)
        what.update(body_of(command) if isinstance(command, Message) else {})
    say(**what)


def deliver(client: Client, args: argparse.Namespace, command: Union[Message, Publish]) -> int:
    """Sends a message or makes a change: now, or behind what waits, by the outbox."""
    if args.later:
        outbox = Outbox(args.profile)
        number = outbox.put(command)
        code = 0
        try:
            code = send_outbox(client, outbox)
        except NotLetIn:
            raise
        except (ConnectionLost, Refused):
            pass
        if outbox.holds(number):
            # It goes with the next `--later`, or `outbox send`.
            say_done(command, None)
        return code
    if isinstance(command, Message):
        command, done = client.send(command)
    else:
        done = client.ok(command)
        edit = contact_edit_of(command)
        if edit and done.number is not None:
            Shown(args.profile).edited(edit.about, done.number)
    say_done(command, done)
    return 1 if done.dropped else 0


def send_outbox(client: Client, outbox: Outbox) -> int:
    """Sends what waits, and says what becomes of each."""
    code = 0
    for command, answer in outbox.send(client):
        say_done(command, answer)
        code = max(code, int(not isinstance(answer, Done) or answer.dropped))
    return code


def run_send(client: Client, args: argparse.Namespace, _: Stop) -> int:
    """Sends one message."""
    body = sys.stdin.buffer.read() if args.text == "-" else args.text.encode()
    return deliver(client, args, Message(
        uuid.UUID(args.id).bytes if args.id else NO_ID, parse_address(args.address), body,
        content_type=None if args.type == "text/plain" else args.type, volatile=args.no_store))


def run_outbox(client: Client, args: argparse.Namespace, _: Stop) -> int:
    """Sends what waits, or says what does."""
    outbox = Outbox(args.profile)
    if args.what == "send":
        return send_outbox(client, outbox)
    for path in outbox.paths():
        command = outbox.load(path)
        if command is None:
            say(file=str(path), outcome="unreadable")
        else:
            is_unknown = outbox.is_unknown(path, command, int(time.time() * 1000))
            say_done(command, Unanswered() if is_unknown else None)
    return 0


def run_inbox(client: Client, args: argparse.Namespace, stop: Stop) -> int:
    """Reads the log on from where it was read last. What is said on stdout is kept to be read, so
    that it is said once, but for a crash between the two. Without a device nothing is kept: it is
    read from the cursor that is named, or from the oldest item."""
    place = Place(args.profile, is_kept=not args.no_device)
    if args.since is not None:
        place.cursor = bytes.fromhex(args.since)
    if args.all:
        place.forget_cursor()
    left = args.count

    def pages() -> Iterator[Page]:
        if not args.follow:
            yield from client.read(place.cursor)
            return
        client.follow_log(place.cursor)
        while True:
            happened = client.next(3_600)
            if isinstance(happened, LogPage):
                yield happened.page

    for page in pages():
        dealt, cursor = [], page.cursor
        with stop:
            for item in page.known():
                if args.all or place.is_new(item):
                    say_item(item)
                    left -= 1
                dealt.append(item)
                if left == 0:
                    cursor = item.cursor
                    break
            place.dealt_with(dealt, cursor)
        if args.ack and dealt:
            client.acknowledge(cursor)
        if left == 0 or not (page.more or args.follow):
            more = cursor != page.cursor or page.more
            say(item="end", cursor=cursor.hex(), more=more, oldest=page.oldest.hex())
            break
    return 0


def run_history(client: Client, args: argparse.Namespace, _: Stop) -> int:
    """What was written with somebody, the newest first."""
    left = args.count
    for page in client.read(backwards=True, with_=parse_address(args.address)):
        for item in page.known():
            if left == 0:
                return 0
            say_item(item)
            left -= 1
    return 0


def run_delete(client: Client, args: argparse.Namespace, _: Stop) -> int:
    """Takes an item out of the log."""
    edit = Deletion(bytes.fromhex(args.cursor))
    return deliver(client, args, client.edit(Thing.LOG, edit))


def run_read(client: Client, args: argparse.Namespace, _: Stop) -> int:
    """Says that a conversation was read, or how many messages were not."""
    if args.address is None:
        for who, count in sorted(client.unread().items()):
            say(address=who, unread=count)
        return 0
    if args.cursor is None:
        raise Usage("up to which message? its cursor, as inbox says it")
    edit = ReadMarkEdit(parse_address(args.address), bytes.fromhex(args.cursor))
    return deliver(client, args, client.edit(Thing.READ_MARKS, edit))


def run_typing(client: Client, args: argparse.Namespace, _: Stop) -> int:
    """Says to somebody that one writes just now."""
    client.ok(client.edit(Thing.TYPING, TypingEdit(parse_address(args.address))))
    return 0


def thing_of(name: str) -> Thing:
    """The thing that the tables call so."""
    return Thing[name.upper().replace("-", "_")]


def run_list(client: Client, args: argparse.Namespace, _: Stop) -> int:
    """Says what stands in a list of one's own, and its number."""
    entries, number = client.entries(thing_of(args.what))
    for entry in entries:
        say(**entry.to_json())
    say(list=args.what, number=number)
    if thing_of(args.what) is Thing.CONTACTS and number is not None:
        Shown(args.profile).whole(number)
    return 0


def run_follow(client: Client, args: argparse.Namespace, _: Stop) -> int:
    """Says how something of one's own changes, until it is stopped."""
    client.follow_news(thing_of(args.what))
    left = args.count
    while left != 0:
        happened = client.next(3_600)
        if isinstance(happened, News):
            say(news=label(happened.what), whole=happened.is_whole, **happened.content.to_json())
            left -= 1
    return 0


def run_contact(client: Client, args: argparse.Namespace, _: Stop) -> int:
    """Changes an entry of the contact list, field by field, or removes it."""
    who, base = parse_address(args.address), args.base
    if base is None and args.later:
        base = Shown(args.profile).base(who)
        if base is None and not args.remove:
            raise Usage("--later: `list contacts` has not shown yet what this is made on")
        if args.grant:
            raise Usage("--later: what one grants does not wait, or needs --base")
    elif base is None:
        base = client.entries(Thing.CONTACTS)[1]
    change = ContactChange(
        who, args.name, tuple(args.group), tuple(args.no_group),
        Following[args.follow.upper()] if args.follow else None,
        Grant[args.grant.upper()] if args.grant else None, add=not args.keep_out)
    edit = ContactEdit(remove=who) if args.remove else ContactEdit(change=change)
    return deliver(client, args, client.edit(Thing.CONTACTS, edit, base))


def run_rules(client: Client, args: argparse.Namespace, _: Stop) -> int:
    """Shows one's rules, or sets them, which were made from those of a number."""
    owner, base = client.account.address, args.base
    if args.file is None:
        done = client.ok(Fetch(owner, Thing.RULES))
        say(rules=(done.content or b"").decode(), number=done.number)
        return 0
    if base is None and args.later:
        raise Usage("rules that wait for a server need --base")
    if base is None:
        base = client.ok(Fetch(owner, Thing.RULES)).number
    return deliver(client, args, Publish(owner, Thing.RULES, args.file.read_bytes(), base=base))


def run_decide(client: Client, args: argparse.Namespace, _: Stop) -> int:
    """Decides about somebody who waits for that."""
    edit = RequestEdit(parse_address(args.address), Decision[args.decision.upper()])
    client.ok(client.edit(Thing.REQUESTS, edit))
    return 0


def run_fate(client: Client, args: argparse.Namespace, _: Stop) -> int:
    """Where a message that was sent is, or how it ended."""
    asked = Fetch(client.account.address, Thing.FATE, id=uuid.UUID(args.id).bytes)
    say(**Whereabouts.decode(client.ok(asked).content or b"").to_json())
    return 0


def run_watch(client: Client, args: argparse.Namespace, _: Stop) -> int:
    """Says how somebody's presence changes, until it is stopped."""
    if args.addresses:
        client.follow([parse_address(text) for text in args.addresses])
    else:
        client.follow_contacts()
    left = args.count
    while left != 0:
        happened = client.next(3_600)
        if isinstance(happened, Ended):
            error = happened.error
            say(event="ended", presentity=happened.presentity, reason=label(error.code))
        elif isinstance(happened, Presence):
            who = happened.followed
            say(event="notify", presentity=who.presentity, state=who.state and label(who.state),
                reason=who.event and label(who.event),
                version=who.version.hex() if who.version else None,
                document=who.document.to_json() if who.document else None,
                connection=client.connections)
        else:
            continue
        left -= 1
    return 0


def run_status(client: Client, args: argparse.Namespace, _: Stop) -> int:
    """Shows, sets or clears what one's own device shows."""
    owner = client.account.address
    if args.what == "show":
        done = client.ok(Fetch(owner, Thing.PRESENCE))
        document = Document.decode(done.content or b"")
        say(presentity=owner, version=document.version().hex(), document=document.to_json())
    elif args.what == "clear":
        client.end_layer()
    else:
        if client.account.device is None:
            raise Usage("--no-device: it is a device that shows something")
        tuple_id = "d" + client.account.device.hex()[:8]
        person = {"note": args.note} if args.note else {}
        document = Document(person, {tuple_id: {"status": args.what}})
        if not args.hold:
            say(presentity=owner, lease=client.publish(document, args.lease).lease)
            return 0
        client.hold(document)
        say(presentity=owner, held=True)
        while True:
            client.next(3_600)
    return 0


def run_explain(client: Client, args: argparse.Namespace, _: Stop) -> int:
    """Says what one's own rules make of somebody."""
    say(**client.explain(parse_address(args.address), args.delivery).to_json())
    return 0


def arguments() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    parser = argparse.ArgumentParser(prog="impp.py", description="Presence and messages by IMPP/1; "
                                     "each line of output is a JSON object.")
    parser.add_argument("--profile", type=Path, required=True,
                        help="a file with address, password, server, trust")
    parser.add_argument("--no-device", action="store_true",
                        help="sign in as no device: nothing is kept, acknowledged or published")
    parser.add_argument("--timeout", type=float, default=10, metavar="S",
                        help="seconds to try for; what runs until it is stopped tries for ever")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(run: Callable[[Client, argparse.Namespace, Stop], int], about: str,
                *words: str, later: bool = False) -> argparse.ArgumentParser:
        added = commands.add_parser(run.__name__[len("run_"):], help=about)
        added.set_defaults(run=run)
        for word in words:
            added.add_argument(word)
        if later:
            added.add_argument("--later", action="store_true",
                               help="keep it in the outbox as long as no server can be reached; it "
                                    "goes with the next --later, or `outbox send`")
        return added

    def counted(added: argparse.ArgumentParser, of: str) -> None:
        added.add_argument("--count", type=int, default=-1, metavar="N", help=f"end behind N {of}")

    send = command(run_send, "send a message, once, however often it takes", "address", later=True)
    send.add_argument("text", help="the text; - reads standard input")
    send.add_argument("--id", help="the message's UUIDv7; to repeat one")
    send.add_argument("--type", default="text/plain", help="the media type")
    send.add_argument("--no-store", action="store_true", help="for who is connected, or nobody")
    outbox = command(run_outbox, "what was written and not answered yet")
    outbox.add_argument("what", choices=("list", "send"))
    command(run_fate, "where a message that was sent is", "id")
    inbox = command(run_inbox, "read the log on from where it was read last")
    inbox.add_argument("--ack", action="store_true", help="take custody of what was read")
    inbox.add_argument("--follow", action="store_true", help="and of what comes")
    inbox.add_argument("--all", action="store_true", help="from the oldest item on")
    inbox.add_argument("--since", metavar="CURSOR", help="from behind that item on")
    counted(inbox, "items")
    counted(command(run_history, "what was written with somebody, back", "address"), "items")
    command(run_delete, "take an item out of the log, on all devices", "cursor", later=True)
    read = command(run_read, "how much is unread, or that somebody was read", later=True)
    read.add_argument("address", nargs="?")
    read.add_argument("cursor", nargs="?", help="that of the last message of theirs that was read")
    command(run_typing, "tell somebody that one writes to them", "address")
    watch = command(run_watch, "follow somebody, or all contacts")
    watch.add_argument("addresses", nargs="*", metavar="address")
    counted(watch, "changes")
    status = command(run_status, "one's own presence")
    status.add_argument("what", choices=("open", "closed", "show", "clear"))
    status.add_argument("--note")
    status.add_argument("--lease", type=int, default=3_600, metavar="S", help="for so many seconds")
    status.add_argument("--hold", action="store_true", help="as long as this runs, instead")
    listed = command(run_list, "a list of one's own")
    listed.add_argument("what", choices=[label(what) for what in LISTS])
    news = command(run_follow, "follow something of one's own")
    news.add_argument("what", choices=[label(what) for what in NEWS])
    counted(news, "changes")
    contact = command(run_contact, "change an entry of the contact list", "address", later=True)
    contact.add_argument("--name")
    contact.add_argument("--group", action="append", default=[], help="that it comes into")
    contact.add_argument("--no-group", action="append", default=[], help="that it leaves")
    contact.add_argument("--follow", choices=("yes", "no"))
    contact.add_argument("--grant", choices=("none", "status", "all"))
    contact.add_argument("--keep-out", action="store_true", help="who is not in it stays out of it")
    contact.add_argument("--remove", action="store_true", help="the whole entry")
    contact.add_argument("--base", type=int, help="the list's number that it was made on")
    rules = command(run_rules, "who may see what, and who may write", later=True)
    rules.add_argument("file", nargs="?", type=Path, help="those that replace them, in TOML")
    rules.add_argument("--base", type=int, help="the number of those that it was made from")
    decide = command(run_decide, "decide about somebody who waits for that", "address")
    decide.add_argument("decision", choices=("allow", "polite", "deny"))
    explain = command(run_explain, "what one's own rules make of somebody", "address")
    explain.add_argument("--delivery", action="store_true", help="the delivery rules")
    return parser


def complain(error: Exception, code: int) -> int:
    """Says what went wrong on stderr; the exit code."""
    print(f"error: {error}", file=sys.stderr)
    return code


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs a command: 0 done, 1 answered no, 2 usage, 3 not reached, 4 sign-in failed."""
    args = arguments().parse_args(argv)
    options = vars(args)
    runs_on = args.command in ("watch", "follow") or options.get("follow") is True \
        or options.get("hold")
    client: Optional[Client] = None
    try:
        stop = Stop()
        account = account_of(args.profile, not args.no_device)
        client = Client(account, args.timeout, None if runs_on else args.timeout)
        code: int = args.run(client, args, stop)
        client.close()
        return code
    except KeyboardInterrupt:
        if client is not None:
            client.close()
        return 0
    except Refused as error:
        is_sign_in = error.error.code is Code.AUTH_FAILED
        return complain(error, 4 if is_sign_in else 1)
    except (Usage, Malformed, ValueError) as error:
        return complain(error, 2)
    except (ConnectionLost, Distrusted, OSError) as error:
        return complain(error, 3)


if __name__ == "__main__":
    sys.exit(main())
