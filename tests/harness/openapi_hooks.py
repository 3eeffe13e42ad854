"""What schemathesis is told beside the document: ids of things that exist, and where deliveries may go at most.

The test tells in POSTRIDER_OPENAPI where these things are: {"url": …, "tenants": […], "pools": {kind: [id, …]}, "spare": the same}.
"""

import atexit
import json
import os
import re
from pathlib import Path

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.core.parameters import ParameterLocation

TOLD = json.loads(os.environ["POSTRIDER_OPENAPI"])
# Things to look at and to change, and things to delete: a run that deleted what it looks at would see little but 404.
POOLS, SPARE = TOLD["pools"], TOLD["spare"]
KEPT = {id for ids in POOLS.values() for id in ids}
KINDS = {"destinations": "destination", "event_history": "delivery", "{tenantslug}": "webhook"}
# Parameters that say themselves what they name.
NAMED = {"destination": "destination", "tenantslug": "tenant", "tenantId": "subscribed", "fingerprint": "command"}
# Where a body says where deliveries go.
URLS = ("http_endpoint_url", "DestinationURL", "webhook_url")
turns = {}
succeeded = set()
atexit.register(lambda: Path("succeeded.json").write_text(json.dumps(sorted(succeeded))))


def turn(name):
    """Counts up, for each name: so that choices are the same in each run."""
    turns[name] = turns.get(name, -1) + 1
    return turns[name]


def kind_of(path, parameter):
    if parameter in NAMED:
        return NAMED[parameter]
    noun = path.split("/")[2]
    return KINDS.get(noun, noun.removesuffix("s").replace("deliverie", "delivery"))


def known(case):
    """Parameters that name something that exists."""
    path, names = case.operation.path, {}
    for parameter in case.path_parameters or {}:
        kind = kind_of(path, parameter)
        if kind in ("webhook", "command"):
            # These are the default tenant's.
            names["tenantslug"] = "default"
        if kind == "subscribed" and case.method == "POST":
            kind = "unsubscribed"
        if parameter in names:
            continue
        if parameter == "type":
            names[parameter] = POOLS["type"][0]
            continue
        if "destination" in case.path_parameters:
            if not SPARE["linked"]:
                return {}
            return {"type": POOLS["type"][0], "id": SPARE["linked"].pop(), "destination": POOLS["destination"][0]}
        is_last = path.endswith("{" + parameter + "}")
        is_used_up = case.method == "DELETE" and kind not in ("event",) or kind == "unsubscribed"
        if is_used_up and is_last:
            if not SPARE.get(kind):
                return {}
            names[parameter] = SPARE[kind].pop()
        else:
            pool = POOLS[kind]
            names[parameter] = pool[turn(kind) % len(pool)]
    return names


@schemathesis.hook
def before_call(context, case, kwargs):
    """In every second case that is well-formed the path leads to something; a tenant that is named exists or is refused on
    purpose; a destination lies on this machine."""
    is_negative = lambda place: case.meta is not None and case.meta.is_negative_at(place)
    if case.path_parameters and not is_negative(ParameterLocation.PATH) and turn(case.operation.label) % 2 == 0:
        case.path_parameters = {**case.path_parameters, **known(case)}
    last = case.operation.path.rsplit("/", 1)[1].strip("{}")
    if case.method == "DELETE" and last in ("id", "name") and (case.path_parameters or {}).get(last) in KEPT:
        # Read from an answer and tried out: something else goes.
        case.path_parameters = {**case.path_parameters, last: "00000000-0000-0000-0000-000000000000", **known(case)}
    if not is_negative(ParameterLocation.HEADER) and "X-Tenant" in case.headers:
        # What is not of the default tenant is a 404 under another one: seldom.
        if turn("tenant") % 8:
            del case.headers["X-Tenant"]
        else:
            case.headers["X-Tenant"] = TOLD["tenants"][turn("tenants") % len(TOLD["tenants"])]
    if not is_negative(ParameterLocation.HEADER) and "Idempotency-Key" in case.headers:
        # The same key again would only be told that it is taken: seldom, too.
        if turn("keyed") % 8:
            case.headers["Idempotency-Key"] = f"{turn('keys')} {case.headers['Idempotency-Key']}"[:255].strip()
    if case.operation.path.endswith("/destinations") and isinstance(case.body, dict) and turn("links") % 2 == 0:
        if case.body.keys() == {"destination"} and not is_negative(ParameterLocation.BODY):
            case.body = {"destination": POOLS["destination"][turn("destination") % len(POOLS["destination"])]}
    for field in URLS:
        if isinstance(case.body, dict) and isinstance(case.body.get(field), str):
            # Whatever is left as it was is refused before anybody looks at the host in it.
            if re.fullmatch(r"[^\x00-\x1f\x7f-\x9f]{1,2048}", case.body[field]):
                case.body = {**case.body, field: TOLD["url"]}


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """A batch is taken as a whole, and what is wrong in it is told item by item; one that is too long is a 413."""
    is_batch = case.operation.path == "/v1/events" and isinstance(case.body, list)
    if not is_batch or not isinstance(failure, AcceptedNegativeData):
        return True
    if response.status_code == 202:
        return all(told["ok"] for told in response.json())
    return response.status_code != 413


@schemathesis.hook
def after_call(context, case, response):
    """Which operations have been done at all: the test asks for each of them."""
    if 200 <= response.status_code < 300:
        succeeded.add(case.operation.label)
