#pragma once

/// Files as bytes: mapped to be read, written at any place by several threads. POSIX.

#include <ether/error.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

ETHER_BEGIN_NAMESPACE

namespace fs = std::filesystem;

namespace detail {

inline std::string quoted(const fs::path& path) { return "'" + path.string() + "'"; }

[[noreturn]] inline void fail_io(const char* action, const fs::path& path, int code = errno) {
  fail<io_error>("cannot ", action, " ", quoted(path), ": ", std::strerror(code));
}

/// Owns a file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace detail

/// A regular file in memory, read-only, paged in as it is touched. Symbolic links are followed.
/// Movable; the bytes stay where they are. It must not be shortened while it is mapped.
class MappedFile {
 public:
  /// Throws io_error.
  explicit MappedFile(fs::path path) : path_(std::move(path)) {
    // Non-blocking, so that a pipe in a file's place is refused and not waited for.
    file_ = detail::Descriptor(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (file_.get() < 0) detail::fail_io("open", path_);
    struct stat status;
    if (::fstat(file_.get(), &status) != 0) detail::fail_io("examine", path_);
    if (!S_ISREG(status.st_mode))
      detail::fail<io_error>(detail::quoted(path_), " is not a regular file");
    size_ = static_cast<std::uint64_t>(status.st_size);
    if (size_ == 0) return;
    void* const bytes = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file_.get(), 0);
    if (bytes == MAP_FAILED) detail::fail_io("map", path_);
    bytes_ = static_cast<const std::byte*>(bytes);
  }
  MappedFile(MappedFile&& other) noexcept
      : path_(std::move(other.path_)),
        file_(std::move(other.file_)),
        bytes_(std::exchange(other.bytes_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile() {
    if (bytes_ != nullptr) ::munmap(const_cast<std::byte*>(bytes_), size_);
  }

  const fs::path& path() const { return path_; }
  const std::byte* bytes() const { return bytes_; }
  std::uint64_t size() const { return size_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes_), size_}; }
  int descriptor() const { return file_.get(); }

 private:
  fs::path path_;
  detail::Descriptor file_;
  const std::byte* bytes_ = nullptr;
  std::uint64_t size_ = 0;
};

namespace detail {

/// An output could not be written: the disk is full, or broken.
class write_error : public io_error {
 public:
  using io_error::io_error;
};

[[noreturn]] inline void fail_write(const fs::path& path, int code = errno) {
  fail<write_error>("cannot write ", quoted(path), ": ", std::strerror(code));
}

}  // namespace detail

/// A new file being written. write and copy_from may be called from several threads at once, for
/// different places.
class OutputFile {
 public:
  /// Creates `path`, which must not exist. Throws io_error.
  explicit OutputFile(fs::path path, mode_t mode = 0666) : path_(std::move(path)) {
    file_ =
        detail::Descriptor(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
    if (file_.get() < 0) detail::fail_io("create", path_);
  }

  const fs::path& path() const { return path_; }

  void write(std::uint64_t offset, const void* bytes, std::uint64_t size) {
    auto from = static_cast<const std::byte*>(bytes);
    while (size > 0) {
      const ssize_t done = ::pwrite(file_.get(), from, size, static_cast<off_t>(offset));
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) detail::fail_write(path_, done == 0 ? ENOSPC : errno);
      from += done, offset += static_cast<std::uint64_t>(done);
      size -= static_cast<std::uint64_t>(done);
    }
  }

  /// Bytes [from, from + size) of `source` to `offset`.
  void copy_from(const MappedFile& source, std::uint64_t from, std::uint64_t size,
                 std::uint64_t offset) {
    std::byte buffer[1 << 16];
    while (size > 0) {
      std::uint64_t copied = copy_in_kernel(source, from, size, offset);
      if (copied == 0) {
        const ssize_t read =
            ::pread(source.descriptor(), buffer, std::min<std::uint64_t>(size, sizeof buffer),
                    static_cast<off_t>(from));
        if (read < 0 && errno == EINTR) continue;
        if (read < 0) detail::fail_io("read", source.path());
        if (read == 0)
          detail::fail<io_error>(detail::quoted(source.path()), " ends at byte ", from,
                                 "; it was longer when it was opened");
        copied = static_cast<std::uint64_t>(read);
        write(offset, buffer, copied);
      }
      from += copied, offset += copied, size -= copied;
    }
  }

  /// Starts writing to the disk what was written here, and does not wait.
  void start_flush() {
#if defined(__linux__)
    (void)::sync_file_range(file_.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
#endif
  }
  /// Returns when everything is on the disk.
  void flush() {
    if (::fsync(file_.get()) != 0) detail::fail_write(path_);
  }

 private:
  /// Bytes copied without passing through this program; 0 where the system cannot.
  std::uint64_t copy_in_kernel(const MappedFile& source, std::uint64_t from, std::uint64_t size,
                               std::uint64_t offset) {
#if defined(__linux__)
    auto source_at = static_cast<off_t>(from), to_at = static_cast<off_t>(offset);
    const ssize_t copied =
        ::copy_file_range(source.descriptor(), &source_at, file_.get(), &to_at, size, 0);
    if (copied > 0) return static_cast<std::uint64_t>(copied);
    if (copied < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG || errno == EIO))
      detail::fail_write(path_);
#endif
    return 0;
  }

  fs::path path_;
  detail::Descriptor file_;
};

ETHER_END_NAMESPACE
