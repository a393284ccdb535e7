#pragma once

/// Comma-separated tables: a header, then rows of as many values.

#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>

namespace claims {

inline std::string cell(const std::string& text) { return text; }
inline std::string cell(const char* text) { return text; }
/// Nine digits hold every float.
inline std::string cell(double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", number);
  return text;
}
template <class Integer>
std::string cell(Integer number) {
  return std::to_string(number);
}

/// Texts must hold no comma. Throws std::runtime_error where the file cannot be written.
class Csv {
 public:
  Csv(const std::string& path, const std::string& header) : path_(path), file_(path) {
    file_ << header << '\n';
  }

  template <class First, class... Others>
  void row(const First& first, const Others&... others) {
    file_ << cell(first);
    ((file_ << ',' << cell(others)), ...);
    file_ << '\n';
  }

  void close() {
    file_.close();
    if (!file_) throw std::runtime_error("cannot write " + path_);
  }

 private:
  std::string path_;
  std::ofstream file_;
};

}  // namespace claims
