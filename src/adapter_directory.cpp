#include <ether/adapter_directory.hpp>
#include <ether/io/adapter_file.hpp>

ETHER_BEGIN_INTERFACE

struct AdapterDirectory::Files {
  explicit Files(const std::string& path) : file(path), modules(file.modules()) {}
  AdapterFile file;
  std::vector<std::string> modules;
};

AdapterDirectory::AdapterDirectory(const std::string& path)
    : files_(std::make_unique<Files>(path)) {}
AdapterDirectory::~AdapterDirectory() = default;
AdapterDirectory::AdapterDirectory(AdapterDirectory&&) noexcept = default;
AdapterDirectory& AdapterDirectory::operator=(AdapterDirectory&&) noexcept = default;

const std::vector<std::string>& AdapterDirectory::modules() const { return files_->modules; }
const std::vector<std::string>& AdapterDirectory::warnings() const {
  return files_->file.warnings();
}
Adapter<float> AdapterDirectory::adapter(const std::string& module, Index out, Index in) const {
  return files_->file.adapter<float>(module, out, in);
}

ETHER_END_INTERFACE
