/// The order in which blocks, the warps of a block, and the lanes of a warp take their turns.
#pragma once

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace test::emulator {

class Order {
 public:
  /// 0 is ascending, 1 descending; every further number is a random order of its own.
  explicit Order(int number) : number_(number), random_(static_cast<unsigned>(number)) {}

  std::string name() const {
    if (number_ == 0) return "ascending order";
    if (number_ == 1) return "descending order";
    return "random order " + std::to_string(number_ - 1);
  }

  /// Puts 0, 1, ... size - 1 into this order. A random order is another one each time.
  template <class Integer>
  void arrange(std::vector<Integer>& turns) {
    std::iota(turns.begin(), turns.end(), Integer{0});
    if (number_ == 1) std::reverse(turns.begin(), turns.end());
    if (number_ > 1) std::shuffle(turns.begin(), turns.end(), random_);
  }

  /// What shared memory holds before it is written. Not the same in all orders, so that a result
  /// that depends on it differs; the first is NaN in every floating-point type.
  unsigned char poison() const { return number_ % 2 == 0 ? 0xFF : 0x7F; }

 private:
  int number_;
  std::mt19937 random_;
};

}  // namespace test::emulator
