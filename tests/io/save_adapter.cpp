// An adapter to a directory and back, bit for bit.

#include "io/support/build_adapter.hpp"
#include "support/check_message.hpp"
#include "support/random.hpp"

#include <ether/io/save_adapter.hpp>

using ether::Adapter;
using ether::AdapterFile;
using ether::AdapterFileConfig;
using ether::Side;
using ether::Sides;
using ether::Variant;
using test::names_in;
using test::TemporaryDirectory;

namespace {

template <class P>
using Modules = std::vector<std::pair<std::string, Adapter<P>>>;

/// One module that fits `config`, of a weight (8, 12).
template <class P>
Modules<P> one_module(const AdapterFileConfig& config, const std::string& name = "m") {
  return {{name, test::random_adapter<P>(config.of_module(name), 8, 12, 1)}};
}

AdapterFileConfig both_sides() {
  AdapterFileConfig config;
  config.variant = Variant::ether_plus, config.sides = Sides::both;
  config.num_blocks = 4, config.num_blocks_output = 2;
  return config;
}

template <class P>
std::string bits(const Adapter<P>& adapter) {
  return {reinterpret_cast<const char*>(adapter.data()),
          static_cast<std::size_t>(adapter.size()) * sizeof(P)};
}

}  // namespace

TEMPLATE_TEST_CASE("an adapter is read as it was written", "", float, double) {
  using P = TestType;
  for (const Variant variant : {Variant::ether, Variant::ether_plus})
    for (const Sides sides : {Sides::input, Sides::output, Sides::both}) {
      const TemporaryDirectory dir;
      AdapterFileConfig config = both_sides();
      config.variant = variant, config.sides = sides;
      config.block_layout = ether::BlockLayout::row_chunk, config.strength = 0.75;
      config.num_blocks_pattern["other"] = 3;
      Modules<P> modules;
      modules.emplace_back("model.0.proj",
                           test::random_adapter<P>(config.of_module("model.0.proj"), 8, 12, 1));
      modules.emplace_back("\xc3\xa9.other",
                           test::random_adapter<P>(config.of_module("other"), 15, 9, 2));
      modules[0].second.data()[1] = std::numeric_limits<P>::denorm_min();
      modules[0].second.data()[2] = -P(0);
      ether::save_adapter(dir / "a d", config, modules);

      CHECK(names_in(dir.path()) == std::set<std::string>{"a d"});
      CHECK(names_in(dir / "a d") ==
            std::set<std::string>{"adapter_config.json", "adapter_model.safetensors"});
      const AdapterFile file(dir / "a d");
      CHECK(file.warnings().empty());
      CHECK(file.config().text() == config.text());
      CHECK(file.modules() == std::vector<std::string>{"model.0.proj", "\xc3\xa9.other"});
      CHECK(bits(file.adapter<P>("model.0.proj", 8, 12)) == bits(modules[0].second));
      CHECK(bits(file.adapter<P>("\xc3\xa9.other", 15, 9)) == bits(modules[1].second));
      CHECK(file.adapter<P>("\xc3\xa9.other", 15, 9).blocks(Side::input) == 3);
      CHECK(file.adapter<P>("model.0.proj", 8, 12).config().strength == 0.75);
      CHECK(file.width("model.0.proj", Side::input) == (sides == Sides::output ? 0 : 12));
      CHECK(file.width("model.0.proj", Side::output) == (sides == Sides::input ? 0 : 8));
      CHECK(file.tensors().header().metadata.at("format") == "pt");
      for (const ether::TensorInfo& tensor : file.tensors().tensors())
        CHECK(tensor.dtype == (sizeof(P) == 4 ? ether::Dtype::f32 : ether::Dtype::f64));
    }
}

TEST_CASE("the tensors of an adapter directory") {
  const TemporaryDirectory dir;
  const AdapterFileConfig config = both_sides();
  const auto modules = one_module<float>(config, "l.0.q");
  ether::save_adapter(dir / "a", config, modules);
  const ether::SafetensorsFile file(dir / "a/adapter_model.safetensors");
  REQUIRE(file.tensors().size() == 4);
  const auto stored = [&](const char* key, std::vector<std::uint64_t> shape, const float* values) {
    const ether::TensorInfo* const tensor = file.find(std::string("base_model.model.l.0.q.") + key);
    REQUIRE(tensor != nullptr);
    CHECK(tensor->shape == shape);
    CHECK(std::memcmp(file.data(*tensor), values, tensor->bytes()) == 0);
  };
  const Adapter<float>& a = modules[0].second;
  stored("ether_u", {4, 3}, a.input_u().data);
  stored("ether_v", {4, 3}, a.input_v().data);
  stored("ether_u_out", {2, 4}, a.output_u().data);
  stored("ether_v_out", {2, 4}, a.output_v().data);
}

TEST_CASE("an adapter that is not what its configuration says is not written") {
  const TemporaryDirectory dir;
  const AdapterFileConfig config = both_sides();
  const auto modules = one_module<float>(config);
  const auto refused = [&](const AdapterFileConfig& said, const std::string& given,
                           const std::string& other) {
    CHECK_REFUSED(ether::save_adapter(dir / "a", said, modules), ether::format_error, "module 'm'",
                  given, other);
    CHECK(names_in(dir.path()).empty());
  };
  AdapterFileConfig c = config;
  c.variant = Variant::ether;
  refused(c, "variant ether_plus", "says ether");
  c = config, c.sides = Sides::input;
  refused(c, "sides both", "says input");
  c = config, c.block_layout = ether::BlockLayout::row_chunk;
  refused(c, "layout diagonal", "says row_chunk");
  c = config, c.strength = 0.5;
  refused(c, "strength 1", "says 0.5");
  c = config, c.num_blocks = 6;
  refused(c, "input_blocks 4", "says 6");
  c = config, c.num_blocks_output = 8;
  refused(c, "output_blocks 2", "says 8");
  c = config, c.num_blocks_pattern["m"] = 2;
  refused(c, "input_blocks 4", "says 2");
  CHECK_NOTHROW(ether::save_adapter(dir / "a", config, modules));
}

TEST_CASE("what save_adapter refuses leaves nothing") {
  const TemporaryDirectory dir;
  const AdapterFileConfig config = both_sides();
  auto twice = one_module<float>(config);
  twice.push_back(twice[0]);
  CHECK_REFUSED(ether::save_adapter(dir / "a", config, twice), ether::format_error, "two tensors",
                "base_model.model.m.ether_");
  CHECK(names_in(dir.path()).empty());
  CHECK_REFUSED(ether::save_adapter(dir / "absent/a", config, one_module<float>(config)),
                ether::io_error, "absent", "does not exist");
  CHECK(names_in(dir.path()).empty());
}

TEST_CASE("a module's name that is not UTF-8 cannot be written") {
  const TemporaryDirectory dir;
  const AdapterFileConfig config = both_sides();
  CHECK_REFUSED(ether::save_adapter(dir / "a", config, one_module<float>(config, "caf\xe9")),
                ether::format_error, "UTF-8");
  CHECK(names_in(dir.path()).empty());
}

TEST_CASE("an adapter is replaced on purpose only") {
  const TemporaryDirectory dir;
  AdapterFileConfig config = both_sides();
  ether::save_adapter(dir / "a", config, one_module<float>(config));
  config.strength = 0.5;
  const auto modules = one_module<float>(config);
  CHECK_REFUSED(ether::save_adapter(dir / "a", config, modules), ether::io_error, "exists");
  CHECK(AdapterFile(dir / "a").config().strength == 1);
  ether::save_adapter(dir / "a", config, modules, true);
  CHECK(AdapterFile(dir / "a").config().strength == 0.5);
  CHECK(names_in(dir.path()) == std::set<std::string>{"a"});
}
