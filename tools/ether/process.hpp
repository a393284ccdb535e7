#pragma once

/// What the program has from the system: standard output and error, signals, time.

#include <ether/io/progress.hpp>

#include <chrono>
#include <string>
#include <vector>

namespace ether::tool {

/// Opens /dev/null in place of a standard stream that is closed, so that no file of the job gets
/// its number and the report does not end up in it. Makes a broken pipe and the end of a file size
/// limit errors, not signals.
void prepare_process();

/// Writes to standard output, at once. Throws io_error where that cannot be done.
void print(const std::string& text);
/// One line on standard error each, with control characters escaped.
void print_error(const std::string& message);
void print_warnings(const std::vector<std::string>& warnings);

/// Thrown by a job's progress callback after SIGINT or SIGTERM.
struct Interrupted {
  int signal;
};

/// SIGINT and SIGTERM are remembered from here on; a second one ends the process.
void remember_signals();
/// Throws Interrupted if one has come.
void check_signals();

/// A bar on standard error while a job runs, erased at its end. Only if `wanted` and standard error
/// is a terminal.
class ProgressBar {
 public:
  explicit ProgressBar(bool wanted);
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar() { erase(); }

  void update(const Progress& progress);
  void erase();
  /// For a job: updates this, and throws Interrupted after a signal.
  ProgressCallback callback();

 private:
  using Clock = std::chrono::steady_clock;

  bool shown_;
  Progress::Stage stage_ = Progress::Stage::compute;
  Clock::time_point start_ = Clock::now(), last_ = {};  // of this stage; drawn last
  std::size_t columns_ = 0;                             // that are written on
};

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace ether::tool
