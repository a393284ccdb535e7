#pragma once

/// Refusals that an option would permit.

#include <ether/io/refusal.hpp>

namespace test {

/// Whether `call` is refused, and would not be with this option.
template <class Call>
bool refused_unless(ether::Refusal::Option option, Call&& call) {
  try {
    call();
  } catch (const ether::Refusal& e) {
    return e.option() == option;
  }
  return false;
}

}  // namespace test
