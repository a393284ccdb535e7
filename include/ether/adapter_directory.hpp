#pragma once

/// Adapters on disk, for programs that only load them. Compiled in the library ether::etherlinear: this
/// header costs little more than adapter.hpp, io/adapter_file.hpp that of JSON, regular expressions and
/// files. The format is docs/adapter-format.md.

#include <ether/adapter.hpp>

#include <memory>
#include <string>
#include <vector>

ETHER_BEGIN_INTERFACE

/// A directory of adapter_config.json and adapter_model.safetensors, read and checked as a whole.
class ETHER_EXPORT AdapterDirectory {
 public:
  /// Throws io_error, format_error; and parameter_error for a zero or non-finite block.
  explicit AdapterDirectory(const std::string& path);
  ~AdapterDirectory();
  AdapterDirectory(AdapterDirectory&&) noexcept;
  AdapterDirectory& operator=(AdapterDirectory&&) noexcept;

  /// The adapted modules, such as model.layers.0.self_attn.q_proj, in alphabetical order.
  const std::vector<std::string>& modules() const;
  /// What is odd and no error.
  const std::vector<std::string>& warnings() const;
  /// One module's parameters, for a weight (out, in). Throws format_error for a module that is not there,
  /// parameter_error for another width.
  Adapter<float> adapter(const std::string& module, Index out, Index in) const;

 private:
  struct Files;
  std::unique_ptr<Files> files_;
};

ETHER_END_INTERFACE
