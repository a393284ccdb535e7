// Bad input: each cause its own exception, a sentence with the name and both numbers, and nothing
// written.

#include "support/check_message.hpp"
#include "support/random.hpp"

#include <ether/ether.hpp>

#include <algorithm>
#include <limits>
#include <string>

using ether::AdapterConfig;
using ether::EigenContext;
using ether::MatrixView;
using ether::Sides;
using ether::Variant;
using Backend = ether::EigenBackend<float>;
using Layer = ether::EtherLinear<Backend>;
using MatrixF = test::MatrixOf<float>;

namespace {

AdapterConfig both(Variant variant, ether::Index input_blocks, ether::Index output_blocks) {
  AdapterConfig c;
  c.variant = variant;
  c.sides = Sides::both;
  c.input_blocks = input_blocks;
  c.output_blocks = output_blocks;
  return c;
}

struct Setup {
  EigenContext ctx;
  ether::Adapter<float> adapter =
      test::random_adapter<float>(both(Variant::ether_plus, 3, 2), 8, 6, 1);
  MatrixF w = test::random_matrix<float>(8, 6, 2);
  MatrixF x = test::random_matrix<float>(4, 6, 3);
  MatrixF g = test::random_matrix<float>(4, 8, 4);
  MatrixF y = MatrixF::Constant(4, 8, 77), grad_x = MatrixF::Constant(4, 6, 77);
  Layer layer{ctx, w, adapter};
};

}  // namespace

TEST_CASE("every error is an ether::error and a std::runtime_error") {
  CHECK_THROWS_AS(throw ether::shape_error("s"), ether::error);
  CHECK_THROWS_AS(throw ether::parameter_error("s"), ether::error);
  CHECK_THROWS_AS(throw ether::ill_conditioned("s"), ether::error);
  CHECK_THROWS_AS(throw ether::io_error("s"), ether::error);
  CHECK_THROWS_AS(throw ether::format_error("s"), ether::error);
  CHECK_THROWS_AS(throw ether::cuda_error("s"), ether::error);
  CHECK_THROWS_AS(throw ether::error("s"), std::runtime_error);
}

TEST_CASE("a configuration that does not fit the weight") {
  CHECK_REFUSED(ether::Adapter<float>(both(Variant::ether, 4, 2), 8, 6), ether::parameter_error,
                "input_blocks is 4", "input width is 6", "divide");
  CHECK_REFUSED(ether::Adapter<float>(both(Variant::ether, 3, 5), 8, 6), ether::parameter_error,
                "output_blocks is 5", "output width is 8");
  CHECK_REFUSED(ether::Adapter<float>(both(Variant::ether, 0, 1), 8, 6), ether::parameter_error,
                "input_blocks is 0");
  CHECK_REFUSED(ether::Adapter<float>(both(Variant::ether, -1, 1), 8, 6), ether::parameter_error,
                "input_blocks is -1");
  AdapterConfig c = both(Variant::ether, 1, 1);
  c.strength = std::numeric_limits<double>::infinity();
  CHECK_REFUSED(ether::Adapter<float>(c, 8, 6), ether::parameter_error, "strength is inf");
  CHECK_REFUSED(ether::Adapter<float>(both(Variant::ether, 1, 1), -3, 8), ether::parameter_error,
                "(-3, 8)", "at least 1");
  c = both(Variant::ether, 1, 1);
  c.strength = 1e39;  // finite, but not in float
  Setup s;
  CHECK_REFUSED(Layer(s.ctx, s.w, test::random_adapter<float>(c, 8, 6, 1)), ether::parameter_error,
                "strength is 1e+39", "1.7", "e+38");
  c = both(Variant::ether, 1, 5);
  c.sides = Sides::input;  // 5 does not divide 8, but the output side is not adapted
  CHECK_NOTHROW(ether::Adapter<float>(c, 8, 6));
}

TEST_CASE("a zero or non-finite block") {
  Setup s;
  const auto bad = [&](auto change) {
    auto adapter = s.adapter;
    change(adapter);
    return adapter;
  };
  const auto zero = bad([](auto& a) { a.input_u()(2, 0) = a.input_u()(2, 1) = 0; });
  const auto nan = bad([](auto& a) { a.output_v()(1, 3) = std::nanf(""); });
  const auto inf = bad([](auto& a) { a.input_v()(0, 0) = INFINITY; });
  const auto tiny = bad([](auto& a) {
    a.output_u()(0, 0) = a.output_u()(0, 1) = a.output_u()(0, 2) = a.output_u()(0, 3) = 1e-40f;
  });
  CHECK_REFUSED(Layer(s.ctx, s.w, zero), ether::parameter_error, "input_u block 2 of 3",
                "length 0");
  CHECK_REFUSED(Layer(s.ctx, s.w, nan), ether::parameter_error, "output_v block 1 of 2", "nan");
  CHECK_REFUSED(Layer(s.ctx, s.w, inf), ether::parameter_error, "input_v block 0 of 3", "inf");
  CHECK_REFUSED(Layer(s.ctx, s.w, tiny), ether::parameter_error, "output_u block 0 of 2");

  // set_adapter refuses them too and keeps what it had.
  MatrixF before(4, 8), after(4, 8);
  s.layer.forward(s.ctx, s.x, before);
  for (const auto& adapter : {zero, nan, inf, tiny})
    CHECK_THROWS_AS(s.layer.set_adapter(s.ctx, adapter), ether::parameter_error);
  s.layer.forward(s.ctx, s.x, after);
  CHECK(test::bit_difference<float>(before, after) == "");
}

TEST_CASE("large and small vectors are normalised without overflow") {
  Setup s;
  for (float scale : {1e-30f, 1e30f}) {
    auto adapter = s.adapter;
    for (ether::Index i = 0; i < adapter.size(); ++i) adapter.data()[i] *= scale;
    MatrixF expected(4, 8), y(4, 8);
    s.layer.forward(s.ctx, s.x, expected);
    Layer(s.ctx, s.w, adapter).forward(s.ctx, s.x, y);
    CHECK((y - expected).norm() <= 1e-5f * expected.norm());
  }
}

TEST_CASE("set_adapter with another shape") {
  Setup s;
  const auto given = [&](AdapterConfig c, ether::Index out, ether::Index in) {
    return test::random_adapter<float>(c, out, in, 5);
  };
  CHECK_REFUSED(s.layer.set_adapter(s.ctx, given(both(Variant::ether_plus, 3, 2), 10, 6)),
                ether::shape_error, "out_features is 10", "layer's is 8");
  CHECK_REFUSED(s.layer.set_adapter(s.ctx, given(both(Variant::ether_plus, 2, 2), 8, 6)),
                ether::shape_error, "input_blocks is 2", "layer's is 3");
  CHECK_REFUSED(s.layer.set_adapter(s.ctx, given(both(Variant::ether_plus, 3, 4), 8, 6)),
                ether::shape_error, "output_blocks is 4", "layer's is 2");
  CHECK_REFUSED(s.layer.set_adapter(s.ctx, given(both(Variant::ether, 3, 2), 8, 6)),
                ether::shape_error, "variant is ether ", "layer's is ether_plus");
}

TEST_CASE("an adapter for another weight") {
  Setup s;
  const MatrixF w = test::random_matrix<float>(7, 6, 2);
  CHECK_REFUSED(Layer(s.ctx, w, s.adapter), ether::shape_error, "the weight is (7, 6)",
                "the adapter is for (8, 6)");
  const MatrixView<const float> overlapping_rows{w.data(), 8, 6, 5};
  CHECK_REFUSED(Layer(s.ctx, overlapping_rows, s.adapter), ether::shape_error, "stride 5",
                "6 columns");
  CHECK_REFUSED(Layer(s.ctx, {nullptr, 8, 6}, s.adapter), ether::shape_error, "null");
}

TEST_CASE("forward with wrong shapes writes nothing") {
  Setup s;
  const MatrixF narrow = s.x.leftCols(5);
  MatrixF three = s.y.topRows(3);
  CHECK_REFUSED(s.layer.forward(s.ctx, narrow, s.y), ether::shape_error, "x is (4, 5)", "(4, 6)",
                "in_features");
  CHECK_REFUSED(s.layer.forward(s.ctx, s.x, three), ether::shape_error, "y is (3, 8)", "(4, 8)");
  CHECK_REFUSED(s.layer.forward(s.ctx, s.x, {nullptr, 4, 8}), ether::shape_error, "y", "null");
  std::vector<float> memory(100, 77);
  const MatrixView<float> x{memory.data(), 4, 6}, y{memory.data() + 10, 4, 8};
  CHECK_REFUSED(s.layer.forward(s.ctx, x, y), ether::shape_error, "y (4, 8) overlaps x (4, 6)");
  CHECK_REFUSED(s.layer.forward(s.ctx, {s.x.data(), -1, 6}, {s.y.data(), -1, 8}),
                ether::shape_error, "x has -1 rows", "0 or more");
  CHECK_REFUSED(s.layer.forward(s.ctx, s.x, {s.w.data(), 4, 8}), ether::shape_error,
                "y (4, 8) overlaps the weight (8, 6)");
  CHECK_REFUSED(s.layer.forward(s.ctx, s.x, s.y, MatrixF(4, 7)), ether::shape_error, "s is (4, 7)",
                "(4, 8)");
  CHECK_REFUSED(s.layer.forward(s.ctx, s.x, s.y, s.y), ether::shape_error, "s (4, 8) overlaps y");
  CHECK_REFUSED(s.layer.forward(s.ctx, x, s.y, y), ether::shape_error, "s (4, 8) overlaps x");
  CHECK_REFUSED(s.layer.forward(s.ctx, s.x, s.y, {s.w.data(), 4, 8}), ether::shape_error,
                "s (4, 8) overlaps the weight (8, 6)");
  CHECK((s.y.array() == 77).all());
  CHECK(std::all_of(memory.begin(), memory.end(), [](float v) { return v == 77; }));
}

TEST_CASE("backward with wrong shapes writes nothing") {
  Setup s;
  auto grads = ether::Adapter<float>::zeros_like(s.adapter);
  const MatrixF narrow = s.g.leftCols(7);
  MatrixF wide(4, 7);
  CHECK_REFUSED(s.layer.backward(s.ctx, s.x, narrow, s.grad_x, grads), ether::shape_error,
                "grad_y is (4, 7)", "(4, 8)");
  CHECK_REFUSED(s.layer.backward(s.ctx, s.x, s.g, wide, grads), ether::shape_error,
                "grad_x is (4, 7)", "(4, 6)");
  CHECK_REFUSED(s.layer.backward(s.ctx, s.x, s.g, s.x, grads), ether::shape_error, "grad_x",
                "overlaps x");
  CHECK_REFUSED(s.layer.backward(s.ctx, {s.x, s.g, s.grad_x, narrow}, grads), ether::shape_error,
                "s is (4, 7)", "(4, 8)");
  MatrixF both_of(4, 14);
  CHECK_REFUSED(
      s.layer.backward(s.ctx, {s.x, s.g, both_of.middleCols(7, 6), both_of.leftCols(8)}, grads),
      ether::shape_error, "grad_x (4, 6) overlaps s (4, 8)");
  auto others = ether::Adapter<float>(both(Variant::ether, 3, 2), 8, 6);
  CHECK_REFUSED(s.layer.backward(s.ctx, s.x, s.g, s.grad_x, others), ether::shape_error,
                "gradients' variant is ether but", "layer's is ether_plus", "zeros_like");
  auto more_blocks = ether::Adapter<float>(both(Variant::ether_plus, 2, 2), 8, 6);
  CHECK_REFUSED(s.layer.backward(s.ctx, s.x, s.g, s.grad_x, more_blocks), ether::shape_error,
                "gradients' input_blocks is 2", "layer's is 3");
  const ether::GradientViews<float> one_vector{grads.input_u(),
                                               grads.parameters(ether::Side::output)};
  CHECK_REFUSED(s.layer.backward(s.ctx, {s.x, s.g, s.grad_x}, one_vector), ether::shape_error,
                "input gradients are (3, 2)", "(2, 6)");
  CHECK((s.grad_x.array() == 77).all());
  CHECK(std::all_of(grads.data(), grads.data() + grads.size(), [](float v) { return v == 0; }));
}

TEST_CASE("merge with wrong shapes writes nothing") {
  Setup s;
  MatrixF small = MatrixF::Constant(7, 6, 77);
  CHECK_REFUSED(s.layer.merge(s.ctx, small), ether::shape_error, "merged is (7, 6)", "(8, 6)");
  CHECK_REFUSED(s.layer.unmerge(s.ctx, small), ether::shape_error, "merged is (7, 6)", "(8, 6)");
  std::vector<float> memory(200, 77);
  const Layer inside(s.ctx, {memory.data(), 8, 6}, s.adapter);
  CHECK_REFUSED(inside.merge(s.ctx, {memory.data() + 6, 8, 6}), ether::shape_error,
                "merged (8, 6) overlaps the weight (8, 6)");
  CHECK_REFUSED(inside.merge(s.ctx, {memory.data(), 8, 6, 7}), ether::shape_error, "overlaps");
  CHECK((small.array() == 77).all());
  CHECK(std::all_of(memory.begin(), memory.end(), [](float v) { return v == 77; }));
}

TEST_CASE("unmerge refuses what it cannot undo") {
  EigenContext ctx;
  MatrixF w = test::random_matrix<float>(8, 6, 2);
  const MatrixF before = w;
  // u and v of block 1 orthogonal: singular.
  auto plus = test::random_adapter<float>(both(Variant::ether_plus, 3, 2), 8, 6, 1);
  plus.input_u()(1, 0) = 2, plus.input_u()(1, 1) = 0;
  plus.input_v()(1, 0) = 0, plus.input_v()(1, 1) = 3;
  CHECK_REFUSED(Layer(ctx, w, plus).unmerge(ctx, w), ether::ill_conditioned, "input block 1 of 3",
                "inf", "1000", "base checkpoint");
  plus.input_v()(1, 0) = 0.001f;  // condition number about 2 (3 / 0.001)^2
  CHECK_REFUSED(Layer(ctx, w, plus).unmerge(ctx, w), ether::ill_conditioned, "input block 1 of 3",
                "e+0");
  // ETHER at strength 1/2 projects.
  AdapterConfig half = both(Variant::ether, 3, 2);
  half.strength = 0.5;
  const auto ether = test::random_adapter<float>(half, 8, 6, 1);
  CHECK_REFUSED(Layer(ctx, w, ether).unmerge(ctx, w), ether::ill_conditioned, "block 0", "inf");
  CHECK(test::bit_difference<float>(w, before) == "");
}

TEST_CASE("the free row operations check their input") {
  Setup s;
  const ether::PreparedAdapter<Backend> prepared(s.ctx, s.adapter);
  MatrixF z = MatrixF::Constant(4, 6, 77), narrow(4, 5);
  CHECK_REFUSED(ether::reflect_input(s.ctx, prepared, narrow, z), ether::shape_error, "x is (4, 5)",
                "(4, 6)");
  CHECK_REFUSED(ether::reflect_input(s.ctx, prepared, s.x, narrow), ether::shape_error,
                "z is (4, 5)");
  CHECK_REFUSED(ether::reflect_output(s.ctx, prepared, s.x, s.y), ether::shape_error, "s is (4, 6)",
                "(4, 8)");
  CHECK_REFUSED(ether::reflect_input(s.ctx, prepared, 8, s.x, z), ether::shape_error,
                "output_row is 8", "8 output rows");
  AdapterConfig c = both(Variant::ether, 3, 2);
  c.layout = ether::BlockLayout::row_chunk;
  const ether::PreparedAdapter<Backend> chunked(s.ctx, test::random_adapter<float>(c, 8, 6, 1));
  CHECK_REFUSED(ether::reflect_input(s.ctx, chunked, s.x, z), ether::parameter_error, "row_chunk",
                "5 different H_in");
  CHECK((z.array() == 77).all());
}

TEST_CASE("a Context with a negative number of threads") {
  CHECK_REFUSED(EigenContext(-1), ether::parameter_error, "threads is -1");
}

TEST_CASE("a Status says what a call would throw") {
  Setup s;
  MatrixF narrow(4, 5);
  const auto agrees = [](const ether::Status& status, auto&& call) {
    std::string thrown;
    try {
      call();
    } catch (const ether::error& e) {
      thrown = e.what();
    }
    CHECK(status.ok() == thrown.empty());
    CHECK(status.sentence() == thrown);
  };
  agrees(s.layer.check_forward(s.x, s.y), [&] { s.layer.forward(s.ctx, s.x, s.y); });
  CHECK(s.layer.check_forward(s.x, s.y).ok());
  agrees(s.layer.check_forward(s.x, narrow), [&] { s.layer.forward(s.ctx, s.x, narrow); });
  CHECK(!s.layer.check_forward(s.x, narrow).ok());
  CHECK_THROWS_AS(s.layer.check_forward(s.x, narrow).require(), ether::shape_error);
  const auto& prepared = s.layer.prepared();
  agrees(ether::check_reflect_input(prepared, s.x, narrow),
         [&] { ether::reflect_input(s.ctx, prepared, s.x, narrow); });
  CHECK(!ether::check_reflect_input(prepared, s.x, narrow).ok());
  agrees(ether::check_reflect_output(prepared, narrow, s.y),
         [&] { ether::reflect_output(s.ctx, prepared, narrow, s.y); });
  CHECK(!ether::check_reflect_output(prepared, narrow, s.y).ok());
  const auto prepare = [&] { ether::PreparedAdapter<Backend>(s.ctx, s.adapter); };
  agrees(ether::check_adapter(s.adapter), prepare);
  CHECK(ether::check_adapter(s.adapter).ok());
  std::fill_n(s.adapter.input_u().row(1), 2, 0.0f);
  agrees(ether::check_adapter(s.adapter), prepare);
  CHECK(!ether::check_adapter(s.adapter).ok());
}
