"""The built server against its own description: `FANFARE_BIN=... python openapi_test.py`.

schemathesis makes up requests, well formed and not, from the live /openapi.json, and holds each answer against it.
"""

import json
import os
import subprocess
import sys
import unittest
import urllib.error
import urllib.request
from pathlib import Path

from openapi_spec_validator import OpenAPIV31SpecValidator

from server import Server

HERE = Path(__file__).resolve().parent
# The id is that of the document's examples, so that they find an app.
APP = {"app_id": "123456789", "key": "278d425bdf160c739803", "secret": "e2e-secret"}
PASSWORD = "only for this test"
# Shared between the app and an identity provider that there is not.
IDENTITY = "a secret for tests that is long enough"
IDENTITY_CONFIG = {
    "providers": [{"algorithms": ["HS256"], "secret": IDENTITY}],
    "grants": [{"channels": "private-*"}, {"channels": "presence-*"}],
    "sign_in": {"id": "sub"},
}


class OpenApi(unittest.TestCase):
    """Each test is a run over some of the operations with one kind of credential."""

    @classmethod
    def setUpClass(cls):
        # The document has the highest values that any node may allow, so this one has room for them.
        room = {"FANFARE_HTTP_MAX_BODY_BYTES": "64MiB", "FANFARE_WEBSOCKET_MAX_MESSAGE_BYTES": "16MiB"}
        cls.server = Server(APP, FANFARE_OWNER_PASSWORD=PASSWORD, **room)
        cls.addClassCleanup(cls.server.stop)
        session = cls.call("POST", "/api/v1/sessions", {"name": "owner", "password": PASSWORD})
        cls.token, cls.session = session["access_token"], session["session_id"]
        cls.operator = cls.call("GET", "/api/v1/me")["id"]
        cls.call("PUT", f"/api/v1/apps/{APP['app_id']}/identity", IDENTITY_CONFIG)
        history = [{"channels": "*", "size": 100, "ttl": 300}]
        cls.call("PATCH", f"/api/v1/apps/{APP['app_id']}", {"settings": {"history": history}})

    @classmethod
    def call(cls, method, path, body=None):
        request = urllib.request.Request(cls.server.url + path, method=method)
        if hasattr(cls, "token"):
            request.add_header("Authorization", f"Bearer {cls.token}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def conforms(self, *arguments, examples, signed=False):
        run = {"app": APP, "identity": IDENTITY, "session": self.session, "operator": self.operator, "signed": signed}
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "schemathesis.toml", "run"]
        # Requests are made up anew from release to release of schemathesis, but are the same in every run.
        command += [f"{self.server.url}/openapi.json", "--generation-deterministic", f"--max-examples={examples}"]
        # There is a test for U+0000 itself; no schema here says of each string that it is not in there.
        command += ["--generation-allow-x00=false", "--no-color", "--request-timeout=10", *arguments]
        env = {**os.environ, "PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1", "FANFARE_OPENAPI_RUN": json.dumps(run)}
        done = subprocess.run(
            command, cwd=self.server.data_dir, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
        )
        if done.returncode != 0:
            self.fail(done.stdout)
        # The run has not locked itself out half-way.
        self.assertEqual(self.call("GET", "/api/v1/me")["id"], self.operator)
        return done.stdout

    def test_the_document_is_openapi_3_1(self):
        document = self.call("GET", "/openapi.json")
        self.assertTrue(document["openapi"].startswith("3.1."))
        OpenAPIV31SpecValidator(document).validate()

    def test_the_admin_api_answers_an_owner_as_described(self):
        bearer = f"--header=Authorization: Bearer {self.token}"
        self.conforms("--include-path-regex=^/api/v1/", bearer, examples=12)

    def test_backends_and_clients_are_answered_as_described(self):
        self.conforms("--include-path-regex=^/apps?/", examples=20, signed=True)

    def test_strangers_are_refused_as_described(self):
        self.conforms("--phases=examples,fuzzing", examples=4)

    def test_nothing_that_databases_cannot_store_reaches_them(self):
        nul = "a\0"
        for method, path, body in [
            ("GET", "/api/v1/apps/a%00", None),
            ("GET", "/api/v1/audit?actor_id=a%00", None),
            ("GET", "/api/v1/apps?cursor=WzEsImFcdTAwMDAiXQ", None),
            ("POST", "/api/v1/apps", {"name": nul}),
            ("POST", "/api/v1/sessions", {"name": nul, "password": nul}),
            ("PUT", f"/api/v1/apps/{APP['app_id']}/identity", {"sign_in": {"id": nul}}),
        ]:
            with self.subTest(path), self.assertRaises(urllib.error.HTTPError) as refused:
                self.call(method, path, body)
            self.assertEqual(refused.exception.code, 400)


if __name__ == "__main__":
    unittest.main(verbosity=2)
