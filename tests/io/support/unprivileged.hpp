#pragma once

/// Permissions as a user meets them who is not root.

#include <sys/types.h>
#include <unistd.h>

namespace test {

/// While it lives, root acts as a user without privileges.
class Unprivileged {
 public:
  Unprivileged() {
    if (::geteuid() == 0) changed_ = ::seteuid(65534) == 0;
  }
  Unprivileged(const Unprivileged&) = delete;
  Unprivileged& operator=(const Unprivileged&) = delete;
  ~Unprivileged() {
    if (changed_ && ::seteuid(0) != 0) ::_exit(99);
  }
  /// False where root cannot become anybody else: then there is nothing to be seen.
  explicit operator bool() const { return ::geteuid() != 0; }

 private:
  bool changed_ = false;
};

}  // namespace test
