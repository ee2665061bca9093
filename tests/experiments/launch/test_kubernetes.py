"""Manifests: against Kubernetes' schemas, and what JAX and the program ask of them.

Core resources are validated by `kubernetes-validate`. JobSet is not in its schemas:
the Job of its template is validated as a Job, its own fields by those of v1alpha2 that
are listed here.
"""

import copy
import shutil
import subprocess

import pytest
import yaml

from experiments.cifar10_gan.config import Config
from experiments.cifar10_gan.launchers import LAUNCHERS
from experiments.cifar10_gan.together.crew import LOST
from tests.lib.launched import ROOT

FOLDER = ROOT / "experiments" / "launch" / "kubernetes"
VERSION = "1.31"
"""Of Kubernetes, the first with podFailurePolicy as a stable field."""
KINDS = {
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "NetworkPolicy",
    "PersistentVolumeClaim",
}
SPEC = {
    "network": {"enableDNSHostnames": bool, "publishNotReadyAddresses": bool},
    "failurePolicy": {"maxRestarts": int, "rules": list},
    "replicatedJobs": list,
}
RULE = {"name": str, "action": str, "onJobFailureReasons": list}
ACTIONS = ("FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts")
REASONS = ("BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes")
REASONS += ("MaxFailedIndexesExceeded", "PodFailurePolicy")


def resources(folder):
    names = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    texts = [(folder / name).read_text() for name in names]
    return [found for text in texts for found in yaml.safe_load_all(text)]


def rendered(folder):
    """As kubectl sends it, with patches and names of images."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def jobset_of(found):
    (jobset,) = (one for one in found if one["kind"] == "JobSet")
    return jobset


def job_of(jobset):
    (replicated,) = jobset["spec"]["replicatedJobs"]
    metadata = {"name": f"{jobset['metadata']['name']}-{replicated['name']}-0"}
    template = copy.deepcopy(replicated["template"])
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, **template}


def check_fields(value, fields, where):
    unknown = set(value) - set(fields)
    assert not unknown, f"{where} has no {unknown}"
    for name, kind in fields.items():
        if name not in value:
            continue
        if isinstance(kind, dict):
            check_fields(value[name], kind, f"{where}.{name}")
        else:
            assert isinstance(value[name], kind), f"{where}.{name}"


def check(found):
    validate = pytest.importorskip("kubernetes_validate").validate
    jobset = jobset_of(found)
    others = [one for one in found if one is not jobset]
    assert {one["kind"] for one in others} == KINDS
    for one in [*others, job_of(jobset)]:
        validate(one, VERSION, strict=True)
    assert set(jobset) == {"apiVersion", "kind", "metadata", "spec"}
    assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    check_fields(jobset["spec"], SPEC, "spec")
    for rule in jobset["spec"]["failurePolicy"]["rules"]:
        check_fields(rule, RULE, "rule")
        assert rule["action"] in ACTIONS
        assert set(rule["onJobFailureReasons"]) <= set(REASONS)
    (replicated,) = jobset["spec"]["replicatedJobs"]
    assert set(replicated) == {"name", "replicas", "template"}
    assert set(replicated["template"]) == {"spec"}


def test_manifests_are_of_kubernetes_schemas():
    check(resources(FOLDER / "cpu"))


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_manifests_as_kubectl_renders_them(kind):
    found = rendered(FOLDER / kind)
    check(found)
    pod = job_of(jobset_of(found))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == f"qgenx:{kind}"
    gpus = container["resources"]["limits"].get("nvidia.com/gpu", 0)
    assert gpus == (kind == "cuda")


def test_the_job_is_one_that_jax_can_count():
    """Its processes are those of one indexed Job, whose pods have names."""
    jobset = jobset_of(resources(FOLDER / "cpu"))
    assert jobset["spec"]["network"]["enableDNSHostnames"]
    assert jobset["spec"]["replicatedJobs"][0]["replicas"] == 1
    job = job_of(jobset)["spec"]
    assert job["completionMode"] == "Indexed"
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    (environment,) = container["env"]
    assert environment["name"] == "PROCESSES"
    assert environment["value"] in LAUNCHERS
    flags = dict(flag[2:].split("=") for flag in container["args"][1:])
    workers = int(flags.pop("workers"))
    wait_seconds = int(flags.pop("wait_seconds"))
    assert flags == {}
    there = job["completions"]
    assert job["parallelism"] == there
    Config(
        workers=workers, processes=there, coordinator="x:1", wait_seconds=wait_seconds
    ).validate()


def test_one_that_is_lost_starts_all_again_and_a_mistake_none():
    jobset = jobset_of(resources(FOLDER / "cpu"))
    job = job_of(jobset)["spec"]
    assert job["backoffLimit"] == 0
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["values"] == [1]
    assert LOST not in rule["onExitCodes"]["values"]
    (of_set,) = jobset["spec"]["failurePolicy"]["rules"]
    assert of_set["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_pods_have_no_more_rights_than_they_need():
    """And ask the cluster only what JAX's detection asks."""
    found = resources(FOLDER / "cpu")
    pod = job_of(jobset_of(found))["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] > 0
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    (role,) = (one for one in found if one["kind"] == "Role")
    verbs = {verb for rule in role["rules"] for verb in rule["verbs"]}
    kinds = {kind for rule in role["rules"] for kind in rule["resources"]}
    assert verbs == {"get", "list"}
    assert kinds == {"pods", "services", "jobs"}
    (policy,) = (one for one in found if one["kind"] == "NetworkPolicy")
    labels = job_of(jobset_of(found))["spec"]["template"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
