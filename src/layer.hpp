#pragma once

/// A layer behind virtual functions: what the C interface calls, compiled once for each instruction set
/// (layer.cpp). Arguments are checked here, as everywhere in ether; all throw ether::error.

#include <etherlinear.h>

#include <ether/adapter.hpp>

#include <memory>
#include <vector>

ETHER_BEGIN_INTERFACE
namespace compiled {

/// A matrix whose element type the layer knows.
struct Matrix {
  const void* data;
  Index rows, cols, stride;
};
struct MutableMatrix {
  void* data;
  Index rows, cols, stride;
};

/// A host's threads, see etherlinear.h.
struct Pool {
  etherlinear_parallel_for parallel_for = nullptr;
  void* pool = nullptr;
};

class Context {
 public:
  virtual ~Context() = default;
};

class Layer {
 public:
  virtual ~Layer() = default;
  virtual void set_adapter(const Adapter<float>& adapter, Index part) = 0;
  virtual void forward(Context& ctx, const Matrix& x, const MutableMatrix& y) const = 0;
  virtual void merge(Context& ctx, const MutableMatrix& merged) const = 0;
  /// `ctx` null: by the calling thread.
  virtual void reflect_input(Context* ctx, Index row, const Matrix& x,
                             const MutableMatrix& z) const = 0;
  virtual void reflect_output(Context* ctx, const Matrix& s, const MutableMatrix& y,
                              const void* bias, const Matrix& residual) const = 0;
  virtual Index rows_alike(Index row) const = 0;
  virtual Index out_features() const = 0;
  virtual Index in_features() const = 0;
};

/// The weight that a layer is made of; its data null where there is none.
struct Weight {
  etherlinear_type type;
  Matrix matrix;
  const void* bias;
};

/// AdaptedRows, which belongs to an instruction set, as all of them read it.
struct Part {
  const Adapter<float>* adapter;
  Index first;
  std::vector<Index> order;
};

/// What layer.cpp gives for one instruction set.
struct Kernels {
  const char* instructions;
  std::unique_ptr<Context> (*make_context)(int threads, const Pool& pool);
  std::unique_ptr<Layer> (*make_layer)(const Weight& weight, const std::vector<Part>& parts);
};

/// Those for this processor.
const Kernels& kernels();

}  // namespace compiled
ETHER_END_INTERFACE
