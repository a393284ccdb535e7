#pragma once

/// The files of a model's directory that hold no tensors: configuration, tokenizer and the like.

#include <ether/io/file.hpp>

#include <algorithm>
#include <set>
#include <vector>

ETHER_BEGIN_NAMESPACE
namespace detail {

class OtherFiles {
 public:
  OtherFiles() = default;
  /// All below `directory`, in order, but those in `skip` at its top. Links are followed. Throws
  /// io_error, also for a link to a directory that holds it.
  OtherFiles(const fs::path& directory, const std::set<fs::path>& skip) {
    std::vector<fs::path> open;
    add(directory, {}, skip, open);
  }

  std::uint64_t bytes() const { return bytes_; }
  /// Names those that look like weights.
  const std::vector<std::string>& warnings() const { return warnings_; }

  /// Copies all into the directory `to`, and flushes them. Throws io_error.
  void copy(const fs::path& to) const {
    for (const Entry& entry : entries_) {
      const fs::path path = to / entry.to;
      if (entry.directory) {
        if (::mkdir(path.c_str(), 0777) != 0) fail_io("create", path);
        continue;
      }
      const MappedFile input(entry.from);
      OutputFile output(path, entry.executable ? 0777 : 0666);
      output.copy_from(input, 0, input.size(), 0);
      output.flush();
    }
  }

 private:
  struct Entry {
    fs::path from;
    fs::path to;  // below the output
    bool directory = false;
    bool executable = false;
  };

  /// `open`: the directories above, canonical.
  void add(const fs::path& from, const fs::path& to, const std::set<fs::path>& skip,
           std::vector<fs::path>& open) try {
    open.push_back(fs::canonical(from));
    if (std::count(open.begin(), open.end(), open.back()) > 1)
      fail<io_error>(quoted(from), " is a link to a directory that holds it");
    std::vector<fs::path> names;
    for (const auto& entry : fs::directory_iterator(from))
      if (skip.count(entry.path().filename()) == 0) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    for (const fs::path& name : names) {
      const fs::path path = from / name;
      Entry entry{path, to / name};
      entry.directory = fs::is_directory(path);
      entry.executable =
          (fs::status(path).permissions() & fs::perms::owner_exec) != fs::perms::none;
      entries_.push_back(entry);
      if (entry.directory) {
        add(path, entry.to, {}, open);
        continue;
      }
      bytes_ += fs::file_size(path);
      for (const char* ending : {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack"})
        if (name.extension() == ending)
          warnings_.push_back(path.string() + " is copied as it is; weights in it are not changed");
    }
    open.pop_back();
  } catch (const fs::filesystem_error& e) {
    fail_io("read", e.path1(), e.code().value());
  }

  std::vector<Entry> entries_;
  std::uint64_t bytes_ = 0;
  std::vector<std::string> warnings_;
};

}  // namespace detail
ETHER_END_NAMESPACE
