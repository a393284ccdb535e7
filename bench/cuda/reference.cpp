#include "reference.hpp"

#include <random>
#include <sstream>

namespace bench {

using ether::Side;

AdapterConfig make_config(Variant variant, Sides sides, Index blocks) {
  AdapterConfig config;
  config.variant = variant;
  config.sides = sides;
  config.input_blocks = config.output_blocks = blocks;
  return config;
}

Adapter<float> make_adapter(const AdapterConfig& config, Index out, Index in, std::uint64_t seed,
                            double offset) {
  Adapter<float> adapter(config, out, in);
  std::mt19937_64 random(seed);
  for (Side side : {Side::input, Side::output}) {
    const MatrixView<float> w = adapter.parameters(side);
    for (Index k = 0; k < w.rows; ++k)
      for (Index i = 0; i < w.cols; ++i) {
        const double uniform = static_cast<double>(random() >> 11) * 0x1p-52 - 1;
        w(k, i) = static_cast<float>(uniform + (k == 0 ? offset : 0.4 * offset));
      }
  }
  return adapter;
}

HostReflection::HostReflection(const Adapter<float>& adapter, Side side) {
  const MatrixView<const float> w = adapter.parameters(side);
  width_ = adapter.width(side);
  if (w.rows == 0) return;
  blocks_ = adapter.blocks(side);
  if (w.rows == 1) coefficient_ = {-2.0};
  if (w.rows == 2) coefficient_ = {-1.0, 1.0};
  const Index size = width_ / blocks_;
  for (Index k = 0; k < w.rows; ++k)
    for (Index b = 0; b < blocks_; ++b) {
      const float* const block = w.row(k) + b * size;
      double squares = 0;
      for (Index i = 0; i < size; ++i) squares += double{block[i]} * double{block[i]};
      const double inverse = 1 / std::sqrt(squares);
      inverse_length_.push_back(inverse);
      for (Index i = 0; i < size; ++i) unit_.push_back(double{block[i]} * inverse);
    }
}

void HostReflection::apply(double* row, Index stride) const {
  const Index size = width_ / blocks_;
  for (Index b = 0; b < blocks_ && terms() != 0; ++b) {
    double* const x = row + b * size * stride;
    double dot[2] = {0, 0};
    for (Index k = 0; k < terms(); ++k) {
      const double* const unit = unit_.data() + k * width_ + b * size;
      for (Index i = 0; i < size; ++i) dot[k] += unit[i] * x[i * stride];
    }
    for (Index k = 0; k < terms(); ++k) {
      const double* const unit = unit_.data() + k * width_ + b * size;
      const double factor = coefficient_[static_cast<std::size_t>(k)] * dot[k];
      for (Index i = 0; i < size; ++i) x[i * stride] += factor * unit[i];
    }
  }
}

std::vector<double> HostReflection::gradients(const std::vector<double>& before,
                                              const std::vector<double>& behind) const {
  std::vector<double> grads(static_cast<std::size_t>(terms() * width_), 0.0);
  const Index size = width_ / blocks_, tokens = static_cast<Index>(before.size()) / width_;
  for (Index k = 0; k < terms(); ++k)
    for (Index b = 0; b < blocks_; ++b) {
      const double* const unit = unit_.data() + k * width_ + b * size;
      double* const g = grads.data() + k * width_ + b * size;
      for (Index token = 0; token < tokens; ++token) {
        const double* const t = before.data() + token * width_ + b * size;
        const double* const r = behind.data() + token * width_ + b * size;
        double dot_t = 0, dot_r = 0;
        for (Index i = 0; i < size; ++i) dot_t += unit[i] * t[i], dot_r += unit[i] * r[i];
        for (Index i = 0; i < size; ++i) g[i] += dot_t * r[i] + dot_r * t[i];
      }
      double along = 0;
      for (Index i = 0; i < size; ++i) along += unit[i] * g[i];
      const double factor = coefficient_[static_cast<std::size_t>(k)] *
                            inverse_length_[static_cast<std::size_t>(k * blocks_ + b)];
      for (Index i = 0; i < size; ++i) g[i] = factor * (g[i] - along * unit[i]);
    }
  return grads;
}

template <class T>
double tolerance(Index length) {
  const double roundoff = std::is_same_v<T, float>    ? 0x1p-24
                          : std::is_same_v<T, __half> ? 0x1p-11
                                                      : 0x1p-8;
  return 4 * (roundoff + std::sqrt(static_cast<double>(length)) * 0x1p-24);
}

void check_close(const std::string& what, const std::vector<double>& got,
                 const std::vector<double>& expected, double tolerance) {
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    error += (got[i] - expected[i]) * (got[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  error = std::sqrt(error), norm = std::sqrt(norm);
  std::ostringstream wrong;
  if (got.size() != expected.size() || !(error <= tolerance * norm))
    wrong << what << " is wrong: it is off by " << error << " of " << norm << ", more than "
          << tolerance << " of that";
  const double average = norm / std::sqrt(static_cast<double>(got.size()));
  for (std::size_t i = 0; i < got.size() && wrong.str().empty(); ++i)
    if (!(std::abs(got[i] - expected[i]) <= 6 * tolerance * (average + std::abs(expected[i]))))
      wrong << what << " is wrong: element " << i << " of those checked is " << got[i]
            << " and should be " << expected[i];
  if (!wrong.str().empty()) throw Wrong(wrong.str());
}

std::vector<Index> sampled(Index tokens) {
  if (tokens <= 2) return tokens == 2 ? std::vector<Index>{0, 1} : std::vector<Index>{0};
  return {0, tokens * 5 / 8, tokens - 1};
}

template <class T>
std::vector<double> download_rows(const Session& s, const T* from, Index cols,
                                  const std::vector<Index>& rows) {
  std::vector<double> all;
  for (Index row : rows) {
    const std::vector<double> one = download(s, from + row * cols, cols);
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

template <class T>
std::vector<double> reference_product(Session& s, const std::vector<double>& z, const T* w,
                                      Index out, Index in, bool transposed) {
  const Index from = transposed ? out : in, to = transposed ? in : out;
  const Index rows = static_cast<Index>(z.size()) / from;
  const DeviceArray<double> z_device = upload(s, z), s_device(rows * to);
  if (transposed)
    slow_product_transposed(z_device.data(), w, s_device.data(), rows, out, in, s.stream());
  else
    slow_product(z_device.data(), w, s_device.data(), rows, out, in, s.stream());
  const std::vector<double> product = download(s, s_device.data(), rows * to);

  std::mt19937_64 random(s.options.seed);
  std::vector<double> got, expected;
  const auto below = [&](Index n) {
    return static_cast<Index>(random() % static_cast<std::uint64_t>(n));
  };
  const std::vector<T> whole = transposed ? download_bits(s, w, out * in) : std::vector<T>{};
  for (int sample = 0; sample < 64; ++sample) {
    const Index row = below(rows), element = below(to);
    std::vector<double> factors;
    if (transposed)
      for (Index o = 0; o < out; ++o)
        factors.push_back(static_cast<float>(whole[static_cast<std::size_t>(o * in + element)]));
    else
      factors = download(s, w + element * in, in);
    double sum = 0;
    for (Index i = 0; i < from; ++i)
      sum += z[static_cast<std::size_t>(row * from + i)] * factors[static_cast<std::size_t>(i)];
    got.push_back(product[static_cast<std::size_t>(row * to + element)]);
    expected.push_back(sum);
  }
  check_close("the reference product", got, expected, 1e-9);
  return product;
}

// clang-format off
#define ETHER_BENCH_REFERENCE(T)                                                                 \
  template double tolerance<T>(Index);                                                           \
  template std::vector<double> download_rows<T>(const Session&, const T*, Index,                 \
                                                const std::vector<Index>&);                      \
  template std::vector<double> reference_product<T>(Session&, const std::vector<double>&,        \
                                                    const T*, Index, Index, bool);
// clang-format on
ETHER_BENCH_REFERENCE(float)
ETHER_BENCH_REFERENCE(__half)
ETHER_BENCH_REFERENCE(__nv_bfloat16)

}  // namespace bench
