/// CUDA graphs: calls captured once and launched again, with the adapter overwritten in between.

#include "cuda/cuda_types.hpp"

#include "support/fixture.hpp"

namespace {

using namespace test;
using Catch::Matchers::ContainsSubstring;
using ether::detail::cuda::check;
using T = __nv_bfloat16;
using Backend = ether::CudaBackend<T>;

class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream"); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Work captured from a stream.
class Graph {
 public:
  template <class F>
  Graph(cudaStream_t stream, F&& work) : stream_(stream) {
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin capture");
    work();
    cudaGraph_t graph = nullptr;
    check(cudaStreamEndCapture(stream, &graph), "end capture");
    check(cudaGraphInstantiate(&executable_, graph, 0), "instantiate");
    check(cudaGraphDestroy(graph), "destroy graph");
  }
  ~Graph() { cudaGraphExecDestroy(executable_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void launch() {
    check(cudaGraphLaunch(executable_, stream_), "launch graph");
    check(cudaStreamSynchronize(stream_), "synchronize");
  }

 private:
  cudaStream_t stream_;
  cudaGraphExec_t executable_ = nullptr;
};

Case both_sides(Index tokens) {
  Case c{{}, 160, 96, tokens, 0};
  c.config.variant = Variant::ether_plus;
  c.config.sides = Sides::both;
  c.config.input_blocks = 3;
  c.config.output_blocks = 5;
  return c;
}

}  // namespace

TEST_CASE("a captured forward stays valid when the adapter is overwritten") {
  for (Index tokens : {1, 8, 33}) {  // fused and not
    const Stream stream;
    ether::CudaContext ctx(stream);
    const Case c = both_sides(tokens);
    Fixture<Backend> f(ctx, c);
    DeviceMatrix<Backend, T> y(ctx, tokens, c.out, 0), direct(ctx, tokens, c.out, 0);
    f.layer.forward(ctx, f.x.view(), y.view());  // the workspace grows before the capture
    Graph graph(stream, [&] { f.layer.forward(ctx, f.x.view(), y.view()); });

    for (std::uint64_t seed : {1, 50, 51}) {
      const auto adapter = random_adapter<float>(c.config, c.out, c.in, seed);
      f.layer.set_adapter(ctx, adapter);
      y.fill(T(0.0f));
      graph.launch();
      ether::EtherLinear<Backend> fresh(ctx, f.weight.const_view(), adapter, f.bias.view().data);
      fresh.forward(ctx, f.x.view(), direct.view());
      CHECK(bit_difference<T>(y.host(), direct.host()) == "");
    }
  }
}

TEST_CASE("backward and merge can be captured, and repeat every bit") {
  const Stream stream;
  ether::CudaContext ctx(stream);
  const Case c = both_sides(77);
  Fixture<Backend> f(ctx, c);
  DeviceMatrix<Backend, T> grad_x(ctx, c.tokens, c.in, 0), merged(ctx, c.out, c.in, 0);
  DeviceMatrix<Backend, float> input(ctx, 2, c.in, 0), output(ctx, 2, c.out, 0);
  const auto work = [&] {
    f.layer.backward(ctx, {f.x.view(), f.grad_y.view(), grad_x.view()},
                     ether::GradientViews<float>{input.view(), output.view()});
    f.layer.merge(ctx, merged.view());
  };
  const auto results = [&](const std::function<void()>& run) {
    input.fill(0);
    output.fill(0);
    run();
    return std::tuple(grad_x.host(), merged.host(), input.host(), output.host());
  };
  const auto [x1, w1, u1, v1] = results(work);
  Graph graph(stream, work);
  for (int i = 0; i < 3; ++i) {
    const auto [x2, w2, u2, v2] = results([&] { graph.launch(); });
    CHECK(bit_difference<T>(x1, x2) == "");
    CHECK(bit_difference<T>(w1, w2) == "");
    CHECK(bit_difference<float>(u1, u2) == "");
    CHECK(bit_difference<float>(v1, v2) == "");
  }
}

TEST_CASE("what cannot be captured says so") {
  const Stream stream;
  ether::CudaContext ctx(stream), small(stream);
  const Case c = both_sides(40);
  Fixture<Backend> f(ctx, c);
  DeviceMatrix<Backend, T> y(ctx, c.tokens, c.out, 0);
  const auto captured = [&](const std::function<void()>& work) {
    std::string message;
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin capture");
    try {
      work();
    } catch (const ether::cuda_error& e) {
      message = e.what();
    }
    cudaGraph_t graph = nullptr;
    check(cudaStreamEndCapture(stream, &graph), "end capture");  // the capture is not spoilt
    check(cudaGraphDestroy(graph), "destroy graph");
    return message;
  };
  CHECK_THAT(captured([&] { f.layer.forward(small, f.x.view(), y.view()); }),
             ContainsSubstring("the workspace would have to grow") &&
                 ContainsSubstring("call once with these sizes before"));
  CHECK_THAT(captured([&] { f.layer.set_adapter(ctx, f.adapter); }),
             ContainsSubstring("host memory would be copied"));
}
