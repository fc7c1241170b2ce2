"""Each rule finds what it is for: every test breaks one thing in a rendered overlay. `run` says where these and the program are."""

import os
import pathlib
import unittest

import yaml

import rules


def overlay(name):
    text = pathlib.Path(os.environ["RENDERED"], f"{name}.yaml").read_text(encoding="utf-8")
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text)}


def problems(objects):
    return rules.check(yaml.safe_dump_all(objects.values()), os.environ["KURIR"])


def pod(objects, kind, name):
    return objects[kind, name]["spec"]["template"]["spec"]


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

    def test_an_image_without_a_version(self):
        def change(objects):
            pod(objects, "Deployment", "redis")["containers"][0]["image"] = "host:5000/redis"

        self.broken("dev", change, "Deployment redis: image host:5000/redis without a version")

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

    def test_a_policy_for_what_is_not_there(self):
        def change(objects):
            del objects["NetworkPolicy", "default-deny"]["spec"]["policyTypes"][1]
            manager = objects["NetworkPolicy", "manager"]["spec"]
            manager["egress"][0]["ports"][0]["port"] = "rpc"
            manager["ingress"].append({"from": [{"podSelector": {"matchLabels": {"app": "gateway"}}}]})
            objects["NetworkPolicy", "to-redis"]["spec"]["policyTypes"] = ["Ingress"]
            objects["NetworkPolicy", "postgres"]["spec"]["podSelector"] = {"matchLabels": {"app": "postgres"}}

        self.broken(
            "dev",
            change,
            "no NetworkPolicy that denies everything by default",
            "NetworkPolicy manager: Deployment tracker has no port rpc",
            "NetworkPolicy manager: Deployment manager has no port rpc",
            "NetworkPolicy manager: ingress: means no pod",
            "NetworkPolicy manager: ingress: every port",
            "NetworkPolicy to-redis: egress is not among its types",
            "NetworkPolicy postgres: is for no pod",
        )

    def test_a_port_that_nobody_is_let_in_at(self):
        def change(objects):
            del objects["NetworkPolicy", "metrics"]
            objects["NetworkPolicy", "relay"]["spec"]["ingress"][0]["from"] = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]

        admin = [f"{each}: no policy lets anybody in at port admin" for each in (
            "Deployment tracker", "Deployment manager", "StatefulSet relay")]
        self.broken("dev", change, *admin, "StatefulSet relay: no policy lets anybody in at port client")

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
