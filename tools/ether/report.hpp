#pragma once

/// What several verbs report in the same words.

#include "process.hpp"
#include "text.hpp"

#include <ether/io/adapter_file.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <optional>

namespace ether::tool {

using Report = nlohmann::ordered_json;

/// Infinities and NaN become null. Bytes of paths that are not UTF-8 become U+FFFD.
inline void print_json(const Report& report) {
  print(report.dump(2, ' ', false, Report::error_handler_t::replace) + "\n");
}

/// To the millisecond.
inline double json_seconds(double seconds) { return std::round(seconds * 1000) / 1000; }

/// Sums over some tensors, of all and of each dtype.
struct DtypeTotals {
  struct Total {
    std::uint64_t tensors = 0, parameters = 0, bytes = 0;
  };
  std::map<std::string, Total> of;
  Total all;

  void add(const TensorInfo& tensor) {
    for (Total* total : {&of[to_string(tensor.dtype)], &all}) {
      ++total->tensors, total->bytes += tensor.bytes();
      total->parameters += elements(tensor);
    }
  }
  /// 1 for a shape of rank 0.
  static std::uint64_t elements(const TensorInfo& tensor) {
    std::uint64_t n = 1;
    for (const std::uint64_t size : tensor.shape) n *= size;
    return n;
  }
  static Report json(const Total& total) {
    return {{"tensors", total.tensors}, {"parameters", total.parameters}, {"bytes", total.bytes}};
  }
  Report json() const {
    Report report = json(all);
    report["by_dtype"] = Report::object();
    for (const auto& [dtype, total] : of) report["by_dtype"][dtype] = json(total);
    return report;
  }
  static std::string text(const Total& total) {
    return counted(total.tensors, "tensor") + ", " + counted(total.parameters, "parameter") + ", " +
           human_bytes(total.bytes);
  }
  std::string text() const {
    std::string lines = text(all);
    if (of.size() == 1) return lines + ", all " + of.begin()->first + "\n";
    for (const auto& [dtype, total] : of) lines += "\n  " + dtype + ": " + text(total);
    return lines + "\n";
  }
};

}  // namespace ether::tool
