#pragma once

/// Errors: one exception type per cause, all derived from ether::error.
/// Every message names the tensor, both numbers, and what to do.

#include <ether/version.hpp>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

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

ETHER_BEGIN_INTERFACE

/// Base of everything this library throws.
class ETHER_EXPORT error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A view has the wrong number of rows or columns, too small a stride, or overlaps another.
class ETHER_EXPORT shape_error : public error {
 public:
  using error::error;
};

/// An adapter that is no adapter: a zero or non-finite block, blocks that do not divide the width.
class ETHER_EXPORT parameter_error : public error {
 public:
  using error::error;
};

/// A transform too close to singular to be undone.
class ETHER_EXPORT ill_conditioned : public error {
 public:
  using error::error;
};

/// A file could not be read or written.
class ETHER_EXPORT io_error : public error {
 public:
  using error::error;
};

/// A file was read and breaks its format.
class ETHER_EXPORT format_error : public error {
 public:
  using error::error;
};

/// A CUDA or cuBLAS call failed.
class ETHER_EXPORT cuda_error : public error {
 public:
  using error::error;
};

/// What gets an error's sentence where there are no exceptions, before the program aborts. It may end
/// the program itself, by exit for instance.
using ErrorHandler = void (*)(const char* sentence);

namespace handlers {

inline void print_error(const char* sentence) { std::fprintf(stderr, "ether: %s\n", sentence); }
inline std::atomic<ErrorHandler> current{print_error};

}  // namespace handlers

/// For programs without exceptions; others never call it. The first handler prints to stderr. Returns
/// the one before.
inline ErrorHandler set_error_handler(ErrorHandler handler) {
  return handlers::current.exchange(handler == nullptr ? handlers::print_error : handler);
}

ETHER_END_INTERFACE

ETHER_BEGIN_NAMESPACE
namespace detail {

[[noreturn]] inline void end_program(const error& e) {
  handlers::current.load()(e.what());
  std::abort();
}

/// The parts written one after the other.
template <class... Parts>
std::string sentence(const Parts&... parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return stream.str();
}

/// Throws Error with the given parts written one after the other.
template <class Error, class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  ETHER_THROW(Error(sentence(parts...)));
}

}  // namespace detail

/// What a check found: nothing, or the error that the checked call would throw. For callers that must
/// not throw, such as the threads of a pool.
class [[nodiscard]] Status {
 public:
  /// Nothing wrong.
  Status() = default;
  /// An Error of this sentence.
  template <class Error>
  static Status error(std::string sentence) {
    Status status;
    status.sentence_ = std::move(sentence);
    status.raise_ = [](const std::string& text) { ETHER_THROW(Error(text)); };
    return status;
  }

  bool ok() const { return raise_ == nullptr; }
  /// The error's sentence; empty where all is well.
  const std::string& sentence() const { return sentence_; }
  /// Throws the error, if there is one.
  void require() const {
    if (raise_ != nullptr) raise_(sentence_);
  }

 private:
  std::string sentence_;
  void (*raise_)(const std::string&) = nullptr;
};

namespace detail {

/// The Status of an error with the given parts written one after the other.
template <class Error, class... Parts>
Status found(const Parts&... parts) {
  return Status::error<Error>(sentence(parts...));
}

}  // namespace detail

ETHER_END_NAMESPACE

/// Returns the Status of `check` from the function that it stands in, unless it is ok.
#define ETHER_RETURN_IF_ERROR(check)                        \
  do {                                                      \
    if (auto status = (check); !status.ok()) return status; \
  } while (false)
