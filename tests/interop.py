#!/usr/bin/env python3
"""What the daemon signs verifies with the official Standard Webhooks libraries, and every other preset with a computation
that shares no code with it (PROMISES P15: proves S2.54, S2.57, SX.2 from outside).

Random bodies go through the running binary: emitted on the socket, delivered, verified by the receiver. With
POSTRIDER_FULL=1 the library of npm verifies the same deliveries too.
"""

import base64
import hashlib
import hmac
import json
import os
import random
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "harness"))
from daemon import BUILT, SKIPPED, Daemon, Receiver, run_in

run_in("standardwebhooks==1.1.0", "cryptography==50.0.2")

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

BODIES = 200
BINARY_BODIES = 20
TEXT_KEY = "a key with $igns, spaces and ümlauts"
HEX_KEY = "00112233445566778899aabbccddeeff" * 2


def whsec(chance):
    return "whsec_" + base64.b64encode(chance.randbytes(24)).decode()


def random_json(chance, depth=0):
    """Any JSON on one line, written as its producer happened to write it: spaces, escapes, any order, numbers in many forms."""
    kind = chance.randrange(8 if depth < 4 else 6)
    if kind == 0:
        return chance.choice(["true", "false", "null"])
    if kind == 1:
        return chance.choice(["0", "-0", "1e400", "5.00", "12345678901234567890", "-1.5E-7", str(chance.randint(-9999, 9999))])
    if kind < 6:
        return random_text(chance)
    space = lambda: chance.choice(["", "", " ", "    ", "\t"])
    inner = [space() + random_json(chance, depth + 1) + space() for _ in range(chance.randrange(6))]
    if kind == 6:
        return "[" + ",".join(inner) + "]"
    return "{" + ",".join(f"{space()}{random_text(chance)}{space()}:{value}" for value in inner) + "}"


def random_text(chance):
    alphabet = ["a", "Z", " ", "ü", "€", "𝄞", "\\u00e9", "\\ud834\\udd1e", "\\n", "\\\"", "\\/", "<", "&", "\x7f", "​"]
    return '"' + "".join(chance.choice(alphabet) for _ in range(chance.randrange(24))) + '"'


def mac(key, *parts, algorithm=hashlib.sha256):
    return hmac.new(key, b"".join(part if isinstance(part, bytes) else part.encode() for part in parts), algorithm)


# What each preset must write: its header, and the value from the key, the URL, the headers that came, and the body.
TEXT = TEXT_KEY.encode()


def stripe_like(url, headers, body):
    stamp = headers["x-webhook-timestamp"]
    return f"t={stamp},v1={mac(TEXT, stamp, '.', body).hexdigest()}"


def nmi_like(url, headers, body):
    nonce = headers["webhook-signature"].removeprefix("t=").split(",")[0]
    assert len(nonce) >= 16, f"a nonce of {len(nonce)} characters"
    return f"t={nonce},s={mac(TEXT, nonce, '.', body).hexdigest()}"


PRESETS = {
    "x-signature": ("x-signature", lambda url, headers, body: mac(TEXT, body).hexdigest()),
    "x-webhook-signature": ("x-webhook-signature", lambda url, headers, body: mac(TEXT, body).hexdigest()),
    "stripe-like": ("stripe-signature", stripe_like),
    "github-like": ("x-hub-signature-256", lambda url, headers, body: "sha256=" + mac(TEXT, body).hexdigest()),
    "authorize-net-like": (
        "x-anet-signature",
        lambda url, headers, body: "sha512=" + mac(TEXT, body, algorithm=hashlib.sha512).hexdigest().upper(),
    ),
    "nmi-like": ("webhook-signature", nmi_like),
    "square-like": (
        "x-square-hmacsha256-signature",
        lambda url, headers, body: base64.b64encode(mac(TEXT, url, body).digest()).decode(),
    ),
    "adyen-like": (
        "hmacsignature",
        lambda url, headers, body: base64.b64encode(mac(bytes.fromhex(HEX_KEY), body).digest()).decode(),
    ),
    "checkout-like": ("cko-signature", lambda url, headers, body: mac(TEXT, body).hexdigest()),
    "gocardless-like": ("webhook-signature", lambda url, headers, body: mac(TEXT, body).hexdigest()),
}

CUSTOM = {
    "preset": "custom",
    "header": "X-Ours",
    "prefix": "at {ts} ",
    "message": "{method} {url} {id}|{ts}|{body}",
    "algorithm": "sha512",
    "encoding": "base64",
    "key_encoding": "base64",
    "secret": base64.b64encode(TEXT).decode(),
}


def custom(url, headers, body):
    stamp = headers["x-webhook-timestamp"]
    message = ("POST ", url, " ", headers["x-webhook-id"], "|", stamp, "|", body)
    return f"at {stamp} {base64.b64encode(mac(TEXT, *message, algorithm=hashlib.sha512).digest()).decode()}"


class Checks:
    """The deliveries that were looked at, and what is wrong with any."""

    def __init__(self):
        self.passed, self.faults, self.seen = 0, [], set()

    def note(self, right, what):
        if right:
            self.passed += 1
        else:
            self.faults.append(what)


def destination(daemon, receiver, name, signature):
    wanted = {"name": name, "http_endpoint_url": f"{receiver.url}/{name}", "signature": signature, "confirmed": True}
    return daemon.must("POST", "/v1/destinations/webhook", wanted)["id"]


def emit(daemon, lines):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(daemon.folder / "ingest.sock"))
        connection.sendall(b"".join(lines))
        connection.shutdown(socket.SHUT_WR)
        answers = connection.makefile("rb").read().splitlines()
    wrong = [answer for answer in answers if not json.loads(answer)["ok"]]
    assert len(answers) == len(lines) and not wrong, f"{len(answers)} answers to {len(lines)} events; refused: {wrong}"


def json_line(kind, producer_id, body):
    return f'{{"type":"{kind}","id":"{producer_id}","data":{body}}}\n'.encode()


def binary_line(producer_id, body):
    data = base64.b64encode(body).decode()
    content_type = "application/octet-stream"
    event = {"type": "interop.binary", "id": producer_id, "data_base64": data, "content_type": content_type}
    return json.dumps(event).encode() + b"\n"


def check(checks, name, url, headers, body, secrets):
    if name == "standard":
        return check_standard(checks, headers, body, secrets)
    if name == "ed25519":
        message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        version, _, code = headers["webhook-signature"].partition(",")
        try:
            secrets["ed25519"].public_key().verify(base64.b64decode(code), message)
            right = version == "v1a"
        except InvalidSignature:
            right = False
        return checks.note(right, f"ed25519: {headers}")
    header, compute = PRESETS.get(name) or ("x-ours", custom)
    found, wanted = headers.get(header), compute(url, headers, body)
    checks.note(found == wanted, f"{name}: {header} is {found}, not {wanted}")


def check_standard(checks, headers, body, secrets):
    """Every secret that is valid now must verify on its own: a receiver has one of them."""
    for secret in secrets["standard"]:
        try:
            text = body.decode()
        except UnicodeDecodeError:
            # The library takes text only.
            key = base64.b64decode(secret.removeprefix("whsec_"))
            message = (headers["webhook-id"], ".", headers["webhook-timestamp"], ".", body)
            code = "v1," + base64.b64encode(mac(key, *message).digest()).decode()
            checks.note(code in headers["webhook-signature"].split(" "), f"standard: {headers}")
            continue
        try:
            Webhook(secret).verify(text, headers)
            right = True
        except WebhookVerificationError:
            right = False
        except json.JSONDecodeError:
            # The signature was right: the library reads the body as JSON only after that.
            right = True
        checks.note(right, f"standard: {headers} with {len(text)} characters")
    try:
        Webhook(secrets["foreign"]).verify(body.decode(errors="replace"), headers)
        checks.note(False, "standard: a foreign secret verifies")
    except WebhookVerificationError:
        checks.note(True, "")


NODE = """
import { Webhook } from "standardwebhooks";
import { readFileSync } from "node:fs";
let passed = 0, failed = 0;
for (const line of readFileSync(0, "utf8").trim().split("\\n")) {
  const { secret, headers, body } = JSON.parse(line);
  try { new Webhook(secret).verify(Buffer.from(body, "base64"), headers); passed++; }
  catch (error) { if (error instanceof SyntaxError) passed++; else { failed++; console.error(String(error)); } }
}
console.log(JSON.stringify({ passed, failed }));
"""


def check_with_node(checks, deliveries):
    folder = BUILT / "node/standardwebhooks"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "node_modules/standardwebhooks").exists():
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), "standardwebhooks@1.1.1"]
        if subprocess.run(command).returncode != 0:
            return False
    script = folder / "verify.mjs"
    script.write_text(NODE)
    lines = "\n".join(json.dumps(delivery) for delivery in deliveries)
    ran = subprocess.run(["node", script], input=lines, capture_output=True, text=True, check=True)
    counted = json.loads(ran.stdout)
    checks.passed += counted["passed"]
    checks.faults += [f"npm: {line}" for line in ran.stderr.splitlines()]
    assert counted["passed"] + counted["failed"] == len(deliveries)
    return True


def main():
    seed = int(os.environ.get("POSTRIDER_SEED", random.SystemRandom().randrange(2**32)))
    chance = random.Random(seed)
    print(f"POSTRIDER_SEED={seed}")
    checks, for_node = Checks(), []
    ed25519 = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
    secrets = {"standard": [whsec(chance)], "foreign": whsec(chance), "ed25519": ed25519}
    with Receiver() as receiver, Daemon() as daemon:
        ids = {"standard": destination(daemon, receiver, "standard", {"preset": "standard", "secret": secrets["standard"][0]})}
        seed_bytes = base64.b64encode(ed25519.private_bytes_raw()).decode()
        ids["ed25519"] = destination(daemon, receiver, "ed25519", {"preset": "standard", "secret": f"whsk_{seed_bytes}"})
        for name in PRESETS:
            secret = HEX_KEY if name == "adyen-like" else TEXT_KEY
            ids[name] = destination(daemon, receiver, name, {"preset": name, "secret": secret})
        ids["custom"] = destination(daemon, receiver, "custom", CUSTOM)
        daemon.must("POST", "/v1/subscriptions/interop.*", {"destinations": list(ids.values())})
        texts = [random_json(chance) for _ in range(BODIES)]
        binaries = [chance.randbytes(chance.randrange(1, 2000)) for _ in range(BINARY_BODIES)]
        lines = [json_line("interop.json", f"json-{number}", text) for number, text in enumerate(texts)]
        lines += [binary_line(f"binary-{number}", body) for number, body in enumerate(binaries)]
        emit(daemon, lines)
        sent = {text.encode() for text in texts} | set(binaries)
        take(receiver, checks, len(lines) * len(ids), sent, secrets, for_node)
        rotate(daemon, receiver, ids["standard"], checks, chance, secrets, for_node)
        skipped = 0
        if os.environ.get("POSTRIDER_FULL") == "1":
            skipped = 0 if check_with_node(checks, for_node) else 1
    for fault in checks.faults[:10]:
        print(fault)
    print(f"{checks.passed} passed, {len(checks.faults)} failed, {skipped} skipped")
    return 1 if checks.faults else 0


def take(receiver, checks, deliveries, sent, secrets, for_node):
    """So many deliveries, each checked; each body is one that was sent, byte for byte (SX.1).

    Delivery is at least once: where an answer was lost, the same delivery comes again, as a later attempt.
    """
    seen = checks.seen
    until = len(seen) + deliveries
    while len(seen) < until:
        method, path, headers, body = receiver.next()
        headers = {name.lower(): value for name, value in headers.items()}
        name = path.removeprefix("/")
        delivery = headers["x-webhook-delivery"]
        if delivery in seen:
            checks.note(int(headers["x-webhook-attempt"]) > 1, f"{name}: {delivery} was sent twice in one attempt")
            continue
        seen.add(delivery)
        checks.note(method == "POST" and body in sent, f"{name}: a body that nobody sent")
        check(checks, name, receiver.url + path, headers, body, secrets)
        if name == "standard" and headers["content-type"] == "application/json":
            # The library of npm takes text only, too.
            kept = {name: headers[name] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
            for_node += [
                {"secret": secret, "headers": kept, "body": base64.b64encode(body).decode()} for secret in secrets["standard"]
            ]


def rotate(daemon, receiver, id, checks, chance, secrets, for_node):
    """During the overlap a receiver with either secret can verify; afterwards only one with the new can."""
    path = f"/v1/destinations/webhook/{id}/secret/rotate"
    answer = daemon.must("POST", path, {"overlap": "24h"})
    secrets["standard"].append(answer["secret"])
    send_some(daemon, receiver, id, checks, chance, secrets, for_node)
    # Rotating once more without an overlap ends both.
    answer = daemon.must("POST", path, {"overlap": "0s"})
    secrets["foreign"], secrets["standard"] = secrets["standard"][-1], [answer["secret"]]
    send_some(daemon, receiver, id, checks, chance, secrets, for_node)


def send_some(daemon, receiver, id, checks, chance, secrets, for_node):
    kind = f"rotation.{chance.randrange(10**9)}"
    daemon.must("POST", f"/v1/subscriptions/{kind}", {"destinations": [id]})
    bodies = [json.dumps({"number": number, "amount": "5.00"}) for number in range(20)]
    emit(daemon, [json_line(kind, f"{kind}-{number}", body) for number, body in enumerate(bodies)])
    take(receiver, checks, len(bodies), {body.encode() for body in bodies}, secrets, for_node)


if __name__ == "__main__":
    sys.exit(main())
