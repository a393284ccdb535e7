/// Your own quantised product under an adapter: int8 in blocks of 32 with a scale, as ggml's Q8_0 has it.
///
///   g++ -std=c++17 -O3 -march=native -fopenmp -I include -I /usr/include/eigen3 examples/quantized_weight.cpp -o quantized_weight

#include <ether/ether.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

using Backend = ether::EigenBackend<float>;

/// 32 neighbouring elements of a row: scale * q.
struct Block {
  static constexpr ether::Index size = 32;
  Eigen::half scale;
  std::int8_t q[size];
};

void quantize(const float* from, ether::Index blocks, Block* to) {
  for (ether::Index b = 0; b < blocks; ++b, from += Block::size) {
    float largest = 0;
    for (int i = 0; i < Block::size; ++i) largest = std::max(largest, std::fabs(from[i]));
    to[b].scale = Eigen::half(largest / 127);
    for (int i = 0; i < Block::size; ++i)
      to[b].q[i] =
          static_cast<std::int8_t>(largest == 0 ? 0 : std::lround(from[i] * 127 / largest));
  }
}

/// W as out rows of blocks. A handle; the memory is the engine's.
struct QuantizedWeight {
  const Block* blocks;
  ether::Index out, in;  // in: a multiple of 32

  ether::Index out_features() const { return out; }
  ether::Index in_features() const { return in; }
  /// Where output rows differ in H_in: fused weights, layout row_chunk.
  QuantizedWeight slice_rows(ether::Index first, ether::Index count) const {
    return {blocks + first * (in / Block::size), count, in};
  }

  /// s (tokens, out) = z (tokens, in) W^T, z quantised too: whole numbers within a block. Its memory is the
  /// Context's: allocated once, by the largest call.
  void multiply(Backend::Context& ctx, ether::MatrixView<const float> z,
                ether::MatrixView<float> s) const {
    const ether::Index count = in / Block::size;
    Backend::Context::Frame frame(ctx);
    Block* const tokens = frame.array<Block>(z.rows * count);
    for (ether::Index t = 0; t < z.rows; ++t) quantize(z.row(t), count, tokens + t * count);
    ctx.parallel_for(out, z.rows * out * in, [=](ether::Index o, int) {
      const Block* const w = blocks + o * count;
      for (ether::Index t = 0; t < s.rows; ++t) {
        float sum = 0;
        for (ether::Index b = 0; b < count; ++b) {
          const Block& token = tokens[t * count + b];
          int dot = 0;
          for (int i = 0; i < Block::size; ++i) dot += w[b].q[i] * token.q[i];
          sum += static_cast<float>(w[b].scale) * static_cast<float>(token.scale) *
                 static_cast<float>(dot);
        }
        s(t, o) = sum;
      }
    });
  }
};

int main() {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const ether::Index tokens = 5, in = 96, out = 64;
  const Matrix w = Matrix::Random(out, in), x = Matrix::Random(tokens, in);
  std::vector<Block> blocks(static_cast<std::size_t>(out * in / Block::size));
  quantize(w.data(), static_cast<ether::Index>(blocks.size()), blocks.data());

  ether::AdapterConfig config;
  config.sides = ether::Sides::both;
  config.input_blocks = 4;
  const auto adapter = ether::Adapter<float>::random(config, out, in, /*seed=*/7);

  Backend::Context ctx;
  const ether::EtherLinear<Backend, QuantizedWeight> layer(ctx, {blocks.data(), out, in}, adapter);
  Matrix y(tokens, out), expected(tokens, out);
  layer.forward(ctx, x, y);
  const ether::EtherLinear<Backend> exact(ctx, w, adapter);
  exact.forward(ctx, x, expected);
  const double error = static_cast<double>((y - expected).norm() / expected.norm());
  std::printf("int8 in blocks of 32 under an adapter, against float: differs by %.1e\n", error);
  return error <= 1e-2 ? 0 : 1;
}
