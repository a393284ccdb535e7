"""What an ETHER adapter directory means, with dense matrices in float64.

It shares no code with the library: every H is built whole, and every product is numpy's.
"""

import json
import pathlib

import numpy as np
from safetensors.numpy import load_file, save_file

PREFIX = "base_model.model."


def blocks_of(vectors, strength, magnitude):
    """H_i = I + strength * sum of c_k w_k w_k^T, for each block i; w_k are the rows i, normalised.

    One array of shape (blocks, size) gives ETHER, c = -2; two give ETHER+, c = -1 and +1.
    """
    coefficients = [-2.0] if len(vectors) == 1 else [-1.0, 1.0]
    h = np.eye(vectors[0].shape[1])
    for c, w in zip(coefficients, vectors):
        w = w.astype(np.float64)
        w = w / np.linalg.norm(w, axis=1, keepdims=True)
        h = h + magnitude(strength * c * w[:, :, None] * w[:, None, :])
    return h


def block_diagonal(blocks):
    size = blocks[0].shape[0]
    h = np.zeros((len(blocks) * size, len(blocks) * size))
    for i, block in enumerate(blocks):
        h[i * size : (i + 1) * size, i * size : (i + 1) * size] = block
    return h


def times_input_side(weight, blocks, layout):
    """W H_in. With row_chunk, chunk c of row o is transformed by block floor((o n + c) / out)."""
    out, n = weight.shape[0], len(blocks)
    if layout == "diagonal":
        return weight @ block_diagonal(blocks)
    rows = [weight[o] @ block_diagonal([blocks[(o * n + c) // out] for c in range(n)])
            for o in range(out)]
    return np.stack(rows)


class Adapter:
    """An adapter: `config`, and `tensors[module][name]` with the names ether_u, ether_v, ..."""

    def __init__(self, config, tensors):
        self.config = {"num_blocks_output": None, "num_blocks_pattern": {}, "strength": 1.0,
                       "block_layout": "diagonal", "fan_in_fan_out": False, **config}
        self.tensors = tensors

    @classmethod
    def random(cls, rng, shapes, variant, sides, num_blocks, **config):
        """`shapes[module]` is (out, in)."""
        adapter = cls({"peft_type": "ETHER", "format_version": 1, "variant": variant,
                       "sides": sides, "num_blocks": num_blocks,
                       "target_modules": sorted({m.split(".")[-1] for m in shapes}), **config}, {})
        for module, (out, width) in shapes.items():
            n_in, n_out = adapter.block_counts(module)
            named = {}
            for letter in ("u",) if variant == "ether" else ("u", "v"):
                if sides != "output":
                    named[f"ether_{letter}"] = (n_in, width // n_in)
                if sides != "input":
                    named[f"ether_{letter}_out"] = (n_out, out // n_out)
            adapter.tensors[module] = {name: rng.standard_normal(shape).astype(np.float32)
                                       for name, shape in named.items()}
        return adapter

    @classmethod
    def load(cls, directory):
        config = json.loads((pathlib.Path(directory) / "adapter_config.json").read_text())
        tensors = {}
        for key, value in load_file(pathlib.Path(directory) / "adapter_model.safetensors").items():
            assert key.startswith(PREFIX), f"the key {key} lacks {PREFIX}"
            module, name = key[len(PREFIX):].rsplit(".", 1)
            tensors.setdefault(module, {})[name] = value
        return cls(config, tensors)

    def save(self, directory):
        directory = pathlib.Path(directory)
        directory.mkdir(exist_ok=True)
        (directory / "adapter_config.json").write_text(json.dumps(self.config))
        save_file({f"{PREFIX}{module}.{name}": value for module, named in self.tensors.items()
                   for name, value in named.items()},
                  directory / "adapter_model.safetensors")
        return directory

    def block_counts(self, module):
        for suffix, n in self.config["num_blocks_pattern"].items():
            if f".{module}".endswith(f".{suffix}"):
                return n, n
        n = self.config["num_blocks"]
        return n, self.config["num_blocks_output"] or n

    def lora_rank(self):
        """The rank that every module of the exported LoRA has: that of the largest."""
        vectors = 1 if self.config["variant"] == "ether" else 2
        one_side = {"input": (1, 0), "output": (0, 1), "both": (1, 1)}[self.config["sides"]]
        return max(vectors * int(np.dot(one_side, self.block_counts(m))) for m in self.tensors)

    def merged(self, module, weight, strength=None, magnitude=lambda m: m):
        """W' = H_out W H_in in float64, stored as `weight` is.

        With `magnitude=np.abs` every term counts with its absolute value: the quantity that the
        rounding errors of any way to compute W' are bounded by.
        """
        strength = self.config["strength"] if strength is None else strength
        named = self.tensors[module]
        w = magnitude(np.asarray(weight, dtype=np.float64))
        w = w.T if self.config["fan_in_fan_out"] else w

        def blocks(suffix):
            names = [f"ether_{letter}{suffix}" for letter in "uv"]
            return blocks_of([named[n] for n in names if n in named], strength, magnitude)

        if "ether_u" in named:
            w = times_input_side(w, blocks(""), self.config["block_layout"])
        if "ether_u_out" in named:
            w = block_diagonal(blocks("_out")) @ w
        return w.T if self.config["fan_in_fan_out"] else w
