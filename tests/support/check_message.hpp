#pragma once

/// Refusals: the type of the exception, and that its sentence has every given part.

#include "support/catch.hpp"

#include <ether/error.hpp>

#include <initializer_list>
#include <string>
#include <typeinfo>

namespace test {

/// Empty where `call` throws an Error, with all `parts` in its sentence; else what is wrong.
template <class Error, class Call>
std::string refusal(Call&& call, std::initializer_list<std::string> parts) {
  try {
    call();
  } catch (const ether::error& e) {
    const std::string sentence = e.what();
    if (dynamic_cast<const Error*>(&e) == nullptr)
      return std::string("the exception is a ") + typeid(e).name() + ": " + sentence;
    for (const std::string& part : parts)
      if (sentence.find(part) == sentence.npos) return "no '" + part + "' in: " + sentence;
    return {};
  } catch (const std::exception& e) {
    return std::string("the exception is none of ether's: ") + e.what();
  }
  return "nothing was thrown";
}

}  // namespace test

/// CHECK_REFUSED(expression, type, parts of the sentence...)
#define CHECK_REFUSED(expression, type, ...) \
  CHECK(test::refusal<type>([&] { (void)(expression); }, {__VA_ARGS__}) == "")
