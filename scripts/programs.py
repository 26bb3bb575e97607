"""The programs of this workspace, built for a device: what gpu-check runs here and gpu-visit carries away."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def cargo(*arguments, stdout=None):
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, stdout=stdout)


def build(features):
    """Builds tests, examples and the program with `features`; gives their paths by the folder of the crate
    and their names, such as `model/it`, `train/bench_step` and `cli/mm1`.
    """
    command = ["test", "--release", "--workspace", "--features", features, "--no-run"]
    lines = cargo(*command, "--message-format", "json-render-diagnostics", stdout=subprocess.PIPE).stdout
    found = {}
    for message in map(json.loads, lines.decode().splitlines()):
        if path := message.get("executable"):
            package, target = pathlib.Path(message["manifest_path"]).parent.name, message["target"]["name"]
            kind = message["target"]["kind"][0]
            # The tests inside of a crate are those of `cargo test` alone.
            if kind == "test" or not message["profile"]["test"]:
                found[f"{package}/{target}"] = pathlib.Path(path)
    if not found:
        sys.exit("cargo has built no program")
    return found


def of_lavapipe():
    """The environment in which Vulkan's drivers are found: on a machine without a GPU lavapipe's alone. Mesa
    keeps compiled kernels in XDG_RUNTIME_DIR, and says so when there is none.
    """
    environment = {"XDG_RUNTIME_DIR": os.environ.get("TMPDIR", "/tmp")} | os.environ
    drivers = sorted(map(str, pathlib.Path("/usr/share/vulkan/icd.d").glob("lvp_icd.*json")))
    if not pathlib.Path("/dev/dri").exists() and drivers:
        environment.setdefault("VK_DRIVER_FILES", drivers[0])
    return environment
