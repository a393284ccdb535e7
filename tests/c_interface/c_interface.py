#!/usr/bin/env python3
"""The C interface through Python's ctypes: adapters from disk, forward, a checkpoint merged.

    tests/c_interface/c_interface.py LIBRARY DIRECTORY_PROGRAM

LIBRARY is libetherlinear, DIRECTORY_PROGRAM the program of directory.cpp. Expected values are computed here,
in plain Python.
"""

import ctypes
import json
import math
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

OUT, IN, TOKENS, OUT_BLOCKS, IN_BLOCKS = 12, 8, 3, 3, 2
MODULE = "model.layers.0.self_attn.q_proj"


class Config(ctypes.Structure):
    _fields_ = [("variant", ctypes.c_int), ("sides", ctypes.c_int), ("layout", ctypes.c_int),
                ("input_blocks", ctypes.c_int64), ("output_blocks", ctypes.c_int64),
                ("strength", ctypes.c_double)]


class Part(ctypes.Structure):
    _fields_ = [("adapter", ctypes.c_void_p), ("first", ctypes.c_int64), ("order", ctypes.c_void_p)]


def floats(values):
    return (ctypes.c_float * len(values))(*values)


def write_safetensors(path, tensors):
    """tensors: {name: (shape, values)}, all F32."""
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        raw = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_safetensors(path, name):
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    begin, end = json.loads(raw[8:8 + size])[name]["data_offsets"]
    return struct.unpack(f"<{(end - begin) // 4}f", raw[8 + size + begin:8 + size + end])


def reflected(row, blocks, u, v):
    """row H, H = diag(I - u u^T + v v^T), unit u and v in each block."""
    size, result = len(row) // blocks, []
    for b in range(blocks):
        part = row[b * size:(b + 1) * size]
        new = list(part)
        for sign, w in ((-1, u), (1, v)):
            w = w[b * size:(b + 1) * size]
            scale = sign * sum(p * q for p, q in zip(part, w)) / sum(q * q for q in w)
            new = [n + scale * q for n, q in zip(new, w)]
        result += new
    return result


def transposed(m, rows, cols):
    return [[m[r][c] for r in range(rows)] for c in range(cols)]


def near(actual, expected):
    return len(actual) == len(expected) and all(
        abs(a - e) <= 1e-5 * max(1, abs(e)) and math.isfinite(a) for a, e in zip(actual, expected))


def main():
    library, directory_program = sys.argv[1:]
    c = ctypes.CDLL(library)
    c.etherlinear_message.restype = c.etherlinear_instructions.restype = ctypes.c_char_p
    c.etherlinear_directory_module.restype = ctypes.c_char_p
    c.etherlinear_directory_module.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    c.etherlinear_directory_size.restype = ctypes.c_int64
    c.etherlinear_directory_size.argtypes = [ctypes.c_void_p]

    def message():
        return c.etherlinear_message().decode()

    def call(name, *arguments):
        status = getattr(c, "etherlinear_" + name)(*arguments)
        assert status == 0, f"{name}: {status}, {message()}"

    generator = random.Random(7)
    vectors = {name: [struct.unpack("<f", struct.pack("<f", generator.gauss(0.1, 1)))[0] for _ in range(size)]
               for name, size in (("ether_u", IN), ("ether_v", IN), ("ether_u_out", OUT), ("ether_v_out", OUT))}
    w = [[generator.gauss(0, 1) for _ in range(IN)] for _ in range(OUT)]
    w = [list(struct.unpack(f"<{IN}f", struct.pack(f"<{IN}f", *row))) for row in w]
    merged = [reflected(row, IN_BLOCKS, vectors["ether_u"], vectors["ether_v"]) for row in w]
    merged = transposed([reflected(column, OUT_BLOCKS, vectors["ether_u_out"], vectors["ether_v_out"])
                         for column in transposed(merged, OUT, IN)], IN, OUT)
    flat_merged = [value for row in merged for value in row]

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        adapter_path = folder / "adapter"
        adapter_path.mkdir()
        (adapter_path / "adapter_config.json").write_text(json.dumps({
            "peft_type": "ETHER", "variant": "ether_plus", "sides": "both", "num_blocks": IN_BLOCKS,
            "num_blocks_output": OUT_BLOCKS, "block_layout": "diagonal", "target_modules": ["q_proj"]}))
        write_safetensors(adapter_path / "adapter_model.safetensors", {
            f"base_model.model.{MODULE}.{name}":
                ([OUT_BLOCKS, OUT // OUT_BLOCKS] if name.endswith("_out") else [IN_BLOCKS, IN // IN_BLOCKS], values)
            for name, values in vectors.items()})
        base = folder / "base.safetensors"
        write_safetensors(base, {MODULE + ".weight": ([OUT, IN], [value for row in w for value in row]),
                                 "norm": ([2], [1.0, 2.0])})

        directory, adapter, context, layer = (ctypes.c_void_p() for _ in range(4))
        call("directory_open", str(adapter_path).encode(), ctypes.byref(directory))
        assert c.etherlinear_directory_size(directory) == 1
        assert c.etherlinear_directory_module(directory, 0) == MODULE.encode()
        assert c.etherlinear_directory_module(directory, 1) is None
        call("directory_adapter", directory, MODULE.encode(), ctypes.c_int64(OUT), ctypes.c_int64(IN),
             ctypes.byref(adapter))
        config = Config()
        call("adapter_config", adapter, ctypes.byref(config), None, None)
        assert (config.variant, config.sides, config.input_blocks, config.output_blocks) == (1, 2, IN_BLOCKS, OUT_BLOCKS)

        weight = floats([value for row in w for value in row])
        part = Part(adapter, 0, None)
        call("context_create", 2, ctypes.byref(context))
        call("layer_create", 0, weight, ctypes.c_int64(OUT), ctypes.c_int64(IN), ctypes.c_int64(IN),
             ctypes.byref(part), ctypes.c_size_t(1), None, ctypes.byref(layer))
        c.etherlinear_adapter_free(adapter)
        c.etherlinear_directory_free(directory)
        x = [generator.gauss(0, 1) for _ in range(TOKENS * IN)]
        y = floats([0] * (TOKENS * OUT))
        call("forward", layer, context, ctypes.c_int64(TOKENS), floats(x), ctypes.c_int64(IN), y,
             ctypes.c_int64(OUT))
        assert near(list(y), [sum(x[t * IN + i] * merged[o][i] for i in range(IN))
                              for t in range(TOKENS) for o in range(OUT)]), "forward"
        call("merge", layer, context, weight, ctypes.c_int64(IN))  # in place
        assert near(list(weight), flat_merged), "merge"
        c.etherlinear_layer_free(layer)
        c.etherlinear_context_free(context)

        out = folder / "merged.safetensors"
        paths = (ctypes.c_char_p * 1)(str(adapter_path).encode())
        arguments = (str(base).encode(), paths, ctypes.c_size_t(1), str(out).encode(), 0)
        call("merge_checkpoint", *arguments)
        assert near(read_safetensors(out, MODULE + ".weight"), flat_merged), "merge_checkpoint"
        assert read_safetensors(out, "norm") == (1.0, 2.0)
        before = out.read_bytes()
        assert c.etherlinear_merge_checkpoint(*arguments) == 4 and "exists" in message(), message()
        assert out.read_bytes() == before

        printed = subprocess.run([directory_program, adapter_path, str(OUT), str(IN)], check=True,
                                 capture_output=True, text=True).stdout.split()
        total = sum(value for values in vectors.values() for value in values)
        assert printed[:2] == [MODULE, str(2 * (OUT + IN))] and near([float(printed[2])], [total]), printed

        assert c.etherlinear_directory_open(str(folder / "none").encode(), ctypes.byref(directory)) == 4
        assert "none" in message(), message()
        (adapter_path / "adapter_config.json").write_text("{")
        assert c.etherlinear_directory_open(str(adapter_path).encode(), ctypes.byref(directory)) == 5
        assert "adapter_config.json" in message(), message()
    print("passed,", c.etherlinear_instructions().decode())


if __name__ == "__main__":
    main()
