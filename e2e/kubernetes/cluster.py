"""A cluster through kubectl, and the overlay that is tried in it."""

import asyncio
import json
import pathlib
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Where a folder may refer to the manifests by a relative path, which is the only one that kustomize takes.
FOLDER = ROOT / "target" / "kubernetes" / "tried"

KUSTOMIZATION = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: {namespace}
resources:
  - ../../../k8s/overlays/dev
images:
{images}
configMapGenerator:
  - name: kurir
    behavior: merge
    literals:
      - |
        site.toml=manager.advertise = "{host}:30501"
  - name: relay-addresses
    behavior: merge
    literals:
      - relay-0.toml=relay.advertise = "{host}:30510"
      - relay-1.toml=relay.advertise = "{host}:30511"
      - relay-2.toml=relay.advertise = "{host}:30512"
"""


class Cluster:
    """What `options` name: `kubectl`, `namespace`, `host`, `image` (of each name in the manifests another one)."""

    def __init__(self, options):
        self.options = options
        self.command = [options.kubectl, "--namespace", options.namespace]

    async def kubectl(self, *args, check=True):
        """Runs kubectl; its output."""
        process = await asyncio.create_subprocess_exec(
            *self.command, *args, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await process.communicate()
        if check and process.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(args)}: {err.decode().strip()}")
        return out.decode()

    async def get(self, *args):
        return json.loads(await self.kubectl("get", *args, "--output", "json"))

    async def node_address(self):
        nodes = (await self.get("nodes"))["items"]
        addresses = {each["type"]: each["address"] for each in nodes[0]["status"]["addresses"]}
        return addresses.get("ExternalIP") or addresses["InternalIP"]

    async def apply(self):
        FOLDER.mkdir(parents=True, exist_ok=True)
        images = ""
        for given in self.options.image:
            name, _, image = given.partition("=")
            new_name, _, tag = image.rpartition(":")
            images += f"  - {{name: {name}, newName: {new_name}, newTag: {tag!r}}}\n"
        text = KUSTOMIZATION.format(namespace=self.options.namespace, host=self.options.host, images=images)
        if not images:
            text = text.replace("images:\n", "")
        (FOLDER / "kustomization.yaml").write_text(text, encoding="utf-8")
        await self.kubectl("apply", "--kustomize", str(FOLDER))

    async def ready(self, *workloads):
        """Waits until these are rolled out."""
        await asyncio.gather(
            *(self.kubectl("rollout", "status", each, "--timeout=180s") for each in workloads)
        )

    async def pods(self, component):
        found = await self.get("pods", "--selector", f"app.kubernetes.io/component={component}")
        return [each for each in found["items"] if not each["metadata"].get("deletionTimestamp")]

    async def kill(self, component):
        """Kills one pod of it at once, without a word to its process, and waits until another one is ready."""
        pod = (await self.pods(component))[-1]["metadata"]
        await self.kubectl("delete", "pod", pod["name"], "--grace-period=0", "--force")
        began = time.monotonic()
        while True:
            pods = [each for each in await self.pods(component) if each["metadata"]["uid"] != pod["uid"]]
            wanted = len(pods) >= self.replicas[component]
            if wanted and all(is_ready(each) for each in pods):
                return pod["name"], time.monotonic() - began
            if time.monotonic() - began > 120:
                raise RuntimeError(f"nothing has taken the place of {pod['name']}")
            await asyncio.sleep(0.5)

    replicas = {"relay": 1, "manager": 1}

    async def scale(self, workload, count):
        self.replicas[workload.partition("/")[2]] = count
        await self.kubectl("scale", workload, f"--replicas={count}")
        await self.ready(workload)

    async def stopped_with(self, component):
        """Waits until a container of it has ended by itself; its exit code and what it said last."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for pod in await self.pods(component):
                for status in pod["status"].get("containerStatuses", []):
                    for state in (status["state"], status["lastState"]):
                        if "terminated" in state:
                            name = pod["metadata"]["name"]
                            said = await self.kubectl("logs", name, "--tail=-1", check=False)
                            if said:
                                return state["terminated"]["exitCode"], said.strip()
            await asyncio.sleep(0.5)
        raise RuntimeError(f"no {component} has stopped")

    async def remove(self):
        await self.kubectl("delete", "namespace", self.options.namespace, "--ignore-not-found", "--timeout=180s")


def is_ready(pod):
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True"
