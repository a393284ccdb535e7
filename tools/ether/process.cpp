#include "process.hpp"

#include "text.hpp"

#include <ether/error.hpp>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

namespace ether::tool {

namespace {

std::atomic<int> received_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler writes it");

extern "C" void remember_signal(int signal) { received_signal = signal; }

void write_error(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace

void prepare_process() {
  for (int stream = 0; stream < 3; ++stream)
    if (::fcntl(stream, F_GETFD) < 0 && errno == EBADF)
      (void)!::open("/dev/null", stream == 0 ? O_WRONLY : O_RDONLY);  // takes the lowest number
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0)
    return;
  detail::fail<io_error>("cannot write to standard output: ", std::strerror(errno));
}

void print_error(const std::string& message) { write_error("ether: " + printable(message) + "\n"); }

void print_warnings(const std::vector<std::string>& warnings) {
  for (const std::string& warning : warnings) print_error("warning: " + warning);
}

void remember_signals() {
  struct sigaction action = {};
  action.sa_handler = remember_signal;
  action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM}) ::sigaction(signal, &action, nullptr);
}

void check_signals() {
  if (const int signal = received_signal; signal != 0) throw Interrupted{signal};
}

ProgressBar::ProgressBar(bool wanted) : shown_(wanted && ::isatty(STDERR_FILENO) != 0) {}

ProgressCallback ProgressBar::callback() {
  return [this](const Progress& progress) {
    check_signals();
    update(progress);
  };
}

void ProgressBar::update(const Progress& progress) {
  const Clock::time_point now = Clock::now();
  const bool complete = progress.bytes_done >= progress.bytes_total;
  if (!shown_ || (!complete && now - last_ < std::chrono::milliseconds(100))) return;
  if (stage_ != progress.stage) stage_ = progress.stage, start_ = last_;
  last_ = now;
  const double done = static_cast<double>(progress.bytes_done);
  const double total = static_cast<double>(std::max<std::uint64_t>(progress.bytes_total, 1));
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double speed = done / std::max(seconds, 1e-6);

  char percent[16];
  std::snprintf(percent, sizeof percent, "%3.0f %%", 100 * done / total);
  const bool verifies = stage_ == Progress::Stage::verify;
  std::string line = (verifies ? "verifying  " : "") + std::string(percent) + "  " +
                     human_bytes(progress.bytes_done) + " of " + human_bytes(progress.bytes_total) +
                     "  " + human_bytes(static_cast<std::uint64_t>(speed)) + "/s  " +
                     (complete ? "waiting for the disk"
                               : human_seconds((total - done) / std::max(speed, 1.0)) + " left");
  struct winsize terminal = {};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &terminal) == 0 && terminal.ws_col > 0;
  const std::size_t columns = (known ? terminal.ws_col : 80) - std::size_t{1};
  constexpr std::size_t bar = 24;
  if (line.size() + bar + 4 <= columns) {
    const auto full = std::min(bar, static_cast<std::size_t>(done / total * bar));
    line = "[" + std::string(full, '=') + std::string(bar - full, ' ') + "]  " + line;
  }
  line.resize(std::min(line.size(), columns));
  const std::size_t written = line.size();
  if (columns_ > written) line += std::string(std::min(columns_, columns) - written, ' ');
  columns_ = written;
  write_error("\r" + line);
}

void ProgressBar::erase() {
  if (columns_ > 0) write_error("\r" + std::string(columns_, ' ') + "\r");
  columns_ = 0;
}

}  // namespace ether::tool
