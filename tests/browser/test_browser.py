"""Site and chapters in a real browser: chromium, headless, on loopback. `make browser-test` runs this.

The site is that of `make site`; JupyterLab serves a copy of the repository, so that nothing of git changes.
"""

from __future__ import annotations

import functools
import http.server
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if not CHROMIUM:
    pytest.skip("chromium is not installed", allow_module_level=True)

ROOT = Path(__file__).parents[2]
SITE = Path(os.environ.get("PAPERS_SITE", ROOT / "build" / "site" / "html"))
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
SIZE = {"width": 1280, "height": 900}
# What JupyterLab would do by itself: save, leave cells out of the page until they are seen, ask for news.
SETTINGS = {
    "docmanager-extension/plugin": '{"autosave": false}',
    "notebook-extension/tracker": '{"windowingMode": "none"}',
    "apputils-extension/notification": '{"checkForUpdates": false, "fetchNews": "false"}',
}
# An alternative text that is missing, or a file's name.
UNSAID = r"""chosen => [...document.querySelectorAll(chosen)]
    .filter(one => one.offsetWidth && (!one.alt.trim() || /\.png$/.test(one.alt)))
    .map(one => `no alternative text: ${one.outerHTML.slice(0, 80)}`)"""
SIDEWAYS = """() => document.documentElement.scrollWidth > document.documentElement.clientWidth
    ? ["scrolls sideways"] : []"""
WIDE_OUTPUTS = """() => [...document.querySelectorAll(".jp-Notebook .jp-Cell")].flatMap((cell, i) =>
    [...cell.querySelectorAll(".jp-OutputArea-output, .jp-RenderedMarkdown")]
        .filter(one => one.scrollWidth > one.clientWidth + 1)
        .map(one => `cell ${i}: ${one.scrollWidth} px in ${one.clientWidth}: ` +
            cell.querySelector(".cm-content")?.innerText.slice(0, 40)))"""
RUN_ALL = """async () => {
    const panel = window.jupyterapp.shell.currentWidget;
    await panel.sessionContext.ready;
    await window.jupyterapp.commands.execute("notebook:run-all-cells");
    const cells = [...panel.content.model.cells].filter(c => c.type == "code" && c.sharedModel.source.trim());
    const outputs = cells.map(c => c.sharedModel.outputs);
    return {
        unrun: cells.filter(c => c.executionCount == null).length,
        errors: outputs.flat().filter(o => o.output_type == "error").map(o => `${o.ename}: ${o.evalue}`),
    };
}"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]  # chromium refuses root a sandbox
        found = started.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield found
        found.close()


@pytest.fixture
def page(browser):
    """A page that reaches loopback only; `page.faults` lists what went wrong on it."""
    context = browser.new_context(viewport=SIZE)
    found = context.new_page()
    found.faults = []

    def pass_on(route):
        if re.match(r"https?://127\.0\.0\.1[:/]", route.request.url):
            return route.continue_()
        found.faults.append(f"asks for {route.request.url}")
        return route.abort()

    context.route(re.compile(r"^https?:"), pass_on)
    found.on("pageerror", lambda error: found.faults.append(f"script: {error}"))
    found.on("console", lambda said: found.faults.append(said.text) if said.type == "error" else None)
    yield found
    context.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def site():
    assert (SITE / "index.html").exists(), f"no site in {SITE}: run `make site`"
    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def serious(page):
    """What axe-core finds, of impact serious or critical, a line each."""
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:120]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.timeout(900)
def test_every_page_of_the_site_is_whole(site, page):
    pages = [path.relative_to(SITE).as_posix() for path in sorted(SITE.rglob("*.html"))]
    pages = [
        name for name in pages if not name.startswith("_") and name != "index.html"
    ]  # listings; passes on
    assert {f"notebooks/{name}.html" for name in NOTEBOOKS} <= set(pages)
    faults = {}
    for name in pages:
        page.faults.clear()
        page.goto(site + name, wait_until="load")
        found = [*page.faults, *page.evaluate(UNSAID, "img"), *page.evaluate(SIDEWAYS)]
        if "cards/" not in name or name.endswith("/cars196.html"):  # cards have one form: one is enough
            found += serious(page)
        if found:
            faults[name] = found
    assert faults == {}


def test_links_within_the_site_lead_somewhere():
    ids = functools.cache(lambda path: set(re.findall(r'\bid="([^"]+)"', path.read_text())))
    dead = []
    for path in SITE.rglob("*.html"):
        if path.relative_to(SITE).parts[0].startswith("_"):
            continue
        for link in re.findall(r'href="([^"]+)"', path.read_text()):
            if re.match(r"\w+:", link):
                continue
            place, _, anchor = link.partition("#")
            target = (path.parent / place.partition("?")[0]).resolve() if place else path
            if not target.exists() or (anchor and target.suffix == ".html" and anchor not in ids(target)):
                dead.append(f"{path.relative_to(SITE)}: {link}")
    assert dead == []


def test_search_finds_group_sampling_and_the_dark_mode_is_dark(site, page):
    page.goto(site)
    page.wait_for_url("**/notebooks/index.html")
    box = page.get_by_role("textbox", name="Search")
    box.fill("group sampling")
    box.press("Enter")
    first = page.locator("#search-results li a").first
    first.wait_for()
    hrefs = page.locator("#search-results li a").evaluate_all("all => all.map(a => a.href)")
    assert any("sampler_study" in href for href in hrefs), hrefs
    first.click()
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    toggle = page.locator(".theme-toggle:visible").first
    for _ in range(3):  # it goes round: as the system says, light, dark
        toggle.click()
        if page.evaluate("document.body.dataset.theme") == "dark":
            break
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    assert serious(page) == []
    assert page.faults == []


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab as `make lab` starts it, on a copy; gives an address and the copy."""
    copy = tmp_path_factory.mktemp("lab") / "a copy"
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    settings = copy.parent / "settings"
    for name, text in SETTINGS.items():
        file = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    places = {
        "PYTHONPATH": str(copy),
        "PAPERS_RUNS": str(copy.parent / "runs"),
        "PAPERS_DATA": os.environ.get("PAPERS_DATA", str(ROOT / "data")),
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(copy.parent / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(copy.parent / "config"),
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex()
    options = [
        "--no-browser",
        "--ServerApp.root_dir=.",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
    ]
    options += [f"--IdentityProvider.token={token}", "--expose-app-in-browser"]
    options += ["--allow-root"] if not os.geteuid() else []
    with (copy.parent / "log").open("wb") as log:
        command = [sys.executable, "-m", "jupyter", "lab", *options, "notebooks/index.ipynb"]
        server = subprocess.Popen(command, cwd=copy, env=os.environ | places, stdout=log, stderr=log)
    try:
        _wait(f"http://127.0.0.1:{port}/api", server, copy.parent / "log")
        yield f"http://127.0.0.1:{port}/lab/tree/notebooks/{{}}.ipynb?reset&token={token}", copy
    finally:
        server.terminate()
        server.wait(30)


def _wait(address, server, log):
    for _ in range(300):
        try:
            return urllib.request.urlopen(address).close()
        except OSError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_chapter_runs_in_jupyterlab(name, lab, page):
    address, copy = lab
    committed = _files(copy)
    page.goto(address.format(name))
    page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=60_000)
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext")
    assert page.evaluate(RUN_ALL) == {"unrun": 0, "errors": []}
    assert [*page.evaluate(WIDE_OUTPUTS), *page.evaluate(UNSAID, ".jp-Notebook img")] == []
    for cell in page.locator(".jp-Cell:has(.jupyter-widgets .noUi-handle, .jupyter-widgets select)").all():
        _move(page, cell)
    assert _files(copy) == committed


def _files(folder):
    """Every file's time of change, but for what git ignores."""
    ignored = {"build", "__pycache__", ".ipynb_checkpoints"}
    files = [path for path in folder.rglob("*") if path.is_file() and not ignored & set(path.parts)]
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in files}


def _move(page, cell):
    """Take the first control of a cell one step on; what the cell shows besides controls has to change."""
    shown = """cell => [...cell.querySelectorAll(".jp-OutputArea-output img, .jp-OutputArea-output table, " +
        ".jp-OutputArea-output pre, .jp-OutputArea-output svg, .widget-html-content")]
        .map(one => one.src || one.innerHTML).join()"""
    before = cell.evaluate(shown)
    control = cell.locator(".noUi-handle, select").first
    if control.evaluate("one => one.tagName") == "SELECT":
        control.select_option(index=control.evaluate("one => (one.selectedIndex + 1) % one.options.length"))
    else:
        at_end = control.evaluate(
            "one => one.getAttribute('aria-valuenow') == one.getAttribute('aria-valuemax')"
        )
        control.focus()
        control.press("ArrowLeft" if at_end else "ArrowRight")
    for _ in range(100):
        if cell.evaluate(shown) != before:
            return
        page.wait_for_timeout(200)
    raise AssertionError(f"a control changes nothing: {cell.inner_text()[:80]}")
