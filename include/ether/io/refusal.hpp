#pragma once

/// Refusals that an option of the job lifts.

#include <ether/error.hpp>

ETHER_BEGIN_NAMESPACE

/// Beside its type of ether::error, what was refused but can be had with an option set. The
/// message does not name it: a program tells its users its own name for it.
class Refusal {
 public:
  enum class Option { replace, allow_large_rank, allow_overflow };

  explicit Refusal(Option option) : option_(option) {}
  Option option() const { return option_; }

 private:
  Option option_;
};

namespace detail {

template <class Error>
class RefusedError : public Error, public Refusal {
 public:
  RefusedError(const std::string& sentence, Option option) : Error(sentence), Refusal(option) {}
};

/// As fail, for what `option` would permit.
template <class Error, class... Parts>
[[noreturn]] void refuse(Refusal::Option option, const Parts&... parts) {
  std::ostringstream sentence;
  (sentence << ... << parts);
  throw RefusedError<Error>(sentence.str(), option);
}

}  // namespace detail
ETHER_END_NAMESPACE
