// What bench/claims puts around the layers: each method's network, distances, energy, counts.

#include "../bench/claims/energy.hpp"
#include "../bench/claims/flop_model.hpp"
#include "../bench/claims/methods.hpp"
#include "support/catch.hpp"

namespace {

using namespace claims;

constexpr int images_count = 6;

Network tiny_network() {
  Network network = random_network({8, 12, 10}, /*seed=*/3);
  for (Linear& layer : network) layer.bias = uniform_matrix(1, layer.bias.size(), 0.5f, 4);
  return network;
}
Matrix tiny_images() { return uniform_matrix(images_count, 8, 1, 5); }
const std::vector<int> tiny_labels = {0, 3, 9, 1, 1, 7};

/// Mean softmax cross-entropy, summed in double: that whose gradient is loss_gradient().
double loss(const Matrix& y) {
  double sum = 0;
  for (Index i = 0; i < y.rows(); ++i) {
    const Eigen::ArrayXd row = y.row(i).cast<double>().transpose().array();
    const double label = row(tiny_labels[static_cast<std::size_t>(i)]);
    sum += std::log((row - row.maxCoeff()).exp().sum()) + row.maxCoeff() - label;
  }
  return sum / static_cast<double>(y.rows());
}

/// d loss / d values[i] for all i by central differences. Their error: h^2 times third derivatives,
/// and float's rounding of the logits, 1e-7, over h: some 1e-4 for h = 2e-3.
template <class LossOf>
Eigen::VectorXd differences(float* values, Index size, LossOf&& loss_of) {
  constexpr float h = 2e-3f;
  Eigen::VectorXd slopes(size);
  for (Index i = 0; i < size; ++i) {
    const float before = values[i];
    values[i] = before + h;
    const double above = loss_of();
    values[i] = before - h;
    slopes(i) = (above - loss_of()) / (2 * static_cast<double>(h));
    values[i] = before;
  }
  return slopes;
}

template <class Layer>
void check_baseline_gradients(const typename Layer::Config& config) {
  const Network base = tiny_network();
  const Matrix images = tiny_images();
  BaselineNetwork<Layer> network(base, config, /*seed=*/1);
  std::uint64_t seed = 10;
  for (Trainable* t : network.trainable())  // away from the start, where gradients vanish
    t->values += uniform_matrix(t->values.rows(), t->values.cols(), 0.3f, ++seed);
  network.prepare();

  network.backward(loss_gradient(network.forward(images), tiny_labels));
  double total = 0;
  for (Trainable* t : network.trainable()) {
    const Matrix grads = t->grads;
    const Eigen::VectorXd exact =
        Eigen::Map<const Eigen::VectorXf>(grads.data(), grads.size()).cast<double>();
    const Eigen::VectorXd slopes = differences(t->values.data(), t->values.size(), [&] {
      network.prepare();
      return loss(network.forward(images));
    });
    network.prepare();
    INFO(slopes.transpose() << " by differences, and " << exact.transpose());
    CHECK((slopes - exact).norm() <= 0.01 * exact.norm());
    CHECK(!((slopes - 1.05 * exact).norm() <= 0.01 * exact.norm()));  // the check can fail
    total += exact.norm();
  }
  CHECK(total > 0.01);

  const Matrix y = network.forward(images), merged = logits(network.merged(), images);
  CHECK((merged - y).norm() <= 1e-5f * y.norm());
  CHECK(!((logits(base, images) - y).norm() <= 1e-5f * y.norm()));
}

/// The first step of Adam goes by `rate` against the sign of each gradient, whatever its size.
void check_ether_gradients(const ether::AdapterConfig& config) {
  const Network base = tiny_network();
  const Matrix images = tiny_images();
  std::vector<ether::Adapter<float>> adapters = initial_adapters(base, config, /*seed=*/1);
  for (ether::Adapter<float>& adapter : adapters) {
    const Matrix noise = uniform_matrix(1, adapter.size(), 0.3f, 11);
    for (Index i = 0; i < adapter.size(); ++i) adapter.data()[i] += noise(i);
  }
  AdaptedNetwork network(base, adapters);
  constexpr float rate = 1e-3f;
  network.step(loss_gradient(network.forward(images), tiny_labels), rate);
  const std::vector<ether::Adapter<float>> after = network.adapters();

  for (std::size_t l = 0; l < base.size(); ++l) {
    float* const values = adapters[l].data();
    const Eigen::VectorXd slopes = differences(values, adapters[l].size(), [&] {
      return loss(AdaptedNetwork(base, adapters).forward(images));
    });
    int compared = 0;
    for (Index i = 0; i < slopes.size(); ++i) {
      if (std::abs(slopes(i)) < 1e-3) continue;  // of an uncertain sign
      ++compared;
      const float moved = after[l].data()[i] - values[i];
      CHECK(std::abs(moved + std::copysign(rate, static_cast<float>(slopes(i)))) < 1e-5f);
    }
    CHECK(compared > slopes.size() / 2);
  }
}

TEST_CASE("claims: gradients of every method's network") {
  check_baseline_gradients<LoraLayer>({2, 3});
  check_baseline_gradients<OftLayer>({4});
  check_baseline_gradients<HraLayer>({4});
  for (ether::Sides sides : {ether::Sides::input, ether::Sides::both})
    check_ether_gradients(ether_config(ether::Variant::ether, sides, 2));
  check_ether_gradients(ether_config(ether::Variant::ether_plus, ether::Sides::both, 2));
}

TEST_CASE("claims: where every transform starts, and what a bound refuses") {
  const Network base = tiny_network();
  const auto starts_at_identity = [](const std::vector<Transform>& transforms) {
    CHECK(!transforms.empty());
    for (const Transform& t : transforms) CHECK(checked_distance(t) < 1e-5);
  };
  starts_at_identity(BaselineNetwork<OftLayer>(base, {4}, 1).transforms());
  starts_at_identity(BaselineNetwork<HraLayer>(base, {4}, 1).transforms());
  starts_at_identity(
      EtherNetwork(base, ether_config(ether::Variant::ether_plus, ether::Sides::both, 2), 1)
          .transforms());
  const auto reflections =
      EtherNetwork(base, ether_config(ether::Variant::ether, ether::Sides::input, 4), 1)
          .transforms();
  REQUIRE(reflections.size() == 2);
  CHECK(checked_distance(reflections[0]) == Approx(4));  // 2 sqrt(n), n = 4

  Transform wrong = reflections[0];
  wrong.h(0, 0) += 0.1f;
  CHECK_THROWS_WITH(checked_distance(wrong), Catch::Matchers::ContainsSubstring("but must be 4"));
  wrong.h(0, 0) = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_AS(checked_distance(wrong), std::runtime_error);
  CHECK_THROWS_WITH(checked_distance({-Matrix::Identity(2, 2), 2}),
                    Catch::Matchers::ContainsSubstring("must be at most 2"));
}

TEST_CASE("claims: hyperspherical energy and relative change by hand") {
  Matrix weight(3, 2);
  weight << 1, 0, -3, 0, 0, 0.5;  // directions at distances 2, sqrt 2, sqrt 2
  CHECK(hyperspherical_energy(weight) == Approx(1 + 4 / std::sqrt(2.0)));
  const Network from = {{weight, Matrix::Zero(1, 3)}};
  Network to = from;
  to[0].weight *= 1.5f;
  CHECK(relative_change(from, to) == Approx(0.5));
  CHECK(hyperspherical_energy(to) == Approx(hyperspherical_energy(from)));
}

TEST_CASE("claims: a run that diverges counts as chance") {
  const Network base = tiny_network();
  Task task{"tiny", {tiny_images(), tiny_labels}, {}, {}};
  task.validation = task.test = task.training;
  task.training.images(0, 0) = std::numeric_limits<float>::infinity();
  for (const Method& method : methods()) {
    INFO(method.name);
    Network wide = random_network({64, 16, 10}, 1);
    Task padded = task;
    for (Digits* d : {&padded.training, &padded.validation, &padded.test}) {
      const Matrix narrow = d->images;
      d->images = Matrix::Zero(images_count, 64);
      d->images.leftCols(8) = narrow;
    }
    const Outcome outcome = method.run(wide, padded, /*epochs=*/1, 0.1f, /*seed=*/1);
    CHECK(!outcome.finite);
    CHECK(outcome.test == 10);
  }
}

TEST_CASE("claims: counts by hand") {
  const Shape shape{"layer", 12, 8};
  using ether::Sides;
  using ether::Variant;
  const Cost one = ether_cost(adapter_for(shape, Variant::ether, Sides::input, 2));
  CHECK(one.parameters == 8);
  CHECK(one.flops_per_token == 4 * 8);
  const Cost plus = ether_cost(adapter_for(shape, Variant::ether_plus, Sides::both, 2));
  CHECK(plus.parameters == 2 * (8 + 12));
  CHECK(plus.flops_per_token == 8 * (8 + 12));
  CHECK(lora_cost(shape, 3).parameters == 3 * 20);
  CHECK(lora_cost(shape, 3).flops_per_token == 2 * 3 * 20);
  CHECK(oft_cost(shape, 2).parameters == 2 * (4 * 3 / 2));
  CHECK(oft_cost(shape, 2).flops_per_token == 2 * 8 * 4);
  CHECK(vera_cost(shape, 3).parameters == 3 + 12);
  CHECK(weight_space_product(shape, Sides::input, 2) == 2 * 12 * 8 * 4);
  CHECK(weight_space_product(shape, Sides::output, 2) == 2 * 12 * 8 * 6);

  const LanguageModel model{
      "tiny", 3, 4, 10, {{"q", 4, 4}, {"k", 4, 4}, {"v", 4, 4}, {"o", 4, 4}, {"mlp", 6, 4}}};
  const FlopModel forward{Pass::forward, Adapted::query_value, Counted::and_head_and_attention, 5};
  const double frozen = 2 * 5 * (3 * (4 * 16 + 24) + 10 * 4) + 3 * 4 * 5 * 5 * 4;
  CHECK(frozen_flops(model, forward) == frozen);
  CHECK(pass_flops(model, forward, "ETHER", 2) == frozen + 3 * 2 * (2 * 16 * 2));
  CHECK(pass_flops(model, forward, "ETHER+", 2) == frozen + 3 * 2 * 2 * (2 * 16 * 2));
  CHECK(pass_flops(model, forward, "LoRA", 0) == frozen + 3 * 2 * 5 * (2 * 8 * 8));
  CHECK(activation_pass_flops(model, forward, "ETHER") == frozen + 3 * 2 * 5 * (4 * 4));
  CHECK(activation_pass_flops(model, forward, "ETHER+") == frozen + 3 * 2 * 5 * (8 * 8));
  const FlopModel training{Pass::training, Adapted::query_value, Counted::linears, 5};
  const double twice = 2 * 2 * 5 * 3 * (4 * 16 + 24), weight_gradients = 3 * 3 * (2 * 5 * 16);
  CHECK(pass_flops(model, training, "ETHER+", 2) ==
        twice + weight_gradients + 3 * 2 * 5 * (2 * 16 * 2));
  CHECK(activation_pass_flops(model, training, "ETHER") == twice + 3 * (3 * 2 * 5 * (4 * 4)));
}

}  // namespace
