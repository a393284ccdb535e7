#include "cuda/emulator/shared.hpp"

#include "cuda/emulator/block.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

namespace test::emulator {
namespace {

constexpr std::size_t gap = 256;  // before and after every array: written by nobody
constexpr unsigned char gap_byte = 0xFE;
constexpr std::size_t static_limit = 48 << 10;  // the compiler's, whatever the device

struct Part {
  std::size_t offset, bytes;
  std::size_t end() const { return offset + bytes; }
  std::size_t next() const { return (end() + 15) / 16 * 16 + gap; }
};

alignas(256) unsigned char arena[1 << 20];  // gap, dynamic memory, gap, array, gap, array, gap ...
std::vector<Part> parts;                    // the dynamic memory, then the arrays
std::size_t launch_number = 0;
std::size_t total_limit = 0;
unsigned char poison = 0xFF;

void fill(const Part& part) {
  std::memset(arena + part.offset, poison, part.bytes);
  std::memset(arena + part.end(), gap_byte, part.next() - part.end());
}

bool overrun(const Part& part) {
  return std::any_of(arena + part.end(), arena + part.next(),
                     [](unsigned char byte) { return byte != gap_byte; });
}

std::size_t bytes_of_arrays() {
  std::size_t total = 0;
  for (std::size_t i = 1; i < parts.size(); ++i) total += (parts[i].bytes + 15) / 16 * 16;
  return total;
}

void check_limits() {
  const std::size_t arrays = bytes_of_arrays(), dynamic = parts[0].bytes;
  if (arrays > static_limit)
    fail("arrays in shared memory take " + std::to_string(arrays) + " bytes; at most " +
         std::to_string(static_limit) + " are allowed");
  if (arrays + dynamic > total_limit)
    fail("shared memory takes " + std::to_string(arrays + dynamic) + " bytes, " +
         std::to_string(dynamic) + " of them dynamic; at most " + std::to_string(total_limit) +
         " are allowed");
}

void* add_part(std::size_t offset, std::size_t bytes) {
  parts.push_back({offset, bytes});
  check_limits();
  if (parts.back().next() > sizeof arena) fail("too much shared memory for the emulator");
  fill(parts.back());
  return arena + offset;
}

}  // namespace

void* SharedArray::place(std::size_t bytes) {
  if (launch_ != launch_number) {
    address_ = add_part(parts.back().next(), bytes);
    launch_ = launch_number;
  }
  return address_;
}

void* dynamic_shared() { return arena + parts[0].offset; }

void begin_shared_memory(std::size_t dynamic_bytes, std::size_t limit) {
  ++launch_number;
  total_limit = limit;
  parts.clear();
  std::memset(arena, gap_byte, gap);
  add_part(gap, dynamic_bytes);
}

void poison_shared_memory(unsigned char byte) {
  poison = byte;
  for (const Part& part : parts) fill(part);
}

bool shared_memory_overrun() {
  const bool before = std::any_of(arena, arena + gap, [](auto byte) { return byte != gap_byte; });
  return before || std::any_of(parts.begin(), parts.end(), overrun);
}

}  // namespace test::emulator
