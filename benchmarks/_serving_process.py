"""`unified serve` as a child process: started, asked, measured, killed, started again."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

__all__ = ["ServerProcess", "free_port"]

_STARTING = 300.0  # seconds; on a new machine kernels are compiled first
_TRACED = Path(__file__).with_name("_serving_traced.py")


def free_port() -> int:
    """A port of this machine that nobody had a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class ServerProcess:
    """The command `unified serve` with the shipped model, on one port for all its lives.

    Attributes:
        port: of 127.0.0.1.
        starts: seconds from each start of the process to when it said that it listens.
        log: what its processes wrote on stderr.
    """

    def __init__(self, folder: Path, *arguments: str, trace: Path | None = None) -> None:
        """
        Args:
            folder: for its library of articles and its log.
            arguments: of the command, beside the port and the library.
            trace: file that gets a line for each row that ended (`_serving_traced`); None: the
                command as it is.
        """
        self.port = free_port()
        self.starts: list[float] = []
        self.log = folder / "server.log"
        options = ["--port", str(self.port), "--library", str(folder / "library"), *arguments]
        head = ["-m", "unified"] if trace is None else [str(_TRACED), str(trace)]
        self._command = [sys.executable, *head, "serve", *options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Returns once it listens. Raises RuntimeError, with its log, where it does not."""
        began = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                break
            except OSError:
                if self._process.poll() is not None or time.monotonic() - began > _STARTING:
                    raise RuntimeError(f"no server: {self.log.read_text()[-2000:]}") from None
                time.sleep(0.02)
        while self.status("/healthz") != 200:
            time.sleep(0.02)
        self.starts.append(time.monotonic() - began)

    def kill(self) -> None:
        """SIGKILL, in the midst of whatever it does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Ask it to end (SIGTERM). Returns its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    # What it uses.

    @property
    def _usage(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def rss(self) -> int:
        """Bytes that are resident now."""
        return int(self._usage.memory_info().rss)

    def cpu_seconds(self) -> float:
        """Of all its threads so far, in the kernel and outside it."""
        times = self._usage.cpu_times()
        return float(times.user + times.system)

    # What it says.

    def status(self, path: str) -> int:
        """The status of a GET; 0 where there is no answer."""
        try:
            return self._get(path)[0]
        except OSError:
            return 0

    def json(self, path: str) -> Any:
        """The answer to a GET. Raises RuntimeError for any but 200."""
        status, content = self._get(path)
        if status != 200:
            raise RuntimeError(f"{path}: {status}, {content[:500]!r}")
        return json.loads(content)

    def metrics(self) -> dict[str, float]:
        """`/metrics`: value by name with its labels."""
        lines = re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", self._get("/metrics")[1].decode(), re.M)
        return {name: float(value) for name, value in lines}

    def wait_until_idle(self) -> None:
        """Returns once no document is sampled, and none waits."""
        while True:
            metrics = self.metrics()
            if not metrics["unified_rows_running"] + metrics["unified_rows_waiting"]:
                return
            time.sleep(0.05)

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
