#!/usr/bin/env python3
"""`/metrics` in both forms, read by the official parsers of PyPI's prometheus-client, after a story of a few deliveries."""

import http.client
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "harness"))
from daemon import Daemon, Receiver, run_in, wait_for

run_in("prometheus-client==0.26.0")

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus


def scrape(daemon, accept=None):
    """Over TCP and without a key, as Prometheus asks."""
    connection = http.client.HTTPConnection(daemon.address(), timeout=60)
    connection.request("GET", "/metrics", headers={"Accept": accept} if accept else {})
    reply = connection.getresponse()
    assert reply.status == 200, reply.status
    return reply.getheader("Content-Type"), reply.read().decode()


def samples(parse, text):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def main():
    with Receiver() as receiver, Daemon() as daemon:
        wanted = {"name": "well", "http_endpoint_url": receiver.url, "confirmed": True}
        well = daemon.must("POST", "/v1/destinations/webhook", wanted)["id"]
        # Nobody listens on port 1; a schedule without a second attempt.
        wanted = {**wanted, "name": "dead", "http_endpoint_url": "http://127.0.0.1:1024/", "retry": {"delays": ["1s"], "attempts_max": 1}}
        dead = daemon.must("POST", "/v1/destinations/webhook", wanted)["id"]
        wanted = {**wanted, "name": "paused"}
        paused = daemon.must("POST", "/v1/destinations/webhook", wanted)["id"]
        daemon.must("POST", f"/v1/destinations/webhook/{paused}/pause")
        daemon.must("POST", "/v1/subscriptions/a.b", {"destinations": [well, dead, paused]})
        event = {"type": "a.b", "id": "one", "data": {"secret": "canary-payload"}}
        answers = daemon.emit(event, event, {**event, "type": "a.c"}, {"type": "no type"})
        assert [answer["ok"] for answer in answers] == [True, True, False, False], answers
        status = lambda: daemon.must("GET", "/v1/status")
        wait_for("both ends", lambda: (status()["succeeded"], status()["failed"]) == (1, 1))

        content_type, text = scrape(daemon, "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5")
        assert content_type.startswith("application/openmetrics-text; version=1.0.0"), content_type
        opened = samples(open_metrics, text)
        content_type, _ = scrape(daemon, "application/openmetrics-text;q=0.1, text/plain")
        assert content_type.startswith("text/plain; version=0.0.4"), content_type
        content_type, text = scrape(daemon)
        assert content_type.startswith("text/plain; version=0.0.4"), content_type
        plain = samples(prometheus, text)

    checked = 0
    for found in (opened, plain):
        value = lambda name, **labels: found[f"postrider_{name}", tuple(sorted(labels.items()))]
        expected = [
            (value("events_total"), 1),
            (value("acknowledgements_total", duplicate="false"), 1),
            (value("acknowledgements_total", duplicate="true"), 1),
            (value("events_refused_total", code="id_conflict"), 1),
            (value("attempts_total", outcome="succeeded", reason="", **{"class": "2xx"}), 1),
            (value("attempts_total", outcome="failed", reason="refused", **{"class": "none"}), 1),
            (value("attempt_seconds_count"), 2),
            (value("delivery_seconds_count"), 1),
            (value("attempts_in_flight"), 0),
            (value("deliveries", state="held"), 1),
            (value("deliveries", state="succeeded"), 1),
            (value("deliveries", state="failed"), 1),
            (value("deliveries", state="pending"), 0),
            (value("lanes", state="paused"), 1),
            (value("lanes", state="open"), 2),
            (value("refusing_events"), 0),
        ]
        wrong = [(place, got, wanted) for place, (got, wanted) in enumerate(expected) if got != wanted]
        assert not wrong, wrong
        for name in ("store_commit_seconds_count", "store_file_bytes", "store_disk_bytes", "disk_free_bytes"):
            assert value(name) > 0, name
        assert value("store_operations_total") >= 5 and value("oldest_undelivered_seconds") >= 0
        assert any(name == "postrider_build_info" for name, _ in found)
        checked += len(expected) + 7
    # Neither tenants nor destinations nor payloads: labels are closed lists.
    for word in (well, dead, paused, "canary", "127.0.0.1"):
        assert word not in text, word
    labels = {label for name, pairs in plain for label, _ in pairs}
    assert labels <= {"duplicate", "code", "outcome", "reason", "class", "le", "state", "version"}, labels
    print(f"{checked} passed, 0 failed, 0 skipped")


if __name__ == "__main__":
    sys.exit(main())
