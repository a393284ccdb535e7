"""Adapters that `ether` exported, run and merged by PEFT."""

import json

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers.pytorch_utils import Conv1D

from oracle import PREFIX, Adapter
from support import IN, OUT, STORED, TORCH, check_peft, ether, oracle_model, raw, refused

SHAPES = {"block.up": (OUT, IN), "block.down": (IN, OUT)}
TOKENS = 5


class Net(torch.nn.Module):
    """Two layers of different shapes."""

    def __init__(self, layer):
        super().__init__()
        torch.manual_seed(5)
        self.block = torch.nn.ModuleDict({"up": layer(IN, OUT), "down": layer(OUT, IN)})
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter, std=0.2)

    def forward(self, x):
        return self.block["down"](torch.tanh(self.block["up"](x)))


def linear_net():
    return Net(torch.nn.Linear)


def conv1d_net():
    return Net(lambda width, out: Conv1D(out, width))


def export(verb, tmp, model, adapter, *options):
    """Returns the new directory, its config, and its tensors."""
    base, out = tmp / "base.safetensors", tmp / f"exported{len(list(tmp.glob('exported*')))}"
    save_file(model.state_dict(), base)
    directory = adapter.save(tmp / "adapter")
    ether(verb, "--base", base, "--adapter", directory, "--out", out, *options)
    file = out / "adapter_model.safetensors"
    assert raw(file)[1] == {"format": "pt"}, f"{verb} wrote the metadata {raw(file)[1]}"
    return out, json.loads((out / "adapter_config.json").read_text()), load_file(file)


def check_config(what, got, **want):
    got = {field: got.get(field) for field in want}
    assert got == want, f"{what}: the config says {got}, not {want}"


def check_tensors(what, tensors, want, dtype=torch.float32):
    got = {key: tuple(t.shape) for key, t in tensors.items()}
    assert got == want, f"{what}: the tensors are {got}, not {want}"
    got = {t.dtype for t in tensors.values()}
    assert got == {dtype}, f"{what}: the tensors are {got}"


def check_lora(what, tmp, model, adapter, dtype="F32"):
    r = adapter.lora_rank()
    out, config, tensors = export("export-lora", tmp, model, adapter, "--dtype", dtype.lower())
    check_config(what, config, peft_type="LORA", r=r, lora_alpha=r,
                 fan_in_fan_out=adapter.config["fan_in_fan_out"])
    shapes = {}
    for module, (height, width) in SHAPES.items():
        shapes[f"{PREFIX}{module}.lora_A.weight"] = (r, width)
        shapes[f"{PREFIX}{module}.lora_B.weight"] = (height, r)
    check_tensors(what, tensors, shapes, TORCH[dtype])
    tolerance = 1e-5 if dtype == "F32" else 8 * STORED[dtype]
    x = torch.randn(TOKENS, IN)
    check_peft(what, model, out, oracle_model(model, adapter), x, tolerance)


def check_loras(tmp, model, **config):
    rng = np.random.default_rng(6)

    def check(what, variant, sides, n, **more):
        check_lora(what, tmp, model,
                   Adapter.random(rng, SHAPES, variant, sides, n, **config, **more))

    for variant in ("ether", "ether_plus"):
        for sides in ("input", "output", "both"):
            for n, n_out in ((1, None), (4, 8), (16, 2)):
                what = f"{variant}, {sides}, {n} blocks, output {n_out}"
                check(what, variant, sides, n, num_blocks_output=n_out)
    check("a smaller rank, padded", "ether_plus", "both", 8, num_blocks_pattern={"down": 2})
    check("strength", "ether", "both", 4, strength=0.3)


def lora_on_linear(tmp):
    check_loras(tmp, linear_net())


def lora_on_conv1d(tmp):
    check_loras(tmp, conv1d_net(), fan_in_fan_out=True)


def lora_in_16_bits(tmp):
    adapter = Adapter.random(np.random.default_rng(7), SHAPES, "ether_plus", "both", 4)
    for dtype in ("F16", "BF16"):
        check_lora(dtype, tmp, linear_net(), adapter, dtype)


def lora_of_row_chunk(tmp):
    """Its rank grows with the square of the blocks, so it has to be asked for."""
    model, x = linear_net(), torch.randn(TOKENS, IN)
    adapter = Adapter.random(np.random.default_rng(8), SHAPES, "ether", "both", 4,
                             block_layout="row_chunk")
    out, _, _ = export("export-lora", tmp, model, adapter, "--allow-large-rank")
    check_peft("row_chunk", model, out, oracle_model(model, adapter), x)
    refused(tmp / "refused", "export-lora", "--base", tmp / "base.safetensors",
            "--adapter", tmp / "adapter")


def hra_on_linear(tmp):
    model, x = linear_net(), torch.randn(TOKENS, IN)
    rng = np.random.default_rng(9)
    for n in (1, 2, 4, 8, 16):
        what = f"{n} blocks"
        adapter = Adapter.random(rng, SHAPES, "ether", "input", n)
        out, config, tensors = export("export-hra", tmp, model, adapter)
        check_config(what, config, peft_type="HRA", r=n, apply_GS=False)
        shapes = {f"{PREFIX}{module}.hra_u": (width, n) for module, (_, width) in SHAPES.items()}
        check_tensors(what, tensors, shapes)
        check_peft(what, model, out, oracle_model(model, adapter), x)


def hra_is_refused_where_it_is_not_the_same(tmp):
    rng = np.random.default_rng(10)
    linear, conv1d = tmp / "linear.safetensors", tmp / "conv1d.safetensors"
    save_file(linear_net().state_dict(), linear)
    save_file(conv1d_net().state_dict(), conv1d)

    def check(base, variant, sides, **config):
        directory = Adapter.random(rng, SHAPES, variant, sides, 4, **config).save(tmp / "adapter")
        refused(tmp / "out", "export-hra", "--base", base, "--adapter", directory)

    check(linear, "ether_plus", "input")
    check(linear, "ether", "output")
    check(linear, "ether", "both")
    check(linear, "ether", "input", strength=0.5)
    check(linear, "ether", "input", block_layout="row_chunk")
    check(linear, "ether", "input", num_blocks_pattern={"up": 2})  # HRA has one rank
    check(conv1d, "ether", "input", fan_in_fan_out=True)  # PEFT's HRA refuses Conv1D


TESTS = [lora_on_linear, lora_on_conv1d, lora_in_16_bits, lora_of_row_chunk, hra_on_linear,
         hra_is_refused_where_it_is_not_the_same]
