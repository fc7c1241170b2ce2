"""Each rule finds what it is for: every test breaks one thing in a rendered overlay. `run` says where these and the program are."""

import copy
import functools
import os
import pathlib
import unittest

import yaml

import rules
import settings
from model import Overlay


def overlay(name):
    return copy.deepcopy(rendered(name))


@functools.cache
def rendered(name):
    return Overlay.parse(pathlib.Path(os.environ["RENDERED"], f"{name}.yaml").read_text(encoding="utf-8")).objects


def problems(objects):
    return rules.check(yaml.safe_dump_all(objects.values()), os.environ["KURIR"])


def found_by(rule, objects):
    return sorted(rule(Overlay(objects), {}))


def pod(objects, kind, name):
    return objects[kind, name]["spec"]["template"]["spec"]


def policy(objects, name):
    return objects["NetworkPolicy", name]["spec"]


def without(component, allowed):
    """What a policy allows when it means this component no more; a rule that means nobody else goes."""
    left = []
    for rule in allowed:
        peers = [peer["podSelector"] for peer in rule.get("from", []) + rule.get("to", []) if "podSelector" in peer]
        for selector in peers:
            for each in selector.get("matchExpressions", []):
                each["values"] = [value for value in each["values"] if value != component]
        if not any(selector.get("matchLabels", {}).get(rules.COMPONENT) == component for selector in peers):
            left.append(rule)
    return left


def config(objects):
    return next(each["data"] for (kind, name), each in objects.items() if kind == "ConfigMap" and name.startswith("kurir-"))


class Rules(unittest.TestCase):
    def broken(self, name, change, *expected):
        objects = overlay(name)
        change(objects)
        self.assertEqual(problems(objects), sorted(expected))

    def test_overlays_are_good(self):
        for name in ("dev", "production", "production-hostport"):
            self.assertEqual(problems(overlay(name)), [], name)

    def test_a_container_that_is_not_restricted(self):
        def change(objects):
            container = pod(objects, "Deployment", "redis")["containers"][0]
            container["securityContext"]["capabilities"]["add"] = ["NET_ADMIN"]
            del container["securityContext"]["readOnlyRootFilesystem"]
            pod(objects, "StatefulSet", "postgres")["securityContext"]["runAsUser"] = 0
            pod(objects, "Deployment", "manager")["volumes"].append({"name": "node", "hostPath": {"path": "/"}})
            pod(objects, "Deployment", "tracker")["hostNetwork"] = True

        self.broken(
            "dev",
            change,
            "Deployment redis, container redis: capabilities is not as restricted",
            "Deployment redis, container redis: readOnlyRootFilesystem is not as restricted",
            "StatefulSet postgres, container postgres: runAsUser is not as restricted",
            "Deployment manager: volume node is a path of the node",
            "Deployment tracker: hostNetwork",
        )

    def test_a_port_of_the_node_under_a_standard_that_refuses_it(self):
        def change(objects):
            objects["Namespace", "kurir"]["metadata"]["labels"][rules.ENFORCE] = "restricted"

        expected = "StatefulSet relay, container kurir: hostPort, which the namespace's standard refuses"
        self.broken("production-hostport", change, expected)

    def test_a_token(self):
        def change(objects):
            objects["ServiceAccount", "relay"]["automountServiceAccountToken"] = True
            del pod(objects, "Deployment", "redis")["automountServiceAccountToken"]

        expected = "StatefulSet relay: ServiceAccount relay is missing or has a token"
        self.broken("dev", change, expected, "Deployment redis: is given a token")

    def test_an_image_without_a_version_or_of_another_one(self):
        def change(objects):
            pod(objects, "Deployment", "redis")["containers"][0]["image"] = "host:5000/redis"
            pod(objects, "Deployment", "tracker")["containers"][0]["image"] = "host:5000/kurir-tracker:0.0.1"

        self.broken(
            "dev",
            change,
            "Deployment redis: image host:5000/redis without a version",
            f"Deployment tracker: image host:5000/kurir-tracker:0.0.1, and Cargo.toml has {settings.VERSION}",
        )

    def test_a_service_that_leads_nowhere(self):
        def change(objects):
            objects["Service", "redis"]["spec"]["selector"] = {"app.kubernetes.io/component": "cache"}
            objects["Service", "postgres"]["spec"]["ports"][0]["targetPort"] = "sql"
            objects["Service", "tracker"]["spec"]["ports"][0]["nodePort"] = 30501
            objects["StatefulSet", "relay"]["spec"]["serviceName"] = "relays"

        self.broken(
            "dev",
            change,
            "Service redis: selects no pod",
            "Service postgres: StatefulSet postgres has no port sql",
            "Service tracker: nodePort 30501 is manager's",
            "StatefulSet relay: no Service relays",
        )

    def test_a_relay_more_than_there_are_addresses(self):
        def change(objects):
            objects["HorizontalPodAutoscaler", "relay"]["spec"]["maxReplicas"] = 7

        self.broken(
            "production",
            change,
            "relay-6: kurir: cannot read /etc/kurir-relays/relay-6.toml: No such file or directory (os error 2)",
            "relay-6: clients are given '', its port is None",
        )

    def test_a_relay_at_another_ones_address(self):
        def change(objects):
            data = objects["ConfigMap", "relay-addresses"]["data"]
            data["relay-1.toml"] = data["relay-0.toml"]
            data["relay-2.toml"] = ""

        self.broken(
            "production",
            change,
            "relay-1: clients are given 'relay.chat.example:30510', its port is 30511",
            "relay-1: relay.chat.example:30510 is another relay's",
            "relay-2: relay.advertise: empty, clients would be given the pod's own address",
            "relay-2: clients are given '', its port is 30512",
        )

    def test_relays_at_load_balancers_of_their_own(self):
        def change(objects):
            for ordinal in range(6):
                objects["Service", f"relay-{ordinal}"]["spec"]["type"] = "LoadBalancer"
                address = "relay.chat.example" if ordinal < 2 else f"relay-{ordinal}.chat.example"
                objects["ConfigMap", "relay-addresses"]["data"][f"relay-{ordinal}.toml"] = f'relay.advertise = "{address}:5010"'

        self.broken("production", change, "relay-1: relay.chat.example:5010 is another relay's")

    def test_a_policy_for_what_is_not_there(self):
        objects = overlay("dev")
        del policy(objects, "default-deny")["policyTypes"][1]
        manager = policy(objects, "manager")
        manager["egress"][0]["ports"][0]["port"] = "rpc"
        manager["ingress"].append({"from": [{"podSelector": {"matchLabels": {"app": "gateway"}}}]})
        policy(objects, "to-redis")["policyTypes"] = ["Ingress"]
        policy(objects, "postgres")["podSelector"] = {"matchLabels": {"app": "postgres"}}
        expected = [
            "no NetworkPolicy that denies everything by default",
            "NetworkPolicy manager: Deployment tracker has no port rpc",
            "NetworkPolicy manager: Deployment manager has no port rpc",
            "NetworkPolicy manager: StatefulSet relay has no port rpc",
            "NetworkPolicy manager: ingress: means no pod",
            "NetworkPolicy manager: ingress: every port",
            "NetworkPolicy to-redis: egress is not among its types",
            "NetworkPolicy postgres: is for no pod",
        ]
        self.assertEqual(found_by(rules.policies, objects), sorted(expected))

    def test_a_way_that_no_policy_opens(self):
        """Each policy, what is taken out of it, and what then does not get where."""
        out, let_in = "is not let out to", "does not let"
        rows = (
            ("manager", "egress", "tracker", f"Deployment manager: {out} tracker, port grpc"),
            ("manager", "egress", "manager", f"Deployment manager: {out} manager, port grpc"),
            ("manager", "egress", "relay", f"Deployment manager: {out} relay, port grpc"),
            ("relay", "egress", "tracker", f"StatefulSet relay: {out} tracker, port grpc"),
            ("relay", "egress", "manager", f"StatefulSet relay: {out} manager, port grpc"),
            ("relay", "egress", "relay", f"StatefulSet relay: {out} relay, port grpc"),
            ("to-redis", "egress", "redis", f"Deployment manager: {out} redis, port 6379", f"StatefulSet relay: {out} redis, port 6379"),
            ("to-postgres", "egress", "postgres", f"Deployment manager: {out} postgres, port 5432", f"Job migrate: {out} postgres, port 5432"),
            ("tracker", "ingress", "manager", f"Deployment tracker: {let_in} manager in at port grpc"),
            ("tracker", "ingress", "relay", f"Deployment tracker: {let_in} relay in at port grpc"),
            ("manager", "ingress", "manager", f"Deployment manager: {let_in} manager in at port grpc"),
            ("manager", "ingress", "relay", f"Deployment manager: {let_in} relay in at port grpc"),
            ("relay", "ingress", "manager", f"StatefulSet relay: {let_in} manager in at port grpc"),
            ("relay", "ingress", "relay", f"StatefulSet relay: {let_in} relay in at port grpc"),
            ("redis", "ingress", "manager", f"Deployment redis: {let_in} manager in at port 6379"),
            ("redis", "ingress", "relay", f"Deployment redis: {let_in} relay in at port 6379"),
            ("postgres", "ingress", "manager", f"StatefulSet postgres: {let_in} manager in at port 5432"),
            ("postgres", "ingress", "migrate", f"StatefulSet postgres: {let_in} migrate in at port 5432"),
        )
        for name, direction, component, *expected in rows:
            with self.subTest(policy=name, direction=direction, component=component):
                objects = overlay("dev")
                policy(objects, name)[direction] = without(component, policy(objects, name)[direction])
                self.assertEqual(found_by(rules.reachable, objects), sorted(expected))

    def test_a_way_out_of_the_cluster_that_no_policy_opens(self):
        def change(objects):
            policy(objects, "redis")["egress"][0]["ports"][0]["port"] = 6380
            policy(objects, "postgres")["egress"][0]["to"] = [{"ipBlock": {"cidr": "10.0.0.5/32"}}]
            del policy(objects, "names")["egress"][0]["ports"][1]

        pods = ("Deployment tracker", "Deployment manager", "StatefulSet relay", "Job migrate")
        self.broken(
            "production",
            change,
            "Deployment manager: is not let out to redis, port 6379",
            "StatefulSet relay: is not let out to redis, port 6379",
            *[f"{each}: may not ask for names by TCP" for each in pods],
        )

    def test_a_port_that_nobody_is_let_in_at(self):
        def change(objects):
            del objects["NetworkPolicy", "metrics"]
            policy(objects, "relay")["ingress"][0]["from"] = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]

        admin = [f"{each}: does not let monitoring in at port admin" for each in (
            "Deployment tracker", "Deployment manager", "StatefulSet relay")]
        self.broken("dev", change, *admin, "StatefulSet relay: does not let everybody in at port client")

    def test_a_port_that_the_pod_does_not_have(self):
        def change(objects):
            for variable in pod(objects, "StatefulSet", "relay")["containers"][0]["env"]:
                if variable["name"] == "KURIR__RELAY__GRPC_ADVERTISE":
                    variable["value"] = "http://$(POD_IP):5101"
            config(objects)["kurir.toml"] = config(objects)["kurir.toml"].replace("0.0.0.0:5001", "0.0.0.0:5011")

        self.broken(
            "dev",
            change,
            "relay-0: relay.grpc_advertise is 'http://10.0.0.1:5101', and the port grpc 5110",
            "manager-0: manager.listen is '0.0.0.0:5011', and the port client 5001",
        )

    def test_a_job_that_does_something_else(self):
        def change(objects):
            pod(objects, "Job", "migrate")["containers"][0]["command"] = ["/bin/kurir", "migrat"]

        self.broken("dev", change, "Job migrate: its command is ['/bin/kurir', 'migrat']")

    def test_a_budget_for_nobody_or_one_that_holds_nodes(self):
        def change(objects):
            del objects["PodDisruptionBudget", "relay"]["spec"]["selector"]
            budget = objects["PodDisruptionBudget", "tracker"]["spec"]
            budget["minAvailable"] = budget.pop("maxUnavailable")

        self.broken(
            "dev",
            change,
            "PodDisruptionBudget relay: is for no pod",
            "StatefulSet relay: no PodDisruptionBudget",
            "PodDisruptionBudget tracker: maxUnavailable is not 1",
        )

    def test_an_autoscaler_and_replicas(self):
        def change(objects):
            objects["StatefulSet", "relay"]["spec"]["replicas"] = 3

        self.broken("production", change, "StatefulSet relay: replicas, which an autoscaler decides")

    def test_a_pod_that_does_not_say_what_it_needs_or_is_throttled(self):
        def change(objects):
            del pod(objects, "Job", "migrate")["containers"][0]["resources"]
            pod(objects, "StatefulSet", "relay")["containers"][0]["resources"]["limits"]["cpu"] = "1"

        wanted = "wanted are requests of cpu and memory, and a limit of memory alone"
        self.broken("production", change, f"Job migrate: {wanted}", f"StatefulSet relay: {wanted}")

    def test_a_liveness_probe_that_asks_for_readiness(self):
        def change(objects):
            pod(objects, "Deployment", "manager")["containers"][0]["livenessProbe"]["httpGet"]["path"] = "/readyz"

        self.broken("dev", change, "Deployment manager: livenessProbe does not ask /livez at the admin port")

    def test_a_secret_that_nobody_makes(self):
        def change(objects):
            source = pod(objects, "Deployment", "manager")["containers"][0]["env"][-1]["valueFrom"]
            source["secretKeyRef"]["name"] = "redis"

        self.broken("production", change, "Deployment manager: no Secret redis", *[
            f"manager-{ordinal}: 'redis'" for ordinal in range(3)])

    def test_a_key_that_kurir_does_not_know(self):
        def change(objects):
            config(objects)["kurir.toml"] += "\n[start]\nretry = 3\n"

        pods = ("tracker-0", "manager-0", "relay-0")
        expected = [f"{each}: kurir: unknown key start.retry (from /etc/kurir/kurir.toml)" for each in pods]
        self.broken("dev", change, *expected, "relay-0: clients are given '', its port is 30510")

    def test_less_time_to_stop_than_it_may_take(self):
        def change(objects):
            pod(objects, "StatefulSet", "relay")["terminationGracePeriodSeconds"] = 20

        objects = overlay("dev")
        change(objects)
        found = problems(objects)
        self.assertEqual(len(found), 1)
        self.assertRegex(found[0], r"^StatefulSet relay: is killed after 20 s, and may take \d+ s to stop$")


if __name__ == "__main__":
    unittest.main()
