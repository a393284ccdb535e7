#pragma once

/// An output that appears under its name whole or not at all.

#include <ether/io/file.hpp>

#include <sys/file.h>
#include <sys/statvfs.h>

#include <cstdio>
#include <optional>
#include <vector>

namespace ether {

namespace detail {

/// One process at a time writes an output. The lock ends with its process, however that ends.
class OutputLock {
 public:
  explicit OutputLock(fs::path path) : path_(std::move(path)) {
    for (;;) {
      file_ = Descriptor(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
      if (file_.get() < 0) fail_io("create", path_);
      if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0)
        fail<io_error>("another process is writing this output: it holds ", quoted(path_));
      struct stat here, named;  // its last owner may have removed the file in between
      if (::fstat(file_.get(), &here) == 0 && ::stat(path_.c_str(), &named) == 0 &&
          here.st_ino == named.st_ino)
        return;
    }
  }
  OutputLock(const OutputLock&) = delete;
  OutputLock& operator=(const OutputLock&) = delete;
  ~OutputLock() { ::unlink(path_.c_str()); }

 private:
  fs::path path_;
  Descriptor file_;
};

inline void flush_directory(const fs::path& path) {
  const Descriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0 || (::fsync(directory.get()) != 0 && errno != EINVAL))
    fail_io("flush", path);
}

}  // namespace detail

/// Made beside its final name, flushed to the disk, then renamed. Removed again where commit is
/// never reached; what a killed process left behind is removed by the next output of that name.
class StagedOutput {
 public:
  enum class Kind { file, directory };

  /// `path` must not exist, or `replace` be set; a directory to be replaced must hold a checkpoint or
  /// an adapter. It must not be, hold or lie inside one of `inputs`. Throws io_error.
  StagedOutput(const fs::path& path, Kind kind, bool replace, const std::vector<fs::path>& inputs)
      : path_(path.empty() ? path : fs::absolute(path).lexically_normal()),
        kind_(kind),
        replace_(replace) {
    if (path.empty()) detail::fail<io_error>("the output's path is ''");
    if (path_.filename().empty()) path_ = path_.parent_path();  // "out/"
    const fs::path parent = path_.parent_path();
    const std::string name = "." + path_.filename().string().substr(0, 230);
    staging_ = parent / (name + ".ether-partial");
    replaced_ = parent / (name + ".ether-replaced");
    try {
      check(replace, inputs);
      lock_.emplace(parent / (name + ".ether-lock"));
      // A run killed while replacing, on a file system that cannot exchange two names.
      if (exists(replaced_) && !exists(path_)) fs::rename(replaced_, path_);
      fs::remove_all(replaced_);
      fs::remove_all(staging_);
      check(replace, inputs);  // again, now that no other process can change it
      if (kind == Kind::directory) fs::create_directory(staging_);
    } catch (const fs::filesystem_error& e) {
      detail::fail_io("prepare the output", path_, e.code().value());
    }
  }
  StagedOutput(const StagedOutput&) = delete;
  StagedOutput& operator=(const StagedOutput&) = delete;
  ~StagedOutput() {
    std::error_code ignored;
    if (!committed_) fs::remove_all(staging_, ignored);
  }

  const fs::path& path() const { return path_; }
  /// Where to write: for a directory the directory, for a file the file, which is yet to be made.
  const fs::path& staging() const { return staging_; }

  /// Throws io_error where the disk has less than `bytes` free.
  void require_space(std::uint64_t bytes) const {
    struct statvfs status;
    if (::statvfs(path_.parent_path().c_str(), &status) != 0) return;
    const std::uint64_t free = std::uint64_t{status.f_bavail} * status.f_frsize;
    if (free < bytes)
      detail::fail<io_error>(detail::quoted(path_), " needs ", bytes, " bytes, but its disk has ",
                             free, " free");
  }

  /// Gives the output its name. Files in it must have been flushed. Throws io_error.
  void commit() {
    if (kind_ == Kind::directory) {
      for (const auto& entry : fs::recursive_directory_iterator(staging_))
        if (entry.is_directory()) detail::flush_directory(entry.path());
      detail::flush_directory(staging_);
    }
    if (replace_ && exists(path_))
      exchange();
    else
      create();
    committed_ = true;
    std::error_code ignored;  // the output is in place
    fs::remove_all(staging_, ignored);
    fs::remove_all(replaced_, ignored);
    detail::flush_directory(path_.parent_path());
  }

 private:
  static bool exists(const fs::path& path) {
    std::error_code ignored;
    const fs::file_type type = fs::symlink_status(path, ignored).type();
    return type != fs::file_type::not_found && type != fs::file_type::none;
  }

  /// Whether `inner` is `outer` or lies in it; both canonical.
  static bool within(const fs::path& inner, const fs::path& outer) {
    const auto [end, rest] = std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end());
    return end == outer.end();
  }

  void check(bool replace, const std::vector<fs::path>& inputs) const {
    using detail::fail;
    using detail::quoted;
    std::error_code ignored;
    const fs::path parent = path_.parent_path();
    if (!fs::is_directory(parent, ignored))
      fail<io_error>("cannot write ", quoted(path_), ": the directory ", quoted(parent),
                     " does not exist");
    if (fs::is_symlink(path_, ignored))
      fail<io_error>("the output ", quoted(path_),
                     " is a symbolic link; give the path that it points to");
    const fs::path output = fs::canonical(parent) / path_.filename();
    for (const fs::path& given : inputs) {
      const fs::path input = fs::weakly_canonical(given);
      if (within(output, input) || within(input, output))
        fail<io_error>("the output ", quoted(path_), " is, holds or lies inside ", quoted(given),
                       ", which is read; give another place");
    }
    if (!exists(path_)) return;
    if (!replace) fail<io_error>("the output ", quoted(path_), " exists; --force replaces it");
    const bool is_directory = fs::is_directory(path_);
    if (is_directory != (kind_ == Kind::directory))
      fail<io_error>("the output ", quoted(path_), " exists and is ",
                     is_directory ? "a directory" : "not a directory", "; it is not replaced by ",
                     is_directory ? "a file" : "a directory");
    if (!is_directory || fs::is_empty(path_)) return;
    for (const char* name :
         {"model.safetensors", "model.safetensors.index.json", "adapter_config.json"})
      if (exists(path_ / name)) return;
    fail<io_error>("the output ", quoted(path_),
                   " is a directory without a checkpoint or an adapter; it is not replaced");
  }

  /// Gives the output its name where nothing else has it.
  void create() {
#if defined(RENAME_NOREPLACE)
    if (::renameat2(AT_FDCWD, staging_.c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE) == 0)
      return;
#endif
    if (exists(path_))
      detail::fail<io_error>("the output ", detail::quoted(path_), " has appeared meanwhile");
    if (::rename(staging_.c_str(), path_.c_str()) != 0) detail::fail_io("create", path_);
  }

  void exchange() {
#if defined(RENAME_EXCHANGE)
    if (::renameat2(AT_FDCWD, staging_.c_str(), AT_FDCWD, path_.c_str(), RENAME_EXCHANGE) == 0)
      return;
#endif
    if (kind_ == Kind::directory && ::rename(path_.c_str(), replaced_.c_str()) != 0)
      detail::fail_io("replace", path_);
    if (::rename(staging_.c_str(), path_.c_str()) != 0) {
      const int code = errno;
      if (kind_ == Kind::directory) ::rename(replaced_.c_str(), path_.c_str());
      detail::fail_io("replace", path_, code);
    }
  }

  fs::path path_, staging_, replaced_;
  Kind kind_;
  bool replace_;
  std::optional<detail::OutputLock> lock_;
  bool committed_ = false;
};

}  // namespace ether
