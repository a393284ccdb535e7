#pragma once

/// An output that appears under its name whole or not at all.

#include <ether/io/output_place.hpp>

#include <sys/file.h>

#include <cstdio>
#include <optional>

ETHER_BEGIN_NAMESPACE

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

inline Descriptor open_directory(const fs::path& path) {
  return Descriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

inline void flush_directory(const fs::path& path) {
  const Descriptor directory = open_directory(path);
  if (directory.get() < 0 || (::fsync(directory.get()) != 0 && errno != EINVAL))
    fail_io("flush", path);
}

}  // namespace detail

/// Made beside its final name, flushed to the disk, then renamed. Removed again where commit is
/// never reached; what a killed process left behind is removed by the next output of that name.
class StagedOutput {
 public:
  using Kind = OutputPlace::Kind;

  /// Throws io_error where place.check does, and where another process writes there.
  explicit StagedOutput(OutputPlace place) : place_(std::move(place)) {
    const fs::path parent = place_.parent();
    const std::string name = "." + path().filename().string().substr(0, 230);
    staging_ = parent / (name + ".ether-partial");
    replaced_ = parent / (name + ".ether-replaced");
    place_.check();
    try {
      lock_.emplace(parent / (name + ".ether-lock"));
      // A run killed while replacing, on a file system that cannot exchange two names.
      if (OutputPlace::exists(replaced_) && !place_.exists()) fs::rename(replaced_, path());
      fs::remove_all(replaced_);
      fs::remove_all(staging_);
      place_.check();  // again, now that no other process can change it
      if (place_.kind() == Kind::directory) fs::create_directory(staging_);
      parent_ = detail::open_directory(parent);  // none where it may not be read
    } catch (const fs::filesystem_error& e) {
      detail::fail_io("prepare the output", path(), e.code().value());
    }
  }
  StagedOutput(const fs::path& path, Kind kind, bool replace, const std::vector<fs::path>& inputs)
      : StagedOutput(OutputPlace(path, kind, replace, inputs)) {}
  StagedOutput(const StagedOutput&) = delete;
  StagedOutput& operator=(const StagedOutput&) = delete;
  ~StagedOutput() {
    std::error_code ignored;
    if (!committed_) fs::remove_all(staging_, ignored);
  }

  const fs::path& path() const { return place_.path(); }
  /// Where to write: for a directory the directory, for a file the file, which is yet to be made.
  const fs::path& staging() const { return staging_; }

  /// Calls write(), which fills staging() with `bytes` bytes. Throws io_error that names them where
  /// the disk has less free, before or while it writes.
  template <class Write>
  void fill(std::uint64_t bytes, Write&& write) const {
    place_.check_space(bytes);
    try {
      write();
    } catch (const detail::write_error& e) {
      detail::fail<io_error>(e.what(), "; the output needs ", bytes, " bytes");
    }
  }

  /// Gives the output its name. Files in it must have been flushed. Throws io_error.
  void commit() {
    if (place_.kind() == Kind::directory) {
      for (const auto& entry : fs::recursive_directory_iterator(staging_))
        if (entry.is_directory()) detail::flush_directory(entry.path());
      detail::flush_directory(staging_);
    }
    if (place_.replace() && place_.exists())
      exchange();
    else
      create();
    committed_ = true;
    std::error_code ignored;  // the output is in place
    fs::remove_all(staging_, ignored);
    fs::remove_all(replaced_, ignored);
    if (parent_.get() >= 0) (void)::fsync(parent_.get());
  }

 private:
  /// Gives the output its name where nothing else has it.
  void create() {
#if defined(RENAME_NOREPLACE)
    if (::renameat2(AT_FDCWD, staging_.c_str(), AT_FDCWD, path().c_str(), RENAME_NOREPLACE) == 0)
      return;
#endif
    if (place_.exists())
      detail::fail<io_error>("the output ", detail::quoted(path()), " has appeared meanwhile");
    if (::rename(staging_.c_str(), path().c_str()) != 0) detail::fail_io("create", path());
  }

  void exchange() {
#if defined(RENAME_EXCHANGE)
    if (::renameat2(AT_FDCWD, staging_.c_str(), AT_FDCWD, path().c_str(), RENAME_EXCHANGE) == 0)
      return;
#endif
    if (place_.kind() == Kind::directory && ::rename(path().c_str(), replaced_.c_str()) != 0)
      detail::fail_io("replace", path());
    if (::rename(staging_.c_str(), path().c_str()) != 0) {
      const int code = errno;
      if (place_.kind() == Kind::directory) ::rename(replaced_.c_str(), path().c_str());
      detail::fail_io("replace", path(), code);
    }
  }

  OutputPlace place_;
  fs::path staging_, replaced_;
  std::optional<detail::OutputLock> lock_;
  detail::Descriptor parent_;
  bool committed_ = false;
};

ETHER_END_NAMESPACE
