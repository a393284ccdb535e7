"""Logits of the example `serve` against transformers', on checkpoints that transformers wrote."""

import json
import subprocess

import numpy as np
import torch
import transformers
from safetensors.torch import load_file

from oracle import Adapter
from support import check_close, ether, oracle_model, outputs

transformers.utils.logging.set_verbosity_error()

SERVE = None  # the program; interchange.py sets it

SIZES = dict(vocab_size=96, hidden_size=64, intermediate_size=112, num_hidden_layers=3,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
             initializer_range=0.2)


def check(model, tmp, modules):
    """With and without an adapter on `modules` {suffix: (out, in)}."""
    base, directory, requests, written = (tmp / name for name in (
        "base", "adapter", "requests.jsonl", "logits.safetensors"))
    model.eval().save_pretrained(base)
    shapes = {f"model.layers.{layer}.{name}": shape
              for layer in range(SIZES["num_hidden_layers"]) for name, shape in modules.items()}
    adapter = Adapter.random(np.random.default_rng(21), shapes, "ether_plus", "both", 4)
    adapter.save(directory)
    prompts = torch.randint(0, SIZES["vocab_size"], (3, 23))
    with open(requests, "w") as lines:
        for number, prompt in enumerate(prompts):
            for name in ("base", "adapted"):
                request = {"id": f"{name} {number}", "prompt": prompt.tolist()}
                if name == "adapted":
                    request["adapter"] = str(directory)
                print(json.dumps(request), file=lines)
    run = subprocess.run([SERVE, "--model", base, "--requests", requests, "--logits", written],
                         capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, f"serve ended with status {run.returncode}: {run.stderr.strip()}"
    logits = load_file(written)
    expected = {"base": outputs(model, prompts), "adapted": outputs(oracle_model(model, adapter), prompts)}
    distance = torch.norm(expected["adapted"] - expected["base"]) / torch.norm(expected["base"])
    assert distance > 0.1, "the adapter does too little"
    for name, want in expected.items():
        for number in range(len(prompts)):
            check_close(f"logits, {name}", logits[f"{name} {number}"], want[number], tolerance=1e-4)


def llama(tmp):
    torch.manual_seed(22)
    config = transformers.LlamaConfig(**SIZES, rope_theta=500.0)
    check(transformers.LlamaForCausalLM(config), tmp,
          {"self_attn.q_proj": (64, 64), "self_attn.k_proj": (32, 64), "mlp.down_proj": (64, 112)})


def llama_with_tied_head(tmp):
    torch.manual_seed(23)
    config = transformers.LlamaConfig(**SIZES, tie_word_embeddings=True, head_dim=32)
    check(transformers.LlamaForCausalLM(config), tmp,
          {"self_attn.v_proj": (64, 64), "self_attn.o_proj": (64, 128)})


def qwen2_with_biases(tmp):
    torch.manual_seed(24)
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SIZES))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    check(model, tmp, {"self_attn.q_proj": (64, 64), "mlp.gate_proj": (112, 64)})


def other_models_are_refused(tmp):
    base = tmp / "base"
    config = transformers.LlamaConfig(**SIZES, rope_scaling={"rope_type": "linear", "factor": 2.0})
    transformers.LlamaForCausalLM(config).save_pretrained(base)
    (tmp / "requests.jsonl").write_text('{"prompt": [1]}\n')
    run = subprocess.run([SERVE, "--model", base, "--requests", tmp / "requests.jsonl"],
                         capture_output=True, text=True, timeout=120)
    assert run.returncode == 1 and "rope_scaling" in run.stderr, run.stderr
    assert ether("inspect", base) is not None


TESTS = [llama, llama_with_tied_head, qwen2_with_biases, other_models_are_refused]
