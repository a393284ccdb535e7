"""Running `ether`, reading what it wrote, and the comparisons with their tolerances."""

import copy
import json
import pathlib
import subprocess

import numpy as np
import peft
import torch

ETHER = None  # the program; interchange.py sets it
IN, OUT = 48, 80
TORCH = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# The largest relative error of one rounding to the type, and of one in the computation for it.
STORED = {"F64": 2.0**-53, "F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8}
COMPUTED = {"F64": 2.0**-53, "F32": 2.0**-24, "F16": 2.0**-24, "BF16": 2.0**-24}
HALF_OF_SMALLEST_F16 = 2.0**-25


def ether(*arguments, status=0):
    """Runs the program, checks its exit status, and returns what it wrote to stderr."""
    command = [ETHER, *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == status, (
        f"`ether {' '.join(command[1:])}` ended with status {run.returncode}, not {status}: "
        f"{run.stderr.strip()}")
    return run.stderr


def refused(output, *arguments):
    """Runs the program, which must say why it refuses and leave no output."""
    said = ether(*arguments, "--out", output, status=1)
    assert said.startswith("ether: "), f"the refusal of {arguments} reads: {said!r}"
    assert not output.exists(), f"the refused {arguments} left {output.name}"


def raw(path):
    """name -> (dtype, shape, bytes), and the metadata, read without the safetensors package."""
    data = pathlib.Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, t in header.items():
        begin, end = t["data_offsets"]
        tensors[name] = (t["dtype"], t["shape"], data[start + begin : start + end])
    return tensors, metadata


def numbers(tensor):
    return tensor.detach().to(torch.float64).numpy()


def check_merged(name, got, dtype, weight, *adapters, strength=None):
    """Every entry of `got` is the exact W', up to rounding.

    For each adapter the computation has two dot products, of at most IN and OUT terms, with
    vectors that two more have normalised. Each of these roundings is at most COMPUTED of
    `magnitude`. At the end there is one rounding to `dtype`, and only one.
    """
    module = name[: -len(".weight")]
    want, magnitude = numbers(weight), numbers(weight)
    for adapter in adapters:
        want = adapter.merged(module, want, strength)
        magnitude = adapter.merged(module, magnitude, strength, magnitude=np.abs)
    assert got.dtype == TORCH[dtype], f"{name} is {got.dtype}, not {dtype}"
    roundings = len(adapters) * (2 * (IN + OUT) + 32)
    tolerance = STORED[dtype] * np.abs(want) + roundings * COMPUTED[dtype] * magnitude
    if dtype == "F16":
        tolerance += HALF_OF_SMALLEST_F16
    worst = np.max(np.abs(numbers(got) - want) / tolerance)
    assert worst <= 1, f"{name} ({dtype}): the error is {worst:.3g} times the tolerance"


def check_close(what, got, want, tolerance=1e-5):
    """In the Frobenius norm. 1e-5 is for float32: sums of a few hundred terms, a few layers."""
    got, want = numbers(got), numbers(want)
    assert got.shape == want.shape, f"{what}: the shape is {got.shape}, not {want.shape}"
    error, norm = np.linalg.norm(got - want), np.linalg.norm(want)
    assert error <= tolerance * norm, (
        f"{what}: the error is {error:.3g}, above {tolerance:g} times the norm, {norm:.3g}")


def outputs(model, inputs):
    with torch.no_grad():
        y = model(inputs)
    return getattr(y, "logits", y)


def oracle_model(model, adapter):
    """A copy of the model with the adapter merged by the oracle."""
    model = copy.deepcopy(model)
    for module in adapter.tensors:
        weight = model.get_parameter(f"{module}.weight")
        merged = adapter.merged(module, numbers(weight))
        weight.data = torch.tensor(np.ascontiguousarray(merged)).to(weight.dtype)
    return model


def check_peft(what, model, directory, want_model, inputs, tolerance=1e-5):
    """PEFT, given the adapter in `directory`, computes and merges what the oracle does."""
    adapted = peft.PeftModel.from_pretrained(copy.deepcopy(model), directory).eval()
    want = outputs(want_model, inputs)
    check_close(f"{what}, outputs", outputs(adapted, inputs), want, tolerance)
    merged = adapted.merge_and_unload()
    for name, parameter in want_model.named_parameters():
        check_close(f"{what}, {name} merged by PEFT", merged.get_parameter(name), parameter,
                    tolerance)
