#pragma once

/// A deliberately odd backend: plain loops, rows padded to multiples of 7 and filled with NaN,
/// memory that claims not to be the host's, and only the required members. It shows what the seam
/// asks for, and that the library uses nothing else.

#include <ether/backend.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <list>
#include <memory>
#include <vector>

namespace test {

template <class T>
struct PlainBackend {
  using Scalar = T;
  using Parameter = std::conditional_t<std::is_same_v<T, double>, double, float>;
  using Intermediate = Parameter;
  using Index = ether::Index;
  template <class U>
  using View = ether::MatrixView<U>;
  using H = ether::Reflection<Parameter>;

  static constexpr const char* name = "plain";
  static constexpr bool host_memory = false;

  template <class U>
  class Buffer {
   public:
    struct AnyContext {
      template <class C>
      AnyContext(C&) {}
    };
    Buffer(AnyContext, Index rows, Index cols)
        : rows_(rows), cols_(cols), stride_((cols / 7 + 1) * 7) {
      const auto size = static_cast<std::size_t>((rows + 1) * stride_);
      values_ = std::make_unique<U[]>(size);
      if constexpr (std::numeric_limits<U>::has_quiet_NaN)
        std::fill_n(values_.get(), size, std::numeric_limits<U>::quiet_NaN());
      else
        std::memset(static_cast<void*>(values_.get()), 0xa5, size * sizeof(U));
    }
    View<U> view() const { return {values_.get(), rows_, cols_, stride_}; }

   private:
    Index rows_, cols_, stride_;
    std::unique_ptr<U[]> values_;
  };

  struct Context {
    class Frame {
     public:
      explicit Frame(Context&) {}
      template <class U>
      View<U> matrix(Index rows, Index cols) {
        return buffers_.emplace_back(*this, rows, cols).view();
      }

     private:
      std::list<Buffer<Parameter>> buffers_;  // all that the library asks of a frame
    };
  };

  template <class U>
  static void copy_in(Context&, View<const U> host, View<U> device) {
    for (Index r = 0; r < host.rows; ++r)
      for (Index c = 0; c < host.cols; ++c) device(r, c) = host(r, c);
  }
  template <class U>
  static void copy_out(Context& ctx, View<const U> device, View<U> host) {
    copy_in(ctx, device, host);
  }
  static void synchronize(Context&) {}

  template <class B>
  static void gemm(Context&, View<const Parameter> a, View<const B> b, bool transpose_b,
                   View<Parameter> c, bool accumulate) {
    for (Index i = 0; i < c.rows; ++i)
      for (Index j = 0; j < c.cols; ++j) {
        double sum = accumulate ? static_cast<double>(c(i, j)) : 0;
        for (Index k = 0; k < a.cols; ++k)
          sum +=
              static_cast<double>(a(i, k)) * static_cast<double>(transpose_b ? b(j, k) : b(k, j));
        c(i, j) = static_cast<Parameter>(sum);
      }
  }

  template <class A, class B, class C>
  static void reflect(Context&, const H& h, View<const A> in, View<B> out, View<const C> add) {
    std::vector<double> row(static_cast<std::size_t>(in.cols));
    for (Index r = 0; r < in.rows; ++r) {
      for (Index i = 0; i < in.cols; ++i)
        row[static_cast<std::size_t>(i)] =
            static_cast<double>(in(r, i)) + (add.rows == 0 ? 0 : static_cast<double>(add(r, i)));
      for (Index k = 0; k < h.terms(); ++k)
        for (Index chunk = 0; chunk < h.blocks; ++chunk) {
          const Index b = h.block(r, chunk), size = h.block_size;
          const auto w = [&](Index i) { return static_cast<double>(h.unit(k, b * size + i)); };
          double dot = 0;
          for (Index i = 0; i < size; ++i)
            dot += w(i) * static_cast<double>(in(r, chunk * size + i));
          for (Index i = 0; i < size; ++i)
            row[static_cast<std::size_t>(chunk * size + i)] +=
                static_cast<double>(h.coefficient(k, b)) * dot * w(i);
        }
      for (Index i = 0; i < in.cols; ++i)
        out(r, i) = static_cast<B>(row[static_cast<std::size_t>(i)]);
    }
  }

  /// Rows of H of their own: one after the other.
  using Rows = ether::RowReflections<Parameter>;
  template <class A, class B, class C>
  static void reflect(Context& ctx, const Rows& rows, View<const A> in, View<B> out,
                      View<const C> add) {
    for (Index r = 0; r < in.rows; ++r) {
      const Slot slot(rows, r);
      reflect(ctx, slot.h, in.middle_rows(r, 1), out.middle_rows(r, 1),
              add.rows == 0 ? add : add.middle_rows(r, 1));
    }
  }
  template <class A, class B, class C>
  static void reflect_grad(Context& ctx, const Rows& rows, View<const A> t, View<const B> r,
                           View<C> out, View<Parameter> grads) {
    for (Index row = 0; row < t.rows; ++row) {
      const Slot slot(rows, row);
      const Index first = rows.most_terms * std::max<Index>(rows.ids[row], 0);
      reflect_grad(ctx, slot.h, t.middle_rows(row, 1), r.middle_rows(row, 1),
                   out.empty() ? out : out.middle_rows(row, 1),
                   grads.middle_rows(first, slot.h.terms()));
    }
  }

  template <class A, class B>
  static void transform(Context& ctx, const H& h_in, const H& h_out, View<const A> in,
                        View<B> out) {
    Buffer<double> rows(ctx, in.rows, in.cols), columns(ctx, in.cols, in.rows);
    reflect(ctx, h_in, in, rows.view(), View<const double>{});
    for (Index r = 0; r < in.rows; ++r)
      for (Index c = 0; c < in.cols; ++c) columns.view()(c, r) = rows.view()(r, c);
    // H_out m = (m^T H_out)^T
    reflect(ctx, h_out, View<const double>(columns.view()), columns.view(), View<const double>{});
    for (Index r = 0; r < in.rows; ++r)
      for (Index c = 0; c < in.cols; ++c) out(r, c) = static_cast<B>(columns.view()(c, r));
  }

  template <class A, class B, class C>
  static void reflect_grad(Context& ctx, const H& h, View<const A> t, View<const B> r, View<C> out,
                           View<Parameter> grads) {
    Buffer<double> sums(ctx, 1, h.width());
    for (Index k = 0; k < h.terms(); ++k)
      for (Index chunk = 0; chunk < h.blocks; ++chunk) {
        const Index b = h.block(0, chunk), size = h.block_size;
        const auto sum = sums.view().block(0, 0, 1, size);
        for (Index i = 0; i < size; ++i) sum(0, i) = 0;
        for (Index row = 0; row < t.rows; ++row) {
          double w_dot_t = 0, w_dot_r = 0;
          for (Index i = 0; i < size; ++i) {
            const double w = static_cast<double>(h.unit(k, b * size + i));
            w_dot_t += w * static_cast<double>(t(row, chunk * size + i));
            w_dot_r += w * static_cast<double>(r(row, chunk * size + i));
          }
          for (Index i = 0; i < size; ++i)
            sum(0, i) += w_dot_t * static_cast<double>(r(row, chunk * size + i)) +
                         w_dot_r * static_cast<double>(t(row, chunk * size + i));
        }
        project(h, k, b, sum, grads);
      }
    if (!out.empty()) reflect(ctx, h, r, out, View<const C>{});
  }

 private:
  /// The H of one row as a Reflection.
  struct Slot {
    std::vector<Parameter> coefficients, ones;
    H h;

    Slot(const Rows& rows, Index r) {
      const auto row = rows.row(r);
      for (Index k = 0; k < row.terms(); ++k)
        coefficients.insert(coefficients.end(), static_cast<std::size_t>(row.blocks),
                            row.coefficient(k, 0));
      ones.assign(coefficients.size(), Parameter(1));
      h.unit = row.unit;
      h.coefficient = {coefficients.data(), row.terms(), row.blocks};
      h.inverse_length = {ones.data(), row.terms(), row.blocks};
      h.blocks = row.blocks;
      h.block_size = row.block_size;
    }
  };

  template <class S>
  static void project(const H& h, Index k, Index b, View<S> sum, View<Parameter> grads) {
    double dot = 0;
    const auto unit = [&](Index i) { return static_cast<double>(h.unit(k, b * h.block_size + i)); };
    for (Index i = 0; i < h.block_size; ++i) dot += unit(i) * static_cast<double>(sum(0, i));
    const double factor =
        static_cast<double>(h.coefficient(k, b)) * static_cast<double>(h.inverse_length(k, b));
    for (Index i = 0; i < h.block_size; ++i)
      grads(k, b * h.block_size + i) +=
          static_cast<Parameter>(factor * (static_cast<double>(sum(0, i)) - dot * unit(i)));
  }
};

}  // namespace test
