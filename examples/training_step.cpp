/// Training an adapter, a step at a time: forward, loss, backward, a step of any optimiser,
/// set_adapter.
///
///   g++ -std=c++17 -O3 -march=native -fopenmp -I include -I /usr/include/eigen3 examples/training_step.cpp -o training_step

#include <ether/ether.hpp>

#include <cstdio>

using Backend = ether::EigenBackend<float>;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

int main() {
  const ether::Index tokens = 64, out = 32, in = 48;
  const Matrix weight = Matrix::Random(out, in), x = Matrix::Random(tokens, in);
  ether::AdapterConfig config;
  config.sides = ether::Sides::both;

  // The task: to compute what the frozen layer computes with another adapter.
  Backend::Context ctx;
  const auto other = ether::Adapter<float>::random(config, out, in, /*seed=*/1);
  Matrix target(tokens, out);
  ether::EtherLinear<Backend>(ctx, weight, other).forward(ctx, x, target);

  auto adapter = ether::Adapter<float>::random(config, out, in, /*seed=*/2);
  auto grads = ether::Adapter<float>::zeros_like(adapter);
  ether::EtherLinear<Backend> layer(ctx, weight, adapter);
  Matrix y(tokens, out), s(tokens, out), grad_y(tokens, out);
  ether::BackwardArguments<Backend> arguments;  // no grad_x: this is the first layer
  arguments.x = x;
  arguments.grad_y = grad_y;
  arguments.s = s;  // what forward keeps: spares backward a second use of W
  float first_loss = 0, loss = 0;
  for (int step = 0; step <= 40; ++step) {
    layer.forward(ctx, x, y, s);
    const Matrix error = y - target;
    loss = error.squaredNorm() / static_cast<float>(error.size());
    if (step == 0) first_loss = loss;
    if (step % 10 == 0) std::printf("step %2d  loss %.4f\n", step, static_cast<double>(loss));

    grad_y = 2 / static_cast<float>(error.size()) * error;
    grads.set_zero();  // backward accumulates into grads
    layer.backward(ctx, arguments, grads);
    for (ether::Index i = 0; i < adapter.size(); ++i) adapter.data()[i] -= 0.1f * grads.data()[i];
    layer.set_adapter(ctx, adapter);
  }
  return loss < 0.1f * first_loss ? 0 : 1;
}
