#!/usr/bin/env python3
"""The formats as receivers read them: the bodies of `cloudevents` and `cloudevents-binary` parse with PyPI's `cloudevents` library,
in its present and in its older interface, into the event that was handed in; `standard` is what Standard Webhooks recommends.

Random events go through the running binary: some of a producer's own, some written by that library, which must leave as the
same ones. With JSON, text, bytes, and without data.
"""

import base64
import json
import os
import random
import socket
import sys
from datetime import datetime, timedelta, timezone
from urllib.parse import unquote

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "harness"))
from daemon import Daemon, Receiver, run_in

run_in("cloudevents==2.2.0", "standardwebhooks==1.1.0")

from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.http import from_http as old_from_http
from standardwebhooks.webhooks import Webhook

EVENTS = 60
FORMATS = ("cloudevents", "cloudevents-binary", "standard")
SECRET = "whsec_" + base64.b64encode(b"a key of thirty-two random bytes").decode()
WORDS = ["sale", "ü€ 𝄞", "50 %", 'a "quoted" word', "päckchen/7", "tab\tless", "=?#&"]


def moment(chance):
    then = datetime(2026, 1, 31, 9, 30, tzinfo=timezone.utc) + timedelta(milliseconds=chance.randrange(10**10))
    return then, then.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def payload(chance):
    """Data with its content type: as the library has it, and as a producer's line has it."""
    kind = chance.randrange(4)
    if kind == 0:
        text = "".join(chance.choice(WORDS) for _ in range(4))
        line = {"data_base64": base64.b64encode(text.encode()).decode(), "content_type": "text/plain"}
        return text, "text/plain", line
    if kind == 1:
        data = chance.randbytes(chance.randrange(1, 500))
        line = {"data_base64": base64.b64encode(data).decode(), "content_type": "application/octet-stream"}
        return data, "application/octet-stream", line
    data = {"amount": "5.00", "count": chance.randrange(10**9), "words": [chance.choice(WORDS)], "none": None}
    return data, "application/json", {"data": data}


def own(chance, number):
    """A producer's own event: its line, and the attributes and the data that must come out."""
    data, content_type, members = payload(chance)
    then, text = moment(chance)
    line = {"type": f"cloud.own-{number}", "time": text, "source": "till/7", "key": chance.choice(WORDS).replace("\t", " ")}
    wanted = {"type": line["type"], "time": then, "source": "till/7", "partitionkey": line["key"]}
    return {**line, **members}, wanted | {"datacontenttype": content_type}, data


def foreign(chance, number):
    """One that the library has written, in JSON; it must leave as the same one."""
    data, content_type, _ = payload(chance)
    then, _ = moment(chance)
    attributes = {
        # An id is printable ASCII here.
        "id": f'{number} 50 % "odd" {chance.randrange(10**6)}',
        "source": f"https://shop.example/{chance.randrange(10**6)}?x=%20",
        "type": f"cloud.foreign-{number}",
        "time": then,
        "subject": chance.choice(WORDS),
        "datacontenttype": content_type,
        "note": chance.choice(WORDS),
        "priority": chance.randrange(100),
        "dry": chance.choice([True, False]),
    }
    if chance.randrange(6) == 0:
        del attributes["datacontenttype"]
        data = None
    written = json.loads(http.to_structured_event(CloudEvent(dict(attributes), data)).body)
    return written, attributes, data


def text_of(value):
    """An attribute as text: in a header nothing else is left of it."""
    return json.dumps(value) if isinstance(value, bool) else str(value)


class Checks:
    def __init__(self):
        self.passed, self.faults = 0, []

    def same(self, found, wanted, what):
        if found == wanted:
            self.passed += 1
        else:
            self.faults.append(f"{what}: {found!r}, not {wanted!r}")

    def cloud(self, name, headers, body, wanted, data):
        message = http.HTTPMessage(headers, body)
        read = http.from_http_event(message)
        is_binary = name == "cloudevents-binary"
        attributes = {key: value for key, value in read.get_attributes().items() if value is not None}
        expected = {**wanted, "specversion": "1.0"}
        if data is None and is_binary:
            # A request has a Content-Type also where it has no body.
            attributes.pop("datacontenttype", None)
        if is_binary:
            attributes, expected = ({key: text_of(value) for key, value in it.items()} for it in (attributes, expected))
        self.same(attributes, expected, f"{name}: attributes")
        # Text that is not JSON leaves a structured body as bytes.
        found = read.get_data() or None
        self.same(found, data.encode() if isinstance(found, bytes) and isinstance(data, str) else data, f"{name}: data")
        # The library's older interface leaves a header's escapes to its caller.
        old, plain = old_from_http(headers, body), unquote if is_binary else str
        found = {key: plain(old[key]) for key in ("id", "type", "source")}
        self.same(found, {key: expected[key] for key in found}, f"{name}: the older interface")

    def standard(self, headers, body, wanted, data):
        Webhook(SECRET).verify(body.decode(), headers)
        read = json.loads(body)
        self.same(list(read), ["type", "timestamp", "data"], "standard: members")
        self.same(read["type"], wanted["type"], "standard: type")
        self.same(datetime.fromisoformat(read["timestamp"]), wanted["time"], "standard: timestamp")
        if isinstance(data, (str, bytes)):
            data = data.encode() if isinstance(data, str) else data
            data = {"content_type": wanted["datacontenttype"], "data_base64": base64.b64encode(data).decode()}
        self.same(read["data"], data, "standard: data")


def main():
    seed = int(os.environ.get("POSTRIDER_SEED", random.SystemRandom().randrange(2**32)))
    chance = random.Random(seed)
    print(f"POSTRIDER_SEED={seed}")
    checks = Checks()
    made = [(own if number % 2 else foreign)(chance, number) for number in range(EVENTS)]
    by_type = {wanted["type"]: (wanted, data) for _, wanted, data in made}
    with Receiver() as receiver, Daemon("[confirmation]\nmode = 'off'") as daemon:
        ids = []
        for name in FORMATS:
            signature = {"preset": "standard", "secret": SECRET}
            further = {"http_endpoint_url": f"{receiver.url}/{name}", "format": name, "signature": signature}
            ids.append(daemon.must("POST", "/v1/destinations/webhook", {"name": name, **further})["id"])
        daemon.must("POST", "/v1/subscriptions/cloud.*", {"destinations": ids})
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(daemon.folder / "ingest.sock"))
            connection.sendall(b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line, _, _ in made))
            connection.shutdown(socket.SHUT_WR)
            told = [json.loads(line) for line in connection.makefile("rb")]
        assert len(told) == EVENTS and all(line["ok"] for line in told), told
        for (_, wanted, _), line in zip(made, told):
            wanted.setdefault("id", line["id"])
        seen = set()
        while len(seen) < EVENTS * len(FORMATS):
            _, path, headers, body = receiver.next()
            headers = {name.lower(): value for name, value in headers.items()}
            name = path.removeprefix("/")
            if headers["x-webhook-delivery"] in seen:
                # Delivery is at least once.
                continue
            seen.add(headers["x-webhook-delivery"])
            wanted, data = by_type[headers["x-webhook-event"]]
            if name == "standard":
                checks.standard(headers, body, wanted, data)
            else:
                checks.cloud(name, headers, body, wanted, data)
    for fault in checks.faults[:10]:
        print(fault)
    print(f"{checks.passed} passed, {len(checks.faults)} failed, 0 skipped")
    return 1 if checks.faults else 0


if __name__ == "__main__":
    sys.exit(main())
