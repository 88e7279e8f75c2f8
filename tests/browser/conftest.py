"""JupyterLab on a throw-away copy of the notebooks, and a Chromium to look at it with."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
NOTIFICATIONS = {"fetchNews": "false", "checkForUpdates": False}
NOTEBOOK = {"windowingMode": "none"}  # every cell is in the page, not only those in view
LAB_SETTINGS = {
    "@jupyterlab/apputils-extension/notification": NOTIFICATIONS,
    "@jupyterlab/notebook-extension/tracker": NOTEBOOK,
}


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: where it answers, the word that lets one in, its files and its log."""

    url: str
    token: str
    course: Path
    log: Path

    def notebook_url(self, name: str) -> str:
        """The address that opens notebooks/`name` in a fresh workspace."""
        return f"{self.url}/lab/tree/notebooks/{name}?token={self.token}&reset"


@pytest.fixture(scope="session")
def chromium_path() -> str:
    found = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None:
        pytest.skip("no Chromium here, so the browser tests did not run (apt install chromium)")
    return found


@pytest.fixture(scope="session")
def browser(chromium_path: str):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium_path, args=list(CHROMIUM_FLAGS)
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(chromium_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    work = tmp_path_factory.mktemp("lab")
    copy_course(work / "course")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", work / "jupyterlab.log"
    lab = Lab(url, secrets.token_hex(16), work / "course", log)
    with lab.log.open("w") as log:
        server = subprocess.Popen(
            lab_command(lab.course, port, lab.token),
            env=lab_environment(work),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_up(lab, server)
        yield lab
    finally:
        server.terminate()
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()


def copy_course(course: Path) -> None:
    """Copy notebooks/, data/ and docs/, outputs stripped: what the test sees, this run has made."""
    for folder in ("notebooks", "data", "docs"):
        if (ROOT / folder).is_dir():
            ignore = shutil.ignore_patterns(".ipynb_checkpoints", "*.sqlite3*")
            shutil.copytree(ROOT / folder, course / folder, ignore=ignore)
    for path in (course / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, path)


def lab_command(course: Path, port: int, token: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={course}",
        "--LabApp.expose_app_in_browser=True",
    ]


def lab_environment(work: Path) -> dict[str, str]:
    """The environment with all of Jupyter's and IPython's own folders inside `work`."""
    settings = work / "settings"
    for plugin, values in LAB_SETTINGS.items():
        file = settings / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    folders = {
        "JUPYTERLAB_SETTINGS_DIR": settings,
        "JUPYTERLAB_WORKSPACES_DIR": work / "workspaces",
        "JUPYTER_CONFIG_DIR": work / "config",
        "JUPYTER_DATA_DIR": work / "share",
        "JUPYTER_RUNTIME_DIR": work / "runtime",
        "IPYTHONDIR": work / "ipython",
    }
    return os.environ | {name: str(folder) for name, folder in folders.items()}


def wait_until_up(lab: Lab, server: subprocess.Popen, seconds: float = 240) -> None:
    """Return once the server answers; raise RuntimeError with its log if it does not."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up and server.poll() is None:
        try:
            urllib.request.urlopen(f"{lab.url}/api?token={lab.token}", timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.3)
    raise RuntimeError(f"JupyterLab did not start. Its log:\n{lab.log.read_text()}")
