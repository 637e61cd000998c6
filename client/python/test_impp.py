"""The codec, documents and SCRAM of impp.py against protocol/vectors/ and docs/protocol.md.

`python3 -m unittest discover client/python`, from the repository's root or anywhere else.
"""

import dataclasses
import json
import re
import unittest
from pathlib import Path
from typing import Dict, List, Tuple

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


class Tables(unittest.TestCase):
    """The tables that the server is made from are those that are written here."""

    KINDS = dict(zip(
        ("HELLO", "AUTH", "CHALLENGE", "OK", "ERROR", "PUBLISH", "SUBSCRIBE", "FETCH", "NOTIFY",
         "MESSAGE", "ACK", "PING", "BYE"), impp.COMMANDS))
    MAPS = {"held version": impp.HeldVersion, "short page": impp.ShortPage, "page": impp.Page,
            "item": impp.Item, "contact": impp.Contact, "contacts": impp.Contacts,
            "explanation": impp.Explanation, "watcher entry": impp.WatcherEntry}

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


if __name__ == "__main__":
    unittest.main()
