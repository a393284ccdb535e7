/// What tests on the CUDA emulator share.
#pragma once

#include "cuda/emulator/control.hpp"

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

namespace test::emulator {

/// Memory of the emulated device that releases itself.
template <class T>
class Array {
 public:
  explicit Array(std::size_t count)
      : data_(static_cast<T*>(allocate(count * sizeof(T)))), count_(count) {}
  explicit Array(const std::vector<T>& values) : Array(values.size()) {
    std::copy(values.begin(), values.end(), data_);
  }
  ~Array() { release(data_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  T* data() const { return data_; }
  std::vector<T> values() const { return std::vector<T>(data_, data_ + count_); }

 private:
  T* data_;
  std::size_t count_;
};

/// The sentence of the EmulatorError that `action` throws; "" if it throws none.
inline std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const EmulatorError& error) {
    return error.what();
  }
  return "";
}

}  // namespace test::emulator
