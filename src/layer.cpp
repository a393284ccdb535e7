// The layers of one instruction set: compiled with its flags, ETHER_KERNELS being the function's name and
// ETHER_INSTRUCTIONS the set's. Nothing else in the library may be compiled with them.

#include "layer.hpp"

#include <ether/ether.hpp>

#include <optional>
#include <string>

ETHER_BEGIN_NAMESPACE
namespace detail {

class LayerContext final : public compiled::Context {
 public:
  LayerContext(int threads, const compiled::Pool& pool)
      : context(pool.parallel_for == nullptr ? EigenContext(threads)
                                             : EigenContext(threads, on_pool(pool))) {}

  EigenContext context;

 private:
  static ParallelFor on_pool(const compiled::Pool& pool) {
    return [pool](Index count, TaskRef task) {
      const auto call = [](const void* data, std::int64_t index, int thread) {
        (*static_cast<const TaskRef*>(data))(index, thread);
      };
      pool.parallel_for(pool.pool, count, call, &task);
    };
  }
};

template <class T>
class LayerOf final : public compiled::Layer {
 public:
  using Backend = EigenBackend<T>;

  LayerOf(const compiled::Weight& weight, const std::vector<compiled::Part>& all_parts) {
    std::vector<AdaptedRows<float>> parts;
    for (const compiled::Part& part : all_parts)
      parts.push_back({*part.adapter, part.first, part.order});
    const compiled::Matrix& w = weight.matrix;
    EigenContext ctx(1);
    if (w.data != nullptr)
      linear_.emplace(ctx, view(w), parts, static_cast<const T*>(weight.bias));
    else
      prepared_.emplace(ctx, w.rows, w.cols, parts);
  }

  void set_adapter(const Adapter<float>& adapter, Index part) override {
    EigenContext ctx(1);
    if (linear_)
      linear_->set_adapter(ctx, adapter, part);
    else
      prepared_->set(ctx, adapter, part);
  }
  void forward(compiled::Context& ctx, const compiled::Matrix& x,
               const compiled::MutableMatrix& y) const override {
    linear().forward(unwrap(ctx), view(x), view(y));
  }
  void merge(compiled::Context& ctx, const compiled::MutableMatrix& merged) const override {
    linear().merge(unwrap(ctx), view(merged));
  }
  void reflect_input(compiled::Context* ctx, Index row, const compiled::Matrix& x,
                     const compiled::MutableMatrix& z) const override {
    if (ctx == nullptr)
      ether::reflect_input(prepared(), row, view(x), view(z));
    else
      ether::reflect_input(unwrap(*ctx), prepared(), row, view(x), view(z));
  }
  void reflect_output(compiled::Context* ctx, const compiled::Matrix& s,
                      const compiled::MutableMatrix& y, const void* bias,
                      const compiled::Matrix& residual) const override {
    const Addends<Backend> add{static_cast<const T*>(bias), view(residual)};
    if (ctx == nullptr)
      ether::reflect_output(prepared(), view(s), view(y), add);
    else
      ether::reflect_output(unwrap(*ctx), prepared(), view(s), view(y), add);
  }
  Index rows_alike(Index row) const override {
    return row < 0 || row >= out_features() ? 0 : ether::rows_alike(prepared(), row);
  }
  Index out_features() const override { return prepared().out_features(); }
  Index in_features() const override { return prepared().in_features(); }

 private:
  static MatrixView<const T> view(const compiled::Matrix& m) {
    return {static_cast<const T*>(m.data), m.rows, m.cols, m.stride};
  }
  static MatrixView<T> view(const compiled::MutableMatrix& m) {
    return {static_cast<T*>(m.data), m.rows, m.cols, m.stride};
  }
  static EigenContext& unwrap(compiled::Context& ctx) {
    return static_cast<LayerContext&>(ctx).context;
  }
  const EtherLinear<Backend>& linear() const {
    if (!linear_)
      fail<parameter_error>("the layer was made without a weight, for the row operations alone");
    return *linear_;
  }
  const PreparedAdapter<Backend>& prepared() const {
    return linear_ ? linear_->prepared() : *prepared_;
  }

  std::optional<EtherLinear<Backend>> linear_;
  std::optional<PreparedAdapter<Backend>> prepared_;
};

inline std::unique_ptr<compiled::Context> make_context(int threads, const compiled::Pool& pool) {
  return std::make_unique<LayerContext>(threads, pool);
}

inline std::unique_ptr<compiled::Layer> make_layer(const compiled::Weight& weight,
                                                   const std::vector<compiled::Part>& parts) {
  switch (weight.type) {
    case ETHERLINEAR_FLOAT32:
      return std::make_unique<LayerOf<float>>(weight, parts);
    case ETHERLINEAR_BFLOAT16:
      return std::make_unique<LayerOf<Eigen::bfloat16>>(weight, parts);
    case ETHERLINEAR_FLOAT16:
      return std::make_unique<LayerOf<Eigen::half>>(weight, parts);
  }
  fail<parameter_error>("type is ", static_cast<int>(weight.type),
                        "; it must be one of etherlinear_type");
}

}  // namespace detail
ETHER_END_NAMESPACE

ETHER_BEGIN_INTERFACE
namespace compiled {

const Kernels& ETHER_KERNELS();
const Kernels& ETHER_KERNELS() {
  static const Kernels kernels{ETHER_INSTRUCTIONS, detail::make_context, detail::make_layer};
  return kernels;
}

}  // namespace compiled
ETHER_END_INTERFACE
