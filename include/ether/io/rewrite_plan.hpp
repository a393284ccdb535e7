#pragma once

/// What is to be done to copy a checkpoint with some weights transformed, in pieces for threads.

#include <ether/io/checkpoint.hpp>
#include <ether/io/weight_change.hpp>
#include <ether/io/weight_transform.hpp>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <tuple>

ETHER_BEGIN_NAMESPACE

/// A weight that is not copied.
struct TransformedWeight {
  Dtype dtype;                                                  ///< to be written as
  std::function<std::unique_ptr<WeightTransform>()> transform;  ///< made when its turn comes
  WeightChange change = {};                                     ///< filled in by the rewrite
};
/// By the tensor's name.
using TransformedWeights = std::map<std::string, TransformedWeight>;

namespace detail {

/// The output's files, the weights that are computed, and the tasks that make up the work.
struct RewritePlan {
  /// A file of the output.
  struct Shard {
    const SafetensorsFile* input;
    std::optional<SafetensorsHeader> header;  // none where the file is copied as it is
    std::uint64_t bytes;
    std::optional<OutputFile> output = {};  // while it is written
  };
  struct Weight {
    Checkpoint::Tensor from;
    std::uint64_t offset;  // in the output file
    TransformedWeight* result;
    std::vector<WeightChange> changes = {};  // of each task
    std::size_t tasks_left = 0;
    std::mutex mutex = {};
    std::shared_ptr<const WeightTransform> transform = {};
  };
  /// Rows of a weight, or bytes [from, from + bytes) of a shard, to `to`.
  struct Task {
    std::size_t shard;
    std::uint64_t bytes;
    Weight* weight = nullptr;
    Index first = 0, count = 0;
    std::size_t part = 0;
    std::uint64_t from = 0, to = 0;
  };

  std::vector<Shard> shards;
  std::map<std::string, std::unique_ptr<Weight>> weights;
  std::vector<Task> tasks;
  std::uint64_t thread_bytes = 0;    // memory that a task takes, at most
  std::uint64_t largest_weight = 0;  // bytes

  /// `wanted` are tensors of `base`. Both must outlive this.
  RewritePlan(const Checkpoint& base, TransformedWeights& wanted) {
    for (const auto& shard : base.shards()) plan_shard(*shard, wanted);
  }

  /// Orders the tasks so that threads work on different shards: writers of one file wait for each
  /// other. As many shards at a time as there are threads.
  void interleave(int threads) {
    std::vector<std::size_t> place(tasks.size()), seen(shards.size()), order(tasks.size());
    for (std::size_t t = 0; t < tasks.size(); ++t) place[t] = seen[tasks[t].shard]++;
    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto key = [&](std::size_t t) {
      return std::tuple(tasks[t].shard / static_cast<std::size_t>(threads), place[t]);
    };
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return key(a) < key(b); });
    std::vector<Task> ordered;
    for (const std::size_t t : order) ordered.push_back(tasks[t]);
    tasks = std::move(ordered);
  }

 private:
  void plan_shard(const SafetensorsFile& input, TransformedWeights& wanted) {
    const std::size_t shard = shards.size();
    const SafetensorsHeader& before = input.header();
    const bool any = std::any_of(before.tensors.begin(), before.tensors.end(),
                                 [&](const TensorInfo& t) { return wanted.count(t.name) != 0; });
    if (!any) {
      shards.push_back({&input, std::nullopt, input.file().size()});
      plan_copy(shard, 0, input.file().size(), 0);
      return;
    }
    std::vector<TensorInfo> tensors = before.tensors;
    for (TensorInfo& tensor : tensors)
      if (const auto found = wanted.find(tensor.name); found != wanted.end())
        tensor.dtype = found->second.dtype;
    shards.push_back({&input, SafetensorsHeader::pack(std::move(tensors), before.metadata), 0});
    const SafetensorsHeader& after = *shards.back().header;
    shards.back().bytes = after.file_bytes();

    std::uint64_t from = 0, to = 0, size = 0;  // neighbours that stay neighbours
    for (const TensorInfo& tensor : after.tensors) {
      const TensorInfo& info = *input.find(tensor.name);
      const auto found = wanted.find(tensor.name);
      if (found != wanted.end()) {
        plan_weight(shard, {&input, &info}, after.data_begin + tensor.begin, found->second);
        continue;
      }
      const std::uint64_t source = before.data_begin + info.begin;
      const std::uint64_t target = after.data_begin + tensor.begin;
      if (from + size != source || to + size != target) {
        plan_copy(shard, from, size, to);
        from = source, to = target, size = 0;
      }
      size += info.bytes();
    }
    plan_copy(shard, from, size, to);
  }

  void plan_copy(std::size_t shard, std::uint64_t from, std::uint64_t size, std::uint64_t to) {
    constexpr std::uint64_t at_once = 32 << 20;
    for (std::uint64_t done = 0; done < size; done += at_once) {
      Task task{shard, (std::min)(at_once, size - done)};
      task.from = from + done, task.to = to + done;
      tasks.push_back(task);
    }
  }

  void plan_weight(std::size_t shard, const Checkpoint::Tensor& from, std::uint64_t offset,
                   TransformedWeight& result) {
    auto weight = std::make_unique<Weight>();
    weight->from = from, weight->offset = offset, weight->result = &result;
    const auto rows = static_cast<Index>(from.info->shape[0]);
    const auto transform = result.transform();
    const Index group = transform->group_rows();
    thread_bytes = (std::max)(thread_bytes, transform->thread_bytes());
    largest_weight = (std::max)(largest_weight, from.info->bytes());
    const std::uint64_t row_bytes = from.info->bytes() / from.info->shape[0];
    for (Index first = 0; first < rows; first += group) {
      Task task{shard, row_bytes * static_cast<std::uint64_t>((std::min)(group, rows - first))};
      task.weight = weight.get(), task.part = weight->tasks_left++;
      task.first = first, task.count = (std::min)(group, rows - first);
      tasks.push_back(task);
    }
    weight->changes.resize(weight->tasks_left);
    weights.emplace(from.info->name, std::move(weight));
  }
};

}  // namespace detail

ETHER_END_NAMESPACE
