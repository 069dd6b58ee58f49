"""Starts the built server for a test and takes it down again."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request

HOST = "127.0.0.1"
TIMEOUT = 10


class Server:
    """The built server with a data folder of its own, an app, and these settings."""

    def __init__(self, app, **settings):
        self.data_dir = tempfile.mkdtemp(prefix="fanfare-python-")
        self.port = free_port()
        # Neither the environment nor a configuration file of whoever runs the tests may change what is tested.
        self.surroundings = {
            "cwd": self.data_dir,
            "env": {
                "PATH": os.environ["PATH"],
                "FANFARE_LISTEN": f"{HOST}:{self.port}",
                "FANFARE_DATA_DIR": self.data_dir,
                "FANFARE_DEMO": "false",
                "FANFARE_DRAIN_PERIOD": "0",
                **settings,
            },
        }
        create = ["app", "create", "--name", "Python", "--id", app["app_id"], "--key", app["key"]]
        self.run(*create, "--secret", app["secret"], "--client-events", "--json")
        self.log = tempfile.TemporaryFile()
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [os.environ["FANFARE_BIN"], "serve"], **self.surroundings, stdout=self.log, stderr=self.log
        )
        self.wait_until_ready()

    def restart(self):
        self.process.terminate()
        self.process.wait(TIMEOUT)
        self.start()

    @property
    def url(self):
        return f"http://{HOST}:{self.port}"

    def run(self, *arguments):
        command = [os.environ["FANFARE_BIN"], *arguments]
        done = subprocess.run(command, **self.surroundings, check=True, timeout=TIMEOUT, capture_output=True)
        return done.stdout.decode()

    def wait_until_ready(self):
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/readyz", timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError("the server did not become ready")
                time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(TIMEOUT)
        finally:
            self.process.kill()
            self.log.close()
            shutil.rmtree(self.data_dir, ignore_errors=True)


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]
