// A host compiled with -ffast-math: what is infinite or not a number is refused as ever.

#include <ether/ether.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>

namespace {

using Backend = ether::EigenBackend<float>;

int faults = 0;

float from_bits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// `call` must throw a parameter_error, or not, as `refused` says.
template <class Call>
void expect(bool refused, const char* what, Call&& call) {
  bool thrown = false;
  try {
    call();
  } catch (const ether::parameter_error&) {
    thrown = true;
  }
  if (thrown == refused) return;
  std::printf("%s is %s\n", what, thrown ? "refused" : "accepted");
  ++faults;
}

/// An adapter of which one element is `value`, and, where it is given, the others are `rest`.
void prepare(float value, std::optional<float> rest = {}) {
  auto adapter = ether::Adapter<float>::random({}, 8, 16, 1);
  if (rest) std::fill_n(adapter.data(), 16, *rest);
  adapter.data()[3] = value;
  Backend::Context ctx(1);
  const ether::PreparedAdapter<Backend> prepared(ctx, adapter);
}

void prepare_strength(double strength) {
  ether::AdapterConfig config;
  config.strength = strength;
  Backend::Context ctx(1);
  const ether::PreparedAdapter<Backend> prepared(ctx,
                                                 ether::Adapter<float>::random(config, 8, 16, 1));
}

}  // namespace

int main() {
  expect(false, "an element of 2", [] { prepare(2); });
  for (const std::uint32_t bits : {0x7fc00000u, 0xffc00000u, 0x7f800001u})
    expect(true, "a NaN", [=] { prepare(from_bits(bits)); });
  for (const std::uint32_t bits : {0x7f800000u, 0xff800000u})
    expect(true, "an infinity", [=] { prepare(from_bits(bits)); });
  expect(true, "a block of zeros", [] { prepare(0, 0); });
  expect(true, "a length whose inverse is infinite", [] { prepare(0, from_bits(1)); });
  const float one = 1, nan = from_bits(0x7fc00000u);
  if (ether::detail::same_value(nan, one) || ether::detail::same_value(one, nan) ||
      !ether::detail::same_value(nan, nan) || !ether::detail::same_value(one, one)) {
    std::puts("a NaN compares wrongly");
    ++faults;
  }
  expect(false, "a strength of 0.5", [] { prepare_strength(0.5); });
  for (const std::uint32_t bits : {0x7fc00000u, 0x7f800000u, 0xff800000u})
    expect(true, "a strength that is not finite",
           [=] { prepare_strength(static_cast<double>(from_bits(bits))); });
  expect(true, "a strength beyond float", [] { prepare_strength(1e300); });
  return faults;
}
