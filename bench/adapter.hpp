#pragma once

/// The ETHER adapters that the benchmarks put on their layers.

#include <ether/adapter.hpp>

#include <random>

namespace bench {

/// `blocks` on every adapted side.
inline ether::AdapterConfig ether_config(ether::Variant variant, ether::Sides sides,
                                         ether::Index blocks) {
  ether::AdapterConfig config;
  config.variant = variant;
  config.sides = sides;
  config.input_blocks = config.output_blocks = blocks;
  return config;
}

/// All vectors at random, as if trained: away from the identity, which ETHER+ starts at. The same
/// for the same shape.
inline ether::Adapter<float> ether_adapter(const ether::AdapterConfig& config, ether::Index out,
                                           ether::Index in) {
  ether::Adapter<float> adapter(config, out, in);
  std::mt19937 generator(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (ether::Index i = 0; i < adapter.size(); ++i) adapter.data()[i] = uniform(generator);
  return adapter;
}

}  // namespace bench
