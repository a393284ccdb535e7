#pragma once

/// The methods that are compared, each with the settings it is run with at every learning rate.

#include "../adapter.hpp"
#include "finetune.hpp"

namespace claims {

struct Method {
  std::string name;
  std::string settings;
  std::function<Outcome(const Network& base, const Task&, int epochs, float rate,
                        std::uint64_t seed)>
      run;
};

/// A method whose network is Trained(base, config, seed).
template <class Trained, class Config>
Method method(const std::string& name, const std::string& settings, const Config& config) {
  return {
      name, settings,
      [config](const Network& base, const Task& task, int epochs, float rate, std::uint64_t seed) {
        Trained trained(base, config, seed);
        return finetune(base, trained, task, epochs, rate, seed);
      }};
}

using bench::ether_config;

/// ETHER as in the paper on one side and ETHER+ on both; ETHER on both sides besides.
inline std::vector<Method> methods() {
  using ether::Sides;
  using ether::Variant;
  const auto full = [](const Network& base, const Task& task, int epochs, float rate,
                       std::uint64_t seed) {
    FullNetwork trained(base);
    return finetune(base, trained, task, epochs, rate, seed);
  };
  return {
      method<EtherNetwork>("ETHER", "input side; n = 4",
                           ether_config(Variant::ether, Sides::input, 4)),
      method<EtherNetwork>("ETHER both sides", "n = 4",
                           ether_config(Variant::ether, Sides::both, 4)),
      method<EtherNetwork>("ETHER+", "both sides; n = 4",
                           ether_config(Variant::ether_plus, Sides::both, 4)),
      method<BaselineNetwork<LoraLayer>>("LoRA", "r = 8; alpha = 8", LoraLayer::Config{8, 8}),
      method<BaselineNetwork<OftLayer>>("OFT", "blocks of 16", OftLayer::Config{16}),
      method<BaselineNetwork<HraLayer>>("HRA", "r = 8", HraLayer::Config{8}),
      {"full finetuning", "all weights and biases", full},
  };
}

}  // namespace claims
