#!/usr/bin/env python3
"""Alert rules and dashboard against what there is: metrics, their labels and values, runbook paragraphs. Needs PyYAML.

    k8s/check/monitoring.py            one line for everything that is wrong, and 1
    k8s/check/monitoring.py --write    makes rule.yaml, the object of Kubernetes, from rules.yaml

promtool, Prometheus' own checker, looks at the rules and runs rules_test.yaml. Where it is not on the PATH a line says so.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "k8s/components/monitoring"
RULES = MONITORING / "rules.yaml"
OBJECT = MONITORING / "rule.yaml"
HEADER = "# Made from rules.yaml by k8s/check/monitoring.py --write.\n"

# Prometheus' own metric of every target, and the labels that it adds.
FOREIGN = {"up": set()}
ADDED = {"job", "namespace", "instance", "le", "component"}


def documented():
    """The metrics of docs/metrics.md, as they are queried, with their labels."""
    metrics = dict(FOREIGN)
    for line in (ROOT / "docs/metrics.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 7 and (name := re.fullmatch(r"`(\w+)`", cells[1])):
            labels = set(re.findall(r"`(\w+)`", cells[4]))
            suffixes = ("_bucket", "_sum", "_count") if cells[2] == "histogram" else ("",)
            metrics.update({name[1] + suffix: labels for suffix in suffixes})
    return metrics


def values():
    """What labels are declared to be in the source, by their names."""
    known = {}
    for source in ROOT.glob("*/*/src/**/*.rs"):
        for name, body in re.findall(r'enum \w+ as "(\w+)" \{(.*?)\n\s*\}', source.read_text(), re.DOTALL):
            known.setdefault(name, set()).update(re.findall(r'= "(\w+)",', body))
    return known


def problems(where, expression, metrics, known):
    """What an expression names that is not there."""
    found = re.findall(r"\b((?:kurir|process)_\w+|up)\b(?:\{([^}]*)\})?", expression)
    if not found:
        yield f"{where}: no metric of ours in {expression}"
    for metric, selectors in found:
        if metric not in metrics:
            yield f"{where}: {metric} is not in docs/metrics.md"
            continue
        for label, value in re.findall(r'(\w+)\s*=~?\s*"([^"]*)"', selectors):
            if label not in metrics[metric] | ADDED:
                yield f"{where}: {metric} has no label {label}"
            elif label in known and not set(value.split("|")) <= known[label]:
                yield f"{where}: {metric}, {label}={value} never comes"
    grouped = re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", expression)
    labels = set().union(*(metrics.get(metric, set()) for metric, _ in found)) | ADDED
    for label in re.findall(r"\w+", " ".join(grouped)):
        if label not in labels:
            yield f"{where}: nothing in it has a label {label}"


def alerts(rules, metrics, known):
    headings = set(re.findall(r"^### (\w+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE))
    names = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        name = rule["alert"]
        yield from problems(name, rule["expr"], metrics, known)
        if name not in headings:
            yield f"{name}: no paragraph in docs/operations.md"
        if names.count(name) > 1:
            yield f"{name}: there twice"
        if rule["labels"]["severity"] not in ("page", "ticket") or not rule["annotations"].get("summary"):
            yield f"{name}: no severity or no summary"
    yield from (f"docs/operations.md: {name} is no alert" for name in headings if name.startswith("Kurir") and name not in names)


def panels(dashboard, metrics, known):
    places = []
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            continue
        places.append(tuple(panel["gridPos"][key] for key in ("x", "y")))
        for target in panel["targets"]:
            expression = target["expr"].replace('namespace=~"$namespace", instance=~"$instance"', "").replace("$__rate_interval", "5m")
            yield from problems(f"panel {panel['title']!r}", expression, metrics, known)
        if not panel["fieldConfig"]["defaults"].get("unit"):
            yield f"panel {panel['title']!r}: no unit"
    if len(set(places)) < len(places):
        yield "dashboard: two panels in one place"


def as_object(rules):
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "kurir"},
        "spec": rules,
    }


def main():
    rules = yaml.safe_load(RULES.read_text())
    if "--write" in sys.argv[1:]:
        OBJECT.write_text(HEADER + yaml.safe_dump(as_object(rules), sort_keys=False, width=120))
        return 0
    metrics, known = documented(), values()
    wrong = [*alerts(rules, metrics, known)]
    wrong += panels(json.loads((MONITORING / "dashboard.json").read_text()), metrics, known)
    if yaml.safe_load(OBJECT.read_text()) != as_object(rules):
        wrong.append("rule.yaml is not what rules.yaml says: k8s/check/monitoring.py --write")
    promtool = shutil.which("promtool")
    if promtool is None:
        print("no promtool here: rules_test.yaml was not run", file=sys.stderr)
    else:
        for command in (["check", "rules", RULES], ["test", "rules", MONITORING / "rules_test.yaml"]):
            checked = subprocess.run([promtool, *command], capture_output=True, text=True)
            if checked.returncode:
                wrong.append(checked.stdout + checked.stderr)
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
