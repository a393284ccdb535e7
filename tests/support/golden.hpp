#pragma once

/// The golden vectors: float64 results of the authors' PyTorch layers (official/) and of the
/// paper's formulas under autograd (paper/), one safetensors file a case. See golden/README.md.

#include "compare.hpp"

#include <ether/adapter.hpp>

#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

namespace test {

/// Reads the F64 tensors of a file that is known to be well-formed.
class Golden {
 public:
  explicit Golden(const std::string& name) {
    std::ifstream file(std::string(ETHER_GOLDEN_DIR) + "/" + name, std::ios::binary);
    if (!file) throw std::runtime_error("golden file " + name + " is missing");
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
    std::uint64_t length = 0;
    std::memcpy(&length, bytes_.data(), sizeof length);
    data_ = sizeof length + length;
    header_ = bytes_.substr(sizeof length, length);
  }

  bool has(const std::string& tensor) const {
    return header_.find("\"" + tensor + "\":{\"dtype\"") != std::string::npos;
  }

  /// A matrix; a vector becomes one row. 0 x 0 where the file has no such tensor.
  Matrix operator[](const std::string& tensor) const {
    const std::string key = "\"" + tensor + "\":{\"dtype\":\"F64\",\"shape\":[";
    std::size_t at = header_.find(key);
    if (at == std::string::npos) return {};
    at += key.size();
    Index rows = number(at), cols = 1;
    if (header_[at] == ',')
      cols = number(++at);
    else
      std::swap(rows, cols);
    at = header_.find('[', at) + 1;
    Matrix m(rows, cols);
    std::memcpy(m.data(), bytes_.data() + data_ + number(at),
                static_cast<std::size_t>(m.size()) * sizeof(double));
    return m;
  }

  /// A value of __metadata__, such as method, layout, blocks.
  std::string metadata(const std::string& key) const {
    const std::string start = "\"" + key + "\":\"";
    const std::size_t at = header_.find(start);
    if (at == std::string::npos) return {};
    const std::size_t begin = at + start.size();
    return header_.substr(begin, header_.find('"', begin) - begin);
  }

  ether::AdapterConfig config() const {
    ether::AdapterConfig c;
    c.variant = metadata("method") == "ether" ? ether::Variant::ether : ether::Variant::ether_plus;
    c.sides = !has("output.u") ? ether::Sides::input
              : has("input.u") ? ether::Sides::both
                               : ether::Sides::output;
    c.layout = metadata("layout") == "row_chunk" ? ether::BlockLayout::row_chunk
                                                 : ether::BlockLayout::diagonal;
    if (has("input.u")) c.input_blocks = (*this)["input.u"].rows();
    if (has("output.u")) c.output_blocks = (*this)["output.u"].rows();
    return c;
  }

  /// The raw vectors, or with prefix "grad." their gradients.
  template <class P>
  ether::Adapter<P> adapter(const std::string& prefix = "") const {
    const Matrix w = (*this)["weight"];
    ether::Adapter<P> adapter(config(), w.rows(), w.cols());
    const auto fill = [&](const char* name, ether::MatrixView<P> to) {
      const Matrix from = (*this)[prefix + name];
      if (from.rows() != to.rows || from.cols() != to.cols)
        throw std::runtime_error(prefix + name + " has an unexpected shape");
      for (Index r = 0; r < to.rows; ++r)
        for (Index c = 0; c < to.cols; ++c) to(r, c) = static_cast<P>(from(r, c));
    };
    fill("input.u", adapter.input_u());
    fill("input.v", adapter.input_v());
    fill("output.u", adapter.output_u());
    fill("output.v", adapter.output_v());
    return adapter;
  }

 private:
  /// The decimal number at header_[at]; moves `at` behind it.
  Index number(std::size_t& at) const {
    Index value = 0;
    while (header_[at] >= '0' && header_[at] <= '9') value = value * 10 + (header_[at++] - '0');
    return value;
  }

  std::string bytes_, header_;
  std::size_t data_ = 0;
};

}  // namespace test
