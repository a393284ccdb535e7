#include "report.hpp"

#if __has_include(<nlohmann/json.hpp>)
#include <nlohmann/json.hpp>
#define ETHER_BENCH_JSON 1
#else
#define ETHER_BENCH_JSON 0
#endif

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>

namespace bench {

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

namespace {

double rate(double amount, const Row& row) {
  return row.time.median > 0 ? amount / row.time.median : 0;
}

bool meets(const Table& table, const Row& row) {
  return table.goal_at_least ? *row.metric >= *row.goal : *row.metric <= *row.goal;
}

/// A column is printed where some row has something in it.
struct Column {
  std::string name;
  std::function<std::string(const Row&)> cell;
};

std::string microseconds(double seconds) {
  return seconds > 0 ? fixed(seconds * 1e6, seconds < 1e-4 ? 2 : 1) : "";
}

std::vector<Column> columns(const Table& table, double copy_rate) {
  const auto positive = [](double value, int digits) {
    return value > 0 ? fixed(value, digits) : std::string();
  };
  std::vector<Column> all;
  for (std::size_t i = 0; i < table.label_names.size(); ++i)
    all.push_back({table.label_names[i], [i](const Row& r) {
                     return i < r.labels.size() ? r.labels[i] : std::string();
                   }});
  all.push_back({"µs", [](const Row& r) { return microseconds(r.time.median); }});
  all.push_back({"p10", [](const Row& r) { return microseconds(r.time.p10); }});
  all.push_back({"p90", [](const Row& r) { return microseconds(r.time.p90); }});
  all.push_back({"GB/s", [=](const Row& r) { return positive(rate(r.bytes, r) * 1e-9, 0); }});
  all.push_back({"of copy", [=](const Row& r) {
                   return copy_rate > 0 ? positive(rate(r.bytes, r) / copy_rate, 2) : "";
                 }});
  all.push_back({"TFLOP/s", [=](const Row& r) { return positive(rate(r.flops, r) * 1e-12, 1); }});
  for (std::size_t i = 0; i < table.more.size(); ++i)
    all.push_back({table.more[i].name, [i, &number = table.more[i]](const Row& r) {
                     return i < r.more.size() ? fixed(r.more[i], number.digits) : std::string();
                   }});
  all.push_back(
      {table.metric, [](const Row& r) { return r.metric ? fixed(*r.metric, 3) : std::string(); }});
  all.push_back({"goal", [&table](const Row& r) {
                   if (!r.goal || !r.metric) return std::string();
                   return (table.goal_at_least ? "≥ " : "≤ ") + fixed(*r.goal, 2) +
                          (meets(table, r) ? " met" : " **missed**");
                 }});
  const auto unused = [&](const Column& column) {
    return std::all_of(table.rows.begin(), table.rows.end(),
                       [&](const Row& row) { return column.cell(row).empty(); });
  };
  all.erase(std::remove_if(all.begin(), all.end(), unused), all.end());
  return all;
}

std::string line(const std::vector<std::string>& cells) {
  std::string text = "|";
  for (const std::string& cell : cells) text += " " + cell + " |";
  return text + "\n";
}

}  // namespace

void Report::print(const std::string& text) {
  markdown_ += text;
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

void Report::fact(const std::string& name, const std::string& value) {
  if (facts_.empty()) print("# ether_cuda_bench\n\n");
  facts_.emplace_back(name, value);
  print("* " + name + ": " + value + "\n");
}

void Report::add(const Table& table) {
  tables_.push_back(table);
  std::string text = "\n## " + table.id + ": " + table.title + "\n\n";
  if (!table.note.empty()) text += table.note + "\n\n";
  const auto used = columns(table, copy_rate_);
  std::vector<std::string> cells, rule;
  for (const Column& column : used) cells.push_back(column.name);
  for (std::size_t i = 0; i < used.size(); ++i)
    rule.push_back(i < table.label_names.size() ? "---" : "---:");
  text += line(cells) + line(rule);
  for (const Row& row : table.rows) {
    cells.clear();
    for (const Column& column : used) cells.push_back(column.cell(row));
    text += line(cells);
  }
  print(text);
}

void Report::abort(const std::string& sentence) {
  aborted_ = sentence;
  print("\n**Aborted:** " + sentence + "\n");
}

std::string Report::json() const {
#if ETHER_BENCH_JSON
  nlohmann::ordered_json root;
  for (const auto& [name, value] : facts_) root["header"][name] = value;
  root["copy_bytes_per_second"] = copy_rate_;
  if (!aborted_.empty()) root["aborted"] = aborted_;
  root["tables"] = nlohmann::ordered_json::array();
  for (const Table& table : tables_) {
    nlohmann::ordered_json t = {
        {"id", table.id}, {"title", table.title}, {"note", table.note}, {"metric", table.metric}};
    t["rows"] = nlohmann::ordered_json::array();
    for (const Row& row : table.rows) {
      nlohmann::ordered_json r;
      for (std::size_t i = 0; i < row.labels.size() && i < table.label_names.size(); ++i)
        r[table.label_names[i]] = row.labels[i];
      if (row.time.median > 0)
        r["seconds"] = {{"median", row.time.median}, {"p10", row.time.p10}, {"p90", row.time.p90}};
      if (row.bytes > 0) r["bytes"] = row.bytes;
      if (row.flops > 0) r["flops"] = row.flops;
      for (std::size_t i = 0; i < row.more.size() && i < table.more.size(); ++i)
        r[table.more[i].name] = row.more[i];
      if (row.metric) r["metric"] = *row.metric;
      if (row.goal && row.metric) {
        r["goal"] = *row.goal;
        r["met"] = meets(table, row);
      }
      t["rows"].push_back(std::move(r));
    }
    root["tables"].push_back(std::move(t));
  }
  return root.dump(1) + "\n";
#else
  return {};
#endif
}

void Report::write(const std::string& directory, const std::string& name) const {
  std::filesystem::create_directories(directory);
  const auto save = [&](const char* ending, const std::string& text) {
    const std::filesystem::path path = std::filesystem::path(directory) / (name + ending);
    std::ofstream file(path, std::ios::binary);
    file << text;
    file.close();
    if (!file) throw std::runtime_error("cannot write " + path.string());
    std::fprintf(stderr, "wrote %s\n", path.c_str());
  };
  save(".md", markdown_);
  if (ETHER_BENCH_JSON) save(".json", json());
}

}  // namespace bench
