#include "cuda/emulator/memory.hpp"

#include "cuda/emulator/control.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

namespace test::emulator {
namespace {

constexpr std::size_t guard_bytes = 256;  // on either side, and the alignment of the content
constexpr int poison = 0xFF;

using Guard = std::array<unsigned char, guard_bytes>;

// NaN as float, double, half and bfloat16, so that reading it shows. Different in every allocation
// and unlike the poison, so that copying it from one guard, or poison, to another guard shows.
Guard guard_of(std::size_t number) {
  Guard guard{};
  for (std::size_t i = 0; i < guard_bytes; i += 2) {
    guard[i] = static_cast<unsigned char>(0xF1 + (number + i / 2) % 14);
    guard[i + 1] = 0xFF;
  }
  return guard;
}

struct Allocation {
  std::size_t number;  // counted from 1 since the program began
  std::size_t bytes;
  unsigned char* begin;  // of the guard before the content
  Guard guard;

  unsigned char* content() const { return begin + guard_bytes; }
  unsigned char* end() const { return content() + bytes; }
};

std::vector<Allocation>& live_allocations() {
  static std::vector<Allocation> live;
  return live;
}

std::string describe(const Allocation& a) {
  return "allocation " + std::to_string(a.number) + " (" + std::to_string(a.bytes) + " bytes)";
}

void write_guards(const Allocation& a) {
  std::memcpy(a.begin, a.guard.data(), guard_bytes);
  std::memcpy(a.end(), a.guard.data(), guard_bytes);
}

std::size_t first_difference(const unsigned char* a, const unsigned char* b, std::size_t bytes) {
  return static_cast<std::size_t>(std::mismatch(a, a + bytes, b).first - a);
}

std::string damage(const Allocation& a) {
  const std::size_t after = first_difference(a.end(), a.guard.data(), guard_bytes);
  if (after < guard_bytes)
    return describe(a) + " was written " + std::to_string(after) + " bytes past its end";
  const auto before =
      std::mismatch(a.guard.rbegin(), a.guard.rend(), std::make_reverse_iterator(a.content()))
          .first;
  if (before != a.guard.rend())
    return describe(a) + " was written " + std::to_string(before - a.guard.rbegin() + 1) +
           " bytes before its beginning";
  return "";
}

}  // namespace

void* allocate(std::size_t bytes) {
  static std::size_t number = 0;
  void* raw = ::operator new (bytes + 2 * guard_bytes, std::align_val_t{guard_bytes});
  ++number;
  const Allocation a{number, bytes, static_cast<unsigned char*>(raw), guard_of(number)};
  write_guards(a);
  std::memset(a.content(), poison, bytes);
  live_allocations().push_back(a);
  return a.content();
}

void release(void* pointer) {
  if (pointer == nullptr) return;
  auto& live = live_allocations();
  const auto a = std::find_if(live.begin(), live.end(),
                              [&](const Allocation& each) { return each.content() == pointer; });
  if (a == live.end()) throw EmulatorError("release: the pointer is no live allocation");
  ::operator delete (a->begin, std::align_val_t{guard_bytes});
  live.erase(a);
}

std::string damaged_guard() {
  std::string first;
  for (const Allocation& a : live_allocations()) {
    const std::string found = damage(a);
    if (found.empty()) continue;
    if (first.empty()) first = found;
    write_guards(a);
  }
  return first;
}

void check_guards() {
  const std::string damaged = damaged_guard();
  if (!damaged.empty()) throw EmulatorError(damaged);
}

void MemoryCopy::take() {
  std::size_t total = 0;
  for (const Allocation& a : live_allocations()) total += a.bytes;
  bytes_.resize(total);
  unsigned char* to = bytes_.data();
  for (const Allocation& a : live_allocations()) {
    if (a.bytes != 0) std::memcpy(to, a.content(), a.bytes);
    to += a.bytes;
  }
}

void MemoryCopy::put_back() const {
  const unsigned char* from = bytes_.data();
  for (const Allocation& a : live_allocations()) {
    if (a.bytes != 0) std::memcpy(a.content(), from, a.bytes);
    from += a.bytes;
  }
}

std::string MemoryCopy::difference() const {
  const unsigned char* expected = bytes_.data();
  for (const Allocation& a : live_allocations()) {
    if (a.bytes != 0 && std::memcmp(a.content(), expected, a.bytes) != 0)
      return "byte " + std::to_string(first_difference(a.content(), expected, a.bytes)) + " of " +
             describe(a);
    expected += a.bytes;
  }
  return "";
}

}  // namespace test::emulator
