#!/usr/bin/env python3
"""How long a browser takes to the first paint of each page of the dashboard: run by hand, since a time is no test.

The browser is Chromium as it is started on a desktop without a display, over its debugging pipe. Nothing is attached to a page
while it loads: what watches a page slows it down. Each page is opened a number of times in a new tab, with none of the dashboard's
files in the browser's cache (`first`), and then from another page in that tab (`again`), as by whoever goes from page to page. The
median of `first-contentful-paint` is told, in milliseconds, beside a page of one line, which is what the browser and the machine
take for themselves.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import browser
from daemon import PATIENCE_SECONDS, SKIPPED, Daemon, Receiver, run_in, wait_for

ROUNDS = int(os.environ.get("ROUNDS", "9"))
WEBHOOKS, EVENTS = 60, 40
PAINTED = "(performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0)"
LOADED = "document.readyState === 'complete' && !document.hidden"


class Chromium:
    """A browser over its debugging pipe: JSON texts, each ended by a zero byte, on the descriptors 3 and 4."""

    def __init__(self, program):
        self.folder = tempfile.mkdtemp(prefix="postrider-paint-")
        (commands, self.commands), (self.answers, answers) = os.pipe(), os.pipe()
        # Away from 3 and 4 first: a pipe may have come to lie there.
        far = [os.dup2(end, number) for end, number in ((commands, 103), (answers, 104))]
        place = lambda: [os.dup2(end, number) for end, number in zip(far, (3, 4))]
        size = "--window-size={width},{height}".format(**browser.WIDE)
        flags = [*browser.FLAGS, "--headless", "--remote-debugging-pipe", size, f"--user-data-dir={self.folder}", "about:blank"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([program, *flags], close_fds=False, preexec_fn=place, **quiet)
        for end in (commands, answers, *far):
            os.close(end)
        self.asked, self.heard = 0, b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method, session=None, **parameters):
        self.asked += 1
        message = {"id": self.asked, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.heard:
                more = os.read(self.answers, 1 << 16)
                assert more, "Chromium has ended"
                self.heard += more
            text, self.heard = self.heard.split(b"\0", 1)
            answer = json.loads(text)
            if answer.get("id") == self.asked:
                assert "error" not in answer, f"{method}: {answer}"
                return answer["result"]

    def attached(self, tab, method, **parameters):
        """A call to a tab, which is let go again at once."""
        session = self.call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        try:
            return self.call(method, session, **parameters)
        finally:
            self.call("Target.detachFromTarget", sessionId=session)

    def evaluated(self, tab, script):
        answer = self.attached(tab, "Runtime.evaluate", expression=script)
        assert "exceptionDetails" not in answer, f"{script}: {answer}"
        return answer["result"].get("value")

    def tab(self):
        """A new tab with nothing in it."""
        tab = self.call("Target.createTarget", url="about:blank")["targetId"]
        wait_for("the tab", lambda: self.evaluated(tab, LOADED))
        return tab

    def paint(self, tab, url):
        """The first paint of a page in a tab, which goes there by itself."""
        self.evaluated(tab, f"void setTimeout(() => location.assign({json.dumps(url)}), 50)")
        # Whoever looks too early disturbs.
        time.sleep(0.4)
        is_there = f"location.href === {json.dumps(url)} && {LOADED}"
        return wait_for(f"the paint of {url}", lambda: self.evaluated(tab, f"{is_there} && {PAINTED}"))


class OneLine(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        page = b"<!DOCTYPE html><title>One</title><p>One line"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_):
        pass


def furnish(daemon, receiver):
    """Enough of everything for full pages."""
    patterns = ("transaction.*", "product.*", "settlement.*", "ach.*")
    for number in range(WEBHOOKS):
        asked = {"name": f"webhook {number}", "http_endpoint_url": f"{receiver.url}/in/{number}", "confirmed": True}
        id_ = daemon.must("POST", "/v1/destinations/webhook", asked)["id"]
        daemon.must("POST", f"/v1/subscriptions/{patterns[number % 4]}", {"destinations": [id_]})
    kinds = ("transaction.sale.success", "product.inventory.adjusted", "settlement.batch.success")
    daemon.emit(*({"type": kinds[number % 3], "id": f"sale-{number}", "data": {"amount": "5.00"}} for number in range(EVENTS)))
    wait_for("the deliveries", lambda: not daemon.must("GET", "/v1/deliveries?state=pending&limit=1")["deliveries"])


def pages(program, daemon):
    """One page of each kind, and the cookies of somebody who may see them."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=browser.FLAGS)
        tab = browser.Tab(chromium, daemon).enter(browser.Person(daemon, "anna"))
        found, cookies = browser.pages_of(tab), tab.context.cookies()
        chromium.close()
    return found, [{name: cookie[name] for name in ("name", "value", "domain", "path", "httpOnly")} for cookie in cookies]


def main():
    program = browser.chromium()
    if program is None:
        print("Chromium is not installed, and apt-get install chromium did not help")
        return SKIPPED
    run_in("playwright==1.65.2", "axe-playwright-python==0.1.8", "pyotp==2.9.0", *browser.QR_READER)
    one = ThreadingHTTPServer(("127.0.0.1", 0), OneLine)
    threading.Thread(target=one.serve_forever, daemon=True).start()
    with Receiver() as receiver, Daemon(profile="release") as daemon:
        furnish(daemon, receiver)
        found, cookies = pages(program, daemon)
        line = f"http://127.0.0.1:{one.server_port}/"
        urls = {"one line": line}
        urls |= {browser.shape(path): f"http://{daemon.address()}{path}" for path in found}
        first, again = {kind: [] for kind in urls}, {kind: [] for kind in urls}
        with Chromium(program) as chromium:
            chromium.call("Storage.setCookies", cookies=cookies)
            old = chromium.call("Target.createTarget", url="about:blank")["targetId"]
            for number in range(ROUNDS + 1):
                for kind, url in urls.items():
                    chromium.attached(old, "Network.clearBrowserCache")
                    tab = chromium.tab()
                    seen = [chromium.paint(tab, to) for to in (url, line + "between", url)]
                    chromium.call("Target.closeTarget", targetId=tab)
                    # The first round warms the browser up.
                    if number:
                        first[kind].append(seen[0])
                        again[kind].append(seen[2])
    one.shutdown()
    print(f"{'median of ' + str(ROUNDS):<28}{'first':>8}{'again':>8}")
    for kind in urls:
        print(f"{kind:<28}{statistics.median(first[kind]):>8.0f}{statistics.median(again[kind]):>8.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
