#pragma once

/// Errors: one exception type per cause, all derived from ether::error.
/// Every message names the tensor, both numbers, and what to do.

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <stdexcept>

// How an error leaves the library: ETHER_THROW(exception), which must not return. A host may define it,
// in all files of a program alike. Without exceptions (-fno-exceptions) the handler of
// set_error_handler gets the sentence, and then the program aborts.
#if !defined(ETHER_THROW)
#if defined(__cpp_exceptions)
#define ETHER_THROW(exception) throw exception
#else
#define ETHER_THROW(exception) ::ether::detail::end_program(exception)
#endif
#endif

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

/// What gets an error's sentence where there are no exceptions, before the program aborts. It may end
/// the program itself, by exit for instance.
using ErrorHandler = void (*)(const char* sentence);

namespace detail {

inline void print_error(const char* sentence) { std::fprintf(stderr, "ether: %s\n", sentence); }
inline std::atomic<ErrorHandler> error_handler{print_error};

[[noreturn]] inline void end_program(const error& e) {
  error_handler.load()(e.what());
  std::abort();
}

}  // namespace detail

/// For programs without exceptions; others never call it. The first handler prints to stderr. Returns
/// the one before.
inline ErrorHandler set_error_handler(ErrorHandler handler) {
  return detail::error_handler.exchange(handler == nullptr ? detail::print_error : handler);
}

namespace detail {

/// Throws Error with the given parts written one after the other.
template <class Error, class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream sentence;
  (sentence << ... << parts);
  ETHER_THROW(Error(sentence.str()));
}

}  // namespace detail
}  // namespace ether
