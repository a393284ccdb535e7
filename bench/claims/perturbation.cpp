/// Random transforms of rising distance on the pretrained network, which is not finetuned: what is
/// left of its accuracy on upright digits.

#include <ether/io/parallel.hpp>

#include "csv.hpp"
#include "methods.hpp"
#include "setup.hpp"

namespace claims {

namespace {

constexpr int level_count = 13;

/// From 0 to 1.
double fraction(int level) { return static_cast<double>(level) / (level_count - 1); }

struct Perturbed {
  Network network;
  std::vector<Transform> transforms;
};

/// What makes a network at one level, 0 (as it was) to level_count - 1, with random directions.
struct Family {
  std::string method;
  std::string scale;  // what a level is
  std::function<double(int level)> strength;
  std::function<Perturbed(const Network& base, double strength, std::uint64_t seed)> apply;
};

Matrix gaussian(Index rows, Index cols, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  Matrix m(rows, cols);
  for (Index i = 0; i < m.size(); ++i) {  // Box and Muller
    const float radius = (1 - uniform(generator)) / 2, angle = uniform(generator);
    m.data()[i] = std::sqrt(-2 * std::log(radius)) * std::cos(3.14159265f * angle);
  }
  return m;
}

/// Row k: that of `from`, turned by `angle` towards that of `other`, of the same length.
Matrix turned(const Matrix& from, const Matrix& other, double angle) {
  const auto cosine = static_cast<float>(std::cos(angle));
  const auto sine = static_cast<float>(std::sin(angle));
  Matrix to = from;
  for (Index k = 0; k < from.rows(); ++k) {
    const float along = other.row(k).dot(from.row(k)) / from.row(k).squaredNorm();
    const Matrix across = other.row(k) - along * from.row(k);
    to.row(k) = cosine * from.row(k) + sine * from.row(k).norm() / across.norm() * across;
  }
  return to;
}

/// Every layer through its adapter; `prepare` changes an adapter from random initial vectors.
template <class Prepare>
Perturbed through_adapters(const Network& base, const ether::AdapterConfig& config,
                           std::uint64_t seed, Prepare&& prepare) {
  std::vector<ether::Adapter<float>> adapters = initial_adapters(base, config, seed);
  Perturbed result;
  for (ether::Adapter<float>& adapter : adapters) {
    prepare(adapter);
    for (Transform& transform : transforms_of(adapter))
      result.transforms.push_back(std::move(transform));
  }
  result.network = AdaptedNetwork(base, adapters).merged();
  return result;
}

/// ETHER at strength s, H(s) = I - 2 s û û^T: a reflection at s = 1.
Family ether_family(Index blocks) {
  return {"ETHER n=" + std::to_string(blocks), "strength s", fraction,
          [=](const Network& base, double s, std::uint64_t seed) {
            const auto config = ether_config(ether::Variant::ether, ether::Sides::input, blocks);
            return through_adapters(base, config, seed,
                                    [=](ether::Adapter<float>& a) { a.set_strength(s); });
          }};
}

/// ETHER+ on both sides with v at an angle to u: the identity at 0, singular at 90 degrees.
Family ether_plus_family(Index blocks) {
  return {"ETHER+ n=" + std::to_string(blocks), "angle of u and v (degrees)",
          [](int level) { return 90 * fraction(level); },
          [=](const Network& base, double degrees, std::uint64_t seed) {
            const auto config =
                ether_config(ether::Variant::ether_plus, ether::Sides::both, blocks);
            std::uint64_t stream = seed * 1000 + 500;
            return through_adapters(base, config, seed, [&](ether::Adapter<float>& a) {
              for (ether::Side side : {ether::Side::input, ether::Side::output}) {
                const Index n = a.blocks(side), size = a.block_size(side);
                const auto w = a.parameters(side);
                const Matrix u = Eigen::Map<Matrix>(w.row(0), n, size);
                Eigen::Map<Matrix>(w.row(1), n, size) =
                    turned(u, gaussian(n, size, ++stream), degrees / 180 * 3.14159265358979);
              }
            });
          }};
}

/// A baseline's network whose parameters `set` fills in, given the base's weight of each layer.
template <class Layer, class Set>
Perturbed through_baseline(const Network& base, const typename Layer::Config& config,
                           std::uint64_t seed, Set&& set) {
  BaselineNetwork<Layer> network(base, config, seed);
  std::uint64_t stream = seed * 1000 + 500;
  for (Trainable* t : network.trainable()) set(t->values, ++stream);
  network.prepare();
  return {network.merged(), network.transforms()};
}

/// OFT with random R = strength times a standard normal.
Family oft_family() {
  return {"OFT", "standard deviation of R",
          [](int level) { return level == 0 ? 0 : 0.01 * std::pow(10, 2.5 * fraction(level)); },
          [](const Network& base, double deviation, std::uint64_t seed) {
            return through_baseline<OftLayer>(
                base, {16}, seed, [=](Matrix& r, std::uint64_t stream) {
                  r = gaussian(r.rows(), r.cols(), stream) * static_cast<float>(deviation);
                });
          }};
}

/// HRA whose second vector of each pair is turned from the first: H turns by twice the angle.
Family hra_family() {
  return {
      "HRA", "angle in a pair (degrees)", [](int level) { return 90 * fraction(level); },
      [](const Network& base, double degrees, std::uint64_t seed) {
        return through_baseline<HraLayer>(base, {8}, seed, [=](Matrix& u, std::uint64_t stream) {
          const Matrix to =
              turned(u, gaussian(u.rows(), u.cols(), stream), degrees / 180 * 3.14159265358979);
          for (Index k = 1; k < u.rows(); k += 2) u.row(k) = to.row(k);
        });
      }};
}

/// W + a random matrix of |.| = strength |W|, in every layer.
template <class Random>
Family additive_family(const std::string& name, Random&& random) {
  return {name, "relative change of W", [](int level) { return 2 * fraction(level); },
          [=](const Network& base, double relative, std::uint64_t seed) {
            Perturbed result{base, {}};
            std::uint64_t stream = seed * 1000;
            for (Linear& layer : result.network) {
              const Matrix change = random(layer.weight.rows(), layer.weight.cols(), ++stream);
              const double size = static_cast<double>(layer.weight.norm() / change.norm());
              layer.weight += static_cast<float>(relative * size) * change;
            }
            return result;
          }};
}

std::vector<Family> families() {
  const auto low_rank = [](Index rows, Index cols, std::uint64_t seed) {
    return Matrix(gaussian(rows, 8, seed) * gaussian(8, cols, seed + 500));
  };
  return {ether_family(1),
          ether_family(4),
          ether_family(16),
          ether_plus_family(4),
          oft_family(),
          hra_family(),
          additive_family("LoRA r=8", low_rank),
          additive_family("full noise", gaussian)};
}

}  // namespace

void write_perturbation(const Setup& setup) {
  const Options& options = setup.options;
  const std::size_t seeds = options.quick ? 1 : 10;
  const std::vector<Family> all = families();
  struct Point {
    double strength, distance, change, energy, test;
  };
  std::vector<Point> points(all.size() * level_count * seeds);
  const auto of_point = [&](std::size_t i) { return i / seeds % level_count; };
  ether::detail::for_each_task(options.threads, points.size(), [&](std::size_t i, int) {
    const Family& family = all[i / seeds / level_count];
    const double strength = family.strength(static_cast<int>(of_point(i)));
    const Perturbed perturbed = family.apply(setup.base, strength, i % seeds + 1);
    double squares = perturbed.transforms.empty() ? std::nan("") : 0;
    for (const Transform& transform : perturbed.transforms) {
      const double distance = checked_distance(transform);
      squares += distance * distance;
    }
    points[i] = {
        strength, std::sqrt(squares), relative_change(setup.base, perturbed.network),
        hyperspherical_energy(perturbed.network),
        accuracy(logits(perturbed.network, setup.upright.test.images), setup.upright.test.labels)};
  });

  Csv csv(options.out + "/perturbation.csv",
          "method,scale,strength,seed,transform_distance,weight_distance,energy,test");
  for (std::size_t i = 0; i < points.size(); ++i) {
    const Family& family = all[i / seeds / level_count];
    const Point& p = points[i];
    csv.row(family.method, family.scale, p.strength, i % seeds + 1, p.distance, p.change, p.energy,
            p.test);
  }
  csv.close();
}

}  // namespace claims
