#pragma once

/// JSON read strictly: by nlohmann/json, which also takes duplicate keys, what follows a NUL
/// byte, and any depth; those are refused here.

#include <ether/error.hpp>

#include <nlohmann/json.hpp>

#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

ETHER_BEGIN_NAMESPACE
namespace detail {

using Json = nlohmann::json;

/// As deep as the reference implementation of safetensors goes.
inline constexpr int max_json_depth = 127;

/// Calls member(key, value) for each member of the JSON object that `text` is, in order, keeping
/// none. `what` names the text in messages. Throws format_error.
template <class Member>
void parse_json_object(std::string_view text, const std::string& what, Member&& member) {
  constexpr const char* spaces = " \t\n\r";
  const std::size_t start = text.find_first_not_of(spaces);
  if (start == text.npos || text[start] != '{')
    fail<format_error>(what, " is not a JSON object: it does not begin with '{'");
  if (const std::size_t at = text.find('\0'); at != text.npos)
    fail<format_error>(what, " is not JSON: byte ", at, " is NUL");

  std::vector<std::set<std::string>> keys;  // of each object that is open
  std::string key;                          // of the outermost one's member at hand
  const auto event = [&](int depth, Json::parse_event_t type, Json& parsed) {
    const bool opens =
        type == Json::parse_event_t::object_start || type == Json::parse_event_t::array_start;
    if (opens && depth >= max_json_depth)
      fail<format_error>(what, " nests deeper than ", max_json_depth, " brackets");
    if (type == Json::parse_event_t::object_start) {
      keys.emplace_back();
    } else if (type == Json::parse_event_t::key) {
      const auto& name = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(name).second)
        fail<format_error>(what, " has the key '", name, "' twice");
      if (keys.size() == 1) key = name;
    } else if (type != Json::parse_event_t::array_start) {  // a value is complete
      if (type == Json::parse_event_t::object_end) keys.pop_back();
      if (depth == 1) {
        member(std::as_const(key), std::move(parsed));
        return false;  // forget it
      }
    }
    return true;
  };
  try {
    const Json nothing = Json::parse(text.begin(), text.end(), event);
  } catch (const Json::exception& e) {
    std::string reason = e.what();  // "[json.exception.parse_error.101] parse error at ..."
    if (const auto end = reason.find("] "); end != reason.npos) reason.erase(0, end + 2);
    fail<format_error>(what, " is not JSON: ", reason);
  }
}

/// JSON as text. Throws format_error where a string in it is not UTF-8.
template <class Value>
std::string json_text(const Value& json, const std::string& what, int indent = -1) {
  try {
    return json.dump(indent);
  } catch (const Json::exception&) {
    fail<format_error>(what, " has a name or a value that is not UTF-8");
  }
}

}  // namespace detail
ETHER_END_NAMESPACE
