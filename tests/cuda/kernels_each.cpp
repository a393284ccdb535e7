/// Rows that have an H of their own, and their gradients, in blocks on both sides of every threshold.

#include "cuda/kernels.hpp"

#include <optional>

namespace {

using namespace test;
using ether::RowReflections;
using ether::SlotShape;
namespace cuda = ether::detail::cuda;
using Eigen::bfloat16;

struct Slot {
  std::int32_t terms;
  Index size;
};

/// Slots with vectors of length 1; behind those of a slot with fewer terms than two lie NaNs.
template <class W>
struct Slots {
  std::vector<Slot> slots;
  Index width;
  Placed<W> unit;
  Matrix units;
  emulator::Array<SlotShape<W>> shapes;
  emulator::Array<std::int32_t> bad_id{std::vector<std::int32_t>{0}};

  Slots(std::vector<Slot> slots_, Index width_, const Place& place)
      : slots(std::move(slots_)),
        width(width_),
        unit(vectors(slots, width), place),
        units(unit.values()),
        shapes(shapes_of(slots)) {}

  RowReflections<W> rows(const std::int32_t* ids) {
    return {unit.read(), shapes.data(), ids, 2, bad_id.data()};
  }
  static W coefficient(std::size_t slot, Index k) {
    return static_cast<W>(k == 0 ? -2 + 0.25 * double(slot) : 0.75);
  }
  /// H of a slot, less the identity, on a row.
  Eigen::RowVectorXd change(std::int32_t id, const Eigen::RowVectorXd& row) const {
    Eigen::RowVectorXd sum = Eigen::RowVectorXd::Zero(width);
    if (id < 0) return sum;
    const Slot& slot = slots[std::size_t(id)];
    for (Index k = 0; k < slot.terms; ++k)
      for (Index at = 0; at < width; at += slot.size) {
        const Eigen::RowVectorXd w = units.row(2 * id + k).segment(at, slot.size);
        sum.segment(at, slot.size) +=
            double(coefficient(std::size_t(id), k)) * row.segment(at, slot.size).dot(w) * w;
      }
    return sum;
  }

 private:
  static MatrixOf<W> vectors(const std::vector<Slot>& slots, Index width) {
    Matrix m = random_matrix<double>(2 * Index(slots.size()), width, 1);
    for (std::size_t s = 0; s < slots.size(); ++s)
      for (Index k = 0; k < 2; ++k) {
        const Index r = 2 * Index(s) + k;
        if (k >= slots[s].terms) m.row(r).setConstant(NAN);
        for (Index at = 0; at < width && k < slots[s].terms; at += slots[s].size)
          m.row(r).segment(at, slots[s].size).normalize();
      }
    return m.cast<W>();
  }
  static std::vector<SlotShape<W>> shapes_of(const std::vector<Slot>& slots) {
    std::vector<SlotShape<W>> all;
    for (std::size_t s = 0; s < slots.size(); ++s)
      all.push_back(
          {slots[s].terms, std::int32_t(slots[s].size), {coefficient(s, 0), coefficient(s, 1)}});
    return all;
  }
};

/// The identity; blocks for warps and for whole thread blocks, of whole vectors and not.
const std::vector<Slot> even_slots = {{0, 0},    {1, 4128}, {2, 2064}, {2, 32},
                                      {1, 1032}, {2, 516},  {1, 6}};
const std::vector<Slot> odd_slots = {{2, 4129}, {0, 0}, {1, 4129}};

std::vector<std::int32_t> ids_for(Index rows, std::size_t slots) {
  std::vector<std::int32_t> ids;
  for (Index r = 0; r < rows; ++r)
    ids.push_back(std::int32_t((5 * std::size_t(r) + 1) % (slots + 1)) - 1);
  return ids;
}

template <class T>
void check_rows(const std::vector<Slot>& slots, Index width, const Place& place, bool in_place,
                bool has_bias, bool biased, int processors) {
  using W = Wide<T>;
  INFO("width " << width << ", " << place.name << ", in place " << in_place << ", bias " << has_bias
                << ", " << biased << ", processors " << processors);
  const Index rows = 9;
  Slots<W> h(slots, width, place);
  const auto ids = ids_for(rows, slots.size());
  const emulator::Array<std::int32_t> device_ids(ids);
  Placed<T> in(random_matrix<T>(rows, width, 2), place), other(rows, width, place);
  const Placed<T> bias(random_matrix<T>(1, width, 3), place);
  const MatrixOf<T> before = in.host();
  const Matrix x = to_double(before);
  const Eigen::RowVectorXd b = bias.values().row(0);
  Matrix expected = x;
  for (Index r = 0; r < rows; ++r) {
    expected.row(r) += h.change(ids[std::size_t(r)], x.row(r) - (biased ? 1 : 0) * b);
    if (has_bias && !biased) expected.row(r) += b;
  }
  MatrixView<const T> add;
  if (has_bias) add = {bias.view().data, 1, width, 0};
  const MatrixView<T> out = in_place ? in.view() : other.view();
  cuda::reflect_each<T, T, W>(device(processors), h.rows(device_ids.data()), in.read(), out, add,
                              biased);
  const double magnitude = 4 * (x.norm() + std::sqrt(double(rows)) * b.norm());
  CHECK(wrong<T>(to_double(out), expected, 2 * width + 10, magnitude) == "");
  CHECK(in.surround_untouched());
  CHECK(other.surround_untouched());
  CHECK(h.bad_id.values()[0] == 0);
  for (Index r = 0; r < rows; ++r) {
    const std::int32_t id = ids[std::size_t(r)];
    const bool stays = (id < 0 || slots[std::size_t(id)].terms == 0) && (biased || !has_bias);
    const std::string bits = bit_difference<T>(MatrixView<const T>(out).middle_rows(r, 1),
                                               MatrixView<const T>(before).middle_rows(r, 1));
    CHECK((bits == "") == stays);
  }
}

template <class T>
void check_grads(const std::vector<Slot>& slots, Index width, const Place& place) {
  using W = Wide<T>;
  INFO("width " << width << ", " << place.name);
  const Index rows = 23;
  Slots<W> h(slots, width, place);
  const auto ids = ids_for(rows, slots.size());
  const emulator::Array<std::int32_t> device_ids(ids);
  const Placed<T> t(random_matrix<T>(rows, width, 4), place),
      r(random_matrix<T>(rows, width, 5), place);
  const Placed<W> sums(2 * rows, width, place);
  const Placed<W> grads(random_matrix<W>(2 * Index(slots.size()), width, 6), place);
  const Matrix before = grads.values();
  Matrix expected = before;
  double magnitude = before.norm();
  for (std::size_t s = 0; s < slots.size(); ++s)
    for (Index k = 0; k < slots[s].terms; ++k)
      for (Index at = 0; at < width; at += slots[s].size) {
        const auto part = [&](const Matrix& m, Index row) -> Eigen::RowVectorXd {
          return m.row(row).segment(at, slots[s].size);
        };
        const Eigen::RowVectorXd w = part(h.units, 2 * Index(s) + k);
        Eigen::RowVectorXd g = Eigen::RowVectorXd::Zero(slots[s].size);
        for (Index row = 0; row < rows; ++row) {
          if (ids[std::size_t(row)] != std::int32_t(s)) continue;
          const Eigen::RowVectorXd a = part(t.values(), row), b = part(r.values(), row);
          g += w.dot(a) * b + w.dot(b) * a;
          magnitude += 2 * a.norm() * b.norm();
        }
        const Eigen::RowVectorXd projected = g - w.dot(g) * w;
        expected.row(2 * Index(s) + k).segment(at, slots[s].size) +=
            double(Slots<W>::coefficient(s, k)) * projected;
      }
  cuda::reflect_grad_each<T>(device(), h.rows(device_ids.data()), t.read(), r.read(), sums.view(),
                             grads.view());
  const double allowed = tolerance<W, W>(2 * width + rows + 10, 4 * magnitude, 0);
  CHECK(difference(grads.values(), expected, allowed) == "");
  CHECK(difference(before, expected, allowed) != "");
  CHECK(grads.surround_untouched());
}

template <class T>
void check_all() {
  for (const Place& place : {vectors, odd_pointer, odd_stride})
    for (const bool in_place : {false, true}) {
      check_rows<T>(even_slots, 4128, place, in_place, false, false, 2);
      check_rows<T>(even_slots, 4128, place, in_place, true, in_place, 132);
      check_rows<T>(odd_slots, 4129, place, in_place, true, !in_place, 2);
    }
  for (const Place& place : {vectors, odd_pointer}) check_grads<T>(even_slots, 4128, place);
  check_grads<T>(odd_slots, 4129, vectors);
}

}  // namespace

TEST_CASE("rows with an H of their own, and their gradients") {
  const ScopedOrders once(1);  // long rows
  check_all<float>();
  check_all<bfloat16>();
  check_rows<double>(even_slots, 4128, vectors, true, true, true, 2);
}

TEST_CASE("rows with an H of their own give the same bits in every order and on every device") {
  const std::vector<Slot> slots = {{2, 516}, {1, 129}, {2, 4}};
  const Index width = 516;
  Slots<float> h(slots, width, vectors);
  const emulator::Array<std::int32_t> ids(ids_for(7, slots.size()));
  const Placed<float> x(random_matrix<float>(7, width, 1)), one(7, width), many(7, width);
  for (const auto& [processors, y] : {std::pair(1, &one), std::pair(132, &many)})
    cuda::reflect_each<float, float, float>(device(processors), h.rows(ids.data()), x.read(),
                                            y->view(), {}, false);
  CHECK(bit_difference<float>(one.read(), many.read()) == "");
}

TEST_CASE("the values of a row without adapter stay as they are, whatever they are") {
  Slots<float> h({{2, 8}}, 8, vectors);
  const emulator::Array<std::int32_t> ids(std::vector<std::int32_t>{-1, -1});
  MatrixOf<float> values = random_matrix<float>(2, 8, 2);
  values(0, 0) = -0.f, values(0, 1) = INFINITY, values(1, 2) = 1e-44f, values(1, 7) = NAN;
  const Placed<float> x(values), y(2, 8);
  cuda::reflect_each<float, float, float>(device(), h.rows(ids.data()), x.read(), y.view(), {},
                                          false);
  CHECK(bit_difference<float>(y.read(), x.read()) == "");
}
