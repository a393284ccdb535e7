"""The files of the measurement: a Llama of random weights, adapters, and their GGUF files.

    model_files.py checkpoint DIRECTORY       a Hugging Face checkpoint, float32
    model_files.py random-lora DIRECTORY RANK
    model_files.py move-apart ADAPTER         v of a fresh ETHER+ adapter away from -u, as if trained
    model_files.py gguf CHECKPOINT FILE f32|q8_0
    model_files.py lora-gguf LORA FILE f32|f16

llama_cpp.py runs it, with numpy, safetensors and llama.cpp's gguf-py. llama.cpp's own converters do
the same with PyTorch and transformers, and want a tokenizer, which this model has not.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float32",
    "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 12,
    "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 4096,
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "hidden_act": "silu", "tie_word_embeddings": False,
}


def linears():
    """[(name, (out, in))] of one layer."""
    width, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    kv = CONFIG["num_key_value_heads"] * CONFIG["head_dim"]
    return [("self_attn.q_proj", (width, width)), ("self_attn.k_proj", (kv, width)),
            ("self_attn.v_proj", (kv, width)), ("self_attn.o_proj", (width, width)),
            ("mlp.gate_proj", (inner, width)), ("mlp.up_proj", (inner, width)),
            ("mlp.down_proj", (width, inner))]


def layer_linears():
    """[(module, (out, in))] of the whole model."""
    return [(f"model.layers.{layer}.{name}", shape)
            for layer in range(CONFIG["num_hidden_layers"]) for name, shape in linears()]


def write_checkpoint(directory):
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)

    def matrix(shape):
        return random.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[1]))

    def norm():
        return (1 + 0.1 * random.standard_normal(CONFIG["hidden_size"])).astype(np.float32)

    embeddings = (CONFIG["vocab_size"], CONFIG["hidden_size"])
    tensors = {"model.embed_tokens.weight": random.standard_normal(embeddings, dtype=np.float32),
               "model.norm.weight": norm(), "lm_head.weight": matrix(embeddings)}
    for layer in range(CONFIG["num_hidden_layers"]):
        tensors[f"model.layers.{layer}.input_layernorm.weight"] = norm()
        tensors[f"model.layers.{layer}.post_attention_layernorm.weight"] = norm()
    for module, shape in layer_linears():
        tensors[f"{module}.weight"] = matrix(shape)
    save_file(tensors, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


def move_apart(adapter):
    """Between û and -v̂ there are then some 45 degrees in each block: a large change of every weight."""
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    random = np.random.default_rng(2)
    for name in sorted(tensors):
        if ".ether_v" in name:
            v = tensors[name]
            size = np.linalg.norm(v, axis=1, keepdims=True) / np.sqrt(v.shape[1])
            tensors[name] = (v + size * random.standard_normal(v.shape)).astype(v.dtype)
    save_file(tensors, path)


def write_random_lora(directory, rank):
    """A LoRA as PEFT writes it: what it costs depends on nothing but its rank."""
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(3)
    tensors = {}
    for module, (out, inputs) in layer_linears():
        for part, shape in (("lora_A", (rank, inputs)), ("lora_B", (out, rank))):
            values = random.standard_normal(shape, dtype=np.float32) * np.float32(0.01)
            tensors[f"base_model.model.{module}.{part}.weight"] = values
    save_file(tensors, directory / "adapter_model.safetensors")
    (directory / "adapter_config.json").write_text(json.dumps({"r": rank, "lora_alpha": rank}))


def rotary_order(name, rows):
    """`rows` of q_proj or k_proj in GGUF's order, others as they are. llama.cpp rotates neighbouring
    rows of a head, Hugging Face's Llama rows half a head apart."""
    if not name.endswith(("q_proj", "k_proj")):
        return rows
    heads = CONFIG["num_attention_heads" if name.endswith("q_proj") else "num_key_value_heads"]
    halves = rows.reshape(heads, 2, CONFIG["head_dim"] // 2, rows.shape[1])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def gguf_name(module):
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, CONFIG["num_hidden_layers"])
    return names.get_name(module)


def add_matrix(writer, name, values, kind):
    kind = {"f32": gguf.GGMLQuantizationType.F32, "f16": gguf.GGMLQuantizationType.F16,
            "q8_0": gguf.GGMLQuantizationType.Q8_0}[kind]
    writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(values), kind),
                      raw_dtype=kind)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_gguf(checkpoint, path, kind):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONFIG["max_position_embeddings"])
    writer.add_embedding_length(CONFIG["hidden_size"])
    writer.add_block_count(CONFIG["num_hidden_layers"])
    writer.add_feed_forward_length(CONFIG["intermediate_size"])
    writer.add_head_count(CONFIG["num_attention_heads"])
    writer.add_head_count_kv(CONFIG["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(CONFIG["rms_norm_eps"])
    writer.add_rope_dimension_count(CONFIG["head_dim"])
    writer.add_rope_freq_base(CONFIG["rope_theta"])
    writer.add_vocab_size(CONFIG["vocab_size"])
    writer.add_tokenizer_model("none")
    for name, values in load_file(checkpoint / "model.safetensors").items():
        module = name.removesuffix(".weight")
        gguf_tensor = gguf_name(module) + ".weight"
        if values.ndim == 1:
            writer.add_tensor(gguf_tensor, values)
        else:
            add_matrix(writer, gguf_tensor, rotary_order(module, values), kind)
    finish(writer)


def write_lora_gguf(lora, path, kind):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    config = json.loads((lora / "adapter_config.json").read_text())
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(config["lora_alpha"]))
    for name, values in load_file(lora / "adapter_model.safetensors").items():
        module, part = name.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".", 1)
        if part == "lora_B":
            values = rotary_order(module, values)
        add_matrix(writer, f"{gguf_name(module)}.weight.{part.lower()}", values, kind)
    finish(writer)


VERBS = {
    "checkpoint": lambda to: write_checkpoint(Path(to)),
    "random-lora": lambda to, rank: write_random_lora(Path(to), int(rank)),
    "move-apart": lambda adapter: move_apart(Path(adapter)),
    "gguf": lambda checkpoint, to, kind: write_gguf(Path(checkpoint), to, kind),
    "lora-gguf": lambda lora, to, kind: write_lora_gguf(Path(lora), to, kind),
}

if __name__ == "__main__":
    VERBS[sys.argv[1]](*sys.argv[2:])
