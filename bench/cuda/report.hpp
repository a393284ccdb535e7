#pragma once

/// Tables of results: Markdown on stdout as they are made; at the end Markdown and JSON files.

#include "statistics.hpp"

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace bench {

/// One contestant at one size. What is 0 or absent is left blank.
struct Row {
  std::vector<std::string> labels;
  Spread time;
  double bytes = 0;  ///< the fewest that a call moves through device memory
  double flops = 0;
  std::optional<double> metric;  ///< what the table's goal is about
  std::optional<double> goal;
  std::vector<double> more = {};  ///< of Table::more
};

struct Table {
  std::string id, title, note;
  std::vector<std::string> label_names;
  std::string metric;          ///< what Row::metric is
  bool goal_at_least = false;  ///< else the goal is at most so much
  struct Number {
    std::string name;
    int digits;  ///< behind the point
  };
  std::vector<Number> more = {};  ///< columns of numbers before the metric's
  std::vector<Row> rows = {};
};

class Report {
 public:
  /// A line of the header: what was measured on, and how.
  void fact(const std::string& name, const std::string& value);
  /// Bytes per second that a copy moves, reading and writing, once that is measured.
  void set_copy_rate(double rate) { copy_rate_ = rate; }
  double copy_rate() const { return copy_rate_; }

  void add(const Table& table);
  /// The run ended early, with this sentence.
  void abort(const std::string& sentence);

  std::string markdown() const { return markdown_; }
  std::string json() const;
  /// directory/name.md and name.json; makes the directory. Throws std::runtime_error.
  void write(const std::string& directory, const std::string& name) const;

 private:
  void print(const std::string& text);

  double copy_rate_ = 0;
  std::string markdown_, aborted_;
  std::vector<std::pair<std::string, std::string>> facts_;
  std::vector<Table> tables_;
};

/// "12.3", with so many digits behind the point.
std::string fixed(double value, int digits);

}  // namespace bench
