/// json_value POINTER: reads one JSON document from standard input and prints what is there, for
/// example at /modules/0/name; a string as it is, else JSON. Exit status 1 where there is none.

#include <nlohmann/json.hpp>

#include <iostream>

int main(int argc, char** argv) try {
  const auto json = nlohmann::json::parse(std::cin);
  const auto& value = json.at(nlohmann::json::json_pointer(argc > 1 ? argv[1] : ""));
  std::cout << (value.is_string() ? value.get<std::string>() : value.dump()) << "\n";
} catch (const std::exception& e) {
  std::cerr << "json_value: " << e.what() << "\n";
  return 1;
}
