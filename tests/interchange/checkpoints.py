"""Checkpoints that Python's safetensors wrote, merged by `ether`, read by safetensors again."""

import json
import os
import pathlib

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from oracle import Adapter
from support import IN, OUT, TORCH, check_close, check_merged, ether, raw

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
WEIGHTS = {dtype: f"layers.{dtype.lower()}.weight" for dtype in TORCH}
SHAPES = {f"layers.{dtype.lower()}": (OUT, IN) for dtype in TORCH}


def oracle_agrees_with_golden_vectors(tmp):
    for index in GOLDEN.glob("*/index.json"):
        for entry in json.loads(index.read_text()):
            golden = load_file(index.parent / entry["file"])
            named = {f"ether_{letter}{suffix}": golden[f"{side}.{letter}"].numpy()
                     for side, suffix in (("input", ""), ("output", "_out")) for letter in "uv"
                     if f"{side}.{letter}" in golden}
            adapter = Adapter({"block_layout": entry["layout"]}, {"layer": named})
            merged = torch.tensor(adapter.merged("layer", golden["weight"].numpy()))
            check_close(entry["file"], merged, golden["merged"], 1e-12)


def write_base(path):
    """A weight to adapt for each dtype, between tensors that nothing adapts. Returns them."""
    torch.manual_seed(1)
    tensors = {WEIGHTS[dtype]: torch.randn(OUT, IN, dtype=torch.float64).to(TORCH[dtype])
               for dtype in TORCH}
    tensors["layers.f32.bias"] = torch.randn(OUT)
    tensors["embed.weight"] = torch.randn(7, IN).half()
    tensors["empty"] = torch.empty(0, 5)
    tensors["scalar"] = torch.tensor(0.5, dtype=torch.bfloat16)
    tensors["mask"] = torch.rand(3, 5) > 0.5
    for dtype in (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64):
        tensors[f"integers.{dtype}"] = torch.randint(0, 100, (2, 3)).to(dtype)
    save_file(tensors, path, metadata={"made by": 'Python "\u03b7"'})
    return tensors


def adapters():
    """One for each thing that merge has to get right."""
    rng = np.random.default_rng(2)

    def make(variant, sides, n, **config):
        return Adapter.random(rng, SHAPES, variant, sides, n, **config)

    for variant in ("ether", "ether_plus"):
        for sides in ("input", "output", "both"):
            yield make(variant, sides, 4, num_blocks_output=8)
    yield make("ether", "both", 1)
    yield make("ether_plus", "input", 8, strength=0.75)
    yield make("ether_plus", "both", 4, num_blocks_pattern={"f32": 16, "layers.f16": 2})
    yield make("ether", "both", 4, block_layout="row_chunk")
    yield make("ether_plus", "input", 3, block_layout="row_chunk")  # 3 does not divide OUT


def merge_keeps_what_it_should_and_adapts_every_dtype(tmp):
    base = tmp / "base.safetensors"
    tensors = write_base(base)
    before, metadata = raw(base)
    for i, adapter in enumerate(adapters()):
        out = tmp / f"merged{i}.safetensors"
        directory = adapter.save(tmp / f"adapter{i}")
        ether("merge", "--base", base, "--adapter", directory, "--out", out, "--verify")
        got = load_file(out)
        after, metadata_after = raw(out)
        assert set(got) == set(tensors), f"other names: {sorted(set(got) ^ set(tensors))}"
        assert metadata_after == {**metadata, "format": "pt"}, f"the metadata is {metadata_after}"
        for dtype, name in WEIGHTS.items():
            check_merged(name, got[name], dtype, tensors[name], adapter)
        for name in set(tensors) - set(WEIGHTS.values()):
            assert after[name] == before[name], f"merge touched {name}"


def merge_takes_strength_dtype_and_several_adapters(tmp):
    base = tmp / "base.safetensors"
    tensors = write_base(base)
    rng = np.random.default_rng(3)
    first = Adapter.random(rng, SHAPES, "ether", "both", 4)
    second = Adapter.random(rng, {"layers.bf16": (OUT, IN)}, "ether_plus", "input", 8)
    first_directory, second_directory = first.save(tmp / "first"), second.save(tmp / "second")

    def merged(*options):
        out = tmp / "merged.safetensors"
        ether("merge", "--base", base, "--adapter", first_directory, *options, "--out", out,
              "--force")
        return load_file(out)

    got = merged("--strength", "0.25")
    for dtype, name in WEIGHTS.items():
        check_merged(name, got[name], dtype, tensors[name], first, strength=0.25)

    for dtype in ("F32", "F16", "BF16"):
        got = merged("--dtype", dtype.lower())
        for name in WEIGHTS.values():
            check_merged(name, got[name], dtype, tensors[name], first)
        assert torch.equal(got["embed.weight"], tensors["embed.weight"]), "embed.weight changed"

    name = WEIGHTS["BF16"]
    got = merged("--adapter", second_directory)
    check_merged(name, got[name], "BF16", tensors[name], first, second)


def merge_of_shards(tmp):
    torch.manual_seed(4)
    base, out = tmp / "base", tmp / "merged"
    base.mkdir()
    tensors = {"a.fc.weight": torch.randn(OUT, IN), "a.norm": torch.randn(IN),
               "a.proj.weight": torch.randn(IN, OUT).bfloat16(),
               "head.weight": torch.randn(9, IN), "steps": torch.tensor(3)}
    first, second, third = (f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3))
    weight_map = {"a.fc.weight": first, "a.norm": first, "a.proj.weight": second,
                  "head.weight": third, "steps": third}
    for shard in (first, second, third):
        save_file({name: tensors[name] for name in weight_map if weight_map[name] == shard},
                  base / shard, metadata={"format": "pt"})
    total_size = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": total_size}, "weight_map": weight_map}
    (base / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    (base / "config.json").write_text('{"model_type": "made up"}\n')

    shapes = {"a.fc": (OUT, IN), "a.proj": (IN, OUT)}
    adapter = Adapter.random(np.random.default_rng(4), shapes, "ether_plus", "both", 8)
    directory = adapter.save(tmp / "adapter")
    ether("merge", "--base", base, "--adapter", directory, "--out", out)

    assert sorted(os.listdir(out)) == sorted(os.listdir(base)), f"files: {sorted(os.listdir(out))}"
    for name in ("config.json", third):
        assert (out / name).read_bytes() == (base / name).read_bytes(), f"{name} is not a copy"
    index_after = json.loads((out / "model.safetensors.index.json").read_text())
    assert index_after == index, f"the index reads {index_after}"
    got = {name: load_file(out / shard)[name] for name, shard in weight_map.items()}
    check_merged("a.fc.weight", got["a.fc.weight"], "F32", tensors["a.fc.weight"], adapter)
    check_merged("a.proj.weight", got["a.proj.weight"], "BF16", tensors["a.proj.weight"], adapter)
    assert torch.equal(got["a.norm"], tensors["a.norm"]), "merge touched a.norm"


def diff_reads_what_python_writes(tmp):
    base, same, changed = (tmp / f"{name}.safetensors" for name in ("base", "same", "changed"))
    tensors = write_base(base)
    save_file(tensors, same)
    ether("diff", base, same)
    tensors[WEIGHTS["BF16"]][3, 5] += 1
    save_file(tensors, changed)
    ether("diff", base, changed, status=1)


TESTS = [oracle_agrees_with_golden_vectors, merge_keeps_what_it_should_and_adapts_every_dtype,
         merge_takes_strength_dtype_and_several_adapters, merge_of_shards,
         diff_reads_what_python_writes]
