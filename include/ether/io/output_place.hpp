#pragma once

/// The place of an output, checked without writing to it.

#include <ether/io/file.hpp>
#include <ether/io/refusal.hpp>

#include <sys/statvfs.h>

#include <algorithm>
#include <vector>

ETHER_BEGIN_NAMESPACE

/// The path of an output to be, and what is asked of it.
class OutputPlace {
 public:
  enum class Kind { file, directory };

  /// `path` must not exist, or `replace` be set; a directory to be replaced must hold a checkpoint
  /// or an adapter. It must not be, hold or lie inside one of `inputs`. Throws io_error for an
  /// empty path; all else waits for check.
  OutputPlace(const fs::path& path, Kind kind, bool replace, std::vector<fs::path> inputs)
      : kind_(kind), replace_(replace), inputs_(std::move(inputs)) {
    if (path.empty()) detail::fail<io_error>("the output's path is ''");
    try {
      path_ = resolved(fs::absolute(path));
    } catch (const fs::filesystem_error& e) {
      detail::fail_io("find", path, e.code().value());
    }
  }

  /// Absolute, without "." and ".."; all but the last part without links, where that exists.
  const fs::path& path() const { return path_; }
  fs::path parent() const { return path_.parent_path(); }
  Kind kind() const { return kind_; }
  bool replace() const { return replace_; }
  bool exists() const { return exists(path_); }

  /// Throws io_error where an output cannot or must not be written here, or where the disk has less
  /// than `bytes` free. Writes nothing.
  void check(std::uint64_t bytes = 0) const try {
    std::error_code ignored;
    if (!fs::is_directory(parent(), ignored))
      detail::fail<io_error>("cannot write ", detail::quoted(path_), ": the directory ",
                             detail::quoted(parent()), " does not exist");
    if (fs::is_symlink(path_, ignored))
      detail::fail<io_error>("the output ", detail::quoted(path_),
                             " is a symbolic link; give the path that it points to");
    check_inputs();
    if (exists()) check_replaced();
    if (::faccessat(AT_FDCWD, parent().c_str(), W_OK | X_OK, AT_EACCESS) != 0)
      detail::fail_io("write to", parent());
    check_space(bytes);
  } catch (const fs::filesystem_error& e) {
    detail::fail_io("write", path_, e.code().value());
  }

  /// Throws io_error where the disk has less than `bytes` free.
  void check_space(std::uint64_t bytes) const {
    struct statvfs status;
    if (::statvfs(parent().c_str(), &status) != 0) return;
    const std::uint64_t free = std::uint64_t{status.f_bavail} * status.f_frsize;
    if (free < bytes)
      detail::fail<io_error>(detail::quoted(path_), " needs ", bytes, " bytes, but its disk has ",
                             free, " free");
  }

  /// Whether something has this name, if only a link that leads nowhere.
  static bool exists(const fs::path& path) {
    std::error_code ignored;
    const fs::file_type type = fs::symlink_status(path, ignored).type();
    return type != fs::file_type::not_found && type != fs::file_type::none;
  }

 private:
  /// As the system finds it: ".." after a link leads to where the link points.
  static fs::path resolved(fs::path path) {
    while (path.has_relative_path() && (path.filename().empty() || path.filename() == "."))
      path = path.parent_path();  // "out/", "out/."
    std::error_code error;
    const bool named = path.filename() != "..";
    const fs::path known = fs::canonical(named ? path.parent_path() : path, error);
    if (error) return path.lexically_normal();  // check says what is missing
    return named ? known / path.filename() : known;
  }

  /// Whether `inner` is `outer` or lies in it; both canonical.
  static bool within(const fs::path& inner, const fs::path& outer) {
    const auto [end, rest] = std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end());
    return end == outer.end();
  }

  void check_inputs() const {
    const fs::path output = fs::canonical(parent()) / path_.filename();
    for (const fs::path& given : inputs_) {
      const fs::path input = fs::weakly_canonical(given);
      if (within(output, input) || within(input, output))
        detail::fail<io_error>("the output ", detail::quoted(path_), " is, holds or lies inside ",
                               detail::quoted(given), ", which is read; give another place");
    }
  }

  /// What is there must be what this output may replace.
  void check_replaced() const {
    const std::string output = "the output " + detail::quoted(path_);
    if (!replace_) detail::refuse<io_error>(Refusal::Option::replace, output, " exists");
    const bool is_directory = fs::is_directory(path_);
    if (is_directory != (kind_ == Kind::directory))
      detail::fail<io_error>(output, " exists and is ",
                             is_directory ? "a directory" : "not a directory",
                             "; it is not replaced by ", is_directory ? "a file" : "a directory");
    if (!is_directory || fs::is_empty(path_)) return;
    for (const char* name :
         {"model.safetensors", "model.safetensors.index.json", "adapter_config.json"})
      if (exists(path_ / name)) return;
    detail::fail<io_error>(
        output, " is a directory without a checkpoint or an adapter; it is not replaced");
  }

  fs::path path_;
  Kind kind_;
  bool replace_;
  std::vector<fs::path> inputs_;
};

ETHER_END_NAMESPACE
