// A host that keeps its sizes as std::size_t, and makes every conversion that may lose something an error.

#include <ether/ether.hpp>

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <vector>

int main() {
  using Backend = ether::EigenBackend<float>;
  const std::size_t in = 4;
  const unsigned out = 2;
  std::vector<float> w(out * in, 1.f), x(in, 1.f), y(out);
  Backend::Context ctx(1);
  const ether::EtherLinear<Backend> layer(ctx, {w.data(), out, in},
                                          ether::Adapter<float>::random({}, 2, 4, 1));
  layer.forward(ctx, {x.data(), 1, x.size()}, {y.data(), 1, y.size(), out});
  const ether::PreparedAdapter<Backend>& adapter = layer.prepared();
  ether::reflect_input(ctx, adapter, {x.data(), 1, x.size()}, {x.data(), 1, x.size()});
  try {
    const ether::MatrixView<float> view(x.data(), in - 5, in);  // what -1 becomes
    std::printf("%td rows\n", view.rows);
  } catch (const ether::shape_error& e) {
    return std::strstr(e.what(), "a size of 18446744073709551615 is beyond") == nullptr;
  }
  return 1;
}
