#pragma once

/// A copy of a checkpoint in which some weights are transformed: the same files, every other byte
/// as it was.

#include <ether/io/checkpoint.hpp>
#include <ether/io/other_files.hpp>
#include <ether/io/parallel.hpp>
#include <ether/io/progress.hpp>
#include <ether/io/weight_change.hpp>
#include <ether/io/weight_transform.hpp>

#include <optional>

namespace ether {

class CheckpointRewrite {
 public:
  /// A weight that is not copied.
  struct Transformed {
    Dtype dtype;                                                  ///< to be written as
    std::function<std::unique_ptr<WeightTransform>()> transform;  ///< made when its turn comes
    WeightChange change = {};                                     ///< filled in by run
  };

  /// `weights` by the tensor's name, each one in `base`. Both must outlive this.
  CheckpointRewrite(const Checkpoint& base, std::map<std::string, Transformed>& weights)
      : base_(base) {
    for (const auto& shard : base.shards()) plan_shard(*shard, weights);
    if (base.is_file()) return;
    std::set<fs::path> written;
    for (const Shard& shard : shards_) written.insert(output_name(shard));
    if (!base.index().is_null()) written.insert(Checkpoint::index_name);
    other_files_ = detail::OtherFiles(base.path(), written);
  }

  /// Bytes of the output.
  std::uint64_t bytes() const {
    std::uint64_t bytes = other_files_.bytes();
    for (const Shard& shard : shards_) bytes += shard.bytes;
    return bytes;
  }
  const std::vector<std::string>& warnings() const { return other_files_.warnings(); }

  /// Writes into the directory `to`, or the file where the base is one and `to_file`; only computes
  /// where `to` is empty. `flush`: returns when all is on the disk. Throws io_error, with nothing to
  /// be relied on in `to`.
  void run(const fs::path& to, bool to_file, int threads, bool flush,
           const ProgressCallback& progress) {
    const bool write = !to.empty();
    if (write)
      for (Shard& shard : shards_) {
        shard.output.emplace(to_file ? to : to / output_name(shard));
        if (!shard.header) continue;
        const std::string text = shard.header->text();
        shard.output->write(0, text.data(), text.size());
      }
    Progress state{0, 0};
    for (const Task& task : tasks_) state.bytes_total += task.bytes;
    std::mutex mutex;
    constexpr std::uint64_t flush_bytes = 32 << 20;
    std::uint64_t flushed = 0;
    threads = detail::thread_count(threads);
    interleave(threads);
    std::vector<EigenContext> contexts;
    for (int t = 0; t < threads; ++t) contexts.emplace_back(1);

    detail::for_each_task(threads, tasks_.size(), [&](std::size_t index, int thread) {
      Task& task = tasks_[index];
      if (task.weight != nullptr)
        transform(task, contexts[static_cast<std::size_t>(thread)], write);
      else if (write)
        copy(task);
      const std::lock_guard<std::mutex> lock(mutex);
      state.bytes_done += task.bytes;
      if (write && flush && state.bytes_done - flushed > flush_bytes) {
        flushed = state.bytes_done;
        shards_[task.shard].output->start_flush();  // the disk works while we compute
      }
      if (progress) progress(state);
    });
    for (const auto& [name, weight] : weights_)  // in order, whichever thread was first
      for (const WeightChange& change : weight->changes) weight->result->change += change;
    if (!write) return;
    if (!base_.is_file()) {
      other_files_.copy(to);
      write_index(to);
    }
    if (flush)
      for (Shard& shard : shards_) shard.output->flush();
  }

 private:
  struct Shard {
    const SafetensorsFile* input;
    std::optional<SafetensorsHeader> header;  // none where the file is copied as it is
    std::uint64_t bytes;
    std::optional<OutputFile> output = {};
  };
  struct Weight {
    Checkpoint::Tensor from;
    std::uint64_t offset;  // in the output file
    Transformed* result;
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

  void plan_shard(const SafetensorsFile& input, std::map<std::string, Transformed>& weights) {
    const std::size_t shard = shards_.size();
    const SafetensorsHeader& before = input.header();
    const bool any = std::any_of(before.tensors.begin(), before.tensors.end(),
                                 [&](const TensorInfo& t) { return weights.count(t.name) != 0; });
    if (!any) {
      shards_.push_back({&input, std::nullopt, input.file().size()});
      plan_copy(shard, 0, input.file().size(), 0);
      return;
    }
    std::vector<TensorInfo> tensors = before.tensors;
    for (TensorInfo& tensor : tensors)
      if (const auto found = weights.find(tensor.name); found != weights.end())
        tensor.dtype = found->second.dtype;
    shards_.push_back({&input, SafetensorsHeader::pack(std::move(tensors), before.metadata), 0});
    const SafetensorsHeader& after = *shards_.back().header;
    shards_.back().bytes = after.file_bytes();

    std::uint64_t from = 0, to = 0, size = 0;  // neighbours that stay neighbours
    for (const TensorInfo& tensor : after.tensors) {
      const TensorInfo& info = *input.find(tensor.name);
      const auto found = weights.find(tensor.name);
      if (found != weights.end()) {
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

  /// Orders the tasks so that threads work on different shards: writers of one file wait for each
  /// other. As many shards at a time as there are threads.
  void interleave(int threads) {
    std::vector<std::size_t> place(tasks_.size()), seen(shards_.size()), order(tasks_.size());
    for (std::size_t t = 0; t < tasks_.size(); ++t) place[t] = seen[tasks_[t].shard]++;
    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto key = [&](std::size_t t) {
      return std::tuple(tasks_[t].shard / static_cast<std::size_t>(threads), place[t]);
    };
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return key(a) < key(b); });
    std::vector<Task> ordered;
    for (const std::size_t t : order) ordered.push_back(tasks_[t]);
    tasks_ = std::move(ordered);
  }

  void plan_copy(std::size_t shard, std::uint64_t from, std::uint64_t size, std::uint64_t to) {
    constexpr std::uint64_t at_once = 32 << 20;
    for (std::uint64_t done = 0; done < size; done += at_once) {
      Task task{shard, std::min(at_once, size - done)};
      task.from = from + done, task.to = to + done;
      tasks_.push_back(task);
    }
  }

  void plan_weight(std::size_t shard, const Checkpoint::Tensor& from, std::uint64_t offset,
                   Transformed& result) {
    auto weight = std::make_unique<Weight>();
    weight->from = from, weight->offset = offset, weight->result = &result;
    const auto rows = static_cast<Index>(from.info->shape[0]);
    const auto group = result.transform()->group_rows();
    const std::uint64_t row_bytes = from.info->bytes() / from.info->shape[0];
    for (Index first = 0; first < rows; first += group) {
      Task task{shard, row_bytes * static_cast<std::uint64_t>(std::min(group, rows - first))};
      task.weight = weight.get(), task.part = weight->tasks_left++;
      task.first = first, task.count = std::min(group, rows - first);
      tasks_.push_back(task);
    }
    weight->changes.resize(weight->tasks_left);
    weights_.emplace(from.info->name, std::move(weight));
  }

  void copy(const Task& task) {
    Shard& shard = shards_[task.shard];
    shard.output->copy_from(shard.input->file(), task.from, task.bytes, task.to);
  }

  void transform(Task& task, EigenContext& ctx, bool write) {
    Weight& weight = *task.weight;
    std::shared_ptr<const WeightTransform> transform;
    {
      const std::lock_guard<std::mutex> lock(weight.mutex);
      if (!weight.transform) weight.transform = weight.result->transform();
      transform = weight.transform;
      if (--weight.tasks_left == 0) weight.transform = nullptr;  // gone after this task
    }
    WeightChange& change = weight.changes[task.part];
    const Dtype dtype = weight.from.info->dtype;
    const bool done = transform->is_simple() && weight.result->dtype == dtype &&
                      detail::with_weight_type(dtype, [&](auto type) {
                        return run_stored<decltype(type)>(*transform, task, ctx, write, change);
                      });
    if (done) return;
    change = {};
    run_panels(*transform, task, ctx, write, change);
  }

  /// The fast path. False where it does not apply: bytes that are not aligned, or results that are
  /// not all finite.
  template <class T>
  bool run_stored(const WeightTransform& transform, const Task& task, EigenContext& ctx, bool write,
                  WeightChange& change) {
    const Weight& weight = *task.weight;
    if (reinterpret_cast<std::uintptr_t>(weight.from.data()) % alignof(T) != 0) return false;
    const auto& shape = weight.from.info->shape;
    const MatrixView<const T> from{reinterpret_cast<const T*>(weight.from.data()),
                                   static_cast<Index>(shape[0]), static_cast<Index>(shape[1])};
    bool finite = true;
    transform.run_stored(ctx, task.first, task.count, from, [&](Index row, MatrixView<T> panel) {
      for (Index r = 0; r < panel.rows; ++r)
        finite = detail::add_change(from.row(row + r), panel.row(r), from.cols, change) && finite;
      if (write) write_rows(task, row, panel.data, panel.rows * panel.cols * Index(sizeof(T)));
    });
    return finite;
  }

  void run_panels(const WeightTransform& transform, const Task& task, EigenContext& ctx, bool write,
                  WeightChange& change) {
    const Checkpoint::Tensor& tensor = task.weight->from;
    const Dtype from = tensor.info->dtype, to = task.weight->result->dtype;
    const auto cols = static_cast<Index>(tensor.info->shape[1]);
    const Index from_bytes = cols * bit_size(from) / 8, to_bytes = cols * bit_size(to) / 8;
    std::vector<double> before(static_cast<std::size_t>(cols)), after(before);
    std::vector<std::byte> bytes;
    const auto read = [&](Index row, MatrixView<double> panel) {
      detail::widen(from, tensor.data() + row * from_bytes, panel.rows * cols, panel.data);
    };
    transform.run(ctx, task.first, task.count, read, [&](Index row, MatrixView<double> panel) {
      bytes.resize(static_cast<std::size_t>(panel.rows * to_bytes));
      for (Index r = 0; r < panel.rows; ++r)
        change += detail::round_row(from, tensor.data() + (row + r) * from_bytes, to, panel.row(r),
                                    cols, before.data(), after.data(), bytes.data() + r * to_bytes);
      if (write) write_rows(task, row, bytes.data(), panel.rows * to_bytes);
    });
  }

  /// Results of whole rows from `row` on to their place.
  void write_rows(const Task& task, Index row, const void* bytes, Index size) {
    const Index cols = static_cast<Index>(task.weight->from.info->shape[1]);
    const auto offset =
        static_cast<std::uint64_t>(row * cols * bit_size(task.weight->result->dtype) / 8);
    shards_[task.shard].output->write(task.weight->offset + offset, bytes,
                                      static_cast<std::uint64_t>(size));
  }

  fs::path output_name(const Shard& shard) const {
    return base_.is_file() ? Checkpoint::single_name : shard.input->path().filename();
  }

  /// The index, with the new size of all tensors.
  void write_index(const fs::path& to) const {
    if (base_.index().is_null()) return;
    std::uint64_t total = base_.total_size();
    for (const auto& [name, weight] : weights_)
      total += *detail::tensor_bytes(weight->result->dtype, weight->from.info->shape) -
               weight->from.info->bytes();
    detail::Json index = base_.index();
    index["metadata"]["total_size"] = total;
    const std::string text = index.dump(2) + "\n";
    OutputFile output(to / Checkpoint::index_name);
    output.write(0, text.data(), text.size());
    output.flush();
  }

  const Checkpoint& base_;
  std::vector<Shard> shards_;
  std::map<std::string, std::unique_ptr<Weight>> weights_;
  std::vector<Task> tasks_;
  detail::OtherFiles other_files_;
};

}  // namespace ether
