// A host without exceptions and RTTI: all of the library compiles, and an error's sentence reaches the
// host's handler before the program would abort.

#include <ether/ether.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

void handler(const char* sentence) {
  const bool right = std::strstr(sentence, "y is (1, 3) but must be") != nullptr;
  if (!right) std::puts(sentence);
  std::exit(right ? 0 : 1);
}

}  // namespace

int main() {
  using Backend = ether::EigenBackend<float>;
  Backend::Context ctx(1);
  std::vector<float> w(8, 1.f), x(2, 1.f), y(4);
  const ether::EtherLinear<Backend> layer(ctx, {w.data(), 4, x.size()},
                                          ether::Adapter<float>::random({}, 4, 2, 1));
  layer.forward(ctx, {x.data(), 1, x.size()}, {y.data(), 1, y.size()});
  layer.merge(ctx, {w.data(), 4, 2});
  ether::set_error_handler(handler);
  layer.forward(ctx, {x.data(), 1, x.size()}, {y.data(), 1, 3});
  std::puts("the call has returned");
  return 1;
}
