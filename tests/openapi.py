#!/usr/bin/env python3
"""The admin API of a running daemon, driven by what its OpenAPI document promises (schemathesis).

Cases are generated from the document: its examples, values at the edges of each bound, random ones, and such as break
one rule. No answer may be a 5xx, or have a status, content type, header or body that the document does not describe; what
breaks the document's rules must be refused, and so must whoever shows no key. In a full run only (minutes).

POSTRIDER_SEED and POSTRIDER_EXAMPLES ask for another run.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "harness"))
from daemon import SKIPPED, Daemon, Receiver, run_in, wait_for

SEED = int(os.environ.get("POSTRIDER_SEED", "20260131"))
EXAMPLES = int(os.environ.get("POSTRIDER_EXAMPLES", "12"))
EACH = 60
WEBHOOKS = "/v1/destinations/webhook"

CONFIG = """
seed = {seed}
hooks = "openapi_hooks"
suppress-health-check = ["filter_too_much", "too_slow"]
[generation]
max-examples = {examples}
database = "none"
with-security-parameters = false
[phases.stateful]
enabled = false
[auth.openapi]
apiKey = {{ api_key = "{key}" }}
[checks]
# The document tells shapes and bounds; whether a host may be reached or a name is taken it cannot tell.
positive_data_acceptance = {{ enabled = false }}
[[operations]]
# A stream without an end; the tests in Rust read it.
include-operation-id = "tail"
enabled = false
"""


def closed_port():
    """A port of this machine where nobody listens: bound, and never listened on."""
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    return holder, holder.getsockname()[1]


def furnish(daemon, receiver, dead_url):
    """Things of every kind, to look at and to delete."""
    made = {"destination": [], "subscription": [], "tenant": [], "key": [], "event-type": [], "signing-key": []}
    must = daemon.must
    for tenant in ("shop", "branch"):
        must("POST", "/v1/tenants", {"id": tenant, "parent": "default"})
    for number in range(EACH):
        made["tenant"].append(must("POST", "/v1/tenants", {"id": f"spare-{number}"})["id"])
        made["key"].append(must("POST", "/v1/keys", {"role": "read", "tenant": None, "name": f"Till {number}"})["id"])
        source = {"kind": "source", "name": f"Till {number}"}
        made["signing-key"].append(must("POST", "/v1/signing-keys", source)["id"])
        made["event-type"].append(must("POST", "/v1/event-types", {"name": f"spare.{number}"})["name"])
        url = receiver.url if number < 2 else dead_url
        retry = {"delays": ["1s"], "attempts_max": 1}
        wanted = {"name": f"Ledger {number}", "http_endpoint_url": url, "confirmed": True, "retry": retry}
        made["destination"].append(must("POST", WEBHOOKS, wanted)["id"])
        linked = {"destinations": made["destination"][-1:] if number < 4 else []}
        made["subscription"].append(must("POST", "/v1/subscriptions/transaction", linked)["id"])
    # Two that answer, one where nobody listens, one that is paused.
    must("POST", f"{WEBHOOKS}/{made['destination'][3]}/pause")
    events = [{"type": "transaction", "id": f"T-{n}", "key": f"order-{n}", "data": {"amount": "5.00"}} for n in range(12)]
    made["event"] = [told["id"] for told in must("POST", "/v1/events", events)]
    status = lambda: must("GET", "/v1/status")
    wait_for("attempts", lambda: (status()["succeeded"], status()["failed"] > 0, status()["held"]) == (24, True, 12))
    # One delivery a day: these are under way until they are cancelled.
    slow = {"state": "succeeded", "rate": {"events": 1, "per": "24h"}}
    made["replay"] = [must("POST", "/v1/replays", slow)["id"] for _ in range(8)]
    linked = {"destinations": made["destination"][:1]}
    made["linked"] = [must("POST", "/v1/subscriptions/transaction", linked)["id"] for _ in range(EACH)]
    made["delivery"] = [told["id"] for told in must("GET", "/v1/deliveries?limit=1000")["deliveries"]]
    # Their passwords are hashed slowly.
    person = lambda number: {"name": f"person-{number}", "role": "read", "tenant": None}
    made["user"] = [must("POST", "/v1/users", person(number))["id"] for number in range(EACH // 3)]
    furnish_dialects(must, dead_url, made)
    return made


def furnish_dialects(must, dead_url, made):
    login = {"Method": 1, "SharedSecret": "a shared secret"}
    webhook = {"Type": 6, "DestinationURL": dead_url, "AuthenticationMethod": login}
    made["command"] = [must("POST", "/api/default/webhooks", webhook)["commandFingerprint"] for _ in range(EACH)]
    listed = lambda: must("GET", "/api/default/webhooks")
    wait_for("webhooks", lambda: len(listed()) == EACH)
    made["webhook"] = [webhook["id"] for webhook in listed()]
    for kind in ("subscribed", "unsubscribed"):
        made[kind] = [must("POST", "/v1/tenants", {"id": f"{kind}-{n}"})["id"] for n in range(EACH)]
    for tenant in made["subscribed"]:
        must("POST", f"/webhooks/subscribe/{tenant}", {"webhook_url": dead_url, "retry_attempts": 1})


def main():
    if os.environ.get("POSTRIDER_FULL") != "1":
        print("schemathesis runs in tests/all --full")
        return SKIPPED
    run_in("schemathesis==4.32.5")
    holder, port = closed_port()
    dead_url = f"http://127.0.0.1:{port}/in"
    with holder, Receiver() as receiver, Daemon("[confirmation]\nmode = 'off'") as daemon:
        made = furnish(daemon, receiver, dead_url)
        kept = {kind: ids[:4] for kind, ids in made.items()}
        kept |= {"event": made["event"], "delivery": made["delivery"], "type": ["transaction"], "tenant": ["default", "shop"]}
        spare = {kind: ids[4:] for kind, ids in made.items() if kind not in ("event", "delivery", "replay", "command")}
        key = daemon.must("POST", "/v1/keys", {"role": "admin", "tenant": None, "name": "all"})["secret"]
        folder = daemon.folder / "schemathesis"
        folder.mkdir()
        (folder / "schemathesis.toml").write_text(CONFIG.format(seed=SEED, examples=EXAMPLES, key=key))
        told = {"url": dead_url, "tenants": ["default", "shop", "branch"], "pools": kept, "spare": spare}
        environment = {
            **os.environ,
            "PYTHONPATH": str(HERE / "harness"),
            "POSTRIDER_OPENAPI": json.dumps(told),
            # The environment's proxies are not asked: nothing leaves the machine.
            "NO_PROXY": "*",
        }
        print(f"seed {SEED}, {EXAMPLES} examples", flush=True)
        program = Path(sys.executable).parent / "schemathesis"
        command = [program, "--no-color", "--config-file", "schemathesis.toml", "run", f"http://{daemon.address()}/openapi.json"]
        ran = subprocess.run([*command, "--continue-on-failure"], cwd=folder, env=environment)
        reached = set(json.loads((folder / "succeeded.json").read_text()))
        paths = daemon.must("GET", "/openapi.json")["paths"]
        all_of_them = {f"{method.upper()} {path}" for path, item in paths.items() for method in item if method != "parameters"}
        # The run begins with the document itself.
        # A signing key's secret is revealed on the admin socket only.
        refused = {"POST /v1/signing-keys/{id}/reveal"}
        missed = all_of_them - reached - refused - {"GET /v1/tail", "GET /openapi.json"}
        assert not missed, f"no case of {sorted(missed)} came to anything"
        # What was driven is still alive and in order, and no destination was made that lies elsewhere.
        assert daemon.must("GET", "/readyz") == {"status": "ok"}
        tenants = daemon.must("GET", "/v1/tenants?limit=1000")
        assert tenants["next"] is None
        for tenant in tenants["tenants"]:
            status, listed = daemon.call("GET", f"{WEBHOOKS}?limit=1000", headers={"X-Tenant": tenant["id"]})
            assert status == 200 and listed["next"] is None, (status, tenant)
            urls = {destination["http_endpoint_url"] for destination in listed["webhook"]}
            assert urls <= {dead_url, receiver.url}, urls
        faults = [line for line in daemon.said().splitlines() if "panicked" in line or '"ERROR"' in line]
        assert not faults, faults
    return ran.returncode


if __name__ == "__main__":
    sys.exit(main())
