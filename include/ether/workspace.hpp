#pragma once

/// Workspace: memory that calls borrow and give back in reverse order, kept for the next call.

#include <ether/matrix_view.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

ETHER_BEGIN_NAMESPACE
namespace detail {

/// `Allocate` is called with a number of bytes, which it may raise, and returns their move-only owner,
/// which has get(), aligned to Allocate::alignment; it is called when a call needs more than any
/// before it. What the workspace has handed out never moves.
template <class Allocate>
class Workspace {
 public:
  explicit Workspace(Allocate allocate = {}) : allocate_(std::move(allocate)) {}

  /// What is handed out within it is valid until it ends. Frames nest.
  class Frame {
   public:
    explicit Frame(Workspace& workspace)
        : workspace_(workspace), block_(workspace.block_), used_(workspace.used_) {}
    ~Frame() { workspace_.block_ = block_, workspace_.used_ = used_; }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

    /// Uninitialised, each array at a multiple of the alignment.
    template <class T>
    T* array(Index count) {
      return reinterpret_cast<T*>(workspace_.take(static_cast<std::size_t>(count) * sizeof(T)));
    }
    template <class T>
    MatrixView<T> matrix(Index rows, Index cols) {
      return {array<T>(rows * cols), rows, cols};
    }

   private:
    Workspace& workspace_;
    std::size_t block_;
    std::size_t used_;
  };

 private:
  struct Block {
    decltype(std::declval<Allocate&>()(std::declval<std::size_t&>())) bytes;
    std::size_t size;
  };

  /// The next free bytes: behind those taken last, or in a later block, or in a new one at least
  /// as large as all before it together.
  std::byte* take(std::size_t size) {
    size = (size + Allocate::alignment - 1) / Allocate::alignment * Allocate::alignment;
    while (block_ < blocks_.size() && used_ + size > blocks_[block_].size) ++block_, used_ = 0;
    if (block_ == blocks_.size()) {
      std::size_t total = 0;
      for (const Block& block : blocks_) total += block.size;
      total = (std::max)(total, size);
      blocks_.reserve(blocks_.size() + 1);
      auto bytes = allocate_(total);
      blocks_.push_back({std::move(bytes), total});
    }
    std::byte* const bytes = blocks_[block_].bytes.get() + used_;
    used_ += size;
    return bytes;
  }

  Allocate allocate_;
  std::vector<Block> blocks_;
  std::size_t block_ = 0;  // where the next bytes come from
  std::size_t used_ = 0;
};

}  // namespace detail
ETHER_END_NAMESPACE
