"""Puts ether's hook into llama.cpp's sources: an include and two calls, in src/llama-graph.cpp."""

import re
import shutil
from pathlib import Path

HEADER = "ether_hook.h"
FUNCTION = "llm_graph_context::build_lora_mm("


class Failure(Exception):
    """A sentence for the user."""


def insert(source):
    """Into the sources of llama.cpp in the directory `source`; again is fine."""
    shutil.copy2(Path(__file__).resolve().parent / HEADER, source / "src" / HEADER)
    path = source / "src" / "llama-graph.cpp"
    original = path.with_suffix(".cpp.original")
    if not original.exists():
        shutil.copy2(path, original)
    text = with_hook(original.read_text())
    if text != path.read_text():  # else it would be compiled again
        path.write_text(text)


def with_hook(text):
    """The text of llama-graph.cpp with the hook: in build_lora_mm, x goes through
    ether_before_product, and the product, before any LoRA is added, through ether_after_product."""
    before, found, rest = text.partition(FUNCTION)
    if not found:
        raise Failure(f"this version of llama.cpp has no function {FUNCTION[:-1]}; see README.md "
                      "for what the hook must do")
    end = rest.find("\n}")
    body = rest[:end]
    # Of the function: the product's variable, and where the loop over LoRAs begins.
    product = re.search(r"\b(\w+) = ggml_mul_mat\((\w+), (\w+), (\w+)\);", body)
    loop = re.search(r"^[ \t]*for \([^\n]*\bloras\b", body, re.M)
    if not product or not loop or loop.start() < product.end():
        raise Failure("build_lora_mm of this version of llama.cpp is not one product followed by a "
                      "loop over LoRAs; see README.md for what the hook must do")
    name, graph, weight, x = product.groups()
    call = f"{name} = ggml_mul_mat({graph}, {weight}, ether_before_product({graph}, {weight}, {x}));"
    after = f"    {name} = ether_after_product({graph}, {weight}, {name});\n\n"
    body = (body[:product.start()] + call + body[product.end():loop.start()] + after
            + body[loop.start():])
    return f'#include "{HEADER}"\n' + before + found + body + rest[end:]
