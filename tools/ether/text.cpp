#include "text.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

namespace ether::tool {

namespace {

template <class... Numbers>
std::string format(const char* pattern, Numbers... numbers) {
  char buffer[80];
  const int size = std::snprintf(buffer, sizeof buffer, pattern, numbers...);
  return std::string(buffer, static_cast<std::size_t>(std::max(size, 0)));
}

struct Range {
  std::uint32_t first, last;
};
template <std::size_t N>
bool is_in(std::uint32_t code, const Range (&ranges)[N]) {
  return std::any_of(ranges, ranges + N,
                     [&](const Range& r) { return code >= r.first && code <= r.last; });
}

// Control characters, line separators, and what changes the direction of the text around it.
constexpr Range not_shown[] = {{0x00, 0x1f},     {0x7f, 0x9f},     {0x61c, 0x61c},
                               {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f},
                               {0xfeff, 0xfeff}};
constexpr Range zero_wide[] = {{0x300, 0x36f}, {0xfe00, 0xfe0f}};
constexpr Range two_wide[] = {
    {0x1100, 0x115f}, {0x2e80, 0xa4cf}, {0xac00, 0xd7a3},   {0xf900, 0xfaff},   {0xfe30, 0xfe6f},
    {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300, 0x1f64f}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd}};

std::string escape(std::string_view text, bool double_backslashes) {
  std::string safe;
  while (!text.empty()) {
    const Character c = first_character(text);
    if (!c.valid)
      safe += format("\\x%02x", static_cast<unsigned>(static_cast<unsigned char>(text[0])));
    else if (c.code == '\n')
      safe += "\\n";
    else if (c.code == '\t')
      safe += "\\t";
    else if (c.code == '\\' && double_backslashes)
      safe += "\\\\";
    else if (is_in(c.code, not_shown))
      safe += format(c.code < 0x80 ? "\\x%02x" : "\\u%04x", c.code);
    else
      safe += text.substr(0, c.bytes);
    text.remove_prefix(c.bytes);
  }
  return safe;
}

}  // namespace

Character first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const std::uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1, true};
  const std::size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  std::uint32_t code = lead & (0xffu >> (bytes + 1));
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr std::uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  if (lead < 0xc2 || lead > 0xf4 || code < least[bytes] || code > 0x10ffff || surrogate) return {};
  return {code, bytes, true};
}

std::string printable(std::string_view text) { return escape(text, false); }
std::string printable_name(std::string_view name) { return escape(name, true); }

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  while (!text.empty()) {
    const Character c = first_character(text);
    width += is_in(c.code, zero_wide) ? 0 : is_in(c.code, two_wide) ? 2 : 1;
    text.remove_prefix(c.bytes);
  }
  return width;
}

std::string grouped(std::uint64_t number) {
  std::string digits = std::to_string(number);
  for (std::size_t at = digits.size(); at > 3;) digits.insert(at -= 3, ",");
  return digits;
}

std::string human_bytes(std::uint64_t bytes) {
  if (bytes < 1000) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes);
  const char* const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
  std::size_t unit = 0;
  for (value /= 1000; value >= 999.5 && unit + 1 < std::size(units); value /= 1000) ++unit;
  return format(value < 9.995   ? "%.2f"
                : value < 99.95 ? "%.1f"
                                : "%.0f",
                value) +
         " " + units[unit];
}

std::string human_seconds(double seconds) {
  if (seconds < 9.95) return format(seconds < 0.995 ? "%.2f s" : "%.1f s", seconds);
  const auto whole = static_cast<long long>(std::llround(seconds));
  if (whole < 60) return format("%.0f s", seconds);
  if (whole < 3600) return format("%lld min %lld s", whole / 60, whole % 60);
  return format("%lld h %lld min", whole / 3600, whole / 60 % 60);
}

std::string short_number(double value) { return format("%.3g", value); }

std::string counted(std::size_t n, const std::string& noun) {
  return grouped(n) + " " + noun + (n == 1 ? "" : "s");
}

std::string wrapped(const std::string& text, std::size_t indent, std::size_t width) {
  std::string lines;
  std::size_t column = indent;
  bool line_begins = true;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] == '\n' || text[at] == ' ') {
      if (text[at++] == '\n') {
        lines += "\n";
        if (at < text.size() && text[at] != '\n') lines += std::string(indent, ' ');
        column = indent, line_begins = true;
      }
      continue;
    }
    const std::string word = text.substr(at, text.find_first_of(" \n", at) - at);
    at += word.size();
    const std::size_t size = display_width(word);
    if (!line_begins && column + 1 + size > width) {
      lines += "\n" + std::string(indent, ' ');
      column = indent, line_begins = true;
    }
    if (!line_begins) lines += ' ', ++column;
    lines += word, column += size, line_begins = false;
  }
  return lines;
}

bool natural_less(const std::string& a, const std::string& b) {
  return ::strverscmp(a.c_str(), b.c_str()) < 0;
}

std::string Table::text() const {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    std::size_t widest = 0;
    for (const auto& row : rows_) widest = std::max(widest, display_width(row[c]));
    widths.push_back(widest == 0 ? 0 : std::max(widest, display_width(columns_[c].title)));
  }
  std::string text;
  const auto add_line = [&](const auto& cell_of) {
    std::string line;
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      if (widths[c] == 0) continue;
      const std::string& cell = cell_of(c);
      const std::string space(widths[c] - display_width(cell), ' ');
      if (!line.empty()) line += "  ";
      line += columns_[c].right ? space + cell : cell + space;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  add_line([&](std::size_t c) -> const std::string& { return columns_[c].title; });
  std::vector<const std::vector<std::string>*> sorted;
  for (const auto& row : rows_) sorted.push_back(&row);
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) {
    return natural_less(a->front(), b->front());
  });
  for (const auto* row : sorted)
    add_line([&](std::size_t c) -> const std::string& { return (*row)[c]; });
  return text;
}

}  // namespace ether::tool
