/// make_checkpoint KIND PATH [MEGABYTES]: writes a small checkpoint with random weights.
///
///   file       one .safetensors file, F32
///   directory  a Hugging Face directory with one file, F32, and other files beside it
///   sharded    the same in three shards, BF16, F16 and F64; none of the last one's is a matrix
///   gpt2       a directory whose weights are stored as (in, out)
///   odd        a file whose tensor names have spaces, UTF-8, control characters, numbers
///   large      a file with values beyond the range of F16
///   zeros      a sparse file of MEGABYTES with two weights of zeros

#include <ether/io/write_safetensors.hpp>

#include <cstdlib>
#include <iostream>
#include <random>

namespace {

using namespace ether;

/// Tensors with their bytes.
class Tensors {
 public:
  /// Normal random values times `scale`, or small whole numbers for other than weight dtypes.
  void add(const std::string& name, Dtype dtype, std::vector<std::uint64_t> shape,
           double scale = 1) {
    const std::uint64_t size = *detail::tensor_bytes(dtype, shape);
    std::vector<std::byte> bytes(size);
    if (is_weight_dtype(dtype)) {
      std::normal_distribution<double> normal;
      std::vector<double> values(size * 8 / static_cast<std::uint64_t>(bit_size(dtype)));
      for (double& value : values) value = scale * normal(generator_);
      detail::narrow(dtype, values.data(), static_cast<Index>(values.size()), bytes.data());
    } else {
      for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = std::byte(i % 2);
    }
    bytes_.push_back(std::make_unique<std::vector<std::byte>>(std::move(bytes)));
    tensors_.push_back({{name, dtype, std::move(shape), 0, 0}, bytes_.back()->data()});
  }
  void write(const fs::path& path, const Metadata& metadata = {}) {
    write_safetensors(path, tensors_, metadata);
    for (const TensorData& tensor : tensors_) {
      names.emplace_back(tensor.info.name, path.filename());
      bytes_written += *detail::tensor_bytes(tensor.info.dtype, tensor.info.shape);
    }
    tensors_.clear();
  }

  std::vector<std::pair<std::string, fs::path>> names;  // all that were written, and where
  std::uint64_t bytes_written = 0;

 private:
  std::mt19937_64 generator_{7};
  std::vector<std::unique_ptr<std::vector<std::byte>>> bytes_;
  std::vector<TensorData> tensors_;
};

void write_text(const fs::path& path, const std::string& text) {
  OutputFile(path).write(0, text.data(), text.size());
}

void add_layer(Tensors& tensors, int layer, Dtype dtype, Dtype of_mlp) {
  const std::string name = "model.layers." + std::to_string(layer) + ".";
  tensors.add(name + "self_attn.q_proj.weight", dtype, {48, 32});
  tensors.add(name + "self_attn.v_proj.weight", dtype, {32, 32});
  tensors.add(name + "self_attn.v_proj.bias", dtype, {32});
  tensors.add(name + "mlp.down_proj.weight", of_mlp, {32, 96});
}

void add_rest(Tensors& tensors) {
  tensors.add("model.norm.weight", Dtype::f64, {32});
  tensors.add("model.scale", Dtype::f32, {});
  tensors.add("model.empty", Dtype::f16, {0, 4});
  tensors.add("model.position_ids", Dtype::i64, {1, 16});
}

void write_model(Tensors& tensors, const fs::path& path) {
  tensors.add("model.embed_tokens.weight", Dtype::f32, {50, 32});
  add_layer(tensors, 0, Dtype::f32, Dtype::f32);
  add_layer(tensors, 1, Dtype::f32, Dtype::f32);
  add_rest(tensors);
  tensors.write(path, {{"format", "pt"}, {"origin", "random"}});
}

void write_sharded(Tensors& tensors, const fs::path& path) {
  tensors.add("model.embed_tokens.weight", Dtype::bf16, {50, 32});
  add_layer(tensors, 0, Dtype::bf16, Dtype::bf16);
  tensors.write(path / "model-00001-of-00003.safetensors");
  add_layer(tensors, 1, Dtype::f16, Dtype::f64);
  tensors.write(path / "model-00002-of-00003.safetensors");
  add_rest(tensors);
  tensors.write(path / "model-00003-of-00003.safetensors");
  detail::Json index;
  for (const auto& [name, shard] : tensors.names) index["weight_map"][name] = shard.string();
  index["metadata"]["total_size"] = tensors.bytes_written;
  write_text(path / "model.safetensors.index.json", index.dump(2));
}

void write_others(const fs::path& path) {
  write_text(path / "config.json", "{\"model_type\": \"random\"}\n");
  write_text(path / "t\xc3\xb6kenizer config.json", "{}\n");
  fs::create_directory(path / "assets");
  write_text(path / "assets" / "notes.txt", "kept\n");
}

void write_zeros(const fs::path& path, std::uint64_t megabytes) {
  const std::uint64_t rows = std::max<std::uint64_t>(megabytes * 1000 * 1000 / (2 * 4096 * 4), 1);
  const auto header = SafetensorsHeader::pack({{"first.weight", Dtype::f32, {rows, 4096}, 0, 0},
                                               {"second.weight", Dtype::f32, {rows, 4096}, 0, 0}},
                                              {});
  write_text(path, header.text());
  fs::resize_file(path, header.file_bytes());
}

int run(const std::string& kind, const fs::path& path, std::uint64_t megabytes) {
  Tensors tensors;
  if (kind == "directory" || kind == "sharded" || kind == "gpt2") {
    fs::create_directory(path);
    write_others(path);
  }
  if (kind == "file") {
    write_model(tensors, path);
  } else if (kind == "directory") {
    write_model(tensors, path / "model.safetensors");
  } else if (kind == "sharded") {
    write_sharded(tensors, path);
  } else if (kind == "gpt2") {
    tensors.add("h.0.attn.c_attn.weight", Dtype::f32, {32, 96});  // (in, out)
    tensors.add("h.0.attn.c_attn.bias", Dtype::f32, {96});
    tensors.add("wte.weight", Dtype::f32, {40, 32});
    tensors.write(path / "model.safetensors");
  } else if (kind == "odd") {
    tensors.add(
        "ein Name mit Gr\xc3\xb6\xc3\x9f"
        "e.weight",
        Dtype::f32, {8, 8});
    tensors.add("\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e.weight", Dtype::f32, {8, 8});
    tensors.add("red\x1b[31m\nline.weight", Dtype::f32, {8, 8});
    for (const char* name : {"z.10.weight", "z.2.weight"}) tensors.add(name, Dtype::f32, {8, 8});
    tensors.write(path);
  } else if (kind == "large") {
    tensors.add("big.weight", Dtype::f32, {8, 8}, 60000);
    tensors.write(path);
  } else if (kind == "zeros") {
    write_zeros(path, megabytes);
  } else {
    std::cerr << "unknown kind " << kind << "\n";
    return 2;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::cerr << "usage: make_checkpoint KIND PATH [MEGABYTES]\n";
    return 2;
  }
  return run(argv[1], argv[2], argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1);
} catch (const std::exception& e) {
  std::cerr << e.what() << "\n";
  return 1;
}
