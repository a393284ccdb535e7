#pragma once

/// A module that an adapter adapts, and how its base stores the weight.

#include <ether/io/checkpoint.hpp>

#include <utility>

ETHER_BEGIN_NAMESPACE

/// A module that an adapter adapts, and its weight in a base.
struct AdaptedModule {
  std::string name;  ///< as in the base; the weight is `name`.weight
  Checkpoint::Tensor weight;
  Index out = 0;
  Index in = 0;
};

namespace detail {

/// The end of a question: what is to be changed if the base stores weights the other way round.
inline std::string other_order(bool fan_in_fan_out) {
  return fan_in_fan_out ? "(out, in)? Then fan_in_fan_out must be false"
                        : "(in, out)? Then fan_in_fan_out must be true";
}

/// Why a base may lack the weight of this module.
inline std::string tied_hint(const std::string& module) {
  const std::string last = module.substr(module.rfind('.') + 1);
  if (last != "lm_head") return {};
  return "; an output head tied to the embeddings has no weight of its own: untie it before "
         "adapting it";
}

}  // namespace detail

/// The weight of a module of `base`. Throws format_error where it is missing or is no matrix of a
/// weight dtype.
inline AdaptedModule find_weight(const Checkpoint& base, const std::string& module,
                                 bool fan_in_fan_out) {
  const Checkpoint::Tensor* const weight = base.find(module + ".weight");
  if (weight == nullptr)
    detail::fail<format_error>(base.path().string(), " has no tensor '", module,
                               ".weight', which the adapter adapts", detail::tied_hint(module));
  const TensorInfo& info = *weight->info;
  if (info.shape.size() != 2 || info.bytes() == 0 || !is_weight_dtype(info.dtype))
    detail::fail<format_error>(base.path().string(), ": '", info.name, "' is ",
                               to_string(info.dtype), " ", shape_text(info.shape),
                               "; an adapted weight is a matrix of F64, F32, F16 or BF16");
  AdaptedModule found{module, *weight, static_cast<Index>(info.shape[0]),
                      static_cast<Index>(info.shape[1])};
  if (fan_in_fan_out) std::swap(found.out, found.in);
  return found;
}

namespace detail {

/// What is odd in how the base stores these weights: a bias as long as the weight is wide, and not
/// as long as it is high. One sentence for all modules.
inline std::vector<std::string> storage_warnings(const Checkpoint& base,
                                                 const std::vector<AdaptedModule>& modules,
                                                 bool fan_in_fan_out) {
  std::string first;
  std::size_t others = 0;
  for (const AdaptedModule& module : modules) {
    const Checkpoint::Tensor* const bias = base.find(module.name + ".bias");
    if (bias == nullptr || bias->info->shape.size() != 1 || module.in == module.out ||
        bias->info->shape[0] != static_cast<std::uint64_t>(module.in))
      continue;
    if (!first.empty())
      ++others;
    else
      first = "'" + bias->info->name + "' has " + std::to_string(module.in) +
              " elements, but the weight is " + shape_text(module.weight.info->shape) + ", out " +
              std::to_string(module.out);
  }
  if (first.empty()) return {};
  if (others > 0)
    first += ", and " + std::to_string(others) + (others == 1 ? " other" : " others") + " likewise";
  return {first + ": is it stored as " + other_order(fan_in_fan_out)};
}

}  // namespace detail

ETHER_END_NAMESPACE
