"""Compose files, the unit and what docs/two-servers.md has to be written are what `kurir config check` takes. KURIR is the program."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import unittest

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[1]
ADMIN = {"tracker": "0.0.0.0:5090", "manager": "0.0.0.0:5091", "relay": "0.0.0.0:5092"}
COMPOSE = ("compose.yaml", "deploy/two-servers/one.yaml", "deploy/two-servers/two.yaml")
GIVEN = {
    "KURIR_DATABASE_PASSWORD": "secret",
    "ONE_PUBLIC": "one.chat.example",
    "TWO_PUBLIC": "two.chat.example",
    "ONE_PRIVATE": "10.0.0.1",
    "TWO_PRIVATE": "10.0.0.2",
    "REDIS_PASSWORD": "secret",
    "DATABASE_PASSWORD": "secret",
}


def interpolated(text):
    """As Compose does; a variable that has neither value nor default is an error."""

    def value(found):
        name, operator, rest = found[1], found[2], found[3]
        if name in GIVEN:
            return GIVEN[name]
        if operator != ":-":
            raise ValueError(f"no value for {name}")
        return rest

    return re.sub(r"\$\{(\w+)(?:(:-|:\?)([^}]*))?\}", value, text)


def refusal(role, env, *args):
    """What `kurir config check` says, or nothing."""
    command = [os.environ["KURIR"], "config", "check", "--role", role, *args]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False).stderr


class Compose(unittest.TestCase):
    def services(self):
        for name in COMPOSE:
            file = yaml.safe_load(interpolated((ROOT / name).read_text(encoding="utf-8")))
            for service, each in file["services"].items():
                image = each["image"].partition(":")[0]
                yield name, service, image.removeprefix("kurir-") if image.startswith("kurir-") else None, each, file

    def test_every_role_is_configured_with_what_it_takes(self):
        for name, service, role, each, _ in self.services():
            if role:
                self.assertEqual(refusal(role, each["environment"]), "", f"{name}: {service}")

    def test_a_key_that_is_not_there_would_be_found(self):
        self.assertIn("unknown key relay.lisen", refusal("relay", {"KURIR__RELAY__LISEN": "0.0.0.0:5010"}))

    def test_every_role_is_restricted_and_has_time_to_stop(self):
        for name, service, role, each, _ in self.services():
            if not role:
                continue
            who = f"{name}: {service}"
            self.assertEqual(each["user"], "65532:65532", who)
            self.assertTrue(each["read_only"], who)
            self.assertEqual(each["cap_drop"], ["ALL"], who)
            self.assertEqual(each["security_opt"], ["no-new-privileges:true"], who)
            self.assertEqual(each["stop_grace_period"], "40s", who)

    def test_metrics_are_where_the_docs_say(self):
        for name, service, role, each, _ in self.services():
            if role:
                self.assertEqual(each["environment"]["KURIR__ADMIN__LISTEN"], ADMIN[role], f"{name}: {service}")

    def test_images_are_those_of_this_version(self):
        version = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]["package"]["version"]
        for name, service, role, each, _ in self.services():
            if role:
                self.assertEqual(each["image"], f"kurir-{role}:{version}", f"{name}: {service}")

    def test_what_clients_are_given_is_published_and_what_components_are_given_is_private(self):
        for name, service, role, each, file in self.services():
            if role in (None, "tracker"):
                continue
            who, env = f"{name}: {service}", each["environment"]
            ports = [port.rpartition(":")[0] for port in each["ports"]]
            self.assertIn(env[f"KURIR__{role.upper()}__ADVERTISE"].rpartition(":")[2], ports, who)
            host, _, port = env[f"KURIR__{role.upper()}__GRPC_ADVERTISE"].removeprefix("http://").rpartition(":")
            self.assertTrue(host in file["services"] or f"{host}:{port}" in ports, who)

    def test_only_clients_ports_are_open_to_everybody(self):
        for name, service, _, each, _ in self.services():
            for port in each.get("ports", []):
                private = port.startswith("10.0.0.")
                self.assertTrue(private or port in ("5000:5000", "5001:5001", "5010:5010"), f"{name}: {service}: {port}")


class Systemd(unittest.TestCase):
    unit = ROOT / "deploy/systemd/kurir@.service"

    def test_the_configuration_in_the_docs_is_taken(self):
        text = (ROOT / "docs/two-servers.md").read_text(encoding="utf-8")
        blocks = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
        self.assertEqual(len(blocks), 2)
        variables = dict(line.split("=", 1) for line in re.findall(r"^KURIR__\w+=.*$", text, re.MULTILINE))
        self.assertEqual(len(variables), 3)
        for block in blocks:
            with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
                file.write(block)
                file.flush()
                for role in re.findall(r"^\[(\w+)\]", block, re.MULTILINE):
                    self.assertEqual(refusal(role, variables, "--config", file.name), "", block)

    def test_the_unit_is_one(self):
        if not shutil.which("systemd-analyze"):
            print("no systemd-analyze here: the unit was not looked at", file=sys.stderr)
            self.skipTest("no systemd-analyze")
        with tempfile.TemporaryDirectory() as folder:
            text = self.unit.read_text(encoding="utf-8").replace("/usr/local/bin/kurir", os.environ["KURIR"])
            path = pathlib.Path(folder, "kurir@relay.service")
            path.write_text(text, encoding="utf-8")
            done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
