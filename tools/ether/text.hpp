#pragma once

/// Names and numbers as people read them, safe for a terminal and aligned in columns.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ether::tool {

/// One character of UTF-8 at the start of `text`; `valid` is false for a byte that begins none.
struct Character {
  std::uint32_t code = 0;
  std::size_t bytes = 1;
  bool valid = false;
};
Character first_character(std::string_view text);

/// `text` on one line, with control characters, characters that reorder text, and bytes that are
/// not UTF-8 written as escapes: \n, \t, \x1b, \u202e. A backslash stays as it is.
std::string printable(std::string_view text);
/// The same for a name in a table, where a backslash becomes two: no two names look alike.
std::string printable_name(std::string_view name);

/// Columns of a terminal that `text` takes.
std::size_t display_width(std::string_view text);

std::string grouped(std::uint64_t number);                    ///< 85,002
std::string human_bytes(std::uint64_t bytes);                 ///< 13.5 GB; 1 GB = 10^9 bytes
std::string human_seconds(double seconds);                    ///< 0.02 s, 12.3 s, 3 min 5 s
std::string short_number(double value);                       ///< 3 significant digits
std::string counted(std::size_t n, const std::string& noun);  ///< 1 module, 85,002 modules

/// Words of `text` in lines of at most `width` columns, each line but the first after `indent`
/// spaces. Line breaks in `text` are kept.
std::string wrapped(const std::string& text, std::size_t indent, std::size_t width = 79);

/// Whether `a` comes first, with numbers in the texts by value: layers.2 before layers.10.
bool natural_less(const std::string& a, const std::string& b);

/// Text in aligned columns, rows in natural order of their first cells. A column with no text in any
/// row is left out.
class Table {
 public:
  struct Column {
    std::string title;
    bool right = false;  ///< align to the right, as numbers are
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  /// One cell for each column.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  bool empty() const { return rows_.empty(); }
  std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace ether::tool
