#pragma once

/// What a dry run says of the output's place.

#include <ether/io/file.hpp>

#include <sys/statvfs.h>

#include <algorithm>
#include <vector>

namespace ether::tool {

/// Throws io_error where writing `bytes` to `output` would be refused; writes nothing.
inline void check_output(const fs::path& output, bool replace, const std::vector<fs::path>& inputs,
                         std::uint64_t bytes) {
  using detail::fail;
  using detail::quoted;
  fs::path path = fs::absolute(output).lexically_normal();
  if (path.filename().empty()) path = path.parent_path();  // "out/"
  const fs::path parent = path.parent_path();
  if (!fs::is_directory(parent))
    fail<io_error>("cannot write ", quoted(path), ": the directory ", quoted(parent),
                   " does not exist");
  if (::access(parent.c_str(), W_OK | X_OK) != 0) detail::fail_io("write to", parent);
  const fs::path real = fs::canonical(parent) / path.filename();
  const auto within = [](const fs::path& inner, const fs::path& outer) {
    return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first ==
           outer.end();
  };
  for (const fs::path& given : inputs) {
    const fs::path input = fs::canonical(given);
    if (within(real, input) || within(input, real))
      fail<io_error>("the output ", quoted(path), " is, holds or lies inside ", quoted(given),
                     ", which is read; give another place");
  }
  if (!replace && fs::symlink_status(path).type() != fs::file_type::not_found)
    fail<io_error>("the output ", quoted(path), " exists; --force replaces it");
  struct statvfs disk = {};
  if (::statvfs(parent.c_str(), &disk) != 0) return;
  const std::uint64_t free = std::uint64_t{disk.f_bavail} * disk.f_frsize;
  if (free < bytes)
    fail<io_error>(quoted(path), " needs ", bytes, " bytes, but its disk has ", free, " free");
}

}  // namespace ether::tool
