"""The codec, documents and SCRAM of impp.py against protocol/vectors/ and docs/protocol.md.

`python3 -m unittest discover client/python`, from the repository's root or anywhere else.
"""

import collections
import dataclasses
import fcntl
import json
import re
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any, Callable, Deque, Dict, List, Optional, Sequence, Tuple, Union
from unittest import mock

import impp

ROOT = Path(__file__).resolve().parents[2]
PROTOCOL = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")


def vectors(name: str) -> List[Tuple[str, bytes]]:
    """The frames of a file, by their names."""
    text = (ROOT / "protocol/vectors" / name).read_text(encoding="utf-8")
    found = re.findall(r"^([a-z0-9-]+): .*\n([0-9a-f]+)$", text, re.MULTILINE)
    return [(name, bytes.fromhex(octets)) for name, octets in found]


def frame(octets: bytes) -> impp.Frame:
    """A frame with its head."""
    if len(octets) != 4 + int.from_bytes(octets[:3], "big"):
        raise impp.Malformed("not one frame")
    read = impp.decode_frame(octets[3], octets[4:])
    assert isinstance(read, impp.Frame)
    return read


def example(name: str) -> str:
    """An example of the specification."""
    found = re.search(rf"<!-- example: {name} -->\n```text\n(.*?)\n```", PROTOCOL, re.DOTALL)
    assert found is not None, name
    return found.group(1)


class Vectors(unittest.TestCase):
    """Both decoders take the same frames, and write them alike."""

    def test_what_is_accepted_is_read_and_written_alike(self) -> None:
        accepted = vectors("accepted.txt")
        self.assertGreater(len(accepted), 20)
        for name, octets in accepted:
            with self.subTest(name):
                self.assertEqual(frame(octets).encode(), octets)

    def test_what_is_refused_is_refused(self) -> None:
        refused = vectors("refused.txt")
        self.assertGreater(len(refused), 8)
        for name, octets in refused:
            with self.subTest(name), self.assertRaises(impp.Malformed):
                frame(octets)

    def test_contents_are_read_and_written_alike(self) -> None:
        accepted = dict(vectors("accepted.txt"))
        page = frame(accepted["ok-page"]).command.content
        read = impp.Page.decode(page)
        self.assertEqual(read.encode(), page)
        (item,) = read.known()
        message = impp.Message.decode(item.message)
        self.assertEqual((message.body.decode(), message.from_), ("héllo", "bob@a.example"))
        device = impp.Page.decode(frame(accepted["ok-page-device"]).command.content)
        self.assertEqual([item.kind for item in device.known()], [impp.ItemKind.DEVICE])

    def test_a_short_page_stands_for_a_whole_one(self) -> None:
        accepted = dict(vectors("accepted.txt"))
        whole = impp.Page.decode(frame(accepted["ok-page"]).command.content)
        told = frame(accepted["notify-short-page"]).command
        short = impp.ShortPage.decode(told.snapshot)
        self.assertEqual(short.encode(), told.snapshot)
        self.assertLess(len(told.snapshot), len(whole.encode()))
        self.assertEqual(short.whole(told.address, whole.oldest), whole)
        self.assertEqual(impp.ShortPage.decode(whole.encode()).whole(told.address, None), whole)
        with self.assertRaises(impp.Malformed):
            short.whole(told.address, None)

    def test_items_of_kinds_unknown_here_are_passed_over(self) -> None:
        item = impp.put_fields({1: 60, 2: b"c", 3: 0})
        page = impp.Page(b"c", b"o", (item,))
        self.assertEqual(list(impp.Page.decode(page.encode()).known()), [])

    def test_what_has_a_number_that_came_later_is_passed_over(self) -> None:
        of_thing = impp.put_fields({1: b"bob@a.example", 2: 999, 3: 2})
        read = impp.decode_frame(9, impp.varint(0) + of_thing)
        assert isinstance(read, impp.Unknown)
        self.assertEqual((read.kind, read.why), (9, "Notify.what: Thing has no number 999"))
        with self.assertRaises(impp.Malformed):
            impp.decode_frame(12, impp.varint(1 << 53))

    def test_unknown_fields_are_skipped_below_64(self) -> None:
        self.assertEqual(impp.Ping.decode(impp.put_fields({63: b"later"})), impp.Ping())
        with self.assertRaises(impp.Malformed):
            impp.Ping.decode(impp.put_fields({64: b"later"}))


class Dice:
    """xorshift64*, as protocol/vectors/mutated.txt says."""

    def __init__(self, seed: int) -> None:
        self._state = (seed * 0x9E3779B97F4A7C15 | 1) % (1 << 64)

    def roll(self, sides: int) -> int:
        state = self._state
        state ^= state >> 12
        state ^= state << 25 & (1 << 64) - 1
        self._state = state ^ state >> 27
        return (self._state * 0x2545F4914F6CDD1D % (1 << 64) >> 33) % sides


def mutated(frames: Sequence[bytes], seed: int) -> Tuple[int, bytes]:
    """The kind and the body of a frame that is almost one of these."""
    dice = Dice(seed)
    taken = frames[dice.roll(len(frames))]
    kind, body = taken[3], bytearray(taken[4:])
    for _ in range(1 + dice.roll(2)):
        if not body:
            break
        what, at = dice.roll(5), dice.roll(len(body))
        if what == 0:
            body[at] ^= 1 << dice.roll(8)
        elif what == 1:
            body[at] = dice.roll(256)
        elif what == 2:
            del body[at]
        elif what == 3:
            body.insert(at, dice.roll(256))
        else:
            piece = body[at:at + 1 + dice.roll(16)]
            to = dice.roll(len(body))
            body[to:to] = piece
    return (dice.roll(16) if dice.roll(8) == 0 else kind), bytes(body)


class Mutated(unittest.TestCase):
    """What is almost a vector comes to the same as with the server's decoder."""

    @staticmethod
    def verdict(kind: int, body: bytes) -> str:
        """As the file writes it."""
        try:
            read = impp.decode_frame(kind, body)
        except impp.Malformed:
            return "-"
        if isinstance(read, impp.Unknown):
            return "-"
        return "=" if read.encode()[4:] == body else "~"

    @staticmethod
    def says_what_is_left_out(kind: int, body: bytes) -> bool:
        """Whether it has fields that the server knows, or passes on, and this client has no use for:
        those it skips, and refuses where they must be understood."""
        try:
            said = set(impp.get_fields(body[impp.read_varint(body, 0)[1]:]))
        except impp.Malformed:
            return False
        tables = json.loads((ROOT / "protocol/vectors/tables.json").read_text(encoding="utf-8"))
        name, record = list(Tables.KINDS.items())[kind - 1]
        theirs = {row["number"] for row in tables[name]}
        theirs |= set(range(14, 64)) if record is impp.Message else set()
        ours = {field.metadata["number"] for field in dataclasses.fields(record)}
        return bool(said & (theirs - ours))

    def test_both_decoders_say_the_same(self) -> None:
        path = ROOT / "protocol/vectors/mutated.txt"
        lines = path.read_text(encoding="utf-8").splitlines()
        said = "".join(line for line in lines if not line.startswith("#"))
        frames = [octets for _, octets in vectors("accepted.txt")]
        self.assertEqual(len(said), 5_000)
        left_out = 0
        for seed, theirs in enumerate(said):
            kind, body = mutated(frames, seed)
            ours = self.verdict(kind, body)
            if ours != theirs and self.says_what_is_left_out(kind, body):
                left_out += 1
                continue
            with self.subTest(seed=seed, kind=kind, body=body.hex()):
                self.assertEqual(ours, theirs)
        self.assertLess(left_out, 100, "too much is not compared")

class Tables(unittest.TestCase):
    """The tables that the server is made from are those that are written here."""

    KINDS = dict(zip(
        ("HELLO", "AUTH", "CHALLENGE", "OK", "ERROR", "PUBLISH", "SUBSCRIBE", "FETCH", "NOTIFY",
         "MESSAGE", "ACK", "PING", "BYE"), impp.COMMANDS))
    MAPS = {"held version": impp.HeldVersion, "short page": impp.ShortPage, "page": impp.Page,
            "item": impp.Item, "contact": impp.Contact, "contacts": impp.Contacts,
            "explanation": impp.Explanation, "watcher entry": impp.WatcherEntry,
            "watchers": impp.Watchers, "contact edit": impp.ContactEdit,
            "contact change": impp.ContactChange, "request entry": impp.RequestEntry,
            "requests": impp.Requests, "request edit": impp.RequestEdit,
            "read mark": impp.ReadMark, "read marks": impp.ReadMarks,
            "read mark edit": impp.ReadMarkEdit, "typing edit": impp.TypingEdit,
            "typing notice": impp.TypingNotice, "deletion": impp.Deletion,
            "deletion report": impp.DeletionReport, "fate report": impp.FateReport,
            "device report": impp.DeviceReport, "whereabouts": impp.Whereabouts,
            "act": impp.Act, "acts": impp.Acts, "rule trace": impp.RuleTrace}
    NUMBERS = {"things": impp.Thing, "bindings": impp.Binding,
               "subscription states": impp.State, "subscription events": impp.Event,
               "outcomes": impp.Outcome, "item kinds": impp.ItemKind, "fates": impp.Fate,
               "device events": impp.DeviceEvent, "grants": impp.Grant,
               "following": impp.Following, "request kinds": impp.RequestKind,
               "decisions": impp.Decision, "proofs": impp.Proof, "BYE reasons": impp.Reason,
               "errors": impp.Code, "sayers": impp.Sayer}

    def test_numbers_are_those_of_the_tables(self) -> None:
        tables = json.loads((ROOT / "protocol/vectors/tables.json").read_text(encoding="utf-8"))
        for name, numbers in self.NUMBERS.items():
            with self.subTest(name):
                rows = {row["number"]: row["name"] for row in tables[name]}
                self.assertEqual({int(ours): impp.label(ours) for ours in numbers}, rows)
        passing = {row["number"] for row in tables["errors"] if row["repeated"] == "transient"}
        self.assertEqual({int(code) for code in impp.PASSING}, passing)

    def test_fields_have_the_numbers_and_names_of_the_tables(self) -> None:
        tables = json.loads((ROOT / "protocol/vectors/tables.json").read_text(encoding="utf-8"))
        for name, record in {**self.KINDS, **self.MAPS}.items():
            with self.subTest(name):
                rows = {row["number"]: row["field"] for row in tables[name]}
                ours = {field.metadata["number"]: field.name.rstrip("_")
                        for field in dataclasses.fields(record)}
                self.assertEqual(ours, {number: rows[number] for number in ours})


class Documents(unittest.TestCase):
    """Documents, versions and patches."""

    def test_the_document_of_the_specification(self) -> None:
        for name in ("document", "offline"):
            encoding, version = example(name).split("encoding\n")[1].split("\nversion\n")
            octets = bytes.fromhex(encoding.replace("\n", ""))
            document = impp.Document.decode(octets)
            self.assertEqual(document.encode(), octets)
            self.assertEqual(document.version().hex(), version)

    def test_the_patch_of_the_specification(self) -> None:
        accepted = dict(vectors("accepted.txt"))
        followed = impp.Followed("alice@a.example")
        for name in ("notify-snapshot", "notify-patch"):
            told = frame(accepted[name]).command
            self.assertIs(followed.take(told), impp.Taken.CHANGED)
            self.assertEqual(followed.version, told.version)
        self.assertEqual(followed.document.person, {"note": "reading"})
        self.assertIs(followed.take(told), impp.Taken.NOTHING)

    def test_a_patch_from_another_base_asks_again(self) -> None:
        accepted = dict(vectors("accepted.txt"))
        followed = impp.Followed("alice@a.example")
        patch = frame(accepted["notify-patch"]).command
        self.assertIs(followed.take(patch), impp.Taken.ASK_AGAIN)
        followed.answered(impp.Done(state=impp.State.ACTIVE), asked_anew=True)
        self.assertIs(followed.take(patch), impp.Taken.NOTHING)
        self.assertIsNone(followed.document)

    def test_watchers_are_read_and_changed(self) -> None:
        accepted = dict(vectors("accepted.txt"))
        whole = impp.Watchers.decode(frame(accepted["notify-watchers"]).command.snapshot)
        self.assertEqual([entry.watcher for entry in whole.entries], ["bob@a.example"])
        self.assertIs(whole.entries[0].by, impp.Proof.SIGN_IN)
        change = impp.Watchers.decode(frame(accepted["notify-watchers-change"]).command.patch)
        self.assertEqual(change.gone, ("bob@a.example",))
        carol = change.entries[0]
        self.assertTrue(carol.polite and carol.proven)
        self.assertEqual((carol.looks, carol.looked), (2, 1_700_000_060_000))

    def test_a_snapshot_that_is_not_its_version_ends_it(self) -> None:
        told = frame(dict(vectors("accepted.txt"))["notify-snapshot"]).command
        other = impp.dataclasses.replace(told, version=bytes(16))
        with self.assertRaises(impp.Distrusted):
            impp.Followed("alice@a.example").take(other)

    def test_values_have_one_spelling(self) -> None:
        wrong = [("status", "away"), ("activities", "b a"), ("activities", "a a"),
                 ("priority", "0.50"), ("time-offset", "+1"), ("time-offset", "2147483648"),
                 ("note", "\u202eevil"), ("note", ""), ("timestamp", "2026-12-01T09:00:00.50Z")]
        for name, value in wrong:
            with self.subTest(name=name, value=value), self.assertRaises(impp.Malformed):
                impp.check_value(name, value)
        right = [("priority", "0.5"), ("time-offset", "-2147483648"), ("activities", "a b"),
                 ("timestamp", "2026-12-01T09:00:00.5Z")]
        for name, value in right:
            self.assertEqual(impp.check_value(name, value), value)


class Addresses(unittest.TestCase):
    """What people write, and what may be on the wire."""

    def test_people_may_write_what_they_are_used_to(self) -> None:
        for text in ("Bob@A.example", "im:bob@a.example", "PRES:%62ob@a.example"):
            self.assertEqual(impp.parse_address(text), "bob@a.example")

    def test_what_is_no_address_is_refused(self) -> None:
        for text in ("bob", "bob@127.0.0.1", "b ob@a.example", "Bob@a.example", "bob@a..example",
                     "bob@0x7f", "@a.example", "b:b@a.example", "b" * 65 + "@a.example"):
            with self.subTest(text), self.assertRaises(impp.Malformed):
                impp.check_address(text)


class SignIn(unittest.TestCase):
    """SCRAM, with and without channel binding, by the specification's example."""

    def test_both_mechanisms(self) -> None:
        said: Dict[str, List[str]] = {}
        for line in example("sign-in").splitlines():
            if line.startswith("SCRAM"):
                messages = said.setdefault(line, [])
            else:
                messages.append(line.split()[2])
        for name, exporter in (("SCRAM-SHA-256", None), ("SCRAM-SHA-256-PLUS", bytes(range(32)))):
            first, challenge, proof, final = said[name]
            scram = impp.Scram("alice@a.example", "pencil", "abc", exporter)
            self.assertEqual((scram.mechanism, scram.first.decode()), (name, first))
            self.assertEqual(scram.proof(challenge.encode()).decode(), proof)
            scram.verify(final.encode())
            with self.assertRaises(impp.Distrusted):
                scram.verify(b"v=" + b"A" * 43 + b"=")

    def test_a_ticket_is_proven_by_the_servers_end_point(self) -> None:
        accepted = dict(vectors("accepted.txt"))
        asked = frame(accepted["auth-resume-by-end-point"]).command
        done = frame(accepted["ok-resumed-by-end-point"]).command
        ticket = impp.Ticket(asked.resume, b"\x33" * 32)
        self.assertEqual(asked.binding, impp.Binding.SERVER_END_POINT)
        self.assertEqual(asked.data, ticket.proof("client", b"certificate"))
        self.assertEqual(done.data, ticket.proof("server", b"certificate"))
        self.assertEqual(impp.Ticket.read(done.resume), impp.Ticket(asked.resume, b"\x44" * 32))
        self.assertIsNone(impp.Ticket.read(b"short"))

    def test_a_challenge_that_is_none_of_ours_ends_it(self) -> None:
        salt = "s=AAECAwQFBgcICQoLDA0ODw=="
        wrong = [f"r=abc,{salt},i=4096", f"r=xyz,{salt},i=4096", f"r=abcd,{salt},i=4095",
                 f"r=abcd,{salt},i=1000001", f"r=abcd,{salt},i=4096,m=x", f"m=x,r=abcd,{salt}"]
        for challenge in wrong:
            with self.subTest(challenge), self.assertRaises(impp.Distrusted):
                impp.Scram("a@a.example", "pencil", "abc").proof(challenge.encode())


ALICE = impp.Account("alice@a.example", "pencil", bytes(15) + b"a", "a.example")
Answer = Union[impp.Record, impp.Unknown, Exception]


class Server:
    """What is at the other end, in place of `Wire`. It signs in who knows the password, and says
    to each request what `answers` says. Of these an OK or an ERROR is the answer; an exception is
    raised where the connection is read."""

    def __init__(self, answers: Callable[[impp.Record], Sequence[Answer]]) -> None:
        self.answers = answers
        self.lets_in = True
        self.features: Tuple[str, ...] = ("series",)
        self.resumes = True
        self.asked: List[impp.Record] = []
        self.numbers: List[int] = []
        self._sessions = 0
        self.heard = time.monotonic()
        self._frames: Deque[Any] = collections.deque()

    def __call__(self, *_: Any) -> "Server":
        self._frames.clear()
        return self

    def send(self, number: int, command: impp.Record) -> None:
        if isinstance(command, impp.Hello):
            self._say(0, impp.Hello(1, features=self.features, time=1_700_000_000_000))
        elif isinstance(command, impp.Auth) and command.mechanism:
            nonce = command.data.decode().rpartition("r=")[2]
            challenge = f"r={nonce}+,s=AAECAwQFBgcICQoLDA0ODw==,i=4096".encode()
            self._scram = impp.Scram(ALICE.address, ALICE.password, nonce)
            self._scram.proof(challenge)
            self._say(number, impp.Challenge(challenge))
        elif isinstance(command, impp.Auth) and not self.lets_in:
            self._say(number, impp.Error(impp.Code.AUTH_FAILED, impp.Sayer.SERVER))
        elif isinstance(command, impp.Auth) and command.resume and not self.resumes:
            self._say(number, impp.Error(impp.Code.EXPIRED, impp.Sayer.SERVER))
        elif isinstance(command, impp.Auth):
            proof = impp.Ticket(b"", bytes(32)).proof("server", self.certificate())
            self._sessions += command.resume is None
            self._say(number, impp.Done(
                data=proof if command.resume else self._scram._expected, address=ALICE.address,
                resume=bytes([self._sessions]) * 16 + bytes(32), resumed=bool(command.resume)))
        elif not isinstance(command, impp.Bye):
            self.asked.append(command)
            self.numbers.append(number)
            for said in self.answers(command):
                is_answer = isinstance(said, (impp.Done, impp.Error))
                self._say(number if is_answer else 0, said)

    def _say(self, number: int, said: Answer) -> None:
        known = isinstance(said, impp.Record)
        self._frames.append(impp.Frame(number, said) if known else said)

    def receive(self, _: float) -> Any:
        said = self._frames.popleft() if self._frames else None
        if isinstance(said, Exception):
            raise said
        return said

    def certificate(self) -> bytes:
        return b"certificate"

    def close(self) -> None:
        pass


def client_of(answers: Callable[[impp.Record], Sequence[Answer]],
              patience: float = 0) -> Tuple[impp.Client, Server]:
    """A client of such a server, which tries once, or for so many seconds."""
    server = Server(answers)
    return impp.Client(ALICE, patience=patience, connect=server), server


def told(*cursors: bytes) -> List[impp.Notify]:
    """News of the log, a page for each cursor."""
    pages = [impp.Page(cursor, b"oldest").encode() for cursor in cursors]
    return [impp.Notify(ALICE.address, impp.Thing.LOG, impp.State.ACTIVE, snapshot=page)
            for page in pages]


def item_of(body: bytes, from_: str, cursor: bytes) -> bytes:
    """An item of the log."""
    message = impp.Message(body.ljust(16), ALICE.address, body, from_=from_)
    return impp.Item(impp.ItemKind.MESSAGE, cursor, 0, message.encode()).encode()


class Later(unittest.TestCase):
    """What came after this program, or cannot be read, is passed over, and the next is read."""

    def test_an_answer_that_came_later_is_an_internal_error(self) -> None:
        newer = impp.Unknown(1 + 2, 5, "Code has no number 99")
        client, _ = client_of(lambda _: [newer])
        with self.assertRaises(impp.Refused) as refused:
            client.session().ok(impp.Ping())
        self.assertIs(refused.exception.error.code, impp.Code.INTERNAL)
        self.assertIn("no number 99", str(refused.exception))

    def test_an_item_that_cannot_be_read_keeps_nobody_from_the_next(self) -> None:
        fate = impp.put_fields({1: bytes(16), 2: b"bob@a.example", 3: 2, 4: 99})
        later = impp.put_fields({1: 3, 2: b"1", 3: 0, 5: fate})
        torn = impp.put_fields({1: 1, 2: b"2"})
        garbled = impp.put_fields({1: 1, 2: b"3", 3: 0, 4: b"no fields"})
        whole = item_of(b"hello", "bob@a.example", b"4")
        items = list(impp.Page(b"4", b"0", (later, torn, garbled, whole)).known())
        self.assertEqual([item.cursor for item in items], [b"2", b"3", b"4"])
        self.assertIs(items[0].kind, impp.ItemKind.DAMAGED)
        self.assertIsNone(items[1].read())
        self.assertEqual(items[2].read().body, b"hello")


class Connections(unittest.TestCase):
    """What a client holds, what it forgets, and where it begins again."""

    def test_pages_of_before_are_passed_over(self) -> None:
        again = [*told(b"old"), impp.Done(), *told(b"1", b"2")]

        def answers(asked: impp.Record) -> Sequence[Answer]:
            if isinstance(asked, impp.Ping):
                return [*told(b"1", b"2", b"3", b"4"), impp.Done()]
            return again if len(server.asked) > 1 else [impp.Done()]

        client, server = client_of(answers)
        client.follow_log(None)
        with mock.patch.object(impp, "EVENTS_MAX", 2):
            client.ok(impp.Ping())
            pages = [client.next(1).page.cursor for _ in range(2)]
        self.assertEqual(pages, [b"1", b"2"])

    def test_who_is_followed_no_more_is_forgotten(self) -> None:
        bob = impp.Contact("bob@a.example", impp.Grant.ALL, follow=True,
                           subscription=impp.State.ACTIVE)
        ended = impp.Notify(bob.address, impp.Thing.PRESENCE, impp.State.TERMINATED,
                            event=impp.Event.TIMEOUT)
        contacts = impp.Contacts((bob,)).encode()
        client, _ = client_of(lambda _: [impp.Done(content=contacts), ended])
        client.follow_contacts()
        states = [client.next(1).followed.state for _ in range(2)]
        self.assertIs(states[-1], impp.State.TERMINATED)
        self.assertIsNone(client.followed(bob.address))

    def test_what_is_only_shown_is_shown_as_its_number(self) -> None:
        vectors = json.loads((ROOT / "protocol/vectors/unknown.json").read_text())
        for entry in vectors["shown"]:
            if "contacts" in entry:
                shown = impp.Contacts.decode(bytes.fromhex(entry["contacts"])).entries[0].to_json()
                self.assertEqual(shown["grant"], entry["number"])
            else:
                shown = impp.Watchers.decode(bytes.fromhex(entry["watchers"])).entries[0].to_json()
                self.assertEqual(shown["by"], entry["number"])

    def test_a_cursor_that_is_worth_nothing_begins_at_the_oldest(self) -> None:
        page = impp.Page(b"1", b"0", (item_of(b"hello", "bob@a.example", b"1"),))

        def answers(asked: impp.Record) -> Sequence[Answer]:
            if asked.cursor is not None:
                return [impp.Error(impp.Code.BAD_CURSOR, impp.Sayer.SERVER)]
            is_fetch = isinstance(asked, impp.Fetch)
            return [impp.Done(content=page.encode() if is_fetch else None), *told(b"1")[is_fetch:]]

        client, _ = client_of(answers)
        self.assertEqual(list(client.read(b"of another store")), [page])
        client.follow_log(b"of another store")
        self.assertEqual(client.next(1).page.cursor, b"1")

    def test_what_is_told_of_ones_own_is_read_and_what_came_later_is_not(self) -> None:
        marks = impp.ReadMarks((impp.ReadMark("bob@a.example", b"1"),))
        news = impp.Notify(ALICE.address, impp.Thing.READ_MARKS, impp.State.ACTIVE,
                           patch=marks.encode())
        later = impp.Unknown(0, 9, "Thing has no number 99")
        client, _ = client_of(lambda _: [impp.Done(), later, news])
        client.follow_news(impp.Thing.READ_MARKS)
        self.assertEqual(client.next(1), impp.News(impp.Thing.READ_MARKS, marks, False))

    def test_what_is_behind_the_mark_is_unread(self) -> None:
        bob, carol = "bob@a.example", "carol@a.example"
        items = [item_of(b"4", carol, b"4"), item_of(b"3", bob, b"3"), item_of(b"2", bob, b"2"),
                 item_of(b"1", bob, b"1")]
        pages = {None: impp.Page(b"back", b"0", tuple(items[:2]), True),
                 b"back": impp.Page(b"end", b"0", tuple(items[2:]))}
        marks = impp.ReadMarks((impp.ReadMark(bob, b"2", b"2".ljust(16)),))

        def answers(asked: impp.Record) -> Sequence[Answer]:
            if asked.what is impp.Thing.READ_MARKS:
                return [impp.Done(content=marks.encode())]
            self.assertTrue(asked.backwards and asked.metadata)
            return [impp.Done(content=pages[asked.cursor].encode())]

        client, _ = client_of(answers)
        self.assertEqual(client.unread(), {bob: 1, carol: 1})


class Repeats(unittest.TestCase):
    """What was asked and not answered is done once."""

    RULES = impp.Publish(ALICE.address, impp.Thing.RULES, b"new", base=7)

    def setUp(self) -> None:
        self.done: List[int] = []  # The numbers under which something was done, in its order.
        self.is_cut = True
        self.keeps = True
        self.rules = impp.Done(number=7, content=b"old")
        patch = mock.patch.object(impp.time, "sleep")
        patch.start()
        self.addCleanup(patch.stop)

    def client(self) -> Tuple[impp.Client, Server]:
        """One of a server that does it, and loses the first answer."""

        def answers(asked: impp.Record) -> Sequence[Answer]:
            if isinstance(asked, impp.Fetch):
                return [self.rules]
            number = server.numbers[-1]
            if number in self.done and not self.keeps:
                return [impp.Error(impp.Code.OUT_OF_WINDOW, impp.Sayer.SERVER, forgotten=True)]
            if number not in self.done:
                self.done.append(number)
            cut, self.is_cut = self.is_cut, False
            return [impp.ConnectionLost("cut") if cut else impp.Done(number=8)]

        client, server = client_of(answers, 60)
        server.features = ("repeats",)
        return client, server

    def test_it_keeps_its_number_while_its_session_goes_on(self) -> None:
        client, server = self.client()
        client.ok(impp.Ping())
        self.is_cut = True
        self.done.clear()
        self.assertEqual(client.ok(self.RULES).number, 8)
        self.assertEqual(server.asked[-2:], [self.RULES] * 2)
        self.assertEqual((len(self.done), len(set(server.numbers[-2:]))), (1, 1))
        client.ok(impp.Ping())
        self.assertGreater(server.numbers[-1], server.numbers[-2])

    def test_without_its_session_it_is_looked_for(self) -> None:
        for shown, done in ((b"new", 1), (b"old", 2)):
            self.setUp()
            self.rules = impp.Done(number=8, content=shown)
            client, server = self.client()
            server.resumes = False
            self.assertEqual(client.ok(self.RULES).number, 8)
            self.assertEqual(len(self.done), done)

    def test_what_the_server_has_forgotten_is_looked_for(self) -> None:
        self.keeps = False
        self.rules = impp.Done(number=8, content=b"new")
        client, server = self.client()
        self.assertEqual(client.ok(self.RULES).number, 8)
        self.assertEqual((len(self.done), server.asked[-1]),
                         (1, impp.Fetch(ALICE.address, impp.Thing.RULES)))

    def test_a_server_that_knows_no_repeats_is_asked_under_new_numbers(self) -> None:
        client, server = self.client()
        server.features = ()
        client.ok(impp.Ack(ALICE.address, b"1"))
        self.assertEqual(len(self.done), 2)

    def test_a_ping_says_what_was_answered(self) -> None:
        self.is_cut = False
        client, server = self.client()
        client.ok(self.RULES)
        with mock.patch.object(impp.Session, "idle", 0.05):
            client.session().next(0.01)
            server.heard = time.monotonic() + 60
            client.session()._changed -= 1
            client.session().next(0)
        self.assertEqual(server.asked[-1], impp.Ping(server.numbers[-2]))


class Outboxes(unittest.TestCase):
    """What waits in an outbox keeps its order, and its ids once it was tried."""

    def setUp(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.addCleanup(self._folder.cleanup)
        self.outbox = impp.Outbox(Path(self._folder.name) / "alice.toml")
        self.folder = Path(self._folder.name) / "alice.toml.py-outbox"
        self.first = impp.Message(impp.NO_ID, "bob@a.example", b"first")
        self.edit = impp.Publish(ALICE.address, impp.Thing.CONTACTS,
                                 impp.ContactEdit(remove="bob@a.example").encode(), base=7)

    def test_a_message_that_may_have_left_keeps_its_id(self) -> None:
        self.outbox.put(self.first)
        self.outbox.put(self.edit)
        lost = impp.ConnectionLost("cut")
        client, server = client_of(lambda _: [lost])
        with self.assertRaises(impp.ConnectionLost):
            list(self.outbox.send(client))
        tried = server.asked[0]
        self.assertNotEqual(tried.id, impp.NO_ID)
        client, server = client_of(lambda _: [impp.Done()])
        sent = [command for command, _ in self.outbox.send(client)]
        self.assertEqual((sent, server.asked), ([tried, self.edit], [tried, self.edit]))
        self.assertEqual(self.outbox.paths(), [])

    def test_a_message_of_which_nothing_is_kept_any_more_keeps_its_id(self) -> None:
        self.outbox.put(self.first)
        forgotten = impp.Error(impp.Code.OUT_OF_WINDOW, impp.Sayer.SERVER, forgotten=True)
        other = dataclasses.replace(self.first, to="carol@a.example")
        for command in (other, self.edit):
            self.outbox.put(command)
        client, server = client_of(lambda asked: [
            forgotten if getattr(asked, "to", None) == "bob@a.example" else impp.Done()], 9)
        sent = [command for command, _ in self.outbox.send(client)]
        self.assertEqual(sent, [server.asked[-2], self.edit])
        (path,) = self.outbox.paths()
        self.assertEqual(self.outbox.load(path), server.asked[0])

    def test_who_has_no_room_holds_up_nobody_else(self) -> None:
        other = dataclasses.replace(self.first, to="carol@a.example")
        for sayer in impp.Sayer:
            full = impp.Error(impp.Code.FULL, sayer)
            for message in (self.first, self.first, other):
                self.outbox.put(message)
            client, server = client_of(
                lambda asked, full=full: [full if asked.to == "bob@a.example" else impp.Done()], 9)
            sent = [command.to for command, _ in self.outbox.send(client)]
            self.assertEqual((sent, len(server.asked)), (["carol@a.example"], 2))
            self.assertEqual(len(self.outbox.paths()), 2)
            for path in self.outbox.paths():
                path.unlink()

    def test_a_message_of_a_day_ago_is_unknown_and_not_sent(self) -> None:
        now = 1_700_000_000_000
        for age in (impp.ASKED_MILLIS_MAX - 60_000, impp.ASKED_MILLIS_MAX + 60_000):
            self.outbox.put(dataclasses.replace(self.first, id=impp.new_id(now - age)))
        client, server = client_of(lambda _: [impp.Done()])
        answers = [type(answer) for _, answer in self.outbox.send(client)]
        self.assertEqual(answers, [impp.Done, impp.Unanswered])
        self.assertEqual((len(server.asked), self.outbox.paths()), (1, []))

    def test_what_a_program_of_before_may_have_done_is_looked_for(self) -> None:
        raised = impp.ContactEdit(change=impp.ContactChange(
            "bob@a.example", grant=impp.Grant.ALL, add=True))
        edit = dataclasses.replace(self.edit, content=raised.encode())
        self.outbox.put(edit)
        client, _ = client_of(lambda _: [impp.ConnectionLost("cut")])
        with self.assertRaises(impp.ConnectionLost):
            list(self.outbox.send(client))
        bob = impp.Contact("bob@a.example", impp.Grant.ALL)
        listed = impp.Done(number=9, content=impp.Contacts((bob,)).encode())
        client, server = client_of(lambda _: [listed])
        self.assertEqual(list(self.outbox.send(client)), [(edit, impp.Done(number=9))])
        self.assertEqual([type(asked) for asked in server.asked], [impp.Fetch])

    def test_what_is_refused_waits_no_more_and_what_cannot_be_read_stays(self) -> None:
        self.outbox.put(self.first)
        (self.folder / "000000000000.frame").write_bytes(b"torn")
        refused = impp.Error(impp.Code.NOT_FOUND, impp.Sayer.SERVER)
        client, _ = client_of(lambda _: [refused])
        self.assertEqual([answer for _, answer in self.outbox.send(client)], [refused])
        self.assertEqual([path.name for path in self.outbox.paths()], ["000000000000.frame"])

    def test_who_is_not_let_in_has_sent_nothing(self) -> None:
        self.outbox.put(self.first)
        client, server = client_of(lambda _: [impp.Done()])
        server.lets_in = False
        with self.assertRaises(impp.NotLetIn):
            list(self.outbox.send(client))
        self.assertEqual(self.outbox.load(self.outbox.paths()[0]), self.first)

    def test_a_change_that_has_to_wait_holds_up_changes_alone(self) -> None:
        for command in (self.edit, self.edit, self.first):
            self.outbox.put(command)
        busy = impp.Error(impp.Code.BUSY, impp.Sayer.SERVER)
        client, server = client_of(
            lambda asked: [busy if isinstance(asked, impp.Publish) else impp.Done()])
        list(self.outbox.send(client))
        self.assertEqual([type(asked) for asked in server.asked], [impp.Publish, impp.Message])
        self.assertEqual(len(self.outbox.paths()), 2)

    def test_what_no_time_mends_ends_and_a_repeated_removal_is_done(self) -> None:
        add = impp.ContactEdit(change=impp.ContactChange("bob@a.example", add=True))
        self.outbox.put(dataclasses.replace(self.edit, content=add.encode()))
        full = impp.Error(impp.Code.FULL, impp.Sayer.SERVER)
        client, _ = client_of(lambda _: [full])
        self.assertEqual([answer for _, answer in self.outbox.send(client)], [full])
        self.outbox.put(self.edit)
        gone = impp.Error(impp.Code.NOT_FOUND, impp.Sayer.SERVER)
        client, _ = client_of(lambda _: [gone])
        self.assertEqual([answer for _, answer in self.outbox.send(client)], [impp.Done()])
        self.assertEqual(self.outbox.paths(), [])

    def test_a_change_that_was_tried_a_day_ago_is_unknown_and_not_sent(self) -> None:
        self.outbox.put(self.edit)
        client, _ = client_of(lambda _: [impp.ConnectionLost("cut")])
        with self.assertRaises(impp.ConnectionLost):
            list(self.outbox.send(client))
        (path,) = self.outbox.paths()
        tried = int(path.name.split(".")[1])
        over = tried + impp.ASKED_MILLIS_MAX
        self.assertFalse(self.outbox.is_unknown(path, self.edit, over - 1))
        self.assertTrue(self.outbox.is_unknown(path, self.edit, over))
        path.rename(path.with_name(f"{path.name[:12]}.{tried - 2 * impp.ASKED_MILLIS_MAX}.frame"))
        client, server = client_of(lambda _: [impp.Done()])
        (told,) = [answer for _, answer in self.outbox.send(client)]
        self.assertIsInstance(told, impp.Unanswered)
        self.assertEqual((server.asked, self.outbox.paths()), ([], []))

    def test_an_edit_is_made_on_what_was_shown_and_done_before_it(self) -> None:
        shown, bob = impp.Shown(Path(self._folder.name) / "alice.toml"), "bob@a.example"
        shown.edited(bob, 5)
        self.assertIsNone(shown.base(bob))
        shown.whole(7)
        add = impp.ContactEdit(change=impp.ContactChange(bob, add=True))
        for edit in (self.edit, dataclasses.replace(self.edit, content=add.encode())):
            self.outbox.put(edit)
        numbers = iter((9, 10))
        client, server = client_of(lambda _: [impp.Done(number=next(numbers))])
        list(self.outbox.send(client))
        self.assertEqual([asked.base for asked in server.asked], [7, 9])
        self.assertEqual((shown.base(bob), shown.base("carol@a.example")), (10, 7))

    def behind_a_removal(self) -> List[Optional[int]]:
        """What an edit is made on that is behind a removal which was tried and is found done."""
        self.outbox.put(self.edit)
        change = impp.ContactEdit(change=impp.ContactChange("bob@a.example", add=True))
        self.outbox.put(dataclasses.replace(self.edit, content=change.encode()))
        client, _ = client_of(lambda _: [impp.ConnectionLost("cut")])
        with self.assertRaises(impp.ConnectionLost):
            list(self.outbox.send(client))
        listed = impp.Done(number=11, content=impp.Contacts(()).encode())
        client, server = client_of(
            lambda asked: [listed if isinstance(asked, impp.Fetch) else impp.Done(number=12)], 9)
        list(self.outbox.send(client))
        return [asked.base for asked in server.asked if isinstance(asked, impp.Publish)]

    def test_a_removal_that_is_found_done_tells_no_number(self) -> None:
        # Another device may have added them at 10 and removed them at 11.
        self.assertEqual(self.behind_a_removal(), [7])

    def test_what_grants_stays_on_the_list_on_which_that_was_decided(self) -> None:
        self.outbox.put(self.edit)
        for grant in (impp.Grant.ALL, None):
            change = impp.ContactChange("bob@a.example", grant=grant, add=True)
            content = impp.ContactEdit(change=change).encode()
            self.outbox.put(dataclasses.replace(self.edit, content=content))
        numbers = iter((9, 10, 11))
        client, server = client_of(lambda _: [impp.Done(number=next(numbers))], 9)
        list(self.outbox.send(client))
        self.assertEqual([asked.base for asked in server.asked], [7, 7, 10])

    def test_what_was_not_done_is_said_whole(self) -> None:
        add = impp.ContactEdit(change=impp.ContactChange("bob@a.example", "Bob", add=True))
        edit = dataclasses.replace(self.edit, content=add.encode())
        full = impp.Error(impp.Code.FULL, impp.Sayer.SERVER)
        dropped = impp.Done(dropped=True)
        for command, answer, key in ((edit, full, "wanted"), (edit, dropped, "wanted"),
                                     (self.first, full, "body"),
                                     (self.first, impp.Unanswered(), "body"),
                                     (edit, impp.Done(), None), (self.first, impp.Done(), None)):
            with mock.patch.object(impp, "say") as say:
                impp.say_done(command, answer)
            said = {name: value for name, value in say.call_args[1].items() if value is not None}
            if command is edit:
                self.assertEqual(said["about"], "bob@a.example")
            self.assertEqual({"wanted", "body"} & set(said), {key} - {None}, (command, answer))
            if key == "wanted":
                self.assertEqual(said[key]["change"]["name"], "Bob")
            elif key:
                self.assertEqual(said[key], "first")

    def test_it_is_its_owners_alone_and_one_programs_at_a_time(self) -> None:
        self.outbox.put(self.first)
        modes = {path.stat().st_mode & 0o777 for path in self.folder.iterdir()}
        self.assertEqual((self.folder.stat().st_mode & 0o777, modes), (0o700, {0o600}))
        with self.outbox.locked(), (self.folder / "lock").open() as lock:
            with self.assertRaises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


if __name__ == "__main__":
    unittest.main()
