#pragma once

/// Matrix products by oneDNN's matmul primitive, in float or bfloat16 with sums in float.
///
///     c (m, n) (+)= a (m, k) op(b) + bias,   op(b) = b^T with b (n, k), or b with b (k, n)
///
/// c is overwritten, or added to where `accumulate`; it is rounded once, to nearest even.
/// In bfloat16 products, numbers below 2^-126 (denormals) count as 0, as the processor's instruction
/// for them has it.
///
/// oneDNN's fast kernels (brgemm) take only matrices without gaps between their rows. Others would
/// go to its gemm, whose sums depend on the number of threads and rows, or with a packed b to a
/// reference loop; they are copied instead.

#include <ether/backends/eigen/reflect.hpp>
#include <ether/backends/onednn/context.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cstring>
#include <type_traits>

ETHER_BEGIN_NAMESPACE
namespace detail::onednn {

using DataType = dnnl::memory::data_type;

template <class T>
constexpr DataType data_type() {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, Eigen::bfloat16>,
                "ether: oneDNN's products are for float and Eigen::bfloat16");
  return std::is_same_v<T, float> ? DataType::f32 : DataType::bf16;
}

/// Element (r, c) of a (rows, cols) matrix at r * row_stride + c * col_stride.
inline dnnl::memory::desc layout(Index rows, Index cols, Index row_stride, Index col_stride,
                                 DataType type) {
  return {{rows, cols}, type, dnnl::memory::dims{row_stride, col_stride}};
}

/// How op(b) (k, n) lies in memory: b (k, n) row by row, b (n, k) row by row, or as PackedMatrix has
/// it for this k and n.
enum class Factor { plain, transposed, packed };

/// A product without its addresses. No matrix has gaps.
struct Problem {
  Index m, n, k;
  DataType in, out;  // of a, b and bias; of c
  Factor b;
  bool accumulate, bias;

  Key key(int team) const {
    const int flags = (accumulate ? 1 : 0) | (bias ? 2 : 0) | (in == DataType::f32 ? 4 : 0) |
                      (out == DataType::f32 ? 8 : 0) | static_cast<int>(b) << 4;
    return {m, n, k, flags, team};
  }
};

/// What oneDNN chooses for a problem, with op(b) laid out as b says. Throws dnnl::error where it has
/// nothing.
inline dnnl::matmul::primitive_desc choose(const dnnl::engine& engine, const Problem& p,
                                           const dnnl::memory::desc& b) {
  const auto a = layout(p.m, p.k, p.k, 1, p.in);
  const auto c = layout(p.m, p.n, p.n, 1, p.out);
  const auto bias = p.bias ? layout(1, p.n, p.n, 1, p.in) : dnnl::memory::desc();
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (p.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
#if DNNL_VERSION_MAJOR >= 3
  return {engine, a, b, bias, c, attributes};
#else
  return {dnnl::matmul::desc(a, b, bias, c), attributes, engine};
#endif
}

inline Plan make_plan(const dnnl::engine& engine, const Problem& p,
                      const dnnl::memory::desc* packed) {
  const auto chosen = choose(engine, p,
                             p.b == Factor::packed       ? *packed
                             : p.b == Factor::transposed ? layout(p.k, p.n, 1, p.k, p.in)
                                                         : layout(p.k, p.n, p.n, 1, p.in));
  const auto memory = [&](const dnnl::memory::desc& desc) {
    return dnnl::memory(desc, engine, nullptr);
  };
  Plan plan;
  plan.primitive = dnnl::matmul(chosen);
  plan.a = memory(chosen.src_desc());
  plan.b = memory(chosen.weights_desc());
  plan.c = memory(chosen.dst_desc());
  plan.scratchpad = memory(chosen.scratchpad_desc());
  plan.arguments = {{{DNNL_ARG_SRC, plan.a.get()},
                     {DNNL_ARG_WEIGHTS, plan.b.get()},
                     {DNNL_ARG_DST, plan.c.get()},
                     {DNNL_ARG_SCRATCHPAD, plan.scratchpad.get()},
                     {DNNL_ARG_BIAS, nullptr}}};
  plan.argument_count = 4;
  if (p.bias) {
    plan.bias = memory(chosen.bias_desc());
    plan.arguments[4].memory = plan.bias.get();
    plan.argument_count = 5;
  }
  plan.scratchpad_bytes = static_cast<Index>(chosen.scratchpad_desc().get_size());
  return plan;
}

/// The plan of a problem, made once. OpenMP is set to ctx.team() threads.
inline Plan& plan_for(OneDnnContext& ctx, const Problem& p, const dnnl::memory::desc* packed) {
  // A plan takes 25 to 80 KiB, most of it code that oneDNN compiles for this number of tokens, and
  // 0.3 ms to make. A server meets many numbers of tokens, so their plans are bounded.
  constexpr std::size_t most_plans = 1024;
  auto& plans = ctx.plans();
  const Key key = p.key(ctx.team());
  if (const auto found = plans.find(key); found != plans.end()) return found->second;
  if (plans.size() >= most_plans) plans.clear();
  try {
    return plans.emplace(key, make_plan(ctx.engine(), p, packed)).first->second;
  } catch (const dnnl::error& e) {
    check(e.status, "making oneDNN's matmul", p.m, p.n, p.k);
    throw;
  }
}

/// The product of matrices at these addresses; m, n and k are positive. bias is null unless p.bias,
/// `packed` unless p.b says so.
inline void execute(OneDnnContext& ctx, const Problem& p, const void* a, const void* b,
                    const void* bias, void* c, const dnnl::memory::desc* packed) {
  const ThreadCount threads(ctx.team());
  Plan& plan = plan_for(ctx, p, packed);
  OneDnnContext::Frame frame(ctx);
  const auto set = [&](const dnnl::memory& memory, const void* address) {
    check(dnnl_memory_set_data_handle(memory.get(), const_cast<void*>(address)),
          "dnnl_memory_set_data_handle", p.m, p.n, p.k);
  };
  set(plan.a, a);
  set(plan.b, b);
  set(plan.c, c);
  set(plan.scratchpad, frame.array<std::byte>(plan.scratchpad_bytes));
  if (p.bias) set(plan.bias, bias);
  check(dnnl_primitive_execute(plan.primitive.get(), ctx.stream().get(), plan.argument_count,
                               plan.arguments.data()),
        "dnnl_primitive_execute", p.m, p.n, p.k);
  check(dnnl_stream_wait(ctx.stream().get()), "dnnl_stream_wait", p.m, p.n, p.k);
}

template <class T>
bool has_gaps(const MatrixView<T>& view) {
  return view.rows > 1 && view.stride != view.cols;
}

template <class T, class U>
void copy_rows(const OneDnnContext& ctx, const MatrixView<T>& from, const MatrixView<U>& to) {
  ctx.parallel_for(from.rows, from.rows * from.cols,
                   [&](Index r, int) { std::copy_n(from.row(r), from.cols, to.row(r)); });
}

/// The same matrix without gaps: itself, or a copy in the frame.
template <class T>
MatrixView<const T> dense(const OneDnnContext& ctx, OneDnnContext::Frame& frame,
                          const MatrixView<const T>& view) {
  if (!has_gaps(view)) return view;
  const MatrixView<T> copy = frame.matrix<T>(view.rows, view.cols);
  copy_rows(ctx, view, copy);
  return copy;
}

/// The product with b as `factor` says, at b; a, c and bias as in matmul.
template <class S, class D>
void multiply(OneDnnContext& ctx, MatrixView<const S> a, Factor factor, const void* b,
              const dnnl::memory::desc* packed, const S* bias, MatrixView<D> c, bool accumulate) {
  static_assert(std::is_same_v<D, float> || std::is_same_v<D, S>, "ether: c is float or as a");
  OneDnnContext::Frame frame(ctx);
  const MatrixView<D> out = has_gaps(c) ? frame.matrix<D>(c.rows, c.cols) : c;
  if (has_gaps(c) && accumulate) copy_rows(ctx, c, out);
  const Problem problem{c.rows,         c.cols, a.cols,     data_type<S>(),
                        data_type<D>(), factor, accumulate, bias != nullptr};
  execute(ctx, problem, dense(ctx, frame, a).data, b, bias, out.data, packed);
  if (has_gaps(c)) copy_rows(ctx, out, c);
}

/// c (+)= 0 + bias: the product where k = 0, which oneDNN leaves undone.
template <class S, class D>
void add_bias_alone(const S* bias, MatrixView<D> c, bool accumulate) {
  for (Index r = 0; r < c.rows; ++r)
    for (Index j = 0; j < c.cols; ++j) {
      const float before = accumulate ? static_cast<float>(c(r, j)) : 0.0f;
      c(r, j) = static_cast<D>(before + (bias != nullptr ? static_cast<float>(bias[j]) : 0.0f));
    }
}

/// c (m, n) (+)= a (m, k) b^T + bias with b (n, k), or a b + bias with b (k, n). bias (n) or null.
/// S is float or Eigen::bfloat16, D is float or S. Shapes fit, and c overlaps nothing else. Throws
/// onednn_error where oneDNN has no such product.
template <class S, class D>
void matmul(OneDnnContext& ctx, MatrixView<const S> a, MatrixView<const S> b, bool transpose_b,
            const S* bias, MatrixView<D> c, bool accumulate) {
  if (c.empty()) return;
  if (a.cols == 0) return add_bias_alone(bias, c, accumulate);
  OneDnnContext::Frame frame(ctx);
  multiply(ctx, a, transpose_b ? Factor::transposed : Factor::plain, dense(ctx, frame, b).data,
           nullptr, bias, c, accumulate);
}

/// z = x H_in, rounded to S, in workspace; x itself where there is nothing to do.
template <class S>
MatrixView<const S> reflected(OneDnnContext& ctx, OneDnnContext::Frame& frame,
                              const Reflection<float>& h_in, MatrixView<const S> x) {
  if (h_in.terms() == 0) return x;
  const MatrixView<S> z = frame.matrix<S>(x.rows, x.cols);
  reflect_rows(ctx, h_in, x, z, MatrixView<const S>{});
  return z;
}

/// y = (x H_in) W^T H_out + bias, with product(z, bias, s) for s = z W^T + bias, s of S or float and the
/// bias a pointer, perhaps null. Without H_out the product writes y itself; T is S or float.
template <class S, class T, class Product>
void multiply_reflected(OneDnnContext& ctx, const Reflection<float>& h_in, MatrixView<const S> x,
                        const Reflection<float>& h_out, MatrixView<const S> bias, MatrixView<T> y,
                        const Product& product) {
  if (y.empty()) return;
  OneDnnContext::Frame frame(ctx);
  const MatrixView<const S> z = reflected(ctx, frame, h_in, x);
  if (h_out.terms() == 0) return product(z, bias.rows == 0 ? nullptr : bias.data, y);
  MatrixView<float> s;
  if constexpr (std::is_same_v<T, float>)
    s = y;
  else
    s = frame.matrix<float>(y.rows, y.cols);
  product(z, nullptr, s);
  reflect_rows(ctx, h_out, MatrixView<const float>(s), y,
               MatrixView<const S>{bias.data, bias.rows == 0 ? 0 : y.rows, y.cols, 0});
}

/// Whether oneDNN multiplies S with its brgemm kernels on this processor; asked once. They are the
/// fast ones, and the ones whose results depend neither on the number of threads nor on m. float:
/// from AVX-512 on; bfloat16: where the processor multiplies it. Elsewhere a product of float works
/// all the same, and one of bfloat16 is slow, or throws.
template <class S>
bool supports() {
  static const bool answer = [] {
    try {
      const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
      const Problem p{16, 64, 64, data_type<S>(), data_type<S>(), Factor::transposed, false, false};
      const auto chosen = choose(engine, p, layout(64, 64, 1, 64, p.in));
      return std::strncmp(chosen.impl_info_str(), "brg", 3) == 0;
    } catch (const dnnl::error&) {
      return false;
    }
  }();
  return answer;
}

}  // namespace detail::onednn
ETHER_END_NAMESPACE
