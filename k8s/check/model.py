"""What a rendered overlay holds: its objects, and the pods that its workloads would make."""

from dataclasses import dataclass, field

import yaml

WORKLOADS = ("Deployment", "StatefulSet", "Job")
COMPONENT = "app.kubernetes.io/component"
POD_NAME = "statefulset.kubernetes.io/pod-name"


@dataclass(frozen=True)
class Pod:
    """The pods of one workload."""

    kind: str
    name: str
    labels: dict
    spec: dict
    # The highest number of pods; 1 where nothing says so.
    most: int = 1

    def __str__(self):
        return f"{self.kind} {self.name}"

    @property
    def containers(self):
        return self.spec.get("initContainers", []) + self.spec["containers"]

    def ports(self):
        """Every port, by its name."""
        return {port["name"]: port for each in self.containers for port in each.get("ports", [])}

    def names(self):
        """What its pods are called; of a Deployment's nobody knows."""
        return [f"{self.name}-{ordinal}" for ordinal in range(self.most)]


@dataclass
class Overlay:
    """Objects by kind and name."""

    objects: dict = field(default_factory=dict)

    @classmethod
    def parse(cls, text):
        objects = {}
        for each in filter(None, yaml.safe_load_all(text)):
            objects[each["kind"], each["metadata"]["name"]] = each
        return cls(objects)

    def of(self, kind):
        return {name: each for (held, name), each in self.objects.items() if held == kind}

    def pods(self):
        most = {
            each["spec"]["scaleTargetRef"]["name"]: each["spec"]["maxReplicas"]
            for each in self.of("HorizontalPodAutoscaler").values()
        }
        for (kind, name), each in self.objects.items():
            if kind in WORKLOADS:
                template = each["spec"]["template"]
                labels = template["metadata"].get("labels", {})
                count = most.get(name, each["spec"].get("replicas", 1))
                yield Pod(kind, name, labels, template["spec"], count)

    def selected(self, selector):
        """The pods that a label selector means; an empty one means all, none means none."""
        return [pod for pod in self.pods() if selector is not None and selects(selector, pod)]


def selects(selector, pod):
    return all(
        has(pod, key, [value]) for key, value in selector.get("matchLabels", {}).items()
    ) and all(expression(pod, each) for each in selector.get("matchExpressions", []))


def has(pod, key, values):
    if key == POD_NAME:
        return pod.kind == "StatefulSet" and any(value.rpartition("-")[0] == pod.name for value in values)
    return pod.labels.get(key) in values


def expression(pod, each):
    operator, key = each["operator"], each["key"]
    if operator == "Exists":
        return key in pod.labels
    if operator == "DoesNotExist":
        return key not in pod.labels
    return has(pod, key, each["values"]) == (operator == "In")
