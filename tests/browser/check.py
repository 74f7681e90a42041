#!/usr/bin/env python3
"""Opens reports in headless Chromium and fails if one of them is not as it should be.

    python3 tests/browser/check.py REPORT.html ...

Desktop and phone, light and dark: no console error, no request, nothing that overflows, contrast of WCAG AA, links that lead
somewhere, sorting, filtering. Needs Chromium alone (CHROMIUM names it; else it is looked for in PATH). Without a browser it
says so and exits with 77.
"""

import html
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

WINDOWS = [(1280, 900, "light"), (1280, 900, "dark"), (390, 844, "light"), (390, 844, "dark")]
NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge"]


def browser():
    named = os.environ.get("CHROMIUM")
    return named if named else next((found for name in NAMES if (found := shutil.which(name))), None)


def dump(chromium, page, folder):
    """The page as it is after its scripts, and what the console said."""
    command = [
        chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
        "--window-size=1400,1000", "--virtual-time-budget=20000", "--dump-dom", page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def frames(source, probe, folder):
    """A page with one frame a window, each a copy of the report with the probe in it."""
    # The probe is another script than the one that the report's own policy allows.
    open_policy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", source)
    outer = ["<!doctype html><title>frames</title><pre id=found></pre><script>",
             "const found = {}; addEventListener('message', (m) => {",
             "const i = [...document.querySelectorAll('iframe')].findIndex((f) => f.contentWindow === m.source);",
             "found[i] = m.data; document.getElementById('found').textContent = JSON.stringify(found); });</script>"]
    for index, (width, height, theme) in enumerate(WINDOWS):
        copy = folder / f"copy-{index}.html"
        script = "<script>" + probe.replace("THEME", theme) + "</script></body>"
        copy.write_text(open_policy.replace("</body>", script), encoding="utf-8")
        outer.append(f'<iframe width="{width}" height="{height}" src="{copy.name}"></iframe>')
    path = folder / "frames.html"
    path.write_text("\n".join(outer), encoding="utf-8")
    return path


def check(chromium, report, folder):
    source = report.read_text(encoding="utf-8")
    wrong = []
    if len(source.encode()) > 5 << 20:
        wrong.append(f"{len(source.encode())} bytes, wanted at most 5 MiB")
    # As it is, with its own policy: the script runs and nothing is refused.
    alone, console = dump(chromium, report.resolve(), folder)
    wrong += [f"console: {line}" for line in console]
    if 'class="theme"' not in alone:
        wrong.append("the page's own script did not run")
    probe = pathlib.Path(__file__).with_name("probe.js").read_text(encoding="utf-8")
    probed, console = dump(chromium, frames(source, probe, folder), folder)
    wrong += [f"console: {line}" for line in console]
    found = re.search(r'<pre id="?found"?>(.*?)</pre>', probed, re.S)
    results = json.loads(html.unescape(found.group(1)) or "{}") if found else {}
    for index, window in enumerate(WINDOWS):
        result = results.get(str(index))
        if result is None:
            wrong.append(f"{window}: the page gave no answer")
            continue
        if result["width"] != window[0]:
            wrong.append(f"{window}: was {result['width']} px wide")
        wrong += [f"{window}: {text}" for text in result["wrong"]]
    texts = results.get("0", {}).get("texts"), results.get("0", {}).get("links")
    print(f"{report}: {'FAILED' if wrong else 'good'} ({len(source) >> 10} KiB, {texts[0]} texts, {texts[1]} links)")
    for text in wrong:
        print(f"  {text}")
    return not wrong


def main():
    chromium = browser()
    if chromium is None:
        print("skipped: no Chromium found; install one (apt-get install chromium) or set CHROMIUM")
        return 77
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    good = True
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            good &= check(chromium, pathlib.Path(name), pathlib.Path(folder))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
