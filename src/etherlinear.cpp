// The C interface: checks pointers, and turns exceptions into statuses.

#include <etherlinear.h>

#include "layer.hpp"

#include <ether/adapter_directory.hpp>
#include <ether/io/merge_checkpoint.hpp>

#include <new>
#include <string>

struct etherlinear_adapter {
  ether::Adapter<float> adapter;
};
struct etherlinear_directory {
  ether::AdapterDirectory directory;
};
struct etherlinear_context {
  std::unique_ptr<ether::compiled::Context> context;
};
struct etherlinear_layer {
  std::unique_ptr<ether::compiled::Layer> layer;
};

namespace {

using ether::Index;
using ether::Side;
using ether::compiled::Matrix;
using ether::compiled::MutableMatrix;
using ether::detail::fail;

std::string& message() {
  thread_local std::string text;
  return text;
}

etherlinear_status failed(etherlinear_status status, const char* sentence) noexcept {
  try {
    message() = sentence;
  } catch (...) {
    message().clear();
  }
  return status;
}

/// Runs `call`; what it throws becomes a status and a message.
template <class Call>
etherlinear_status guarded(Call&& call) noexcept {
  try {
    call();
    return ETHERLINEAR_OK;
  } catch (const ether::shape_error& e) {
    return failed(ETHERLINEAR_SHAPE_ERROR, e.what());
  } catch (const ether::parameter_error& e) {
    return failed(ETHERLINEAR_PARAMETER_ERROR, e.what());
  } catch (const ether::ill_conditioned& e) {
    return failed(ETHERLINEAR_ILL_CONDITIONED, e.what());
  } catch (const ether::io_error& e) {
    return failed(ETHERLINEAR_IO_ERROR, e.what());
  } catch (const ether::format_error& e) {
    return failed(ETHERLINEAR_FORMAT_ERROR, e.what());
  } catch (const std::bad_alloc&) {
    return failed(ETHERLINEAR_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& e) {
    return failed(ETHERLINEAR_OTHER_ERROR, e.what());
  } catch (...) {
    return failed(ETHERLINEAR_OTHER_ERROR, "an unknown error");
  }
}

void check_pointer(const char* name, const void* pointer) {
  if (pointer == nullptr) fail<ether::parameter_error>(name, " is NULL; give it memory");
}

/// One of an enum's values, which C does not check.
template <class Ours, class Theirs>
Ours to_enum(const char* name, Theirs value, Ours last) {
  const int number = static_cast<int>(value);
  if (number < 0 || number > static_cast<int>(last))
    fail<ether::parameter_error>(name, " is ", number, "; it must be 0 to ",
                                 static_cast<int>(last));
  return static_cast<Ours>(number);
}

ether::AdapterConfig to_config(const etherlinear_config& c) {
  ether::AdapterConfig config;
  config.variant = to_enum("variant", c.variant, ether::Variant::ether_plus);
  config.sides = to_enum("sides", c.sides, ether::Sides::both);
  config.layout = to_enum("layout", c.layout, ether::BlockLayout::row_chunk);
  config.input_blocks = c.input_blocks;
  config.output_blocks = c.output_blocks;
  config.strength = c.strength;
  return config;
}

// The C enums' values are ours.
static_assert(static_cast<int>(ether::Variant::ether_plus) == ETHERLINEAR_ETHER_PLUS);
static_assert(static_cast<int>(ether::Sides::output) == ETHERLINEAR_OUTPUT);
static_assert(static_cast<int>(ether::Sides::both) == ETHERLINEAR_BOTH);
static_assert(static_cast<int>(ether::BlockLayout::row_chunk) == ETHERLINEAR_ROW_CHUNK);

ether::compiled::Context* context_of(etherlinear_context* context) {
  return context == nullptr ? nullptr : context->context.get();
}

}  // namespace

const char* etherlinear_message(void) { return message().c_str(); }
const char* etherlinear_version(void) {
#define ETHER_TEXT(major, minor, patch) ETHER_TEXT_EXPANDED(major, minor, patch)
#define ETHER_TEXT_EXPANDED(major, minor, patch) #major "." #minor "." #patch
  return ETHER_TEXT(ETHER_VERSION_MAJOR, ETHER_VERSION_MINOR, ETHER_VERSION_PATCH);
}
const char* etherlinear_instructions(void) { return ether::compiled::kernels().instructions; }

etherlinear_status etherlinear_adapter_create(const etherlinear_config* config, int64_t out,
                                              int64_t in, const float* input_u,
                                              const float* input_v, const float* output_u,
                                              const float* output_v,
                                              etherlinear_adapter** adapter) {
  return guarded([&] {
    check_pointer("config", config);
    check_pointer("adapter", adapter);
    ether::Adapter<float> made(to_config(*config), out, in);
    const struct {
      const char* name;
      const float* from;
      Side side;
      Index term;
    } vectors[] = {{"input_u", input_u, Side::input, 0},
                   {"input_v", input_v, Side::input, 1},
                   {"output_u", output_u, Side::output, 0},
                   {"output_v", output_v, Side::output, 1}};
    for (const auto& vector : vectors) {
      const bool wanted = vector.term < made.terms(vector.side);
      if (wanted) check_pointer(vector.name, vector.from);
      if (!wanted && vector.from != nullptr)
        fail<ether::parameter_error>(vector.name, " is given, but the config has none; give NULL");
      if (wanted)
        std::copy_n(vector.from, made.width(vector.side),
                    made.parameters(vector.side).row(vector.term));
    }
    check_adapter(made).require();
    *adapter = new etherlinear_adapter{std::move(made)};
  });
}
etherlinear_status etherlinear_adapter_set_strength(etherlinear_adapter* adapter, double strength) {
  return guarded([&] {
    check_pointer("adapter", adapter);
    adapter->adapter.set_strength(strength);
  });
}
etherlinear_status etherlinear_adapter_config(const etherlinear_adapter* adapter,
                                              etherlinear_config* config, int64_t* out,
                                              int64_t* in) {
  return guarded([&] {
    check_pointer("adapter", adapter);
    const ether::AdapterConfig& c = adapter->adapter.config();
    if (config != nullptr)
      *config = {static_cast<etherlinear_variant>(c.variant),
                 static_cast<etherlinear_sides>(c.sides),
                 static_cast<etherlinear_layout>(c.layout),
                 c.input_blocks,
                 c.output_blocks,
                 c.strength};
    if (out != nullptr) *out = adapter->adapter.out_features();
    if (in != nullptr) *in = adapter->adapter.in_features();
  });
}
void etherlinear_adapter_free(etherlinear_adapter* adapter) { delete adapter; }

etherlinear_status etherlinear_directory_open(const char* path, etherlinear_directory** directory) {
  return guarded([&] {
    check_pointer("path", path);
    check_pointer("directory", directory);
    *directory = new etherlinear_directory{ether::AdapterDirectory(path)};
  });
}
int64_t etherlinear_directory_size(const etherlinear_directory* directory) {
  return directory == nullptr ? 0 : static_cast<Index>(directory->directory.modules().size());
}
const char* etherlinear_directory_module(const etherlinear_directory* directory, int64_t index) {
  if (index < 0 || index >= etherlinear_directory_size(directory)) return nullptr;
  return directory->directory.modules()[static_cast<std::size_t>(index)].c_str();
}
etherlinear_status etherlinear_directory_adapter(const etherlinear_directory* directory,
                                                 const char* module, int64_t out, int64_t in,
                                                 etherlinear_adapter** adapter) {
  return guarded([&] {
    check_pointer("directory", directory);
    check_pointer("module", module);
    check_pointer("adapter", adapter);
    *adapter = new etherlinear_adapter{directory->directory.adapter(module, out, in)};
  });
}
void etherlinear_directory_free(etherlinear_directory* directory) { delete directory; }

etherlinear_status etherlinear_context_create(int threads, etherlinear_context** context) {
  return guarded([&] {
    check_pointer("context", context);
    *context = new etherlinear_context{ether::compiled::kernels().make_context(threads, {})};
  });
}
etherlinear_status etherlinear_context_create_on(int threads, etherlinear_parallel_for parallel_for,
                                                 void* pool, etherlinear_context** context) {
  return guarded([&] {
    check_pointer("context", context);
    if (parallel_for == nullptr)
      fail<ether::parameter_error>("parallel_for is NULL; give a function");
    *context = new etherlinear_context{
        ether::compiled::kernels().make_context(threads, {parallel_for, pool})};
  });
}
void etherlinear_context_free(etherlinear_context* context) { delete context; }

etherlinear_status etherlinear_layer_create(etherlinear_type type, const void* weight, int64_t out,
                                            int64_t in, int64_t stride,
                                            const etherlinear_part* parts, size_t part_count,
                                            const void* bias, etherlinear_layer** layer) {
  return guarded([&] {
    check_pointer("layer", layer);
    if (part_count != 0) check_pointer("parts", parts);
    if (weight == nullptr && bias != nullptr)
      fail<ether::parameter_error>(
          "bias is given without a weight; give it to etherlinear_reflect_output");
    std::vector<ether::compiled::Part> rows;
    for (size_t i = 0; i < part_count; ++i) {
      check_pointer("a part's adapter", parts[i].adapter);
      const ether::Adapter<float>& adapter = parts[i].adapter->adapter;
      std::vector<Index> order;
      if (parts[i].order != nullptr)
        order.assign(parts[i].order, parts[i].order + adapter.out_features());
      rows.push_back({&adapter, parts[i].first, std::move(order)});
    }
    *layer = new etherlinear_layer{
        ether::compiled::kernels().make_layer({type, {weight, out, in, stride}, bias}, rows)};
  });
}
etherlinear_status etherlinear_layer_set_adapter(etherlinear_layer* layer, size_t part,
                                                 const etherlinear_adapter* adapter) {
  return guarded([&] {
    check_pointer("layer", layer);
    check_pointer("adapter", adapter);
    layer->layer->set_adapter(adapter->adapter, static_cast<Index>(part));
  });
}
void etherlinear_layer_free(etherlinear_layer* layer) { delete layer; }

etherlinear_status etherlinear_forward(const etherlinear_layer* layer, etherlinear_context* context,
                                       int64_t tokens, const void* x, int64_t x_stride, void* y,
                                       int64_t y_stride) {
  return guarded([&] {
    check_pointer("layer", layer);
    check_pointer("context", context);
    const auto& l = *layer->layer;
    l.forward(*context->context, Matrix{x, tokens, l.in_features(), x_stride},
              MutableMatrix{y, tokens, l.out_features(), y_stride});
  });
}
etherlinear_status etherlinear_merge(const etherlinear_layer* layer, etherlinear_context* context,
                                     void* merged, int64_t stride) {
  return guarded([&] {
    check_pointer("layer", layer);
    check_pointer("context", context);
    const auto& l = *layer->layer;
    l.merge(*context->context, MutableMatrix{merged, l.out_features(), l.in_features(), stride});
  });
}
etherlinear_status etherlinear_reflect_input(const etherlinear_layer* layer,
                                             etherlinear_context* context, int64_t row,
                                             int64_t tokens, const void* x, int64_t x_stride,
                                             void* z, int64_t z_stride) {
  return guarded([&] {
    check_pointer("layer", layer);
    const auto& l = *layer->layer;
    l.reflect_input(context_of(context), row, Matrix{x, tokens, l.in_features(), x_stride},
                    MutableMatrix{z, tokens, l.in_features(), z_stride});
  });
}
int64_t etherlinear_rows_alike(const etherlinear_layer* layer, int64_t row) {
  return layer == nullptr ? 0 : layer->layer->rows_alike(row);
}
etherlinear_status etherlinear_reflect_output(const etherlinear_layer* layer,
                                              etherlinear_context* context, int64_t tokens,
                                              const void* s, int64_t s_stride, void* y,
                                              int64_t y_stride, const void* bias,
                                              const void* residual, int64_t residual_stride) {
  return guarded([&] {
    check_pointer("layer", layer);
    const auto& l = *layer->layer;
    const Index out = l.out_features();
    Matrix added{nullptr, 0, 0, 0};
    if (residual != nullptr) added = {residual, tokens, out, residual_stride};
    l.reflect_output(context_of(context), Matrix{s, tokens, out, s_stride},
                     MutableMatrix{y, tokens, out, y_stride}, bias, added);
  });
}

etherlinear_status etherlinear_merge_checkpoint(const char* base, const char* const* adapters,
                                                size_t adapter_count, const char* output,
                                                int replace) {
  return guarded([&] {
    check_pointer("base", base);
    check_pointer("output", output);
    if (adapter_count != 0) check_pointer("adapters", adapters);
    ether::MergeOptions options;
    options.base = base;
    for (size_t i = 0; i < adapter_count; ++i) {
      check_pointer("an adapter's path", adapters[i]);
      options.adapters.emplace_back(adapters[i]);
    }
    options.output = output;
    options.replace = replace != 0;
    ether::merge_checkpoint(options);
  });
}
