"""What the comparisons with PyTorch share: the sizes, our programs, and a child process on each side."""

import json
import os
import pathlib
import random
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def plain(vision, connector, lm):
    base = {"patch": 16, "stem": "patch", "class_token": False, "norm_eps": 1e-6}
    head = {"rope_base": 10000.0, "norm_eps": 1e-5}
    return {"vision": base | vision, "connector": connector, "lm": head | lm}


def text_model(lm):
    """A decoder beside the smallest encoder."""
    vision = {"image_size": 32, "dim": 32, "layers": 1, "heads": 1, "ffn": 32}
    return plain(vision, {"kind": "average-pool", "tokens": 4}, lm)


def decoder_34m():
    return text_model(
        {"vocab": 8192, "dim": 512, "layers": 8, "heads": 8, "kv_heads": 8, "ffn": 1408, "tied": False}
    )


def decoder_135m():
    """The shape of SmolLM-135M with a smaller vocabulary and no tied head."""
    return text_model(
        {"vocab": 16384, "dim": 576, "layers": 30, "heads": 9, "kv_heads": 3, "ffn": 1536, "tied": False}
    )


def quickstart_model():
    """The model of recipes/quickstart.toml."""
    import tomllib

    recipe = tomllib.loads((ROOT / "recipes/quickstart.toml").read_text())
    model = plain(recipe["model"]["vision"], recipe["model"]["connector"], {"tied": True} | recipe["model"]["lm"])
    model["lm"]["vocab"] = recipe["tokenizer"]["vocab"]
    return model


class Side:
    """A child process that answers a line with a line of JSON."""

    def __init__(self, command, threads, environment=None, cores=None):
        # One thread pool each, and no spinning while the other side computes.
        names = ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
        env = os.environ | {name: str(threads) for name in names} | {"OMP_WAIT_POLICY": "PASSIVE"}
        env |= environment or {}
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        if cores:
            # Before the child has threads, which have the cores of the one that starts them.
            os.sched_setaffinity(self.child.pid, cores)

    def ask(self, question=""):
        try:
            self.child.stdin.write(question + "\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            pass
        line = self.child.stdout.readline()
        if not line:
            raise ChildProcessError(f"ended with code {self.child.wait()} (below 0: a signal); its message is above")
        return json.loads(line)

    def end(self):
        """Its peak resident memory in MB."""
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        self.child.stdin.close()
        self.child.wait()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024


def build(example, package=None, device="cpu"):
    """Builds one of our examples, with the feature of a device, and gives its path."""
    # All crates at once, unless one without the engine is named: the engine is then the same build that
    # runs and tests use.
    crates = ["--package", package] if package else ["--workspace"]
    features = [] if device == "cpu" else ["--features", device.split(":")[0]]
    command = ["cargo", "build", "--release", *crates, *features, "--example", example]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release/examples" / example


def warn_of_load():
    if (load := os.getloadavg()[0]) > 0.5:
        # PyTorch's static division of work suffers most from what else is running.
        print(f"the load is {load} already: figures from a machine that is not idle favour our side", file=sys.stderr)


def need_torch():
    try:
        import safetensors.torch  # noqa: F401
        import torch
    except ImportError as error:
        sys.exit(f"{error}: pip install torch safetensors numpy")
    return torch.__version__


def environments(precision):
    """Ways to run PyTorch, by name: its environment."""
    # Some virtual machines announce AMX and then refuse it, and on some f32 instructions beat those for bf16.
    limits = ("AVX512_CORE_BF16", "AVX512_CORE_VNNI") if precision == "bf16" else ()
    return {"": {}} | {f" {isa}": {"ONEDNN_MAX_CPU_ISA": isa} for isa in limits}


def fastest_mode(start, precision, seconds_of):
    """The fastest way to run PyTorch here: what it is told, and its environment; then its name, and the
    seconds of all.

    A way's seconds are the median of three answers after one that is not counted. Compiled, which can take
    minutes, it is tried where it is fastest eager.
    """
    seconds, failures = {}, {}

    def measure(mode, environment):
        side, name = start(mode, environments(precision)[environment]), mode + environment
        try:
            seconds[name] = statistics.median([seconds_of(side) for _ in range(4)][1:])
            side.end()
        except ChildProcessError as error:
            failures[name] = str(error)
        print(f"PyTorch {name}: {(seconds | failures)[name]}", file=sys.stderr)

    for environment in environments(precision):
        measure("eager", environment)
    if not seconds:
        sys.exit("PyTorch works in no mode; the reason is above")
    environment = min(seconds, key=seconds.get).removeprefix("eager")
    measure("compile", environment)
    name = min(seconds, key=seconds.get)
    return (name.split()[0], environments(precision)[environment]), name, seconds | failures


def write_batches(folder, config, steps):
    """Random pictures, each of `tiles` views one behind the other, and tokens. Every step has the same
    lengths in another order, so that nothing is compiled twice.
    """
    import torch
    from safetensors.torch import save_file

    model, rows, length = config["model"], config["rows"], config["length"]
    # Where the connector does not say it, an image token is a patch.
    patches = (model["vision"]["image_size"] // model["vision"]["patch"]) ** 2
    tokens = model["connector"].get("tokens", patches)
    views = config.get("tiles", 1) if config["pictures"] else 0
    image_tokens = views * tokens
    size, rng = model["vision"]["image_size"], random.Random(0)
    layouts = []
    for _ in range(rows):
        start, spans = 0, []
        while length - start >= image_tokens + config["texts"][0]:
            span = min(image_tokens + rng.randint(*config["texts"]), length - start)
            spans.append((start, span))
            start += span
        layouts.append(spans)
    for step in range(steps):
        rng.shuffle(layouts)
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(1, model["lm"]["vocab"], (rows, length), generator=generator)
        spans = [(row, start, span) for row, layout in enumerate(layouts) for start, span in layout]
        weights = torch.zeros(rows, length)
        for row, start, span in spans:
            weights[row, start + max(image_tokens - 1, 0) : start + span - 1] = 1
        slots = [row * length + start + i * tokens for row, start, _ in spans for i in range(views)]
        tensors = {
            "ids": ids,
            "targets": ids.roll(-1, 1) * (weights > 0),
            "weights": weights,
            "spans": torch.tensor(spans),
            "pixels": torch.randn(len(slots), size, size, 3, generator=generator),
            "image_slots": torch.tensor(slots, dtype=torch.long),
        }
        save_file(tensors, folder / f"{step}.safetensors")
    return sum(span for _, _, span in spans), len(slots)


def spread(ours, theirs):
    """Ratios of pairs."""
    ratios = [a / b for a, b in zip(ours, theirs)]
    return {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)}
