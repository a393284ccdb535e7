#pragma once

/// An adapter as PEFT's HRA, a chain of Householder reflections.

#include <ether/io/peft_export.hpp>

ETHER_BEGIN_NAMESPACE

/// The exact HRA adapter (Householder reflections, PEFT) of an ETHER one: W' = W H_1 ... H_n, each
/// reflection one block, hra_u (in, n) block-sparse; the rank is n.
class HraExport : public detail::PeftExport {
 public:
  /// Checks everything, the output's place too, and writes nothing. For variant ether, input side,
  /// diagonal, strength 1, one number of blocks for all modules, and weights stored as (out, in);
  /// others are refused with a parameter_error. Throws as merge_checkpoint does too.
  explicit HraExport(const ExportOptions& options) : PeftExport(options) {
    const AdapterFileConfig& config = file_.config();
    if (config.variant != Variant::ether) refuse("variant", to_string(config.variant), "ether");
    if (config.sides != Sides::input) refuse("sides", to_string(config.sides), "input");
    if (config.strength != 1) refuse("strength", config.strength, 1);
    if (config.fan_in_fan_out) refuse("fan_in_fan_out", "true", "false for PEFT's HRA");
    for (const AdaptedModule& module : modules_) {
      const Index n = config.of_module(module.name).input_blocks;
      if (n > 1 && config.block_layout != BlockLayout::diagonal)
        refuse("block_layout", to_string(config.block_layout), "diagonal");
      if (rank_ != 0 && n != rank_)
        refuse("the number of blocks of '" + module.name + "'", n,
               std::to_string(rank_) + " as in the modules before it: HRA has one rank");
      rank_ = n;
      tensors_.push_back({tensor(module, "hra_u", module.in, n)});
    }
    config_ = common_config("HRA");
    config_["apply_GS"] = false;
  }

  /// Throws io_error; the output appears whole or not at all.
  void write() const {
    PeftExport::write([&](const AdaptedModule& module) {
      const auto a = adapter(module);
      detail::DenseMatrix u = detail::DenseMatrix::Zero(module.in, rank_);
      const Index size = module.in / rank_;
      for (Index b = 0; b < rank_; ++b) {
        const double* const w = a.input_u().row(b);
        for (Index i = 0; i < size; ++i) u(b * size + i, b) = w[i] / detail::length(w, size);
      }
      return std::vector<detail::DenseMatrix>{std::move(u)};
    });
  }

 private:
  template <class Is, class Needed>
  [[noreturn]] static void refuse(const std::string& what, const Is& is, const Needed& needed) {
    detail::fail<parameter_error>("HRA is a chain of reflections on the input side: ", what, " is ",
                                  is, ", but must be ", needed);
  }
};

ETHER_END_NAMESPACE
