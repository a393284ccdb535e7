#pragma once

/// An adapter as the LoRA that equals it, for programs that know LoRA.

#include <ether/io/peft_export.hpp>
#include <ether/io/weight_transform.hpp>

ETHER_BEGIN_NAMESPACE

/// The exact LoRA of an adapter: W' - W = B A with
///     input side    A = Û^T (block-sparse),          B = W Û diag(c)
///     output side   A = diag(c) Û_out^T W H_in,      B = Û_out
/// stacked for two sides. rank = vectors per block * (input blocks + output blocks); modules with
/// fewer are padded with zeros. lora_alpha = rank, so that every program applies scale 1.
class LoraExport : public detail::PeftExport {
 public:
  /// Checks everything, the output's place too, and writes nothing. Throws as merge_checkpoint
  /// does; parameter_error for row_chunk with several input blocks unless options.allow_large_rank.
  explicit LoraExport(const ExportOptions& options) : PeftExport(options) {
    for (const AdaptedModule& module : modules_) {
      const Adapter<double> a = adapter(module);
      check(module, a);
      rank_ = (std::max)(rank_, rank_of(a));
    }
    for (const AdaptedModule& module : modules_)
      tensors_.push_back({tensor(module, "lora_A.weight", rank_, module.in),
                          tensor(module, "lora_B.weight", module.out, rank_)});
    config_ = common_config("LORA");
    config_["lora_alpha"] = rank_;
    config_["lora_dropout"] = 0.0;
    config_["fan_in_fan_out"] = file_.config().fan_in_fan_out;
    config_["rank_pattern"] = nlohmann::ordered_json::object();
    config_["alpha_pattern"] = nlohmann::ordered_json::object();
  }

  /// Throws io_error; the output appears whole or not at all.
  void write() const {
    PeftExport::write([&](const AdaptedModule& module) { return factors(module); });
  }

 private:
  using Matrix = detail::DenseMatrix;

  /// Each pair (block of u, chunk of columns) of one side has its own place; the diagonal ones only
  /// but in layout row_chunk.
  static Index pairs(const Adapter<double>& a, Side side) {
    if (a.terms(side) == 0) return 0;
    const bool chunked = side == Side::input && a.config().layout == BlockLayout::row_chunk;
    return a.blocks(side) * (chunked ? a.blocks(side) : 1);
  }

  static Index rank_of(const Adapter<double>& a) {
    return a.terms(Side::input) * pairs(a, Side::input) +
           a.terms(Side::output) * pairs(a, Side::output);
  }

  void check(const AdaptedModule& module, const Adapter<double>& a) const try {
    detail::check_stored_layout(a.config(), file_.config().fan_in_fan_out);
    if (pairs(a, Side::input) > a.blocks(Side::input) && !options_.allow_large_rank)
      detail::refuse<parameter_error>(Refusal::Option::allow_large_rank,
                                      "block_layout row_chunk with ", a.blocks(Side::input),
                                      " input blocks needs a LoRA of rank ", rank_of(a));
  } catch (const Refusal&) {
    throw;
  } catch (const parameter_error& e) {
    detail::fail<parameter_error>("module '", module.name, "': ", e.what());
  }

  /// {A (rank, in), B (out, rank)}.
  std::vector<Matrix> factors(const AdaptedModule& module) const {
    const Adapter<double> a = adapter(module);
    // On a stored W^T, (in, out), the sides change places: (B A)^T = A^T B^T.
    const bool stored_transposed = file_.config().fan_in_fan_out;
    const Side within = stored_transposed ? Side::output : Side::input;
    const Side across = stored_transposed ? Side::input : Side::output;
    EigenContext ctx(1);
    const PreparedAdapter<EigenBackend<double>> prepared(ctx, a);
    const Reflection<double> h = prepared.reflection(within), g = prepared.reflection(across);
    const Index rows = a.width(across), cols = a.width(within);
    Matrix right = Matrix::Zero(rank_, cols), left = Matrix::Zero(rows, rank_);
    const bool chunked = h.step != 0;
    const auto place = [&](Index k, Index block, Index chunk) {
      return k * pairs(a, within) + (chunked ? block * h.blocks + chunk : block);
    };
    const Index behind = h.terms() * pairs(a, within);
    const auto vector = [](const Reflection<double>& r, Index k, Index block) {
      return Eigen::Map<const Eigen::VectorXd>(r.unit.row(k) + block * r.block_size, r.block_size);
    };
    Eigen::VectorXd row(cols), before(cols);
    for (Index o = 0; o < rows; ++o) {
      detail::widen(module.weight.info->dtype,
                    module.weight.data() + o * cols * bit_size(module.weight.info->dtype) / 8, cols,
                    row.data());
      before = row;
      for (Index chunk = 0; chunk < h.blocks && h.terms() != 0; ++chunk) {
        const Index block = h.block(o, chunk), at = chunk * h.block_size;
        for (Index k = 0; k < h.terms(); ++k) {
          const auto w = vector(h, k, block);
          const Index p = place(k, block, chunk);
          left(o, p) = h.coefficient(k, block) * w.dot(before.segment(at, h.block_size));
          right.row(p).segment(at, h.block_size) = w.transpose();
          row.segment(at, h.block_size) += left(o, p) * w;
        }
      }
      const Index block = g.terms() != 0 ? o / g.block_size : 0;
      for (Index k = 0; k < g.terms(); ++k) {
        const Index p = behind + k * g.blocks + block;
        left(o, p) = g.unit(k, o);
        right.row(p) += g.coefficient(k, block) * g.unit(k, o) * row.transpose();
      }
    }
    if (!stored_transposed) return {std::move(right), std::move(left)};
    left.transposeInPlace(), right.transposeInPlace();
    return {std::move(left), std::move(right)};
  }
};

ETHER_END_NAMESPACE
