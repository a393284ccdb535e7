#pragma once

/// Errors: one exception type per cause, all derived from ether::error.
/// Every message names the tensor, both numbers, and what to do.

#include <sstream>
#include <stdexcept>

namespace ether {

/// Base of everything this library throws.
class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A view has the wrong number of rows or columns, too small a stride, or overlaps another.
class shape_error : public error {
 public:
  using error::error;
};

/// An adapter that is no adapter: a zero or non-finite block, blocks that do not divide the width.
class parameter_error : public error {
 public:
  using error::error;
};

/// A transform too close to singular to be undone.
class ill_conditioned : public error {
 public:
  using error::error;
};

/// A file could not be read or written.
class io_error : public error {
 public:
  using error::error;
};

/// A file was read and breaks its format.
class format_error : public error {
 public:
  using error::error;
};

/// A CUDA or cuBLAS call failed.
class cuda_error : public error {
 public:
  using error::error;
};

namespace detail {

/// Throws Error with the given parts written one after the other.
template <class Error, class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream sentence;
  (sentence << ... << parts);
  throw Error(sentence.str());
}

}  // namespace detail
}  // namespace ether
