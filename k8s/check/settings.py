"""The configuration that each pod would have, as `kurir config` itself reads it from the pod's files and environment."""

import base64
import os
import pathlib
import re
import subprocess
import tempfile
import tomllib

# Of the images, too.
VERSION = tomllib.loads((pathlib.Path(__file__).resolve().parents[2] / "Cargo.toml").read_text())["workspace"]["package"]["version"]

# Secrets that operators make; examples of what is in them.
ELSEWHERE = {
    "kurir-redis": {"url": "redis://:secret@redis.example:6379"},
    "kurir-database": {"url": "postgres://kurir:secret@postgres.example:5432/kurir"},
}
ROLES = ("tracker", "manager", "relay")


def role(pod):
    """Which of Kurir's roles these pods have; None: they are not Kurir's."""
    image = pod.spec["containers"][0]["image"].rpartition("/")[2].partition(":")[0]
    found = image.removeprefix("kurir-")
    return found if image != found and found in ROLES else None


def effective(overlay, kurir):
    """What every pod of Kurir is configured with, by its workload's name and its own; and what is wrong with it."""
    configured, problems = {}, []
    for pod in filter(role, overlay.pods()):
        for name in pod.names():
            try:
                configured[pod.name, name] = read(overlay, kurir, pod, name)
            except (KeyError, ValueError) as error:
                problems.append(f"{name}: {error}")
    return configured, problems


def read(overlay, kurir, pod, name):
    container = pod.spec["containers"][0]
    env = environment(overlay, container, name)
    with tempfile.TemporaryDirectory() as root:
        mount(overlay, pod, container, root)
        args = [expand(arg, env) for arg in container.get("args", [])]
        args = [os.path.join(root, arg[1:]) if arg.startswith("/") else arg for arg in args]
        command = [kurir, "config", "print", "--role", role(pod), *args]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ValueError(done.stderr.strip().replace(root, ""))
    config = tomllib.loads(done.stdout)
    advertised = config.get(role(pod), {}).get("advertise")
    if pod.kind != "Job" and advertised == "":
        raise ValueError(f"{role(pod)}.advertise: empty, clients would be given the pod's own address")
    return config


def environment(overlay, container, pod_name):
    """What the container's variables are, with examples for what is known only in a cluster."""
    fields = {"metadata.name": pod_name, "status.podIP": "10.0.0.1", "status.hostIP": "10.0.0.2"}
    env = {}
    for variable in container.get("env", []):
        source = variable.get("valueFrom", {})
        if "fieldRef" in source:
            env[variable["name"]] = fields[source["fieldRef"]["fieldPath"]]
        elif "secretKeyRef" in source:
            env[variable["name"]] = secret(overlay, **source["secretKeyRef"])
        else:
            env[variable["name"]] = expand(variable.get("value", ""), env)
    return env


def secret(overlay, name, key):
    held = overlay.of("Secret").get(name)
    if held is None:
        return ELSEWHERE[name][key]
    return base64.b64decode(held["data"][key]).decode()


def expand(text, env):
    """As the kubelet does: a variable that is not known stays as it is written, and is seen to be wrong."""
    return re.sub(r"\$\((\w+)\)", lambda found: env.get(found[1], found[0]), text)


def mount(overlay, pod, container, root):
    """Writes the ConfigMaps' files where the container would see them, below `root`."""
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
    for each in container.get("volumeMounts", []):
        source = volumes[each["name"]].get("configMap", {}).get("name")
        folder = os.path.join(root, each["mountPath"][1:])
        os.makedirs(folder, exist_ok=True)
        for name, text in overlay.of("ConfigMap").get(source, {}).get("data", {}).items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)
