#pragma once

/// A copy of a checkpoint in which some weights are transformed: the same files, every other byte
/// as it was.

#include <ether/io/other_files.hpp>
#include <ether/io/parallel.hpp>
#include <ether/io/progress.hpp>
#include <ether/io/rewrite_plan.hpp>

ETHER_BEGIN_NAMESPACE

class CheckpointRewrite {
 public:
  /// `weights` are tensors of `base`. Both must outlive this.
  CheckpointRewrite(const Checkpoint& base, TransformedWeights& weights)
      : base_(base), plan_(base, weights) {
    if (base.is_file()) return;
    std::set<fs::path> written;
    for (const Shard& shard : plan_.shards) written.insert(output_name(shard));
    if (!base.index().is_null()) written.insert(Checkpoint::index_name);
    other_files_ = detail::OtherFiles(base.path(), written);
  }

  /// Bytes of the output.
  std::uint64_t bytes() const {
    std::uint64_t bytes = other_files_.bytes() + index_text().size();
    for (const Shard& shard : plan_.shards) bytes += shard.bytes;
    return bytes;
  }
  const std::vector<std::string>& warnings() const { return other_files_.warnings(); }

  /// Writes into the directory `to`, or the file where the base is one and `to_file`; only computes
  /// where `to` is empty. `flush`: returns when all is on the disk. Throws io_error, and what
  /// `progress` throws, with nothing to be relied on in `to`.
  void run(const fs::path& to, bool to_file, int threads, bool flush,
           const ProgressCallback& progress) {
    const bool write = !to.empty();
    if (write)
      for (Shard& shard : plan_.shards) {
        shard.output.emplace(to_file ? to : to / output_name(shard));
        if (!shard.header) continue;
        const std::string text = shard.header->text();
        shard.output->write(0, text.data(), text.size());
      }
    Progress state{0, 0};
    for (const Task& task : plan_.tasks) state.bytes_total += task.bytes;
    std::mutex mutex;
    constexpr std::uint64_t flush_bytes = 32 << 20;
    std::uint64_t flushed = 0;
    threads = detail::threads_in_memory(threads, plan_.thread_bytes, plan_.largest_weight);
    plan_.interleave(threads);
    std::vector<EigenContext> contexts;
    for (int t = 0; t < threads; ++t) contexts.emplace_back(1);

    detail::for_each_task(threads, plan_.tasks.size(), [&](std::size_t index, int thread) {
      Task& task = plan_.tasks[index];
      if (task.weight != nullptr)
        transform(task, contexts[static_cast<std::size_t>(thread)], write);
      else if (write)
        copy(task);
      const std::lock_guard<std::mutex> lock(mutex);
      state.bytes_done += task.bytes;
      if (write && flush && state.bytes_done - flushed > flush_bytes) {
        flushed = state.bytes_done;
        plan_.shards[task.shard].output->start_flush();  // the disk works while we compute
      }
      if (progress) progress(state);
    });
    for (const auto& [name, weight] : plan_.weights)  // in order, whichever thread was first
      for (const WeightChange& change : weight->changes) weight->result->change += change;
    if (!write) return;
    if (!base_.is_file()) {
      other_files_.copy(to);
      write_index(to);
    }
    if (flush)
      for (Shard& shard : plan_.shards) shard.output->flush();
    if (progress) progress(state);
  }

 private:
  using Shard = detail::RewritePlan::Shard;
  using Weight = detail::RewritePlan::Weight;
  using Task = detail::RewritePlan::Task;

  void copy(const Task& task) {
    Shard& shard = plan_.shards[task.shard];
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
    const auto rows_of = [&](Index row, MatrixView<T> panel) {
      return from.middle_rows(row, panel.rows);
    };
    transform.run<T>(ctx, task.first, task.count, rows_of, [&](Index row, auto results) {
      for (Index r = 0; r < results.rows; ++r)
        finite = detail::add_change(from.row(row + r), results.row(r), from.cols, change) && finite;
      if (write) write_rows(task, row, results.data, results.rows * from.cols * Index(sizeof(T)));
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
    const auto rows_of = [&](Index row, MatrixView<double> panel) {
      detail::widen(from, tensor.data() + row * from_bytes, panel.rows * cols, panel.data);
      return MatrixView<const double>(panel);
    };
    transform.run<double>(ctx, task.first, task.count, rows_of, [&](Index row, auto results) {
      bytes.resize(static_cast<std::size_t>(results.rows * to_bytes));
      for (Index r = 0; r < results.rows; ++r)
        change +=
            detail::round_row(from, tensor.data() + (row + r) * from_bytes, to, results.row(r),
                              cols, before.data(), after.data(), bytes.data() + r * to_bytes);
      if (write) write_rows(task, row, bytes.data(), results.rows * to_bytes);
    });
  }

  /// Results of whole rows from `row` on to their place.
  void write_rows(const Task& task, Index row, const void* bytes, Index size) {
    const Index cols = static_cast<Index>(task.weight->from.info->shape[1]);
    const auto offset =
        static_cast<std::uint64_t>(row * cols * bit_size(task.weight->result->dtype) / 8);
    plan_.shards[task.shard].output->write(task.weight->offset + offset, bytes,
                                           static_cast<std::uint64_t>(size));
  }

  fs::path output_name(const Shard& shard) const {
    return base_.is_file() ? Checkpoint::single_name : shard.input->path().filename();
  }

  /// The index, with the new size of all tensors; empty where there is none.
  std::string index_text() const {
    if (base_.index().is_null()) return {};
    std::uint64_t total = base_.total_size();
    for (const auto& [name, weight] : plan_.weights)
      total += *detail::tensor_bytes(weight->result->dtype, weight->from.info->shape) -
               weight->from.info->bytes();
    detail::Json index = base_.index();
    index["metadata"]["total_size"] = total;
    return index.dump(2) + "\n";
  }

  void write_index(const fs::path& to) const {
    const std::string text = index_text();
    if (text.empty()) return;
    OutputFile output(to / Checkpoint::index_name);
    output.write(0, text.data(), text.size());
    output.flush();
  }

  const Checkpoint& base_;
  detail::RewritePlan plan_;
  detail::OtherFiles other_files_;
};

ETHER_END_NAMESPACE
