#!/usr/bin/env python3
"""What schemas cannot say of the manifests. Each rule gives one line for everything that is wrong."""

import argparse
import sys

import settings
from model import COMPONENT, POD_NAME, Overlay, Pod

# Set by an overlay that needs a port of the node; no stricter standard allows it.
ENFORCE = "pod-security.kubernetes.io/enforce"
# Where Prometheus is: the one namespace that is not ours and is counted on.
MONITORING = "monitoring"
# Who dials whom, and where: the roles' components, and Redis and PostgreSQL, which may be elsewhere.
FLOWS = (
    # Join.
    ("manager", "tracker", "grpc"),
    ("relay", "tracker", "grpc"),
    # Notify; Attach, Log, Trail; Link.
    ("manager", "manager", "grpc"),
    ("relay", "manager", "grpc"),
    ("relay", "relay", "grpc"),
    # Explain: a user's question, which a manager answers.
    ("manager", "relay", "grpc"),
    ("manager", "redis", 6379),
    ("relay", "redis", 6379),
    ("manager", "postgres", 5432),
    ("migrate", "postgres", 5432),
)
# Who is no pod here: whoever it may be; some address outside of the cluster.
ANYBODY, ELSEWHERE = "anybody", "elsewhere"
# Where each port of a pod is set.
LISTENS = {"client": "listen", "grpc": "grpc_listen"}


def restricted(overlay, _):
    """Every container is as the "restricted" standard and ours want it."""
    standards = [each["metadata"].get("labels", {}).get(ENFORCE) for each in overlay.of("Namespace").values()]
    for pod in overlay.pods():
        shared = pod.spec.get("securityContext", {})
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(key):
                yield f"{pod}: {key}"
        for volume in pod.spec.get("volumes", []):
            if "hostPath" in volume:
                yield f"{pod}: volume {volume['name']} is a path of the node"
        for container in pod.containers:
            who = f"{pod}, container {container['name']}"
            own = {**shared, **container.get("securityContext", {})}
            wanted = {
                "runAsNonRoot": own.get("runAsNonRoot") is True,
                "runAsUser": isinstance(own.get("runAsUser"), int) and own["runAsUser"] > 0,
                "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is True,
                "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
                "privileged": not own.get("privileged"),
                "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
                "seccompProfile": own.get("seccompProfile") == {"type": "RuntimeDefault"},
            }
            yield from (f"{who}: {key} is not as restricted" for key, holds in wanted.items() if not holds)
            if standards != ["privileged"] and any("hostPort" in port for port in container.get("ports", [])):
                yield f"{who}: hostPort, which the namespace's standard refuses"


def accounts(overlay, _):
    """No pod has a token, and each of Kurir's has an account of its own."""
    for pod in overlay.pods():
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod}: is given a token"
        name = pod.spec.get("serviceAccountName")
        if name and overlay.of("ServiceAccount").get(name, {}).get("automountServiceAccountToken") is not False:
            yield f"{pod}: ServiceAccount {name} is missing or has a token"
        if settings.role(pod) and not name:
            yield f"{pod}: no ServiceAccount of its own"


def images(overlay, _):
    """Every image has a version, and ours the one that is built."""
    for pod in overlay.pods():
        for container in pod.containers:
            tag = container["image"].rpartition("/")[2].partition(":")[2]
            if tag in ("", "latest"):
                yield f"{pod}: image {container['image']} without a version"
            elif settings.role(pod) and tag != settings.VERSION:
                yield f"{pod}: image {container['image']}, and Cargo.toml has {settings.VERSION}"


def migration(overlay, _):
    """The Job does what managers leave to it."""
    for pod in overlay.pods():
        command = pod.spec["containers"][0].get("command")
        if settings.role(pod) and pod.kind == "Job" and command != ["/bin/kurir", "migrate"]:
            yield f"{pod}: its command is {command}"


def ports(overlay, configured):
    """What a part listens at and tells others are the ports of its pod."""
    for pod in overlay.pods():
        role = settings.role(pod)
        for (workload, name), config in configured.items():
            if workload != pod.name or pod.kind == "Job":
                continue
            set_at = {f"{role}.{key}": (port, config[role][key]) for port, key in LISTENS.items()}
            set_at["admin.listen"] = ("admin", config["admin"]["listen"])
            if role != "tracker":
                set_at[f"{role}.grpc_advertise"] = ("grpc", config[role]["grpc_advertise"])
            for key, (port, address) in set_at.items():
                number = pod.ports()[port]["containerPort"]
                if not address.endswith(f":{number}"):
                    yield f"{name}: {key} is {address!r}, and the port {port} {number}"


def services(overlay, _):
    """Every Service leads to pods and ports that exist."""
    taken = {}
    for name, service in overlay.of("Service").items():
        pods = overlay.selected({"matchLabels": service["spec"].get("selector", {})})
        if not service["spec"].get("selector") or not pods:
            yield f"Service {name}: selects no pod"
        for port in service["spec"]["ports"]:
            yield from (f"Service {name}: {problem}" for problem in unknown_ports([port["targetPort"]], pods))
            node_port = port.get("nodePort")
            if node_port in taken:
                yield f"Service {name}: nodePort {node_port} is {taken[node_port]}'s"
            if node_port:
                taken[node_port] = name
    for pod in overlay.pods():
        governing = overlay.objects[pod.kind, pod.name]["spec"].get("serviceName")
        if pod.kind == "StatefulSet" and governing not in overlay.of("Service"):
            yield f"{pod}: no Service {governing}"


def relays_one_by_one(overlay, configured):
    """Every relay that there may be is at an address of its own, the one that clients are given."""
    ways = {
        service["spec"]["selector"][POD_NAME]: outside_port(service["spec"])
        for service in overlay.of("Service").values()
        if POD_NAME in service["spec"].get("selector", {})
    }
    for pod in overlay.pods():
        if settings.role(pod) != "relay":
            continue
        on_node = pod.ports()["client"].get("hostPort")
        given = set()
        for name in pod.names():
            advertised = configured.get((pod.name, name), {}).get("relay", {}).get("advertise", "")
            if not advertised.endswith(f":{on_node or ways.get(name)}"):
                yield f"{name}: clients are given {advertised!r}, its port is {on_node or ways.get(name)}"
            if advertised in given and not on_node:
                yield f"{name}: {advertised} is another relay's"
            given.add(advertised)


def outside_port(service):
    """Where a Service is reached from outside: at a port of every node, or at its own one of an address of its own."""
    port = service["ports"][0]
    return port["port"] if service.get("type") == "LoadBalancer" else port.get("nodePort")


def policies(overlay, _):
    """Nothing is allowed by default; policies mean pods and ports that exist."""
    everything = [
        each["spec"] for each in overlay.of("NetworkPolicy").values() if each["spec"]["podSelector"] == {}
    ]
    if not any(set(each["policyTypes"]) == {"Ingress", "Egress"} and len(each) == 2 for each in everything):
        yield "no NetworkPolicy that denies everything by default"
    for name, policy in overlay.of("NetworkPolicy").items():
        spec = policy["spec"]
        own = overlay.selected(spec["podSelector"])
        if not own:
            yield f"NetworkPolicy {name}: is for no pod"
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            if direction in spec and direction.capitalize() not in spec["policyTypes"]:
                yield f"NetworkPolicy {name}: {direction} is not among its types"
            for rule in spec.get(direction, []):
                problems = rule_problems(overlay, rule, rule.get(peers, []), own, direction)
                yield from (f"NetworkPolicy {name}: {problem}" for problem in problems)


def rule_problems(overlay, rule, peers, own, direction):
    others = []
    for peer in peers:
        namespace = peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name")
        if namespace and namespace != MONITORING:
            yield f"unknown namespace {namespace}"
        if "podSelector" in peer:
            found = overlay.selected(peer["podSelector"])
            others += found
            if not found:
                yield f"{direction}: means no pod"
    if not rule.get("ports"):
        yield f"{direction}: every port"
    named = [port["port"] for port in rule.get("ports", []) if isinstance(port["port"], str)]
    yield from unknown_ports(named, own if direction == "ingress" else others)


def unknown_ports(ports, pods):
    for pod in pods:
        numbers = [port["containerPort"] for port in pod.ports().values()]
        for port in ports:
            if port not in pod.ports() and port not in numbers:
                yield f"{pod} has no port {port}"


def reachable(overlay, _):
    """Whatever has to reach something is let out where it is and let in where it goes."""
    pods = list(overlay.pods())
    of = {name: [pod for pod in pods if pod.labels.get(COMPONENT) == name] for flow in FLOWS for name in flow[:2]}
    for sender, receiver, port in FLOWS:
        for one in of[sender]:
            # Elsewhere nobody asks our policies who is let in.
            for other in of[receiver] or [ELSEWHERE]:
                if not lets(overlay, one, "egress", other, port):
                    yield f"{one}: is not let out to {receiver}, port {port}"
                if other != ELSEWHERE and not lets(overlay, other, "ingress", one, port):
                    yield f"{other}: does not let {sender} in at port {port}"
    for pod in pods:
        for protocol in ("UDP", "TCP"):
            if not lets(overlay, pod, "egress", ANYBODY, 53, protocol):
                yield f"{pod}: may not ask for names by {protocol}"
        if "client" in pod.ports() and not lets(overlay, pod, "ingress", ANYBODY, "client"):
            yield f"{pod}: does not let everybody in at port client"
        if "admin" in pod.ports() and not lets(overlay, pod, "ingress", MONITORING, "admin"):
            yield f"{pod}: does not let {MONITORING} in at port admin"


def lets(overlay, pod, direction, other, port, protocol="TCP"):
    """Whether the pod's policies allow it: `other` is a pod, the name of a namespace, ANYBODY or ELSEWHERE."""
    specs = [each["spec"] for each in overlay.of("NetworkPolicy").values()]
    own = [each for each in specs if direction.capitalize() in each["policyTypes"] and pod in overlay.selected(each["podSelector"])]
    called = also_called(port, pod if direction == "ingress" else other)
    peers = "from" if direction == "ingress" else "to"
    return not own or any(
        means(overlay, rule.get(peers, []), other)
        and any(each["port"] in called and each.get("protocol", "TCP") == protocol for each in rule.get("ports", []))
        for each in own
        for rule in each.get(direction, [])
    )


def also_called(port, pod):
    """A port by its number and, of a pod, its name."""
    pairs = [{name, each["containerPort"]} for name, each in pod.ports().items()] if isinstance(pod, Pod) else []
    return {port}.union(*(pair for pair in pairs if port in pair))


def means(overlay, peers, other):
    """Whether a rule is for `other`; one without peers is for everybody."""
    for peer in peers:
        namespace = peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name")
        if isinstance(other, Pod):
            found = "namespaceSelector" not in peer and other in overlay.selected(peer.get("podSelector"))
        else:
            found = namespace == other or (other == ELSEWHERE and "ipBlock" in peer)
        if found:
            return True
    return not peers


def budgets(overlay, _):
    """Each role has a budget, which a drained node does not wait for in vain."""
    covered = set()
    for name, budget in overlay.of("PodDisruptionBudget").items():
        pods = overlay.selected(budget["spec"].get("selector"))
        if not pods:
            yield f"PodDisruptionBudget {name}: is for no pod"
        if budget["spec"].get("maxUnavailable") != 1:
            yield f"PodDisruptionBudget {name}: maxUnavailable is not 1"
        covered |= {pod.name for pod in pods}
    for pod in overlay.pods():
        if settings.role(pod) and pod.kind != "Job" and pod.name not in covered:
            yield f"{pod}: no PodDisruptionBudget"


def autoscalers(overlay, _):
    """An autoscaler's workload exists and does not say itself how many it is."""
    for name, scaler in overlay.of("HorizontalPodAutoscaler").items():
        target = scaler["spec"]["scaleTargetRef"]
        workload = overlay.objects.get((target["kind"], target["name"]))
        if workload is None:
            yield f"HorizontalPodAutoscaler {name}: no {target['kind']} {target['name']}"
        elif "replicas" in workload["spec"]:
            yield f"{target['kind']} {target['name']}: replicas, which an autoscaler decides"


def resources(overlay, _):
    """Where relays are counted by an autoscaler, every pod says what it needs, and none is throttled."""
    if not overlay.of("HorizontalPodAutoscaler"):
        return
    for pod in overlay.pods():
        for container in pod.containers:
            needed = container.get("resources", {})
            if set(needed.get("requests", {})) != {"cpu", "memory"} or set(needed.get("limits", {})) != {"memory"}:
                yield f"{pod}: wanted are requests of cpu and memory, and a limit of memory alone"


def probes(overlay, _):
    """Liveness asks nothing that a restart would not mend; readiness says all."""
    for pod in overlay.pods():
        if not settings.role(pod) or pod.kind == "Job":
            continue
        for container in pod.containers:
            for probe, path in (("livenessProbe", "/livez"), ("startupProbe", "/livez"), ("readinessProbe", "/readyz")):
                if container.get(probe, {}).get("httpGet") != {"path": path, "port": "admin"}:
                    yield f"{pod}: {probe} does not ask {path} at the admin port"


def references(overlay, _):
    """Every ConfigMap and Secret that a pod needs is here, or is said to be elsewhere."""
    for pod in overlay.pods():
        needed = [("ConfigMap", each["configMap"]["name"]) for each in pod.spec.get("volumes", []) if "configMap" in each]
        for container in pod.containers:
            for variable in container.get("env", []):
                secret = variable.get("valueFrom", {}).get("secretKeyRef")
                if secret:
                    needed.append(("Secret", secret["name"]))
        for kind, name in needed:
            if (kind, name) not in overlay.objects and name not in settings.ELSEWHERE:
                yield f"{pod}: no {kind} {name}"


def grace(overlay, configured):
    """A pod has the time to stop that its configuration gives it, and some more."""
    for pod in overlay.pods():
        for (workload, _), config in configured.items():
            if workload != pod.name or pod.kind == "Job":
                continue
            shutdown = config["shutdown"]
            wanted = sum(shutdown.get(key, 0) for key in ("pause_seconds", "grace_seconds"))
            given = pod.spec.get("terminationGracePeriodSeconds", 30)
            if given < wanted + 5:
                yield f"{pod}: is killed after {given} s, and may take {wanted:g} s to stop"


RULES = (
    restricted,
    accounts,
    images,
    migration,
    ports,
    services,
    relays_one_by_one,
    policies,
    reachable,
    budgets,
    autoscalers,
    resources,
    probes,
    references,
    grace,
)


def check(text, kurir):
    """Everything that is wrong with the manifests in `text`. `kurir` is the program, which says what its settings are."""
    overlay = Overlay.parse(text)
    configured, problems = settings.effective(overlay, kurir)
    for rule in RULES:
        problems += rule(overlay, configured)
    return sorted(set(problems))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kurir", required=True, help="the program")
    parser.add_argument("manifests", nargs="+", help="what `kubectl kustomize` prints")
    args = parser.parse_args()
    failed = False
    for path in args.manifests:
        with open(path, encoding="utf-8") as file:
            for problem in check(file.read(), args.kurir):
                failed = True
                print(f"{path}: {problem}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
