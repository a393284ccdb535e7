"""Tiny models of transformers: merged by `ether` and loaded again, or with the exported LoRA."""

import os

import numpy as np
import torch
import transformers

from oracle import Adapter
from support import IN, OUT, check_close, check_peft, ether, oracle_model, outputs, raw

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def check_model(model, adapter, base, directory, tmp):
    """The merged directory, and the exported LoRA, against the model that the oracle merged."""
    merged, lora = tmp / "merged", tmp / "lora"
    tokens = torch.randint(0, model.config.vocab_size, (2, 9))
    want_model = oracle_model(model, adapter)
    want, unadapted = outputs(want_model, tokens), outputs(model, tokens)
    assert torch.norm(want - unadapted) > 0.1 * torch.norm(want), "the adapter does too little"

    ether("merge", "--base", base, "--adapter", directory, "--out", merged)
    assert sorted(os.listdir(merged)) == sorted(os.listdir(base)), f"{sorted(os.listdir(merged))}"
    loaded = transformers.AutoModelForCausalLM.from_pretrained(merged).eval()
    check_close("logits of the merged model", outputs(loaded, tokens), want)

    ether("export-lora", "--base", base, "--adapter", directory, "--out", lora)
    check_peft("LoRA", model, lora, want_model, tokens)


def llama_in_shards_from_init_to_logits(tmp):
    base, directory, layers, blocks = tmp / "base", tmp / "adapter", 2, 4
    torch.manual_seed(11)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=96, hidden_size=IN, intermediate_size=OUT, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32,
        initializer_range=0.2)).eval()
    model.save_pretrained(base, max_shard_size="60KB")
    assert (base / "model.safetensors.index.json").exists(), "transformers wrote one shard only"

    ether("init", "--base", base, "--out", directory, "--variant", "ether_plus", "--sides", "both",
          "--num-blocks", blocks, "--target-modules", "q_proj,v_proj,down_proj")
    adapter = Adapter.load(directory)
    want = {}
    for layer in range(layers):
        for module, out, width in (("self_attn.q_proj", IN, IN), ("self_attn.v_proj", IN // 2, IN),
                                   ("mlp.down_proj", IN, OUT)):
            u, u_out = (blocks, width // blocks), (blocks, out // blocks)
            want[f"model.layers.{layer}.{module}"] = {
                "ether_u": u, "ether_v": u, "ether_u_out": u_out, "ether_v_out": u_out}
    got = {module: {name: value.shape for name, value in named.items()}
           for module, named in adapter.tensors.items()}
    assert got == want, f"init wrote {got}, not {want}"

    rng = np.random.default_rng(12)  # init's ETHER+ is the identity
    for named in adapter.tensors.values():
        for name, value in named.items():
            named[name] = rng.standard_normal(value.shape).astype(np.float32)
    adapter.save(directory)
    check_model(model, adapter, base, directory, tmp)


def gpt2_to_logits(tmp):
    """Conv1D weights, stored (in, out), and an output head that is not in the file."""
    base, directory, layers = tmp / "base", tmp / "adapter", 2
    torch.manual_seed(13)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=96, n_positions=32, n_embd=IN, n_layer=layers, n_head=4,
        initializer_range=0.2)).eval()
    model.save_pretrained(base)
    stored, _ = raw(base / "model.safetensors")
    assert "lm_head.weight" not in stored, "transformers wrote the tied head"

    shapes = {}
    for layer in range(layers):
        shapes[f"transformer.h.{layer}.attn.c_attn"] = (3 * IN, IN)
        shapes[f"transformer.h.{layer}.mlp.c_proj"] = (IN, 4 * IN)
    adapter = Adapter.random(np.random.default_rng(14), shapes, "ether_plus", "both", 8,
                             fan_in_fan_out=True, target_modules=["c_attn", "mlp.c_proj"])
    adapter.save(directory)
    check_model(model, adapter, base, directory, tmp)


TESTS = [llama_in_shards_from_init_to_logits, gpt2_to_logits]
