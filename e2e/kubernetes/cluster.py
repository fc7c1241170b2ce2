"""A cluster through kubectl, and the overlay that is tried in it."""

import asyncio
import json
import pathlib
import shlex
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
    """What `options` name: `kubectl`, `namespace`, `host`, `image` (of each name in the manifests another one), `no_validation`, `kill`,
    `evidence`."""

    def __init__(self, options):
        self.options = options
        self.followed = {}
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
        validate = "false" if self.options.no_validation else "strict"
        await self.kubectl("apply", f"--validate={validate}", "--kustomize", str(FOLDER))

    async def ready(self, *workloads):
        """Waits until these are rolled out."""
        await asyncio.gather(
            *(self.kubectl("rollout", "status", each, "--timeout=180s") for each in workloads)
        )

    async def pods(self, component, going=False):
        """Those that are to stay, or those that are just going."""
        found = await self.get("pods", "--selector", f"app.kubernetes.io/component={component}")
        return [each for each in found["items"] if bool(each["metadata"].get("deletionTimestamp")) is going]

    async def replaced(self, workload):
        """Waits until it is rolled out and those of before are gone: a Deployment's may have users for a while."""
        await self.ready(workload)
        deadline = time.monotonic() + 180
        while going := await self.pods(workload.partition("/")[2], going=True):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{going[0]['metadata']['name']} does not go")
            await asyncio.sleep(0.5)

    async def metrics(self, pod, *names):
        """The values of metrics without labels."""
        path = f"/api/v1/namespaces/{self.options.namespace}/pods/{pod['metadata']['name']}:5090/proxy/metrics"
        lines = [line.split() for line in (await self.kubectl("get", "--raw", path)).splitlines()]
        return [float(line[1]) for name in names for line in lines if line[0] == name]

    async def users(self, pod):
        """How many users a manager or relay has."""
        return int((await self.metrics(pod, "kurir_relay_users", "kurir_manager_connections"))[0])

    async def costs(self):
        """Of each role: the memory in MiB of the pod that has most, the processor time in seconds of all that are there."""
        for component in ("tracker", "manager", "relay"):
            names = ("process_resident_memory_bytes", "process_cpu_seconds_total")
            found = [await self.metrics(each, *names) for each in await self.pods(component)]
            yield component, max(each[0] for each in found) / 2**20, sum(each[1] for each in found)

    async def kill(self, component):
        """Kills the pod with the most users, and waits until all are there again: its name, its users, seconds."""
        pods = await self.pods(component)
        users = [await self.users(each) for each in pods]
        victim = pods[users.index(max(users))]
        began = time.monotonic()
        await self.end(victim)
        while True:
            alive = [life(each) for each in await self.pods(component) if is_ready(each)]
            if life(victim) not in alive and len(alive) >= len(pods):
                return victim["metadata"]["name"], max(users), time.monotonic() - began
            if time.monotonic() - began > 120:
                raise RuntimeError(f"nothing has taken the place of {victim['metadata']['name']}")
            await asyncio.sleep(0.5)

    async def end(self, pod):
        """At once where `options.kill` says how. Else the pod is deleted by force: its process is told and has two seconds."""
        if not self.options.kill:
            await self.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")
            return
        container = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
        process = await asyncio.create_subprocess_exec(*shlex.split(self.options.kill), container)
        if await process.wait() != 0:
            raise RuntimeError(f"{self.options.kill} {container}: exit code {process.returncode}")

    async def scale(self, workload, count):
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

    async def follow(self):
        """From now on, what the pods that are there log is kept until they are gone."""
        if not self.options.evidence:
            return
        for component in ("tracker", "manager", "relay"):
            for pod in await self.pods(component):
                name = "-".join([pod["metadata"]["name"], pod["metadata"]["uid"][:8], str(life(pod)[1])])
                if name in self.followed:
                    continue
                with open(pathlib.Path(self.options.evidence, f"{name}.log"), "w", encoding="utf-8") as log:
                    self.followed[name] = await asyncio.create_subprocess_exec(
                        *self.command, "logs", "--follow", pod["metadata"]["name"], stdout=log, stderr=log
                    )

    async def follow_no_more(self):
        for process in self.followed.values():
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def remove(self):
        await self.kubectl("delete", "namespace", self.options.namespace, "--ignore-not-found", "--timeout=180s")


def life(pod):
    """What tells a pod from the one before it, of the same name or not, and a container from the one before it."""
    return pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]


def is_ready(pod):
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True"
