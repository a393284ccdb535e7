#pragma once

/// The images: reading the file, and the two ways in which this example shifts their domain.

#include <zlib.h>
#include <Eigen/Core>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using Eigen::Index;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr int image_width = 8;
constexpr int pixel_count = image_width * image_width;
constexpr int class_count = 10;

struct Digits {
  Matrix images;            ///< (count, 64), row by row; 0 is paper and 1 is ink
  std::vector<int> labels;  ///< (count), 0 to 9

  Index count() const { return static_cast<Index>(labels.size()); }
};

/// Uniform in [-1, 1), the same with every compiler.
inline float uniform(std::mt19937_64& generator) {
  return static_cast<float>(generator() >> 40) * 0x1p-23f - 1;
}

/// Lines of 64 pixel values from 0 to 16 and a label, gzipped or not. Throws std::runtime_error.
inline Digits read_digits(const std::string& path) {
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (!file) throw std::runtime_error("cannot open " + path);

  Digits digits;
  std::vector<float> pixels;
  char line[512];
  while (gzgets(file.get(), line, sizeof line) != nullptr) {
    const char* at = line;
    const auto next_number = [&](int largest, bool more_follow) {
      char* end = nullptr;
      const long number = std::strtol(at, &end, 10);
      if (end == at || number < 0 || number > largest || (*end == ',') != more_follow)
        throw std::runtime_error(path + ", line " + std::to_string(digits.count() + 1) +
                                 ": expected 64 numbers from 0 to 16 and a label from 0 to 9");
      at = end + 1;
      return static_cast<int>(number);
    };
    for (int i = 0; i < pixel_count; ++i)
      pixels.push_back(static_cast<float>(next_number(16, true)) / 16);
    digits.labels.push_back(next_number(class_count - 1, false));
  }
  int status = Z_OK;
  gzerror(file.get(), &status);
  if ((status != Z_OK && status != Z_STREAM_END) || digits.count() < 4)
    throw std::runtime_error(path + " is damaged or has fewer than 4 lines");
  digits.images = Eigen::Map<Matrix>(pixels.data(), digits.count(), pixel_count);
  return digits;
}

/// {training, test}: every fourth image is held out.
inline std::pair<Digits, Digits> split(const Digits& all) {
  std::pair<Digits, Digits> parts;
  auto& [training, test] = parts;
  test.images.resize(all.count() / 4, pixel_count);
  training.images.resize(all.count() - all.count() / 4, pixel_count);
  for (Index i = 0; i < all.count(); ++i) {
    Digits& part = i % 4 == 3 ? test : training;
    part.images.row(part.count()) = all.images.row(i);
    part.labels.push_back(all.labels[static_cast<std::size_t>(i)]);
  }
  return parts;
}

/// Every image turned clockwise by 90 degrees.
inline Digits rotated(const Digits& digits) {
  Digits turned = digits;
  for (int r = 0; r < image_width; ++r)
    for (int c = 0; c < image_width; ++c)
      turned.images.col(c * image_width + image_width - 1 - r) =
          digits.images.col(r * image_width + c);
  return turned;
}

/// White on black instead of black on white, with uniform noise of up to +-`amplitude`.
inline Digits inverted_with_noise(const Digits& digits, float amplitude, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  Digits noisy = digits;
  for (Index i = 0; i < noisy.images.size(); ++i) {
    float& pixel = noisy.images.data()[i];
    pixel = 1 - pixel + amplitude * uniform(generator);
  }
  return noisy;
}
